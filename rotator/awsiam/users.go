package awsiam

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"credential-rotator/rotator"
)

const (
	// bindingTag is the tag that binds a user to GitLab projects. IAM keeps the case
	// of a tag key and ignores it (IAM User Guide, "Rules for tagging").
	bindingTag = "credential-rotator:project-ids"
	// quarantinePrefix begins the names of the policies that AWS attaches to a user
	// whose key it found in public: V2, V3, and the first without a number.
	quarantinePrefix = "AWSCompromisedKeyQuarantine"
	// notApplicable is what IAM says for the service and region of a key never used,
	// and for the region of a service that has none.
	notApplicable = "N/A"
)

// User describes a user: one GetUser, which brings the tags, and one
// ListAttachedUserPolicies a page. The error of a user that does not exist is
// rotator.ErrNotFound.
func (i *IAM) User(ctx context.Context, name string) (rotator.User, error) {
	c := call{doing: "reading user " + name, action: "iam:GetUser"}
	out, err := i.client.GetUser(ctx, &iam.GetUserInput{UserName: &name}, c.counted)
	if err != nil {
		return rotator.User{}, c.failed(err)
	}
	// Key times are on IAM's clock, so "now" must be, too: a guess from this
	// machine's clock could take somebody else's key for one of ours.
	at, ok := awsmiddleware.GetServerTime(out.ResultMetadata)
	if !ok {
		return rotator.User{}, c.failed(errors.New("IAM's reply has no Date header that can be read; is there a proxy in between that removes it?"))
	}
	if out.User == nil || aws.ToString(out.User.UserId) == "" {
		return rotator.User{}, c.failed(errors.New("IAM's reply describes no user"))
	}
	quarantine, err := i.quarantine(ctx, name)
	if err != nil {
		return rotator.User{}, err
	}
	return rotator.User{
		Name:       aws.ToString(out.User.UserName),
		ARN:        aws.ToString(out.User.Arn),
		UniqueID:   aws.ToString(out.User.UserId),
		Binding:    binding(out.User.Tags),
		Quarantine: quarantine,
		At:         at.UTC().Truncate(time.Second),
	}, nil
}

func binding(tags []types.Tag) string {
	for _, tag := range tags {
		if strings.EqualFold(aws.ToString(tag.Key), bindingTag) {
			return aws.ToString(tag.Value)
		}
	}
	return ""
}

// quarantine names the quarantine policies attached to a user.
func (i *IAM) quarantine(ctx context.Context, user string) ([]string, error) {
	c := call{doing: "listing policies of " + user, action: "iam:ListAttachedUserPolicies"}
	var names []string
	pages := iam.NewListAttachedUserPoliciesPaginator(i.client, &iam.ListAttachedUserPoliciesInput{UserName: &user})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx, c.counted)
		if err != nil {
			return nil, c.failed(err)
		}
		for _, policy := range page.AttachedPolicies {
			if name := aws.ToString(policy.PolicyName); strings.HasPrefix(name, quarantinePrefix) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// LastUsed tells when a key was last used, as far as IAM remembers: one call.
func (i *IAM) LastUsed(ctx context.Context, keyID string) (rotator.LastUse, error) {
	c := call{doing: "reading the last use of " + keyID, action: "iam:GetAccessKeyLastUsed"}
	out, err := i.client.GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: &keyID}, c.counted)
	if err != nil {
		return rotator.LastUse{}, c.failed(err)
	}
	used := out.AccessKeyLastUsed
	if used == nil {
		// Never used comes as a structure without a date; nothing at all is no answer.
		return rotator.LastUse{}, c.failed(errors.New("IAM's reply does not say when the key was last used"))
	}
	return rotator.LastUse{
		At:      aws.ToTime(used.LastUsedDate).UTC(),
		Service: applicable(used.ServiceName),
		Region:  applicable(used.Region),
	}, nil
}

func applicable(s *string) string {
	if aws.ToString(s) == notApplicable {
		return ""
	}
	return aws.ToString(s)
}
