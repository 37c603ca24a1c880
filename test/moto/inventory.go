package moto

import (
	"regexp"
	"strings"
	"testing"
)

// listings are calls that list what an account has: a service and an action, see Call.
const listings = `
monitoring GraniteServiceVersion20100801.DescribeAlarms
monitoring GraniteServiceVersion20100801.ListDashboards
dynamodb DynamoDB_20120810.ListTables
events AWSEvents.ListRules
iam ListOpenIDConnectProviders
iam ListPolicies
iam ListRoles
iam ListUsers
lambda GET /2015-03-31/functions/
logs Logs_20140328.DescribeLogGroups
scheduler GET /schedules
secretsmanager secretsmanager.ListSecrets
sns ListSubscriptions
sns ListTopics
sqs AmazonSQS.ListQueues
ssm AmazonSSM.DescribeParameters
`

// Inventory is what there is in this moto, in the services' own words, by the call that
// lists it: the same before and after means that nothing was left.
func (s *Server) Inventory(t testing.TB) map[string]string {
	t.Helper()
	found := map[string]string{}
	for listing := range strings.Lines(strings.TrimSpace(listings)) {
		service, action, _ := strings.Cut(strings.TrimSpace(listing), " ")
		answer := s.Ask(t, Call{Service: service, Action: action})
		found[service+" "+action] = regexp.MustCompile(`(?i)<RequestId>[^<]*</RequestId>`).ReplaceAllString(answer, "")
	}
	return found
}
