package sandbox

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
)

// bubble runs a test in fake time.
func bubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantViolation(t *testing.T, w *World, words string) {
	t.Helper()
	if v := w.Violations(); !strings.Contains(strings.Join(v, "\n"), words) {
		t.Errorf("violations are %q, want one with %q", v, words)
	}
}

func wantNoViolation(t *testing.T, w *World) {
	t.Helper()
	if v := w.Violations(); len(v) > 0 {
		t.Errorf("violations: %q\n%v", v, w.Calls())
	}
}

// publish writes both halves of a pair, the way a rotation does.
func publish(t *testing.T, s *Scene, p *Ports, pair rotator.KeyPair) time.Time {
	t.Helper()
	found, err := readOne(t.Context(), p, s.Service.Place)
	check(t, err)
	check(t, writeSecret(t.Context(), p, s.Service.Place, found.Secret, pair))
	at, err := writeKeyID(t.Context(), p, s.Service.Place, found.KeyID, pair.ID)
	check(t, err)
	return at
}

func TestACleanRotationIsNotCriticised(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := NewScene(Lifelike())
		p := s.Run("a")
		pair, err := p.Create(t.Context(), "svc-billing")
		check(t, err)
		time.Sleep(10 * time.Second)
		_, err = p.Probe(t.Context(), pair)
		check(t, err)

		r := rotator.Redeploy{ProjectID: 4711, Ref: "main", Environment: "production"}
		r.PublishedAt = publish(t, s, p, pair)
		r.After, err = p.Mark(t.Context(), r)
		check(t, err)
		d, err := p.Start(t.Context(), r)
		check(t, err)
		r.ID = d.ID
		for d.State == rotator.DeploymentRunning {
			time.Sleep(time.Second)
			d, err = p.Check(t.Context(), r)
			check(t, err)
		}
		if d.State != rotator.DeploymentSucceeded {
			t.Fatalf("the deployment is %+v", d)
		}
		for _, retire := range []func(context.Context, string, string) error{p.Deactivate, p.Delete} {
			_, err = readOne(t.Context(), p, s.Service.Place)
			check(t, err)
			check(t, retire(t.Context(), "svc-billing", s.Key.ID))
		}
		wantNoViolation(t, s.World)
		if id, state := s.Pair(s.Service); id != pair.ID || state != PairWorks {
			t.Errorf("published is %s, which %s", id, state)
		}
	})
}

func TestTheJudgeSees(t *testing.T) {
	cases := map[string]struct {
		do   func(t *testing.T, s *Scene, p *Ports)
		want string
	}{
		"a published key that is deactivated": {
			func(t *testing.T, s *Scene, p *Ports) { check(t, p.Deactivate(t.Context(), "svc-billing", s.Key.ID)) },
			"is published in AWS_ACCESS_KEY_ID",
		},
		"a pair that is published before it works": {
			func(t *testing.T, s *Scene, p *Ports) {
				pair, err := p.Create(t.Context(), "svc-billing")
				check(t, err)
				publish(t, s, p, pair)
			},
			"which does not work",
		},
		"an old key that is deleted before the deployment": {
			func(t *testing.T, s *Scene, p *Ports) {
				pair, err := p.Create(t.Context(), "svc-billing")
				check(t, err)
				time.Sleep(time.Minute)
				publish(t, s, p, pair)
				check(t, p.Delete(t.Context(), "svc-billing", s.Key.ID))
			},
			"is live in production",
		},
		"an old key that a running job holds": {
			func(t *testing.T, s *Scene, p *Ports) {
				s.RunningJob(4711, JobSpec{Name: "migrate"}, time.Hour)
				pair, err := p.Create(t.Context(), "svc-billing")
				check(t, err)
				time.Sleep(time.Minute)
				publish(t, s, p, pair)
				s.SetLive(4711, "production", pair.ID)
				check(t, p.Deactivate(t.Context(), "svc-billing", s.Key.ID))
			},
			"the running job 1 (migrate) holds",
		},
		"somebody else's key that is deleted": {
			func(t *testing.T, s *Scene, p *Ports) {
				other := s.CreateKey("svc-billing", time.Hour)
				check(t, p.Delete(t.Context(), "svc-billing", other.ID))
			},
			"the rotator did not make",
		},
		"an old key that is deleted without having been deactivated": {
			func(t *testing.T, s *Scene, p *Ports) {
				pair, err := p.Create(t.Context(), "svc-billing")
				check(t, err)
				time.Sleep(time.Minute)
				publish(t, s, p, pair)
				s.SetLive(4711, "production", pair.ID)
				check(t, p.Delete(t.Context(), "svc-billing", s.Key.ID))
			},
			"was active",
		},
		"an old key that is retired without a last look": {
			func(t *testing.T, s *Scene, p *Ports) {
				pair, err := p.Create(t.Context(), "svc-billing")
				check(t, err)
				time.Sleep(time.Minute)
				publish(t, s, p, pair)
				s.SetLive(4711, "production", pair.ID)
				check(t, p.Deactivate(t.Context(), "svc-billing", s.Key.ID))
			},
			"since its last write",
		},
		"a key that is made while another run has the rotation": {
			func(t *testing.T, s *Scene, p *Ports) {
				lease := rotator.Lease{Owner: "b", Until: time.Now().Add(time.Minute)}
				_, err := s.Run("b").Save(t.Context(), rotator.Record{User: "svc-billing", Lease: lease})
				check(t, err)
				_, err = p.Create(t.Context(), "svc-billing")
				check(t, err)
			},
			"while the rotation of svc-billing was that of b",
		},
		"a torn pair that nobody can finish": {
			func(t *testing.T, s *Scene, p *Ports) {
				pair, err := p.Create(t.Context(), "svc-billing")
				check(t, err)
				found, err := readOne(t.Context(), p, s.Service.Place)
				check(t, err)
				check(t, writeSecret(t.Context(), p, s.Service.Place, found.Secret, pair))
				check(t, p.Delete(t.Context(), "svc-billing", pair.ID))
			},
			"nobody can finish the torn pair",
		},
		"a key id that is written before its secret": {
			func(t *testing.T, s *Scene, p *Ports) {
				pair, err := p.Create(t.Context(), "svc-billing")
				check(t, err)
				found, err := readOne(t.Context(), p, s.Service.Place)
				check(t, err)
				_, err = writeKeyID(t.Context(), p, s.Service.Place, found.KeyID, pair.ID)
				check(t, err)
			},
			"is nowhere",
		},
		"a secret in the journal": {
			func(t *testing.T, s *Scene, p *Ports) {
				_, err := p.Save(t.Context(), rotator.Record{User: "svc-billing", LastError: s.Key.Secret.Reveal()})
				check(t, err)
			},
			"says the secret of " + "AKIA",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := NewScene(Lifelike())
				c.do(t, s, s.Run("a"))
				wantViolation(t, s.World, c.want)
			})
		})
	}
}

func TestTheJudgeLetsBe(t *testing.T) {
	cases := map[string]func(t *testing.T, s *Scene, p *Ports){
		"the instant between the two writes": func(t *testing.T, s *Scene, p *Ports) {
			pair, err := p.Create(t.Context(), "svc-billing")
			check(t, err)
			time.Sleep(time.Minute)
			found, err := readOne(t.Context(), p, s.Service.Place)
			check(t, err)
			check(t, writeSecret(t.Context(), p, s.Service.Place, found.Secret, pair))
			if _, state := s.Pair(s.Service); state != PairTorn {
				t.Errorf("the pair is %s", state)
			}
		},
		"an inactive key that is deleted to free the slot": func(t *testing.T, s *Scene, p *Ports) {
			other := s.CreateKey("svc-billing", time.Hour)
			s.SetKeyStatus(other.ID, rotator.KeyInactive)
			check(t, p.Delete(t.Context(), "svc-billing", other.ID))
		},
		"a key that the request names": func(t *testing.T, s *Scene, p *Ports) {
			other := s.CreateKey("svc-billing", time.Hour)
			s.AllowRetire(other.ID)
			check(t, p.Deactivate(t.Context(), "svc-billing", other.ID))
		},
		"a pair that a person breaks between the two writes": func(t *testing.T, s *Scene, p *Ports) {
			pair, err := p.Create(t.Context(), "svc-billing")
			check(t, err)
			time.Sleep(time.Minute)
			_, err = p.List(t.Context(), "svc-billing")
			check(t, err)
			s.DeleteKey(pair.ID)
			publish(t, s, p, pair)
		},
		"what a person breaks": func(_ *testing.T, s *Scene, _ *Ports) { s.DeleteKey(s.Key.ID) },
	}
	for name, do := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := NewScene(Lifelike())
				do(t, s, s.Run("a"))
				wantNoViolation(t, s.World)
			})
		})
	}
}

func TestANewKeyIsRefusedUntilItIsKnownAndALittleLongerWhenAskedTooSoon(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := NewScene(Options{PropagationDelay: 4 * time.Second})
		p := s.Run("a")
		pair, err := p.Create(t.Context(), "svc-billing")
		check(t, err)
		time.Sleep(3 * time.Second)
		if _, err := p.Probe(t.Context(), pair); err == nil {
			t.Error("it works after 3 s")
		}
		time.Sleep(4 * time.Second)
		if _, err := p.Probe(t.Context(), pair); err == nil {
			t.Error("the refusal was forgotten after 4 s")
		}
		time.Sleep(2 * time.Second)
		who, err := p.Probe(t.Context(), pair)
		check(t, err)
		if who.ARN != "arn:aws:iam::123456789012:user/svc-billing" {
			t.Errorf("it is %s", who.ARN)
		}
	})
}

func TestRacingCreatesPassTheLimitOfTwo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := NewScene(Options{CreateRace: time.Second})
		p := s.Run("a")
		for range 3 {
			_, err := p.Create(t.Context(), "svc-billing")
			check(t, err)
		}
		time.Sleep(time.Second)
		if _, err := p.Create(t.Context(), "svc-billing"); !errors.Is(err, rotator.ErrRefused) {
			t.Errorf("the fifth key: %v", err)
		}
	})
}

func TestAListLagsBehindACreate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := NewScene(Options{ListLag: time.Second})
		p := s.Run("a")
		_, err := p.Create(t.Context(), "svc-billing")
		check(t, err)
		for _, want := range []int{1, 2} {
			keys, err := p.List(t.Context(), "svc-billing")
			check(t, err)
			if len(keys) != want {
				t.Errorf("%d keys are listed, want %d", len(keys), want)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestAJobPicksVariablesUpWhenItStarts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := NewScene(Options{JobPickUp: 10 * time.Second, JobDuration: time.Second})
		s.RunPipeline(4711, "main")
		next := s.CreateKey("svc-billing", time.Hour)
		time.Sleep(5 * time.Second)
		s.EditVariable(4711, "AWS_ACCESS_KEY_ID", "*", func(v *Variable) { v.Value = next.ID })
		s.EditVariable(4711, "AWS_SECRET_ACCESS_KEY", "*", func(v *Variable) { v.Value = next.Secret.Reveal() })
		time.Sleep(10 * time.Second) // it started at 10 s, though nobody looked
		s.EditVariable(4711, "AWS_ACCESS_KEY_ID", "*", func(v *Variable) { v.Value = s.Key.ID })
		job := s.Pipelines(4711)[0].Jobs[0]
		if job.KeyID != next.ID || job.Status != "success" {
			t.Errorf("the job is %+v, want it to have %s", job, next.ID)
		}
		if took := job.Finished.Sub(job.Started); took != time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestAJobFailsWhoseKeyStopsWorkingWhileItRuns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := NewScene(Options{JobDuration: time.Minute})
		s.RunPipeline(4711, "main")
		time.Sleep(time.Second)
		s.SetKeyStatus(s.Key.ID, rotator.KeyInactive)
		time.Sleep(time.Minute)
		pl := s.Pipelines(4711)[0]
		if pl.Status != "failed" || !strings.Contains(pl.Jobs[0].Failure, "InvalidClientTokenId") {
			t.Errorf("the pipeline is %+v", pl)
		}
	})
}

func TestVariablesAreChosenByScopeAndProtection(t *testing.T) {
	p := &project{variables: []*variable{
		{Variable: Variable{Key: "K", Value: "all", EnvironmentScope: "*"}},
		{Variable: Variable{Key: "K", Value: "review", EnvironmentScope: "review/*"}},
		{Variable: Variable{Key: "K", Value: "review a", EnvironmentScope: "review/a*"}},
		{Variable: Variable{Key: "K", Value: "production", EnvironmentScope: "production", Protected: true}},
	}}
	cases := []struct {
		environment string
		protected   bool
		want        string
	}{
		{"", true, "all"},
		{"staging", true, "all"},
		{"review/b", true, "review"},
		{"review/apple", true, "review a"},
		{"production", true, "production"},
		{"production", false, "all"},
	}
	for _, c := range cases {
		if got := p.variablesFor(c.environment, c.protected)["K"]; got != c.want {
			t.Errorf("%q (protected: %t) gets %q, want %q", c.environment, c.protected, got, c.want)
		}
	}
}

func TestEveryOutcomeOfAPipelineIsTold(t *testing.T) {
	cases := map[Outcome]rotator.DeploymentState{
		Success:   rotator.DeploymentSucceeded,
		Failed:    rotator.DeploymentFailed,
		Canceled:  rotator.DeploymentFailed,
		Skipped:   rotator.DeploymentFailed,
		Manual:    rotator.DeploymentBlocked,
		Scheduled: rotator.DeploymentBlocked,
		Stuck:     rotator.DeploymentRunning,
	}
	for outcome, want := range cases {
		t.Run(string(outcome), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := NewScene(Lifelike())
				s.QueueOutcomes(4711, outcome)
				p := s.Run("a")
				r := rotator.Redeploy{ProjectID: 4711, Ref: "main", Environment: "production"}
				d, err := p.Start(t.Context(), r)
				check(t, err)
				time.Sleep(time.Minute)
				found, err := p.Check(t.Context(), r) // without an id: the reply was lost
				check(t, err)
				if found.State != want || found.ID == 0 {
					t.Errorf("it is %+v, want state %d", found, want)
				}
				if want != rotator.DeploymentBlocked {
					return
				}
				s.PlayJob(s.Pipelines(4711)[0].Jobs[0].ID)
				time.Sleep(time.Minute)
				r.ID = d.ID
				if d, err = p.Check(t.Context(), r); err != nil || d.State != rotator.DeploymentSucceeded {
					t.Errorf("played it is %+v, %v", d, err)
				}
			})
		})
	}
}

func TestAGreenPipelineThatDeployedNothingIsNoProof(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := NewScene(Lifelike())
		s.EditProject(4711, func(p *Project) {
			p.Pipeline = []JobSpec{{Name: "test"}, {Name: "deploy", Environment: "production", Manual: true, AllowFailure: true}}
		})
		p := s.Run("a")
		r := rotator.Redeploy{ProjectID: 4711, Ref: "main", Environment: "production"}
		_, err := p.Start(t.Context(), r)
		check(t, err)
		time.Sleep(time.Minute)
		d, err := p.Check(t.Context(), r)
		check(t, err)
		if d.Status != "success" || d.State != rotator.DeploymentBlocked {
			t.Errorf("it is %+v", d)
		}
		r.Environment = "staging"
		if d, err = p.Check(t.Context(), r); err != nil || d.State != rotator.DeploymentFailed {
			t.Errorf("of an environment it does not have: %+v, %v", d, err)
		}
	})
}

func TestEveryFateOfAWrite(t *testing.T) {
	cases := map[Fate]struct {
		keys    int
		refused bool
		dead    bool
	}{
		Refused:     {keys: 1, refused: true},
		Lost:        {keys: 2},
		Late:        {keys: 2},
		Stalled:     {keys: 2},
		CrashBefore: {keys: 1, dead: true},
		CrashAfter:  {keys: 2, dead: true},
	}
	for fate, want := range cases {
		t.Run(fate.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := NewScene(Options{})
				p := s.Run("a").Intercept(func(c Call) Fate {
					if c.Name == "iam.CreateAccessKey" {
						return fate
					}
					return OK
				})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err := p.Create(ctx, "svc-billing")
				if err == nil || errors.Is(err, rotator.ErrRefused) != want.refused {
					t.Errorf("the error is %v", err)
				}
				time.Sleep(time.Minute)
				if keys := s.Keys("svc-billing"); len(keys) != want.keys {
					t.Errorf("there are %d keys, want %d", len(keys), want.keys)
				}
				_, err = p.List(t.Context(), "svc-billing")
				if errors.Is(err, ErrDead) != want.dead || p.Dead() != want.dead {
					t.Errorf("the next call: %v", err)
				}
			})
		})
	}
}

func TestTheJournalComparesAndSwaps(t *testing.T) {
	s := NewScene(Options{})
	a, b := s.Run("a"), s.Run("b")
	none, err := a.Load(t.Context(), "svc-billing")
	check(t, err)
	first, err := a.Save(t.Context(), rotator.Record{User: "svc-billing", Phase: rotator.PhaseCreating})
	check(t, err)
	if none.Version != 0 || first.Version != 1 {
		t.Errorf("versions are %d and %d", none.Version, first.Version)
	}
	if _, err := b.Save(t.Context(), rotator.Record{User: "svc-billing"}); !errors.Is(err, rotator.ErrConflict) {
		t.Errorf("the second save of version 0: %v", err)
	}
	flying, err := b.InFlight(t.Context())
	check(t, err)
	if diff := cmp.Diff([]rotator.Record{first}, flying); diff != "" {
		t.Error(diff)
	}
}

func TestPublishingKeepsTheUsersTextAndFlags(t *testing.T) {
	s := NewScene(Options{})
	s.EditVariable(4711, "AWS_SECRET_ACCESS_KEY", "*", func(v *Variable) {
		v.Description, v.Protected, v.Hidden = "of the billing service", true, true
	})
	s.EditVariable(4711, "AWS_ACCESS_KEY_ID", "*", func(v *Variable) { v.Masked = false })
	pair := s.CreateKey("svc-billing", time.Hour)
	publish(t, s, s.Run("a"), pair)

	secret, _ := s.Variable(4711, "AWS_SECRET_ACCESS_KEY", "*")
	if !strings.HasPrefix(secret.Description, "of the billing service [credential-rotator: "+pair.ID+" ") || !secret.Protected || !secret.Hidden {
		t.Errorf("the secret variable is %+v", secret)
	}
	keyID, _ := s.Variable(4711, "AWS_ACCESS_KEY_ID", "*")
	if !keyID.Masked || keyID.Value != pair.ID {
		t.Errorf("the key id variable is %+v", keyID)
	}
	found, err := readOne(t.Context(), s.Run("b"), s.Service.Place)
	check(t, err)
	if found.Secret.Claims != pair.ID || found.Secret.Text != "of the billing service" || found.Secret.Value != "" || found.KeyID.Claims != pair.ID {
		t.Errorf("read back: %+v", found)
	}
}

func TestPreflightNamesEveryFault(t *testing.T) {
	cases := map[string]struct {
		spoil func(s *Scene)
		want  string
	}{
		"nothing wrong":  {func(*Scene) {}, ""},
		"archived":       {func(s *Scene) { s.EditProject(4711, func(p *Project) { p.Archived = true }) }, "archived"},
		"no such branch": {func(s *Scene) { s.EditProject(4711, func(p *Project) { p.Refs = nil }) }, "no branch or tag main"},
		"role too low":   {func(s *Scene) { s.EditToken("rotator", func(t *Token) { t.Roles[4711] = Developer }) }, "Maintainer"},
		"token revoked":  {func(s *Scene) { s.EditToken("rotator", func(t *Token) { t.Revoked = true }) }, "does not accept the token"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := NewScene(Options{})
			c.spoil(s)
			found, err := s.Run("a").Preflight(t.Context(), s.Request())
			check(t, err)
			faults := strings.Join(found.Found(rotator.CheckFault), "\n")
			if (c.want == "") != (faults == "") || !strings.Contains(faults, c.want) {
				t.Errorf("faults are %q, want %q", faults, c.want)
			}
		})
	}
}

func TestReadNamesWhatKeepsAVariableFromBeingWritten(t *testing.T) {
	s := NewScene(Options{})
	s.EditVariable(4711, "AWS_ACCESS_KEY_ID", "*", func(v *Variable) { v.Description = strings.Repeat("x", 255) })
	found, err := readOne(t.Context(), s.Run("a"), s.Service.Place)
	check(t, err)
	faults := strings.Join(found.Faults, "\n")
	if !strings.Contains(faults, "leaves no room") {
		t.Errorf("faults are %q", faults)
	}
}

func TestSecretsAreFoundInEveryDisguise(t *testing.T) {
	w := New(Options{})
	w.AddUser(User{Name: "u"})
	pair := w.CreateKey("u", 0)
	secret := pair.Secret.Reveal()
	if len(secret) != 40 || !strings.Contains(secret, "CANARY") || !strings.ContainsAny(secret, "/+") {
		t.Fatalf("%q is no canary", secret)
	}
	for _, form := range disguises(secret) {
		if got := w.LeaksIn("xx" + form + "yy"); len(got) != 1 || got[0] != "the secret of "+pair.ID {
			t.Errorf("%q: found %q", form, got)
		}
	}
	for i := range 3 {
		text := fmt.Sprintf(`%s{"secret":%q}`, strings.Repeat("-", i), secret)
		if len(w.LeaksIn(base64Of(text))) == 0 {
			t.Errorf("not found in the base64 of %q", text)
		}
	}
	if got := w.LeaksIn(fmt.Sprint(pair)); len(got) > 0 {
		t.Errorf("found %q where it was redacted", got)
	}
}

func base64Of(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func writeSecret(ctx context.Context, d rotator.Destination, place rotator.Place, before rotator.Variable, pair rotator.KeyPair) error {
	_, err := d.Write(ctx, place, rotator.PartSecret, before, pair)
	return err
}

func writeKeyID(ctx context.Context, d rotator.Destination, place rotator.Place, before rotator.Variable, keyID string) (time.Time, error) {
	return d.Write(ctx, place, rotator.PartKeyID, before, rotator.KeyPair{ID: keyID})
}

func readOne(ctx context.Context, d rotator.Destination, place rotator.Place) (rotator.Published, error) {
	all, err := d.Read(ctx, []rotator.Place{place})
	if err != nil {
		return rotator.Published{}, err
	}
	return all[0], nil
}
