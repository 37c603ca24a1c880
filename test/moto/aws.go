package moto

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
)

// administrator is the user behind Admin. It has a key; no test should touch it.
const administrator = "moto-administrator"

// everything is a policy that allows it.
const everything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

// makeAdmin makes a user who may do everything, while nobody is asked for permission.
func (s *Server) makeAdmin(t testing.TB) aws.Credentials {
	t.Helper()
	client := iam.NewFromConfig(s.Config("bootstrap", "bootstrap"))
	if _, err := client.CreateUser(t.Context(), &iam.CreateUserInput{UserName: aws.String(administrator)}); err != nil {
		t.Fatalf("making moto's administrator: %v", err)
	}
	if _, err := client.PutUserPolicy(t.Context(), &iam.PutUserPolicyInput{
		UserName: aws.String(administrator), PolicyName: aws.String("everything"), PolicyDocument: aws.String(everything),
	}); err != nil {
		t.Fatalf("making moto's administrator: %v", err)
	}
	out, err := client.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: aws.String(administrator)})
	if err != nil {
		t.Fatalf("making moto's administrator: %v", err)
	}
	return aws.Credentials{AccessKeyID: *out.AccessKey.AccessKeyId, SecretAccessKey: *out.AccessKey.SecretAccessKey}
}

// CreateTable makes a table as the journal in DynamoDB needs it (package dynamo).
func (s *Server) CreateTable(t testing.TB, name string) {
	t.Helper()
	key := func(attribute string, kind types.KeyType) types.KeySchemaElement {
		return types.KeySchemaElement{AttributeName: aws.String(attribute), KeyType: kind}
	}
	str := func(attribute string) types.AttributeDefinition {
		return types.AttributeDefinition{AttributeName: aws.String(attribute), AttributeType: types.ScalarAttributeTypeS}
	}
	_, err := dynamodb.NewFromConfig(s.Admin()).CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:            &name,
		BillingMode:          types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{str("user"), str("item"), str("in_flight")},
		KeySchema:            []types.KeySchemaElement{key("user", types.KeyTypeHash), key("item", types.KeyTypeRange)},
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{{
			IndexName:  aws.String("in-flight"),
			KeySchema:  []types.KeySchemaElement{key("in_flight", types.KeyTypeHash), key("user", types.KeyTypeRange)},
			Projection: &types.Projection{ProjectionType: types.ProjectionTypeAll},
		}},
	})
	if err != nil {
		t.Fatalf("creating table %s: %v", name, err)
	}
}
