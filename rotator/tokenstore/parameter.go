package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"credential-rotator/rotator"
)

// Parameter is a parameter of SSM Parameter Store, whose value is the token.
type Parameter struct {
	client *ssm.Client
	id     string
}

// NewParameter keeps the token in a parameter, by its name or its ARN. It calls nothing.
func NewParameter(cfg aws.Config, id string) *Parameter {
	return &Parameter{ssm.NewFromConfig(cfg), id}
}

// Name says which parameter it is.
func (p *Parameter) Name() string { return "the parameter " + p.id + " in Parameter Store" }

// Read reads the token.
func (p *Parameter) Read(ctx context.Context) (rotator.Secret, error) {
	out, err := p.client.GetParameter(ctx, &ssm.GetParameterInput{Name: &p.id, WithDecryption: aws.Bool(true)})
	if err != nil {
		return rotator.Secret{}, fmt.Errorf("reading the GitLab token from Parameter Store (%s): %w; check GITLAB_TOKEN_PARAMETER, ssm:GetParameter and kms:Decrypt", p.id, firstLine(err))
	}
	if out.Parameter == nil {
		return rotator.Secret{}, errors.New("the parameter " + p.id + " has no value")
	}
	return tokenIn(aws.ToString(out.Parameter.Value), "the parameter "+p.id, false)
}

// parameterClaim is a Claim of a parameter.
type parameterClaim struct {
	claim
	store *Parameter
	is    ssm.PutParameterInput // all but its value
}

// Claim claims a parameter by writing the value that it has once more, as it is. Parameter
// Store has no write with a condition, but it counts: whose write is the next after the
// version that was read was alone, and who comes later sees that the value is fresh.
func (p *Parameter) Claim(ctx context.Context) (Claim, error) {
	at := time.Now()
	read, err := p.client.GetParameter(ctx, &ssm.GetParameterInput{Name: &p.id, WithDecryption: aws.Bool(true)})
	if err != nil || read.Parameter == nil {
		return nil, fmt.Errorf("reading the parameter %s: %w", p.id, firstLine(orMissing(err)))
	}
	was := read.Parameter
	if aws.ToString(was.Selector) != "" {
		return nil, fmt.Errorf("GITLAB_TOKEN_PARAMETER names one version of its parameter (%s), and a new token would be another: name the parameter alone", aws.ToString(was.Selector))
	}
	token, err := tokenIn(aws.ToString(was.Value), "the parameter "+p.id, false)
	if err != nil {
		return nil, err
	}
	now, told := middleware.GetServerTime(read.ResultMetadata)
	if !told {
		now = time.Now()
	}
	if err := busyAfter(was.LastModifiedDate, now, "the parameter %s was written a moment ago, perhaps by another run that is rotating the token", p.id); err != nil {
		return nil, err
	}
	c := &parameterClaim{claim: claim{token, at}, store: p}
	if c.is, err = p.as(ctx, was); err != nil {
		return nil, err
	}
	return c, c.take(ctx, was)
}

func orMissing(err error) error {
	if err == nil {
		return errors.New("it has no value")
	}
	return err
}

// as is the parameter as it has to be written: what is not said would become the default,
// the key above all. Its description, its tags and its policies stay as they are.
func (p *Parameter) as(ctx context.Context, was *types.Parameter) (ssm.PutParameterInput, error) {
	// By what it is called: a write takes no ARN.
	is := ssm.PutParameterInput{Name: was.Name, Type: was.Type, Overwrite: aws.Bool(true)}
	out, err := p.client.DescribeParameters(ctx, &ssm.DescribeParametersInput{
		ParameterFilters: []types.ParameterStringFilter{{Key: aws.String("Name"), Option: aws.String("Equals"), Values: []string{aws.ToString(was.Name)}}},
	})
	if err != nil {
		return is, fmt.Errorf("looking with which key the parameter %s is kept: %w; ssm:DescribeParameters is needed for this", p.id, firstLine(err))
	}
	if len(out.Parameters) != 1 {
		return is, fmt.Errorf("the parameter %s is not listed in this account: a shared one has to be changed in its own", p.id)
	}
	m := out.Parameters[0]
	is.KeyId, is.Tier, is.AllowedPattern, is.DataType = m.KeyId, m.Tier, m.AllowedPattern, m.DataType
	return is, nil
}

// take writes the value once more. It is sent once: a second time would be another version.
func (c *parameterClaim) take(ctx context.Context, was *types.Parameter) error {
	again := c.is
	again.Value = was.Value
	out, err := c.store.client.PutParameter(ctx, &again, func(o *ssm.Options) { o.Retryer = aws.NopRetryer{} })
	if err != nil {
		return fmt.Errorf("making sure that the parameter %s can be written: %w; ssm:PutParameter is needed for this (and kms:Encrypt or kms:GenerateDataKey, with a key of your own)", c.store.id, firstLine(err))
	}
	if out.Version == was.Version+1 {
		return nil
	}
	busy := &BusyError{"the parameter " + c.store.id + " was written by somebody else at the same time: look with credential-rotator token status"}
	if err := c.giveBack(ctx, was, out.Version-1); err != nil {
		busy.Reason = fmt.Sprintf("%s; its version %d may hold a newer token than the current one: %v", busy.Reason, out.Version-1, err)
	}
	return busy
}

// giveBack writes what somebody else had written, when our write has buried it.
func (c *parameterClaim) giveBack(ctx context.Context, was *types.Parameter, version int64) error {
	theirs, err := c.store.client.GetParameter(ctx, &ssm.GetParameterInput{
		Name: aws.String(fmt.Sprintf("%s:%d", aws.ToString(c.is.Name), version)), WithDecryption: aws.Bool(true),
	})
	if err != nil || theirs.Parameter == nil {
		return fmt.Errorf("reading it: %w", firstLine(orMissing(err)))
	}
	value := aws.ToString(theirs.Parameter.Value)
	if strings.TrimSpace(value) == strings.TrimSpace(aws.ToString(was.Value)) {
		return nil // it was a claim as well
	}
	return c.Put(ctx, rotator.NewSecret(value))
}

// Put writes the new token. A crash before it leaves the old token, which is dead: the
// next run finds that out, and says so.
func (c *parameterClaim) Put(ctx context.Context, token rotator.Secret) error {
	next := c.is
	next.Value = aws.String(token.Reveal())
	if _, err := c.store.client.PutParameter(ctx, &next); err != nil {
		return fmt.Errorf("putting the new token into the parameter %s: %w", c.store.id, firstLine(err))
	}
	return nil
}
