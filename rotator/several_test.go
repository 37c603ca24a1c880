package rotator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// twoPlaces is idleAndDue with the key in two projects.
func twoPlaces() observed {
	o := idleAndDue()
	first, second := o.request.Target, o.request.Target
	second.ProjectID = 4712
	o.request.Target, o.request.Destinations = Target{}, []Target{first, second}
	o.record.Request = o.request
	o.user.Binding = "4712 4711"
	o.published = append(o.published, o.published[0])
	o.preflight.Turns = append(o.preflight.Turns, o.preflight.Turns[0])
	return o
}

// holds is a place that hands out a key, stamped by us.
func holds(id string) Published {
	return Published{
		KeyID:  Variable{Exists: true, Masked: true, Value: id, Claims: id},
		Secret: Variable{Exists: true, Masked: true, Claims: id},
		At:     noon,
	}
}

func hidden(p Published) Published {
	p.KeyID.Hidden, p.KeyID.Value, p.Secret.Hidden = true, "", true
	return p
}

func TestAKeyInSeveralPlacesIsLookedAtInAllOfThem(t *testing.T) {
	newer := func(o *observed) { withKeys(o, aged(oldKey, 84*day), aged(newKeyID, day)) }
	table(t, twoPlaces, map[string]decision{
		"they all hold it, and it is due":   {given: func(*observed) {}, step: StepBegin, keyID: oldKey, says: []string{"was 84 days old"}},
		"they all hold it, and it is young": {given: young, status: StatusNotDue},
		"one lacks its variables": {
			given: func(o *observed) { young(o); o.published[1] = Published{} },
			step:  StepBegin, keyID: oldKey, says: []string{"AWS_SECRET_ACCESS_KEY is missing"},
		},
		"one has a fault": {given: func(o *observed) { o.published[1].Faults = []string{"too long"} }, status: StatusRefused, says: []string{"too long"}},
		"one is protected, and its ref is not": {
			given:  func(o *observed) { o.published[1].Secret.Protected, o.preflight.Turns[1].RefProtected = true, false },
			status: StatusRefused, says: []string{"AWS_SECRET_ACCESS_KEY is protected, and main is not"},
		},
		"a ref that is not protected is the other's": {
			given: func(o *observed) { o.published[1].Secret.Protected, o.preflight.Turns[0].RefProtected = true, false },
			step:  StepBegin, keyID: oldKey,
		},
		"the user is bound to one of them": {given: func(o *observed) { o.user.Binding = "4711" }, status: StatusRefused, says: []string{"not to project 4712", "4711 4712"}},
		"the user is bound to a group too": {given: func(o *observed) { o.user.Binding = "4711 4712 group:9" }, status: StatusRefused, says: []string{"does not cover group:9"}},
		"they hold different keys": {
			given:  func(o *observed) { newer(o); o.published[0].KeyID.Value, o.published[1].KeyID.Value = newKeyID, oldKey },
			status: StatusHeld, says: []string{"do not hold the same key", "project 4711 [*] has " + newKeyID, "project 4712 [*] has " + oldKey},
		},
		"one has a newer key of ours, which can be read": {
			given: func(o *observed) { newer(o); o.published[1] = holds(newKeyID) },
			step:  StepBegin, keyID: newKeyID, says: []string{"is not published everywhere yet"},
			check: func(t *testing.T, v verdict) {
				if v.adopt != newKeyID || v.previous != oldKey {
					t.Errorf("it adopts %s and retires %s", v.adopt, v.previous)
				}
			},
		},
		"one has a newer key of ours, which is hidden": {
			given:  func(o *observed) { newer(o); o.published[1] = hidden(holds(newKeyID)) },
			status: StatusHeld, says: []string{"do not hold the same key"},
		},
		"one has an older key of ours": {
			given:  func(o *observed) { newer(o); o.published[0].KeyID.Value = newKeyID; o.published[1] = holds(oldKey) },
			status: StatusHeld, says: []string{"do not hold the same key"},
		},
		"one has a foreign key": {given: func(o *observed) { o.published[1].KeyID.Value = thirdKey }, status: StatusHeld, says: []string{"has " + thirdKey}},
		"one has a foreign key, by force": {
			given: func(o *observed) { o.published[1].KeyID.Value, o.request.Force = thirdKey, true },
			step:  StepBegin, keyID: oldKey, says: []string{"it was forced"},
		},
		"they hold different keys, and one may fail": {
			given: func(o *observed) {
				newer(o)
				o.published[0], o.published[1] = hidden(holds(newKeyID)), hidden(holds(oldKey))
				o.request.Force, o.request.RetireKey = true, oldKey
			},
			step: StepDeactivate, keyID: oldKey, says: []string{"retire_key names"},
		},
		"one cannot be read, and the key of the other may fail": {
			given: func(o *observed) {
				newer(o)
				o.published[0], o.published[1] = hidden(holds(newKeyID)), hidden(Published{KeyID: Variable{Exists: true}, Secret: Variable{Exists: true}})
				o.request.Force, o.request.RetireKey = true, newKeyID
			},
			step: StepDeactivate, keyID: newKeyID, says: []string{"retire_key names"},
		},
		"one cannot be read, and neither has the key that may fail": {
			given: func(o *observed) {
				newer(o)
				o.published[0], o.published[1] = holds(thirdKey), hidden(Published{KeyID: Variable{Exists: true}, Secret: Variable{Exists: true}})
				o.request.Force, o.request.RetireKey = true, newKeyID
			},
			status: StatusHeld, says: []string{"do not hold the same key"},
		},
		"they hold different keys, by force, and nothing says which may fail": {
			given: func(o *observed) {
				newer(o)
				o.published[0], o.published[1] = hidden(holds(newKeyID)), hidden(holds(oldKey))
				o.request.Force = true
			},
			status: StatusHeld, says: []string{"do not hold the same key", "name in retire_key"},
		},
		"what else holds the key is a fault, whatever the place": {
			given:  func(o *observed) { o.published[1].Elsewhere = []Holding{{"COPY [*]", oldKey}} },
			status: StatusRefused, says: []string{"COPY [*] holds the key"},
		},
	})
}

// halfway is twoPlaces in mid publication: the new key has a proven pair.
func halfway() observed {
	o := twoPlaces()
	o.record.Phase, o.record.PreviousKeyID, o.record.NewKeyID, o.record.KnownKeys = PhaseCreated, oldKey, newKeyID, []string{oldKey}
	o.record.CreatingSince = noon.Add(-day)
	o.havePair, o.proven = true, true
	withKeys(&o, aged(oldKey, 84*day), aged(newKeyID, 0))
	return o
}

func TestAPairIsPublishedToOnePlaceAfterTheOther(t *testing.T) {
	dead := func(o *observed) { o.havePair, o.proven = false, false }
	at := func(place int) func(*testing.T, verdict) {
		return func(t *testing.T, v verdict) {
			if v.place != place {
				t.Errorf("it is at place %d, want %d", v.place, place)
			}
		}
	}
	table(t, halfway, map[string]decision{
		"nowhere yet": {given: func(*observed) {}, step: StepPublishSecret, keyID: newKeyID, check: at(0)},
		"nowhere yet, and the first is hidden: what can be read back comes first": {
			given: func(o *observed) { o.published[0] = hidden(o.published[0]) },
			step:  StepPublishSecret, keyID: newKeyID, check: at(1),
		},
		"in the first":       {given: func(o *observed) { o.published[0] = holds(newKeyID) }, step: StepPublishSecret, keyID: newKeyID, check: at(1)},
		"half in the second": {given: func(o *observed) { o.published[1].Secret.Claims = newKeyID }, step: StepPublishKeyID, keyID: newKeyID, check: at(1)},
		"in both":            {given: func(o *observed) { o.published[0], o.published[1] = holds(newKeyID), hidden(holds(newKeyID)) }, step: StepMark, keyID: newKeyID},
		"in the first, and the run has died": {
			given: func(o *observed) { dead(o); o.published[0] = holds(newKeyID) },
			step:  StepRecover, keyID: newKeyID, check: at(0),
		},
		"in the second, and the run has died": {
			given: func(o *observed) { dead(o); o.published[1] = holds(newKeyID) },
			step:  StepRecover, keyID: newKeyID, check: at(1),
		},
		"what was read back is proven again": {
			given: func(o *observed) { o.proven = false; o.published[0] = holds(newKeyID) },
			step:  StepProve, keyID: newKeyID,
		},
		"what was read back does not work": {
			given: func(o *observed) {
				o.proven, o.givenUp, o.published[0] = false, "it does not authenticate", holds(newKeyID)
			},
			status: StatusFailed, says: []string{"does not authenticate", "not published everywhere", "both keys work"},
		},
		"hidden where it is, and the run has died": {
			given:  func(o *observed) { dead(o); o.published[0] = hidden(holds(newKeyID)) },
			status: StatusHeld, says: []string{"project 4711 [*] has " + newKeyID, "project 4712 [*] has " + oldKey, "nothing is broken", "name " + newKeyID + " in retire_key", "all else runs with " + oldKey},
		},
		"hidden where it is, and a person says which may fail": {
			given: func(o *observed) {
				dead(o)
				o.published[0], o.request.Force, o.request.RetireKey = hidden(holds(newKeyID)), true, oldKey
			},
			step: StepRestart,
		},
		"hidden where it is, by force alone": {
			given:  func(o *observed) { dead(o); o.published[0], o.request.Force = hidden(holds(newKeyID)), true },
			status: StatusHeld,
		},
		"somebody has published another key at the second": {
			given:  func(o *observed) { o.published[0], o.published[1] = holds(newKeyID), holds(thirdKey) },
			status: StatusHeld, says: []string{"somebody has published " + thirdKey},
		},
		"somebody has, and nothing was published yet": {
			given: func(o *observed) { o.published[0] = holds(thirdKey) },
			step:  StepDiscard, keyID: newKeyID,
		},
		"nowhere, and the run has died": {given: dead, step: StepDiscard, keyID: newKeyID},
	})
}

func TestAnOldKeyIsKeptAsLongAsOnePlaceLacksTheNewOne(t *testing.T) {
	base := func() observed {
		o := halfway()
		o.record.Phase, o.havePair, o.proven = PhaseRetiring, false, false
		o.record.PublishedAt, o.record.DeployedAt, o.record.RetiringSince = noon.Add(-day), noon.Add(-day), noon.Add(-day)
		o.published = []Published{holds(newKeyID), holds(newKeyID)}
		return o
	}
	table(t, base, map[string]decision{
		"all have it": {given: func(*observed) {}, step: StepDeactivate, keyID: oldKey},
		"the second was changed": {
			given:  func(o *observed) { o.published[1] = holds(oldKey) },
			status: StatusHeld, says: []string{"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY [*] of project 4712 no longer hold", "both keys are kept"},
		},
		"the second was not read": {given: func(o *observed) { o.published = o.published[:1] }, status: StatusHeld, says: []string{"project 4712"}},
	})
}

func TestAKeyIsPublishedWhenItsLastPlaceHasIt(t *testing.T) {
	o := twoPlaces()
	o.published[0].At = noon.Add(time.Minute)
	if at := publishedAt(o); !at.Equal(noon.Add(time.Minute)) {
		t.Errorf("it is published at %s: a job that started before may have the old key", at)
	}
	o.published[0].At, o.published[1].At = noon, noon.Add(time.Minute)
	if at := publishedAt(o); !at.Equal(noon.Add(time.Minute)) {
		t.Errorf("it is published at %s: a job that started before may have the old key", at)
	}
}

func TestTheRefOfARotationThatAnEarlierVersionBeganIsKept(t *testing.T) {
	var r Record
	if err := json.Unmarshal([]byte(`{"user":"svc-billing","phase":"published","ref":"release","ref_protected":true}`), &r); err != nil {
		t.Fatal(err)
	}
	if r.ref() != "release" {
		t.Errorf("its pipelines would run on %q", r.ref())
	}
}

func TestAPairThatIsPublishedToManyPlacesNeedsMoreTime(t *testing.T) {
	p := Pace{ProbeDelay: 5 * time.Second, ProbeInterval: 6 * time.Second, ProbeSuccesses: 3}
	if one, ten := p.untilPublished(1), p.untilPublished(10); one != 22*time.Second || ten != 67*time.Second {
		t.Errorf("one needs %s, ten need %s", one, ten)
	}
}

func TestOnlyItsOwnPipelineProvesARedeployThatOthersAreNoMatchFor(t *testing.T) {
	web := map[string]any{"service": "web"}
	for name, c := range map[string]struct {
		ways []Way
		own  bool // of the first
	}{
		"alone":                         {[]Way{{Redeploy: RedeployPipeline, Environment: "production"}}, false},
		"with inputs":                   {[]Way{{Redeploy: RedeployPipeline, Environment: "production", Inputs: web}}, true},
		"another environment beside it": {[]Way{{Redeploy: RedeployPipeline, Environment: "production"}, {Redeploy: RedeployPipeline, Environment: "staging"}}, false},
		"the same one beside it":        {[]Way{{Redeploy: RedeployPipeline, Environment: "production"}, {Redeploy: RedeployPipeline, Environment: "production", Ref: "web"}}, true},
		"of what is live":               {[]Way{{Redeploy: RedeployDeployment, Environment: "production"}, {Redeploy: RedeployPipeline, Environment: "production"}}, false},
		"the same one, only published":  {[]Way{{Redeploy: RedeployPipeline, Environment: "production"}, {Redeploy: RedeployNone, Environment: "production"}}, false},
	} {
		u := &run{request: idleAndDue().request}
		for _, w := range c.ways {
			u.request.Redeploys = append(u.request.Redeploys, ProjectWay{Way: w})
		}
		if got := u.redeploy().Own; got != c.own {
			t.Errorf("%s: Own = %t", name, got)
		}
	}
}

func TestBeforeTheOldKeyGoesWhateverOutranksAGroupIsReadAgain(t *testing.T) {
	way := func(project int64) ProjectWay {
		return ProjectWay{ProjectID: project, Way: Way{Redeploy: RedeployPipeline}}
	}
	u := &run{seen: sight{loaded: true}, record: Record{Phase: PhaseRetiring, Subgroups: []int64{10, 11, 10, 12}}}
	group, subgroup := DefaultTarget(), DefaultTarget()
	group.GroupID, group.Redeploys = 9, []ProjectWay{way(4711), way(4712), way(4711)}
	subgroup.GroupID, subgroup.Redeploy = 12, RedeployNone // a place of the request
	u.request.Destinations = []Target{group, subgroup}
	var read []string
	for _, p := range u.heirs() {
		read = append(read, p.String())
	}
	want := []string{
		"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY [*] of project 4711", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY [*] of group 10",
		"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY [*] of group 11", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY [*] of project 4712",
	}
	if !slices.Equal(read, want) {
		t.Errorf("read are %q", read)
	}
}

// goneGroup refuses to read one group's variables; group 11 holds the old key.
type goneGroup struct {
	Destination
	id int64
}

func (g goneGroup) Read(_ context.Context, places []Place) ([]Published, error) {
	all := make([]Published, len(places))
	for i, p := range places {
		switch p.GroupID {
		case g.id:
			return nil, fmt.Errorf("reading the variables of group %d: %w", g.id, ErrRefused)
		case 11:
			all[i].KeyID = Variable{Exists: true, Value: oldKey}
		}
	}
	return all, nil
}

func TestASubgroupThatIsGoneKeepsNoOldKey(t *testing.T) {
	for gone, want := range map[int64]error{10: nil, 9: ErrRefused} {
		r := DefaultRequest()
		r.GroupID, r.Redeploys = 9, []ProjectWay{{ProjectID: 4711, Way: Way{Redeploy: RedeployPipeline}}}
		u := &run{Rotator: &Rotator{Destination: goneGroup{id: gone}}, request: r, record: Record{Request: r, Phase: PhaseRetiring, Subgroups: []int64{10, 11}}}
		if err := u.lookAtPublished(t.Context()); !errors.Is(err, want) {
			t.Errorf("group %d is gone: %v", gone, err)
		}
		if want != nil {
			if len(u.record.Subgroups) != 2 {
				t.Errorf("it is about no subgroup, and left are %d", u.record.Subgroups)
			}
			continue
		}
		if len(u.record.Warnings) != 1 || !slices.Equal(u.record.Subgroups, []int64{11}) {
			t.Errorf("group %d is gone: left are %d, and it says %q", gone, u.record.Subgroups, u.record.Warnings)
		}
		if !slices.ContainsFunc(elsewhere(u.observed()), func(h Holding) bool { return h.KeyID == oldKey }) {
			t.Error("what the other subgroup holds is not seen any more")
		}
	}
}

func TestATagIsRemovedThoughNothingIsRedeployedAnyMore(t *testing.T) {
	tagged := func() observed {
		o := inFlight(PhasePublished)
		o.record.NewKeyID, o.record.Marked, o.record.Tag, o.record.Tagged = newKeyID, true, TagPrefix+"1", true
		o.request.Redeploy, o.request.OverlapHours = RedeployNone, 1
		return o
	}
	table(t, tagged, map[string]decision{
		"by force": {given: func(*observed) {}, step: StepUntag, keyID: newKeyID},
	})
}

func TestATagThatGetsNoProtectedVariablesIsWarnedOf(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(o *observed)
		warns int
	}{
		"protected variables, and tags that are not": {func(*observed) {}, 1},
		"protected tags":         {func(o *observed) { o.preflight.Turns[0].RefProtected = true }, 0},
		"variables that are not": {func(o *observed) { o.published[0].Secret.Protected = false }, 0},
		"another fallback":       {func(o *observed) { o.request.Fallback = RedeployPipeline }, 0},
		"no preflight":           {func(o *observed) { o.preflight = Preflight{} }, 0},
		"nothing that was read":  {func(o *observed) { o.published = nil }, 0},
	} {
		o := idleAndDue()
		o.request.Redeploy, o.request.Fallback = RedeployDeployment, FallbackLiveCommit
		o.preflight.Turns[0] = TurnPreflight{Ref: TagPrefix + "…", LiveRef: "main", LiveRefProtected: true}
		o.published[0].Secret.Protected = true
		c.spoil(&o)
		if got := warningsIn(checks(o)); len(got) != c.warns {
			t.Errorf("%s: %q", name, got)
		}
	}
}
