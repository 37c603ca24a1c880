package contract_test

import (
	"context"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"credential-rotator/rotator"
	"credential-rotator/rotator/awsiam"
	"credential-rotator/rotator/contract"
	"credential-rotator/test/sandbox"
)

// The ports that the simulation uses hold the contracts of the adapters: what is
// proven on the world is proven for AWS.
func TestThePortsOfTheWorld(t *testing.T) {
	t.Run("iam", func(t *testing.T) {
		contract.Keys(t, func(testing.TB) contract.KeysFixture {
			w := sandbox.New(sandbox.Options{})
			p := w.Run("contract")
			return worldKeys(w, p, p)
		})
	})
	t.Run("sts", func(t *testing.T) {
		contract.Prober(t, func(testing.TB) contract.ProberFixture {
			w := sandbox.New(sandbox.Options{})
			return worldProber(w, w.Run("contract"))
		})
	})
	t.Run("journal", func(t *testing.T) {
		contract.Journal(t, func(testing.TB) contract.JournalFixture {
			w := sandbox.New(sandbox.Options{})
			return contract.JournalFixture{
				Journal: w.Run("contract"),
				History: func(_ testing.TB, user string) []rotator.Entry {
					entries := slices.DeleteFunc(w.History(), func(e rotator.Entry) bool { return e.User != user })
					slices.SortFunc(entries, func(a, b rotator.Entry) int { return a.StartedAt.Compare(b.StartedAt) })
					return entries
				},
			}
		})
	})
	t.Run("notifier", func(t *testing.T) {
		contract.Notifier(t, func(testing.TB) contract.NotifierFixture {
			w := sandbox.New(sandbox.Options{})
			read := 0
			return contract.NotifierFixture{
				Notifier: w.Run("contract"),
				Received: func(testing.TB, int) []contract.Received {
					var all []contract.Received
					for _, n := range w.Notices()[read:] {
						all = append(all, contract.Received{Notice: n.Notice, Result: n.Result, Raw: "{}"})
						read++
					}
					return all
				},
			}
		})
	})
}

func TestTheFollowUpOfTheWorld(t *testing.T) {
	contract.FollowUp(t, func(testing.TB) contract.FollowUpFixture {
		w := sandbox.New(sandbox.Options{})
		return contract.FollowUpFixture{FollowUp: w.Run("contract"), On: func(testing.TB) bool { return w.Followed() }}
	})
}

// The adapters hold their contracts on the world's own front, which is what the other
// tests of them trust.
func TestTheAdaptersOnTheWorld(t *testing.T) {
	front := func(t testing.TB) (*sandbox.World, aws.Config) {
		w := sandbox.New(sandbox.Options{})
		server, err := sandbox.Serve(w)
		ok(t, err)
		t.Cleanup(server.Close)
		return w, aws.Config{
			Region: "eu-central-1", BaseEndpoint: aws.String(server.AWSURL),
			Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: w.Operator().ID, SecretAccessKey: w.Operator().Secret}, nil
			}),
		}
	}
	t.Run("iam", func(t *testing.T) {
		contract.Keys(t, func(t testing.TB) contract.KeysFixture {
			w, cfg := front(t)
			port := awsiam.New(cfg)
			return worldKeys(w, port, port)
		})
	})
	t.Run("sts", func(t *testing.T) {
		contract.Prober(t, func(t testing.TB) contract.ProberFixture {
			w, cfg := front(t)
			return worldProber(w, awsiam.NewProber(cfg, awsiam.ProberOptions{}))
		})
	})
}

func worldKeys(w *sandbox.World, users rotator.Users, keys rotator.Keys) contract.KeysFixture {
	return contract.KeysFixture{
		Users: users, Keys: keys,
		AddUser: func(_ testing.TB, name string, tags map[string]string) {
			w.AddUser(sandbox.User{Name: name, Tags: tags})
		},
		RemoveUser:   func(_ testing.TB, name string) { w.DeleteUser(name) },
		AttachPolicy: func(_ testing.TB, user, policy string) { w.AttachPolicy(user, policy) },
		Use:          func(_ testing.TB, pair rotator.KeyPair) { w.UseKey(pair.ID, "s3", "eu-central-1") },
		Works: func(t testing.TB, pair rotator.KeyPair) bool {
			_, err := w.Run("somebody").Probe(t.Context(), pair)
			return err == nil
		},
	}
}

func worldProber(w *sandbox.World, prober rotator.Prober) contract.ProberFixture {
	return contract.ProberFixture{
		Prober: prober,
		AddKey: func(t testing.TB, user string) (rotator.KeyPair, string) {
			w.AddUser(sandbox.User{Name: user})
			u, err := w.Run("somebody").User(t.Context(), user)
			ok(t, err)
			return w.CreateKey(user, 0), u.ARN
		},
		Deactivate: func(_ testing.TB, _ string, pair rotator.KeyPair) { w.SetKeyStatus(pair.ID, rotator.KeyInactive) },
		Delete:     func(_ testing.TB, _ string, pair rotator.KeyPair) { w.DeleteKey(pair.ID) },
	}
}
