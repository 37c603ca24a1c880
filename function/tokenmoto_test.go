package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"credential-rotator/rotator/tokenstore"
	"credential-rotator/test/moto"
)

// aged lets a parameter be an hour older than it is.
type aged struct{ next aws.HTTPClient }

func (a aged) Do(r *http.Request) (*http.Response, error) {
	resp, err := a.next.Do(r)
	if err != nil || !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".GetParameter") {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	modified := regexp.MustCompile(`("LastModifiedDate": ?)([0-9.]+)`)
	older := modified.ReplaceAllStringFunc(string(body), func(found string) string {
		m := modified.FindStringSubmatch(found)
		at, _ := strconv.ParseFloat(m[2], 64)
		return fmt.Sprintf("%s%.3f", m[1], at-3600)
	})
	resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(older)), int64(len(older))
	return resp, err
}

// What the vault plays, on moto: the same runs on what AWS's services answer.
func TestTheTokenIsRotatedInWhatAWSKeeps(t *testing.T) {
	t.Parallel()
	server := moto.Start(t)
	cfg := server.Admin()
	secrets, parameters := secretsmanager.NewFromConfig(cfg), ssm.NewFromConfig(cfg)
	for name, c := range map[string]struct {
		store tokenstore.Store
		keep  func(token string) error
	}{
		"a secret": {tokenstore.NewSecret(cfg, "plain"), func(token string) error {
			_, err := secrets.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("plain"), SecretString: &token})
			return err
		}},
		"a secret of JSON": {tokenstore.NewSecret(cfg, "json"), func(token string) error {
			_, err := secrets.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("json"), SecretString: aws.String(`{"a":1,"token":"` + token + `"}`)})
			return err
		}},
		"a parameter": {tokenstore.NewParameter(cfg, "/gitlab/token"), func(token string) error {
			_, err := parameters.PutParameter(t.Context(), &ssm.PutParameterInput{Name: aws.String("/gitlab/token"), Value: &token, Type: types.ParameterTypeSecureString, KeyId: aws.String("alias/mine"), Description: aws.String("of GitLab")})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			k := keptIn(t)
			if err := c.keep(k.Token); err != nil {
				t.Fatal(err)
			}
			run := k.rotation("secret")
			run.store = c.store
			if name == "a parameter" { // it was written this moment, so somebody may be at it
				if r := run.run(t.Context()); r.Status != tokenBusy {
					t.Fatalf("%+v", r)
				}
				older := cfg
				older.HTTPClient = aged{cfg.HTTPClient}
				run.store = tokenstore.NewParameter(older, "/gitlab/token")
			}
			if r := run.run(t.Context()); r.Status != tokenRotated || k.posts.Load() != 1 {
				t.Fatalf("%+v\n%s", r, strings.Join(k.said, "\n"))
			}
			if _, err := run.store.Claim(t.Context()); err != nil {
				t.Errorf("the new version cannot be claimed: %v", err)
			}
			_, err := c.store.Claim(t.Context())
			if busy := (*tokenstore.BusyError)(nil); !errors.As(err, &busy) {
				t.Errorf("what is claimed can be claimed again: %v", err)
			}
		})
	}
	all, err := parameters.DescribeParameters(t.Context(), &ssm.DescribeParametersInput{})
	if err != nil || len(all.Parameters) != 1 || *all.Parameters[0].KeyId != "alias/mine" || *all.Parameters[0].Description != "of GitLab" || all.Parameters[0].Type != types.ParameterTypeSecureString {
		t.Errorf("the parameter is %+v, %v", all.Parameters, err)
	}
	s, err := secrets.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("json"), VersionStage: aws.String("AWSCURRENT")})
	if err != nil || !strings.HasPrefix(*s.SecretString, `{"a":1,"token":"glpat-`) {
		t.Error("the JSON has changed", err)
	}
}
