package tokenstore

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"credential-rotator/rotator"
)

const (
	current = "AWSCURRENT"
	pending = "AWSPENDING"
	// claimStage labels the version by which a secret is claimed. It holds no token, and
	// nobody reads it who does not ask for this label.
	claimStage = "credential-rotator-claim"
	// mostClaims bounds how many claims of one version may have been left by runs that
	// rotated nothing.
	mostClaims = 100
)

// Secret is a secret of Secrets Manager: the token, or JSON with a field "token".
type Secret struct {
	client *secretsmanager.Client
	id     string
	region string
}

// NewSecret keeps the token in a secret, by its name or its ARN. It calls nothing.
func NewSecret(cfg aws.Config, id string) *Secret {
	return &Secret{secretsmanager.NewFromConfig(cfg), id, cfg.Region}
}

// Name says which secret it is.
func (s *Secret) Name() string { return "the secret " + s.id + " in Secrets Manager" }

// Read reads the token.
func (s *Secret) Read(ctx context.Context) (rotator.Secret, error) {
	out, err := s.currentVersion(ctx)
	if err != nil {
		return rotator.Secret{}, fmt.Errorf("reading the GitLab token from Secrets Manager (%s): %w; check GITLAB_TOKEN_SECRET and secretsmanager:GetSecretValue", s.id, firstLine(err))
	}
	if out.SecretString == nil && out.SecretBinary != nil {
		return rotator.Secret{}, fmt.Errorf("the secret %s is binary: put the GitLab token there as text (--secret-string)", s.id)
	}
	return tokenIn(aws.ToString(out.SecretString), "the secret "+s.id, true)
}

// currentVersion says the stage, because the default of a secret in mid-rotation is not.
func (s *Secret) currentVersion(ctx context.Context) (*secretsmanager.GetSecretValueOutput, error) {
	return s.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.id, VersionStage: aws.String(current)})
}

// secretClaim is a Claim of a secret.
type secretClaim struct {
	claim
	store *Secret
	text  rotator.Secret // of the current version, whole
	// version is the id of the version to come, so that a Put that is made again changes
	// nothing (ClientRequestToken).
	version string
}

// Claim claims the version that is current, by a version of its own whose id is made of
// that one's: Secrets Manager takes an id once, and then only with the same data, so that
// of several at once one gets it. The claim's label is never AWSCURRENT, and the token
// stays as it is.
func (s *Secret) Claim(ctx context.Context) (Claim, error) {
	at := time.Now()
	if err := s.managed(ctx); err != nil {
		return nil, err
	}
	before, err := s.currentVersion(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the secret %s: %w", s.id, firstLine(err))
	}
	text := aws.ToString(before.SecretString)
	token, err := tokenIn(text, "the secret "+s.id, true)
	if err != nil {
		return nil, err
	}
	if err := canChange(text, "the secret "+s.id); err != nil {
		return nil, err
	}
	if err := s.take(ctx, aws.ToString(before.ARN), aws.ToString(before.VersionId)); err != nil {
		return nil, err
	}
	// Whoever was faster has put a new one meanwhile, and its version can be claimed.
	after, err := s.currentVersion(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the secret %s again: %w", s.id, firstLine(err))
	}
	if aws.ToString(after.VersionId) != aws.ToString(before.VersionId) {
		return nil, &BusyError{"the secret " + s.id + " has been changed this moment: look with credential-rotator token status"}
	}
	return &secretClaim{claim{token, at}, s, rotator.NewSecret(text), newUUID()}, nil
}

// managed is why the secret is not ours to change.
func (s *Secret) managed(ctx context.Context) error {
	d, err := s.client.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &s.id})
	if err != nil {
		return fmt.Errorf("looking who rotates the secret %s: %w; secretsmanager:DescribeSecret is needed for this", s.id, firstLine(err))
	}
	switch kind, owner, primary := aws.ToString(d.Type), aws.ToString(d.OwningService), aws.ToString(d.PrimaryRegion); {
	case kind != "": // a managed external secret, such as GitLabAccessToken
		return fmt.Errorf("the secret %s is a managed external secret (%s), which Secrets Manager itself rotates: let it do that (aws secretsmanager rotate-secret)", s.id, kind)
	case aws.ToBool(d.RotationEnabled):
		return fmt.Errorf("the secret %s is rotated by Secrets Manager itself: let it do that (aws secretsmanager rotate-secret), or cancel it there first", s.id)
	case owner != "":
		return fmt.Errorf("the secret %s belongs to the service %s, and is not ours to change", s.id, owner)
	case primary != "" && primary != s.region:
		return fmt.Errorf("the secret %s is a replica of one in %s, where it has to be changed: set AWS_REGION", s.id, primary)
	}
	for _, stages := range d.VersionIdsToStages {
		if slices.Contains(stages, pending) && !slices.Contains(stages, current) {
			return fmt.Errorf("a rotation of the secret %s by Secrets Manager has not ended (a version is %s): end or cancel that first", s.id, pending)
		}
	}
	return nil
}

// take takes the first claim of a version that is free.
func (s *Secret) take(ctx context.Context, arn, version string) error {
	mine, err := json.Marshal(map[string]string{"what": "a claim by credential-rotator token rotate; no token", "nonce": newUUID()})
	if err != nil {
		return err
	}
	for n := range mostClaims {
		sum := sha256.Sum256(fmt.Appendf(nil, "credential-rotator claim %s %s %d", arn, version, n))
		id := uuid([16]byte(sum[:16]))
		_, err := s.client.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
			SecretId: &s.id, ClientRequestToken: &id, SecretString: aws.String(string(mine)), VersionStages: []string{claimStage},
		})
		if err == nil {
			return nil
		}
		if taken := (*types.ResourceExistsException)(nil); !errors.As(err, &taken) {
			return fmt.Errorf("making sure that the secret %s can be written: %w; secretsmanager:PutSecretValue is needed for this (and kms:GenerateDataKey, with a key of your own)", s.id, firstLine(err))
		}
		old, err := s.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.id, VersionId: &id})
		if err != nil {
			return fmt.Errorf("looking who claims the secret %s: %w", s.id, firstLine(err))
		}
		now, told := middleware.GetServerTime(old.ResultMetadata)
		if !told {
			now = time.Now()
		}
		if err := busyAfter(old.CreatedDate, now, "another run is rotating the token in the secret %s", s.id); err != nil {
			return err
		}
	}
	return fmt.Errorf("the secret %s was claimed %d times for nothing: put a token there by hand", s.id, mostClaims)
}

// Put makes the version to come the current one. A crash before it leaves the old token,
// which is dead: the next run finds that out, and says so.
func (c *secretClaim) Put(ctx context.Context, token rotator.Secret) error {
	text, err := withToken(c.text.Reveal(), token)
	if err != nil {
		return fmt.Errorf("the secret %s cannot be changed: %w", c.store.id, err)
	}
	_, err = c.store.client.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
		SecretId: &c.store.id, ClientRequestToken: &c.version, SecretString: aws.String(text.Reveal()),
	})
	if err != nil {
		return fmt.Errorf("putting the new token into the secret %s: %w", c.store.id, firstLine(err))
	}
	return nil
}
