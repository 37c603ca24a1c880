package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"credential-rotator/rotator"
)

// token reads the GitLab token from where the configuration says it is.
func (a *app) token(ctx context.Context) (rotator.Secret, error) {
	switch c := a.config; {
	case c.GitLabTokenSecret != "":
		return tokenFromSecret(ctx, a.aws, c.GitLabTokenSecret)
	case c.GitLabTokenParameter != "":
		return tokenFromParameter(ctx, a.aws, c.GitLabTokenParameter)
	default:
		return c.GitLabToken, nil
	}
}

func tokenFromSecret(ctx context.Context, cfg aws.Config, id string) (rotator.Secret, error) {
	// The stage is said because the default of a secret in mid-rotation is not.
	out, err := secretsmanager.NewFromConfig(cfg).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id, VersionStage: aws.String("AWSCURRENT")})
	if err != nil {
		return rotator.Secret{}, fmt.Errorf("reading the GitLab token from Secrets Manager (%s): %w; check GITLAB_TOKEN_SECRET and secretsmanager:GetSecretValue", id, firstLine(err))
	}
	value := strings.TrimSpace(aws.ToString(out.SecretString))
	if strings.HasPrefix(value, "{") {
		var fields struct {
			Token string `json:"token"`
		}
		if json.Unmarshal([]byte(value), &fields) != nil || fields.Token == "" {
			return rotator.Secret{}, fmt.Errorf(`the secret %s holds JSON without a text field "token"`, id)
		}
		value = strings.TrimSpace(fields.Token)
	}
	return nonEmpty(value, "the secret "+id)
}

func tokenFromParameter(ctx context.Context, cfg aws.Config, name string) (rotator.Secret, error) {
	out, err := ssm.NewFromConfig(cfg).GetParameter(ctx, &ssm.GetParameterInput{Name: &name, WithDecryption: aws.Bool(true)})
	if err != nil {
		return rotator.Secret{}, fmt.Errorf("reading the GitLab token from Parameter Store (%s): %w; check GITLAB_TOKEN_PARAMETER, ssm:GetParameter and kms:Decrypt", name, firstLine(err))
	}
	if out.Parameter == nil {
		return rotator.Secret{}, errors.New("the parameter " + name + " has no value")
	}
	return nonEmpty(strings.TrimSpace(aws.ToString(out.Parameter.Value)), "the parameter "+name)
}

// firstLine is an error without what follows its first line: in a message of AWS about a
// signature that is the request, session token included.
func firstLine(err error) error {
	line, rest, _ := strings.Cut(err.Error(), "\n")
	if rest == "" {
		return err
	}
	return errors.New(line)
}

func nonEmpty(value, where string) (rotator.Secret, error) {
	if value == "" {
		return rotator.Secret{}, errors.New(where + " is empty: put the GitLab token there")
	}
	return rotator.NewSecret(value), nil
}
