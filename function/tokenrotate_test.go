package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"credential-rotator/rotator"
	"credential-rotator/rotator/tokenstore"
	"credential-rotator/test/sandbox"
)

// kept is a stage whose token is kept in a vault: in the secret as JSON and in the
// parameter as it is.
type kept struct {
	*stage
	t     *testing.T
	vault *vault
	env   []string
	posts atomic.Int32 // of a rotation of the token, which reached GitLab
	said  []string
}

func keptIn(t *testing.T) *kept {
	t.Helper()
	k := &kept{stage: stageFor(t), t: t}
	k.vault, k.env = newVault(t, `{"user":"bot", "token":"`+k.Token+`","n":1.50}`, k.Token)
	k.InterceptHTTP(k.count)
	t.Cleanup(func() {
		if faults := k.faults(); len(faults) > 0 {
			t.Error(strings.Join(faults, "\n"))
		}
	})
	return k
}

func (k *kept) count(r *http.Request) sandbox.Fate {
	if strings.HasSuffix(r.URL.Path, "/rotate") {
		k.posts.Add(1)
	}
	return k.intercept(r)
}

// stores are both kinds, as the program makes them.
func (k *kept) stores() map[string]tokenstore.Store {
	_, url, _ := strings.Cut(k.env[0], "=")
	cfg := aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(url), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIAROTATORROTATOR00", "CANARY/of-the-rotator", ""),
	}
	return map[string]tokenstore.Store{"secret": tokenstore.NewSecret(cfg, "gitlab/token"), "parameter": tokenstore.NewParameter(cfg, "/gitlab/token")}
}

// rotation is one run that is not patient.
func (k *kept) rotation(store string) *tokenRotation {
	return &tokenRotation{
		store:  k.stores()[store],
		client: config{GitLabURL: k.server.GitLabURL}.gitLabWith,
		ends:   time.Now().UTC().Truncate(day).AddDate(0, 0, 90),
		say: func(format string, args ...any) {
			k.hear(fmt.Sprintf(format, args...))
			k.mu.Lock()
			defer k.mu.Unlock()
			k.said = append(k.said, fmt.Sprintf(format, args...))
		},
		patience: 2 * time.Second, pause: 160 * time.Millisecond,
	}
}

func (k *kept) rotates(store string) tokenResult {
	r := k.rotation(store).run(k.t.Context())
	line := string(encode(r))
	k.hear(line)
	return r
}

// works tells whether GitLab takes what the store has.
func (k *kept) works(store string) bool {
	k.t.Helper()
	token, err := k.stores()[store].Read(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	client, err := config{GitLabURL: k.server.GitLabURL}.gitLabWith(token)
	if err != nil {
		k.t.Fatal(err)
	}
	_, err = client.TokenAlone(k.t.Context())
	return err == nil
}

// eachStore runs a test for both kinds.
func eachStore(t *testing.T, test func(t *testing.T, k *kept, store string)) {
	t.Helper()
	for _, store := range []string{"secret", "parameter"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			test(t, keptIn(t), store)
		})
	}
}

// put is the call by which a store is written.
func put(store string) string {
	return map[string]string{"secret": "PutSecretValue", "parameter": "PutParameter"}[store]
}

func TestATokenIsRotatedIntoTheStoreThatItIsKeptIn(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, k *kept, store string) {
		r := k.rotates(store)
		if r.Status != tokenRotated || k.posts.Load() != 1 || !k.works(store) || r.ID == r.PreviousID || len(k.ActiveTokens("rotator")) != 1 {
			t.Fatalf("%+v, sent %d times\n%s", r, k.posts.Load(), strings.Join(k.said, "\n"))
		}
		if want := time.Now().UTC().AddDate(0, 0, 90).Format(time.DateOnly); r.ExpiresAt != want {
			t.Errorf("it ends on %s", r.ExpiresAt)
		}
		if got := k.vault.parameter(); store == "parameter" && (got.key != "alias/mine" || k.vault.written() != 3) {
			t.Errorf("kept with the key %s, version %d", got.key, k.vault.written())
		}
		// And once more.
		k.vault.grow(time.Hour)
		if r := k.rotates(store); r.Status != tokenRotated || !k.works(store) {
			t.Errorf("the second time: %+v", r)
		}
	})
}

func TestEverythingElseInASecretStaysAsItIs(t *testing.T) {
	t.Parallel()
	k := keptIn(t)
	was := k.vault.current()
	if r := k.rotates("secret"); r.Status != tokenRotated {
		t.Fatalf("%+v", r)
	}
	is := k.vault.current()
	var fields struct{ Token string }
	if err := json.Unmarshal([]byte(is), &fields); err != nil || fields.Token == k.Token {
		t.Fatalf("%v", err)
	}
	if strings.Replace(is, fields.Token, k.Token, 1) != was {
		t.Error("other bytes have changed than the token's")
	}
}

func TestAStoreThatCannotBeWrittenCostsNoToken(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, k *kept, store string) {
		k.vault.meets(func(name string, _ int) string {
			if name == put(store) {
				return "refused"
			}
			return ""
		})
		r := k.rotates(store)
		if r.Status != tokenRefused || k.posts.Load() != 0 || !k.works(store) || !strings.Contains(r.Reason, "is needed for this") {
			t.Errorf("%+v, sent %d times", r, k.posts.Load())
		}
	})
}

func TestTheStoreIsAskedUntilItTakesTheToken(t *testing.T) {
	t.Parallel()
	for _, fate := range []string{"500", "refused", "lost"} {
		t.Run(fate, func(t *testing.T) {
			t.Parallel()
			eachStore(t, func(t *testing.T, k *kept, store string) {
				k.vault.meets(func(name string, n int) string {
					if name == put(store) && n > 1 && n < 5 { // the first is the claim
						return fate
					}
					return ""
				})
				r := k.rotates(store)
				if r.Status != tokenRotated || k.posts.Load() != 1 || !k.works(store) {
					t.Errorf("%+v, sent %d times", r, k.posts.Load())
				}
				if said := strings.Join(k.said, "\n"); !strings.Contains(said, "not stored yet (try 1)") || !strings.Contains(said, "only this process has the new one: do not end it") {
					t.Errorf("it says\n%s", said)
				}
			})
		})
	}
}

func TestWhoeverInterruptsItWaitsUntilTheTokenIsStored(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, k *kept, store string) {
		ctx, interrupt := context.WithCancel(t.Context())
		k.vault.meets(func(name string, n int) string {
			if name == put(store) && n == 2 {
				interrupt()
				return "500"
			}
			return ""
		})
		r := k.rotation(store).run(ctx)
		k.hear(string(encode(r)))
		if r.Status != tokenRotated || !k.works(store) {
			t.Errorf("%+v", r)
		}
	})
}

func TestAStoreThatNeverTakesTheTokenIsToldHonestly(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, k *kept, store string) {
		k.vault.meets(func(name string, n int) string {
			if name == put(store) && n > 1 {
				return "500"
			}
			return ""
		})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // somebody interrupts it
		defer cancel()
		began := time.Now()
		run := k.rotation(store)
		run.patience = 800 * time.Millisecond
		r := run.run(ctx)
		k.hear(string(encode(r)))
		if took := time.Since(began); took < 500*time.Millisecond || took > 10*time.Second {
			t.Errorf("it gave up after %s", took)
		}
		for _, want := range []string{"is lost: GitLab has made it and revoked", "make a new one by hand", "revoke the one that nobody has", "no key is rotated; every key works as before"} {
			if !strings.Contains(r.Reason, want) {
				t.Errorf("it does not say %q: %s", want, r.Reason)
			}
		}
		if r.Status != tokenFailed || k.posts.Load() != 1 || k.works(store) {
			t.Errorf("%+v", r)
		}
		// Whoever runs it again sends nothing with the dead token, and is told why.
		k.vault.meets(nil)
		k.vault.grow(time.Hour)
		r = k.rotates(store)
		if r.Status != tokenRefused || k.posts.Load() != 1 || !strings.Contains(r.Reason, "that one is lost: revoke it by its name in GitLab") {
			t.Errorf("again: %+v, sent %d times", r, k.posts.Load())
		}
		if got := k.ActiveTokens("rotator"); len(got) != 1 {
			t.Errorf("the family is gone: %v", got)
		}
	})
}

func TestAnAnswerThatIsLostIsNotAskedForAgain(t *testing.T) {
	t.Parallel()
	for _, fate := range []sandbox.Fate{sandbox.Lost, sandbox.BadGatewayAfter, sandbox.BadGateway, sandbox.CrashBefore} {
		t.Run(fate.String(), func(t *testing.T) {
			t.Parallel()
			eachStore(t, func(t *testing.T, k *kept, store string) {
				k.meets(fate, "/rotate", -1)
				r := k.rotates(store)
				if r.Status != tokenFailed || k.posts.Load() != 1 || !strings.Contains(r.Reason, "nothing was sent again. Look with credential-rotator token status") {
					t.Errorf("%+v, sent %d times", r, k.posts.Load())
				}
				if got := k.ActiveTokens("rotator"); len(got) != 1 {
					t.Errorf("the family is gone: %v", got)
				}
			})
		})
	}
}

func TestAnEndThatGitLabDoesNotGrantChangesNothing(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, k *kept, store string) {
		run := k.rotation(store)
		run.ends = time.Now().UTC().AddDate(2, 0, 0)
		if r := run.run(t.Context()); r.Status != tokenRefused || !strings.Contains(r.Reason, "must be before") || !strings.HasSuffix(r.Reason, "the token is as it was") || !k.works(store) {
			t.Errorf("%+v", r)
		}
	})
}

func TestWhatSomebodyElseRotatesIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		managed map[string]any
		says    string
	}{
		"a managed external secret":     {map[string]any{"Type": "GitLabAccessToken"}, "managed external secret (GitLabAccessToken), which Secrets Manager itself rotates"},
		"a secret that is rotated":      {map[string]any{"RotationEnabled": true}, "the secret gitlab/token is rotated by Secrets Manager itself"},
		"a secret of a service":         {map[string]any{"OwningService": "appflow"}, "belongs to the service appflow"},
		"a replica":                     {map[string]any{"PrimaryRegion": "eu-west-1"}, "replica of one in eu-west-1"},
		"one in the midst of it":        {map[string]any{"VersionIdsToStages": map[string]any{"a": []string{"AWSPENDING"}, "b": []string{"AWSCURRENT"}}}, "has not ended"},
		"the primary, which is ours":    {map[string]any{"PrimaryRegion": "us-east-1"}, ""},
		"one where it was switched off": {map[string]any{"RotationEnabled": false}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := keptIn(t)
			k.vault.manage(c.managed)
			r := k.rotates("secret")
			if c.says == "" {
				if r.Status != tokenRotated {
					t.Errorf("%+v", r)
				}
				return
			}
			if r.Status != tokenRefused || !strings.Contains(r.Reason, c.says) || k.posts.Load() != 0 || k.vault.calls("PutSecretValue") != 0 {
				t.Errorf("%+v, sent %d times", r, k.posts.Load())
			}
		})
	}
}

func TestOneVersionOfAParameterIsNoPlaceForANewToken(t *testing.T) {
	t.Parallel()
	k := keptIn(t)
	_, url, _ := strings.Cut(k.env[0], "=")
	cfg := aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(url), Credentials: credentials.NewStaticCredentialsProvider("AKIA", "s", "")}
	run := k.rotation("parameter")
	run.store = tokenstore.NewParameter(cfg, "/gitlab/token:1")
	if r := run.run(t.Context()); r.Status != tokenRefused || !strings.Contains(r.Reason, "name the parameter alone") || k.posts.Load() != 0 {
		t.Errorf("%+v", r)
	}
	run.store = tokenstore.NewParameter(cfg, "arn:aws:ssm:us-east-1:123456789012:parameter/gitlab/token")
	if r := run.run(t.Context()); r.Status != tokenRotated {
		t.Errorf("by its ARN: %+v", r)
	}
}

func TestOfManyAtOnceOneRotatesAndTheFamilyLives(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, k *kept, store string) {
		k.vault.meets(func(string, int) string { return "slow" }) // so that they overlap
		k.InterceptHTTP(func(r *http.Request) sandbox.Fate {
			if strings.HasSuffix(r.URL.Path, "/rotate") {
				time.Sleep(200 * time.Millisecond) // and all have looked before one is served
			}
			return k.count(r)
		})
		var (
			all sync.WaitGroup
			mu  sync.Mutex
		)
		ended := map[string]int{}
		for range 8 {
			all.Go(func() {
				r := k.rotation(store).run(t.Context())
				k.hear(string(encode(r)))
				mu.Lock()
				defer mu.Unlock()
				ended[r.Status]++
				if r.Status != tokenRotated && r.Status != tokenBusy && !strings.Contains(r.Reason, "revoked") {
					t.Errorf("%+v", r)
				}
			})
		}
		all.Wait()
		if n := k.posts.Load(); n > 1 || ended[tokenRotated] != int(n) || ended[tokenFailed] > 0 {
			t.Errorf("asked GitLab %d times: %v", n, ended)
		}
		if !k.works(store) || len(k.ActiveTokens("rotator")) != 1 {
			t.Errorf("the token in the store works: %v, active are %v", k.works(store), k.ActiveTokens("rotator"))
		}
		// Whoever was in each other's way is so for two minutes.
		k.vault.meets(nil)
		k.vault.grow(3 * time.Minute)
		if r := k.rotates(store); r.Status != tokenRotated {
			t.Errorf("afterwards: %+v", r)
		}
	})
}

func TestAClaimKeepsOthersAwayAndIsForgotten(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, k *kept, store string) {
		if _, err := k.stores()[store].Claim(t.Context()); err != nil { // and its process dies
			t.Fatal(err)
		}
		if r := k.rotates(store); r.Status != tokenBusy || k.posts.Load() != 0 || !strings.Contains(r.Reason, "run it again after ") {
			t.Errorf("%+v", r)
		}
		k.vault.grow(3 * time.Minute)
		if r := k.rotates(store); r.Status != tokenRotated {
			t.Errorf("%+v", r)
		}
	})
}

func TestWhoeverWasAsleepWithItsClaimAsksForNothing(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		at time.Time
		ok bool
	}{
		"at once":                    {now, true},
		"in time":                    {now.Add(-tokenstore.SendWithin), true},
		"too late":                   {now.Add(-tokenstore.SendWithin - time.Second), false},
		"late on the wall only":      {now.Round(0).Add(-time.Hour), false},
		"before it, a clock went on": {now.Round(0).Add(time.Minute), false},
	} {
		if soon(c.at, now) != c.ok {
			t.Errorf("%s: %v", name, !c.ok)
		}
	}
}

// A claim of another run that comes late buries the new token under the old one.
func TestANewTokenThatIsBuriedIsDugOut(t *testing.T) {
	t.Parallel()
	k := keptIn(t)
	old := k.Token
	k.vault.meets(func(name string, n int) string {
		if name == "PutParameter" && n == 2 {
			go func() {
				time.Sleep(50 * time.Millisecond)
				k.vault.mu.Lock()
				defer k.vault.mu.Unlock()
				k.vault.values = append(k.vault.values, value{old, "alias/mine", time.Now()})
			}()
			return ""
		}
		if name == "GetParameter" && n == 3 { // reading it back
			return "slow"
		}
		return ""
	})
	if r := k.rotates("parameter"); r.Status != tokenRotated || !k.works("parameter") {
		t.Errorf("%+v", r)
	}
}

// The run that buried somebody's new token with its claim puts it back.
func TestAClaimThatBuriesSomebodysTokenPutsItBack(t *testing.T) {
	t.Parallel()
	k := keptIn(t)
	theirs := k.AddToken(sandbox.Token{Name: "theirs", Scopes: []string{"api"}})
	k.vault.meets(func(name string, _ int) string {
		if name == "DescribeParameters" { // between our read and our write
			k.vault.values = append(k.vault.values, value{theirs, "alias/mine", time.Now()})
		}
		return ""
	})
	r := k.rotates("parameter")
	if r.Status != tokenBusy || k.vault.parameter().text != theirs || k.posts.Load() != 0 {
		t.Errorf("%+v", r)
	}
}

func TestATokenThatSomebodyPutsThereMeanwhileIsLeftAlone(t *testing.T) {
	t.Parallel()
	k := keptIn(t)
	theirs := k.AddToken(sandbox.Token{Name: "theirs", Scopes: []string{"api"}})
	k.vault.meets(func(name string, _ int) string {
		if name == "PutSecretValue" { // the claim
			k.vault.versions[0].stages = nil
			k.vault.versions = append(k.vault.versions, &stored{"theirs", theirs, []string{"AWSCURRENT"}, time.Now()})
		}
		return ""
	})
	if r := k.rotates("secret"); r.Status != tokenBusy || k.vault.current() != theirs || k.posts.Load() != 0 {
		t.Errorf("%+v", r)
	}
}

// process starts the real program with the token in the vault.
func (k *kept) process(store string, args ...string) *exec.Cmd {
	k.t.Helper()
	cmd := exec.CommandContext(k.t.Context(), "credential-rotator", args...)
	cmd.Env = append(append(k.environ(), k.env...), "GITLAB_TOKEN=", "PATH="+os.Getenv("PATH"))
	cmd.Env = append(cmd.Env, map[string]string{"secret": "GITLAB_TOKEN_SECRET=gitlab/token", "parameter": "GITLAB_TOKEN_PARAMETER=/gitlab/token"}[store])
	return cmd
}

func (k *kept) says(store string, want int, args ...string) string {
	k.t.Helper()
	out, err := k.process(store, args...).CombinedOutput()
	k.hear(string(out))
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		k.t.Fatal(err)
	}
	if code != want {
		k.t.Errorf("%v: exit code %d, want %d\n%s", args, code, want, out)
	}
	return string(out)
}

func TestWhoeverIsKilledBeforeItHasStoredTheTokenLeavesAnHonestTrace(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, k *kept, store string) {
		stuck := make(chan struct{})
		var once sync.Once
		k.vault.meets(func(name string, n int) string {
			if name == put(store) && n > 1 {
				once.Do(func() { close(stuck) })
				return "500"
			}
			return ""
		})
		cmd := k.process(store, "token", "rotate")
		var heard strings.Builder
		cmd.Stdout, cmd.Stderr = &heard, &heard
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-stuck
		_ = cmd.Process.Signal(os.Interrupt) // which must not end it
		time.Sleep(300 * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		k.hear(heard.String())
		k.vault.meets(nil)
		k.vault.grow(time.Hour)
		status := k.says(store, exitFailed, "token", "status")
		if !strings.HasPrefix(status, "invalid: ") || !strings.Contains(status, "that one is lost: revoke it by its name in GitLab") {
			t.Errorf("status says %s", status)
		}
		if again := k.says(store, exitFailed, "token", "rotate"); !strings.HasPrefix(again, "refused: ") || k.posts.Load() != 1 {
			t.Errorf("again: %s", again)
		}
		if len(k.ActiveTokens("rotator")) != 1 {
			t.Error("the family is gone")
		}
	})
}

func TestARotationOfAKeyGetsOverThatOfItsToken(t *testing.T) {
	eachOne := map[string]string{"secret": "GITLAB_TOKEN_SECRET=gitlab/token", "parameter": "GITLAB_TOKEN_PARAMETER=/gitlab/token"}
	for store, where := range eachOne {
		for _, at := range []string{"PUT /api/v4/projects/4711/variables/AWS_SECRET_ACCESS_KEY", "PUT /api/v4/projects/4711/variables/AWS_ACCESS_KEY_ID", "POST /api/v4/projects/4711/pipeline", "GET /api/v4/projects/4711/pipelines/1"} {
			t.Run(store+" "+at, func(t *testing.T) {
				k := &kept{t: t}
				v, env := newVault(t, "", "")
				f := deploy(t, append(env, "GITLAB_TOKEN=", where)...)
				k.stage, k.vault, k.env = f.stage, v, env
				v.hold(f.Token)
				var rotated atomic.Bool
				f.InterceptHTTP(func(r *http.Request) sandbox.Fate {
					if nameOf(r) == at && rotated.CompareAndSwap(false, true) {
						if got := k.rotates(store); got.Status != tokenRotated {
							t.Errorf("%+v", got)
						}
					}
					return f.intercept(r)
				})
				f.says(tick, plenty, rotator.StatusRotated)
				if !rotated.Load() {
					t.Error("the token was not rotated meanwhile")
				}
			})
		}
	}
}
