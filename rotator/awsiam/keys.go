package awsiam

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"credential-rotator/rotator"
)

// List returns all keys of a user: one ListAccessKeys a page. The error of a user
// that does not exist is rotator.ErrNotFound.
func (i *IAM) List(ctx context.Context, user string) ([]rotator.AccessKey, error) {
	c := call{doing: "listing keys of " + user, action: "iam:ListAccessKeys"}
	var keys []rotator.AccessKey
	pages := iam.NewListAccessKeysPaginator(i.client, &iam.ListAccessKeysInput{UserName: &user})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx, c.counted)
		if err != nil {
			return nil, c.failed(err)
		}
		for _, key := range page.AccessKeyMetadata {
			if aws.ToString(key.AccessKeyId) == "" || key.CreateDate == nil {
				// Whose age is unknown would pass for ancient.
				return nil, c.failed(errors.New("IAM's reply lists a key without its id or its date"))
			}
			keys = append(keys, rotator.AccessKey{
				ID:        *key.AccessKeyId,
				Status:    rotator.KeyStatus(key.Status),
				CreatedAt: key.CreateDate.UTC().Truncate(time.Second),
			})
		}
	}
	return keys, nil
}

// Create makes a key: one CreateAccessKey, sent once. The call has no idempotency
// token, so the SDK's retry of a lost reply would make a second key and lose the
// first one's secret. After any error but rotator.ErrRefused the key may exist.
func (i *IAM) Create(ctx context.Context, user string) (rotator.KeyPair, error) {
	c := call{doing: "creating a key for " + user, action: "iam:CreateAccessKey", write: true}
	out, err := i.client.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &user}, c.counted, once)
	if err != nil {
		return rotator.KeyPair{}, c.failed(err)
	}
	key := out.AccessKey
	if key == nil || aws.ToString(key.AccessKeyId) == "" || aws.ToString(key.SecretAccessKey) == "" {
		return rotator.KeyPair{}, c.failed(errors.New("IAM's reply holds no key, although it says that one was made"))
	}
	return rotator.KeyPair{ID: *key.AccessKeyId, Secret: rotator.NewSecret(*key.SecretAccessKey)}, nil
}

// once keeps the SDK from sending a call again, from losing its reply, and from
// logging it, as it holds a secret.
func once(o *iam.Options) {
	o.Retryer = aws.NopRetryer{}
	o.RetryMaxAttempts = 0
	o.ClientLogMode = 0
	o.HTTPClient = inMemory{o.HTTPClient}
}

// Deactivate makes a key Inactive: one UpdateAccessKey. The SDK may send it again:
// it sets a state, and twice Inactive is Inactive.
func (i *IAM) Deactivate(ctx context.Context, user, keyID string) error {
	c := call{doing: "deactivating " + keyID + " of " + user, action: "iam:UpdateAccessKey", write: true}
	_, err := i.client.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{
		UserName: &user, AccessKeyId: &keyID, Status: types.StatusTypeInactive,
	}, c.counted)
	return c.unlessGone(err)
}

// Delete removes a key: one DeleteAccessKey. The SDK may send it again: key ids are
// never reused, and that a key is gone already is what was asked for.
func (i *IAM) Delete(ctx context.Context, user, keyID string) error {
	c := call{doing: "deleting " + keyID + " of " + user, action: "iam:DeleteAccessKey", write: true}
	_, err := i.client.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: &user, AccessKeyId: &keyID}, c.counted)
	return c.unlessGone(err)
}
