// Package dynamo is rotator.Journal on one DynamoDB table, which serves one AWS account.
//
// The table is defined here and made elsewhere (Terraform, test/moto):
//
//	partition key  user  S
//	sort key       item  S
//	index          in-flight: partition key in_flight S, sort key user S, projection ALL
//	time to live   expires_at
//
// and its items are
//
//	item        current, or history#<RFC 3339 start of the rotation, UTC, nanoseconds>
//	version     N  current only: 1, 2, …, the compare-and-swap
//	in_flight   S  current only: "yes" while the rotation is in flight, else absent,
//	            so that the index holds those records and nothing more
//	expires_at  N  history only: seconds since 1970, 400 days after the start
//	record      S  the rotator.Record or rotator.Entry, as JSON
//
// The permissions are dynamodb:GetItem and dynamodb:PutItem on the table and
// dynamodb:Query on its index in-flight. No item ever holds a secret.
package dynamo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"credential-rotator/rotator"
)

var _ rotator.Journal = (*Journal)(nil)

// The names of the table's attributes and of its index.
const (
	attrUser      = "user"
	attrItem      = "item"
	attrVersion   = "version"
	attrInFlight  = "in_flight"
	attrExpiresAt = "expires_at"
	attrRecord    = "record"
	indexInFlight = "in-flight"
)

const (
	itemCurrent = "current"
	itemHistory = "history#"
	// inFlight is the one partition of the index: there are few records in it.
	inFlight = "yes"
	// historyAge is how long history is kept: longer than a year of rotations, so that
	// the yearly audit sees all of them.
	historyAge = 400 * 24 * time.Hour
	// historyTime is RFC 3339 with a fixed width: item keys sort as the times do.
	historyTime = "2006-01-02T15:04:05.000000000Z"
)

// Journal is rotator.Journal on a DynamoDB table. It is safe for concurrent use.
type Journal struct {
	client *dynamodb.Client
	table  string
}

// New returns the journal in the named table. It calls nothing itself.
func New(cfg aws.Config, table string) *Journal {
	return &Journal{client: dynamodb.NewFromConfig(cfg), table: table}
}

// Load reads a user's record with a consistent read: one GetItem.
func (j *Journal) Load(ctx context.Context, user string) (rotator.Record, error) {
	c := j.call("loading the record of "+user, "dynamodb:GetItem")
	out, err := j.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      &j.table,
		ConsistentRead: aws.Bool(true),
		Key:            item{attrUser: str(user), attrItem: str(itemCurrent)},
	}, c.counted)
	if err != nil {
		return rotator.Record{}, c.failed(err)
	}
	if len(out.Item) == 0 {
		return rotator.Record{User: user}, nil
	}
	r, err := decode(out.Item)
	if err != nil {
		return rotator.Record{}, c.failed(err)
	}
	return r, nil
}

// Save replaces the record of exactly r.Version: one conditional PutItem. A record
// that turns out to have been saved already, by an earlier attempt of this very call
// whose reply was lost, is saved.
func (j *Journal) Save(ctx context.Context, r rotator.Record) (rotator.Record, error) {
	c := j.call("saving the record of "+r.User, "dynamodb:PutItem")
	prev := r.Version
	r.Version++
	put, err := j.put(r, prev)
	if err != nil {
		return rotator.Record{}, c.failed(err)
	}
	_, err = j.client.PutItem(ctx, put, c.counted)
	var newer *types.ConditionalCheckFailedException
	switch {
	case err == nil:
		return r, nil
	case !errors.As(err, &newer):
		return rotator.Record{}, c.failed(err)
	case own(newer.Item, put.Item, r):
		return r, nil
	}
	return rotator.Record{}, c.failed(rotator.ErrConflict)
}

// put is the PutItem that makes r the record, if prev is the version of the record now.
func (j *Journal) put(r rotator.Record, prev int64) (*dynamodb.PutItemInput, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	in := &dynamodb.PutItemInput{
		TableName: &j.table,
		Item: item{
			attrUser:    str(r.User),
			attrItem:    str(itemCurrent),
			attrVersion: number(r.Version),
			attrRecord:  str(string(text)),
		},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	if r.InFlight() {
		in.Item[attrInFlight] = str(inFlight)
	}
	if prev == 0 {
		in.ConditionExpression = aws.String("attribute_not_exists(#key)")
		in.ExpressionAttributeNames = map[string]string{"#key": attrUser}
		return in, nil
	}
	in.ConditionExpression = aws.String("#version = :prev")
	in.ExpressionAttributeNames = map[string]string{"#version": attrVersion}
	in.ExpressionAttributeValues = item{":prev": number(prev)}
	return in, nil
}

// own tells whether what is stored is what we sent. The version alone does not tell:
// another run may have saved the same one. Its lease owner tells, and the text in
// which it stands: had we saved something else under this version before, what we
// sent now would be lost, and that is a conflict.
func own(stored, sent item, r rotator.Record) bool {
	was, ok := stored[attrRecord].(*types.AttributeValueMemberS)
	is, sentOK := sent[attrRecord].(*types.AttributeValueMemberS)
	return ok && sentOK && r.Lease.Owner != "" && was.Value == is.Value
}

// InFlight lists the records in flight: one Query of the index a page (1 MB). The
// index follows the table within moments, so a record may be listed as it was.
func (j *Journal) InFlight(ctx context.Context) ([]rotator.Record, error) {
	c := j.call("listing records in flight", "dynamodb:Query")
	pages := dynamodb.NewQueryPaginator(j.client, &dynamodb.QueryInput{
		TableName:                 &j.table,
		IndexName:                 aws.String(indexInFlight),
		KeyConditionExpression:    aws.String("#in_flight = :yes"),
		ExpressionAttributeNames:  map[string]string{"#in_flight": attrInFlight},
		ExpressionAttributeValues: item{":yes": str(inFlight)},
	})
	var records []rotator.Record
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx, c.counted)
		if err != nil {
			return nil, c.failed(err)
		}
		for _, i := range page.Items {
			r, err := decode(i)
			if err != nil {
				return nil, c.failed(err)
			}
			records = append(records, r)
		}
	}
	return records, nil
}

// Append adds to the history: one PutItem. DynamoDB drops it some time after 400
// days. The same entry appended twice is one.
func (j *Journal) Append(ctx context.Context, e rotator.Entry) error {
	c := j.call("writing the history of "+e.User, "dynamodb:PutItem")
	text, err := json.Marshal(e)
	if err != nil {
		return c.failed(err)
	}
	_, err = j.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: &j.table,
		Item: item{
			attrUser:      str(e.User),
			attrItem:      str(itemHistory + e.StartedAt.UTC().Format(historyTime)),
			attrExpiresAt: number(e.StartedAt.Add(historyAge).Unix()),
			attrRecord:    str(string(text)),
		},
	}, c.counted)
	if err != nil {
		return c.failed(err)
	}
	return nil
}

type item = map[string]types.AttributeValue

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

// decode reads a record. The attribute version counts, as it is what Save compares.
func decode(i item) (rotator.Record, error) {
	text, ok := i[attrRecord].(*types.AttributeValueMemberS)
	version, hasVersion := i[attrVersion].(*types.AttributeValueMemberN)
	if !ok || !hasVersion {
		return rotator.Record{}, errors.New("the item is not one of credential-rotator: attribute record or version is missing")
	}
	var r rotator.Record
	if err := json.Unmarshal([]byte(text.Value), &r); err != nil {
		return rotator.Record{}, fmt.Errorf("the item's attribute record cannot be read: %w", err)
	}
	n, err := strconv.ParseInt(version.Value, 10, 64)
	if err != nil {
		return rotator.Record{}, fmt.Errorf("the item's attribute version cannot be read: %w", err)
	}
	r.Version = n
	if user, ok := i[attrUser].(*types.AttributeValueMemberS); n < 1 || !ok || r.User != user.Value {
		return rotator.Record{}, errors.New("the item is not one of credential-rotator: its attribute record is another user's, or its attribute version below 1")
	}
	return r, nil
}
