package rotator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// The cast of the tables.
const (
	oldKey   = "AKIAOLDOLDOLDOLDOLD2"
	newKeyID = "AKIANEWNEWNEWNEWNEW3"
	otherKey = "AKIAOTHEROTHEROTHER4"
	thirdKey = "AKIATHIRDTHIRDTHIRD5"

	day = 24 * time.Hour
)

// noon is now, on all clocks unless a case says otherwise.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// decision is one row: what is seen, and what is to be made of it.
type decision struct {
	given  func(o *observed)
	step   Step
	status Status
	keyID  string   // the key that the step is about
	says   []string // decisive words of the reason
	warns  []string // decisive words of the warnings, in any order; nil: no warning
	check  func(t *testing.T, v verdict)
}

// table decides every row, beginning with what base sees.
func table(t *testing.T, base func() observed, rows map[string]decision) {
	t.Helper()
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			o := base()
			row.given(&o)
			v := decide(o)
			if v.step != row.step || v.status != row.status {
				t.Fatalf("the verdict is step %q, status %q (%s), want step %q, status %q", v.step, v.status, v.reason, row.step, row.status)
			}
			if v.step != "" && v.keyID != row.keyID {
				t.Errorf("%s is about key %q, want %q", v.step, v.keyID, row.keyID)
			}
			for _, words := range row.says {
				if !strings.Contains(v.reason, words) {
					t.Errorf("the reason is %q, want %q in it", v.reason, words)
				}
			}
			if warnings := strings.Join(v.warnings, "\n"); row.warns == nil && warnings != "" {
				t.Errorf("warnings are %q, want none", warnings)
			} else {
				for _, words := range row.warns {
					if !strings.Contains(warnings, words) {
						t.Errorf("warnings are %q, want %q in them", warnings, words)
					}
				}
			}
			if row.check != nil {
				row.check(t, v)
			}
		})
	}
}

func aged(id string, age time.Duration) AccessKey {
	return AccessKey{ID: id, Status: KeyActive, CreatedAt: noon.Add(-age)}
}

func withStatus(k AccessKey, s KeyStatus) AccessKey {
	k.Status = s
	return k
}

// checked are checks that have found something.
func checked(state CheckState, details ...string) []Check {
	var all []Check
	for _, detail := range details {
		all = append(all, Check{State: state, Detail: detail})
	}
	return all
}

func withKeys(o *observed, all ...AccessKey) { o.keys = all }

// idleAndDue is the usual beginning: one key of 84 days, published and active.
func idleAndDue() observed {
	r := DefaultRequest()
	r.User, r.ProjectID, r.Environment = "svc-billing", 4711, "production"
	return observed{
		now: noon, iamNow: noon, gitLab: noon,
		left: 10 * time.Minute, whole: 10 * time.Minute, needed: 22 * time.Second, orphan: 20 * time.Minute,
		owner: "us", request: r,
		record:    Record{User: "svc-billing", UniqueID: "AIDA1", Version: 3, Phase: PhaseIdle, Request: r},
		user:      User{Name: "svc-billing", ARN: "arn:aws:iam::123456789012:user/svc-billing", UniqueID: "AIDA1", Binding: "4711", At: noon},
		keys:      []AccessKey{aged(oldKey, 84*day)},
		preflight: Preflight{Turns: []TurnPreflight{{Ref: "main", RefProtected: true}}},
		published: []Published{{
			KeyID:  Variable{Exists: true, Masked: true, Value: oldKey},
			Secret: Variable{Exists: true, Masked: true},
			At:     noon,
		}},
	}
}

// young makes the published key one that is not due.
func young(o *observed) { o.keys[0].CreatedAt = noon.Add(-10 * day) }

func TestTheBeginningOfTheTablesIsDue(t *testing.T) {
	v := decide(idleAndDue())
	if v.step != StepBegin || v.previous != oldKey || v.adopt != "" || !strings.Contains(v.reason, oldKey+" was 84 days old") {
		t.Errorf("the verdict is %+v", v)
	}
}

// spoils are reasons to refuse, in the order in which they are told.
var spoils = []struct {
	name   string
	given  func(o *observed)
	status Status
	says   string
}{
	{"it is not bound", func(o *observed) { o.user.Binding = "4712 4713" }, StatusRefused, "not to project 4711"},
	{"another run holds the lease", func(o *observed) { o.record.Lease = Lease{"them", noon.Add(time.Second)} }, StatusBusy, "another run holds the rotation of svc-billing until"},
	{"the user was made again", func(o *observed) { o.user.UniqueID = "AIDA2" }, StatusRefused, "was deleted and made again"},
	{"there are three keys", func(o *observed) {
		withKeys(o, aged(oldKey, 84*day), aged(otherKey, day), aged(thirdKey, day))
	}, StatusRefused, "has 3 keys"},
	{"it is in quarantine", func(o *observed) { o.user.Quarantine = []string{"AWSCompromisedKeyQuarantineV3"} }, StatusRefused, "AWSCompromisedKeyQuarantineV3"},
	{"the preflight finds a fault", func(o *observed) {
		o.preflight.Checks = []Check{{State: CheckFault, Detail: "project shop/billing is archived"}}
	}, StatusRefused, "archived"},
}

func TestRefusalsComeFirstAndInTheirOrder(t *testing.T) {
	for i, first := range spoils {
		t.Run(first.name, func(t *testing.T) {
			o := idleAndDue()
			for _, spoil := range spoils[i:] { // whatever else is wrong
				spoil.given(&o)
			}
			v := decide(o)
			if v.step != "" || v.status != first.status || !strings.Contains(v.reason, first.says) {
				t.Errorf("the verdict is %s %s: %s, want %s: … %s …", v.step, v.status, v.reason, first.status, first.says)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	begins := func(given func(*observed)) decision {
		return decision{given: given, step: StepBegin, keyID: oldKey}
	}
	refused := func(given func(*observed), says ...string) decision {
		return decision{given: given, status: StatusRefused, says: says}
	}
	table(t, idleAndDue, map[string]decision{
		"a user without the tag":                   refused(func(o *observed) { o.user.Binding = "" }, "not bound to project 4711", "credential-rotator:project-ids = 4711"),
		"a user bound to another project":          refused(func(o *observed) { o.user.Binding = "4712" }, "not to project 4711"),
		"a binding that begins like the project":   refused(func(o *observed) { o.user.Binding = "47110" }, "not to project 4711"),
		"a user bound to more projects":            refused(func(o *observed) { o.user.Binding = "4712 4711" }, "is bound to 4712, 4711", "does not cover 4712", "a user of its own"),
		"a binding with more spaces than it needs": begins(func(o *observed) { o.user.Binding = "  4711 " }),
		"a binding that says the project twice":    begins(func(o *observed) { o.user.Binding = "4711 4711" }),

		"another variable that holds the same key": refused(func(o *observed) {
			o.published[0].Elsewhere = []Holding{{Variable: "AWS_KEY [staging]", KeyID: oldKey}}
		}, "AWS_KEY [staging] holds the key "+oldKey, "a user of its own"),
		"another variable that holds a key of somebody else": begins(func(o *observed) {
			o.published[0].Elsewhere = []Holding{{Variable: "AWS_KEY [staging]", KeyID: otherKey}}
		}),
		"another variable that holds the key that retire_key names": refused(func(o *observed) {
			withKeys(o, aged(oldKey, 84*day), aged(otherKey, day))
			o.request.RetireKey = otherKey
			o.published[0].Elsewhere = []Holding{{Variable: "OTHER [*]", KeyID: otherKey}}
		}, "OTHER [*] holds the key "+otherKey),
		"no variable here, and one that holds somebody else's key elsewhere": {
			given: func(o *observed) {
				o.published[0].KeyID, o.published[0].Secret = Variable{}, Variable{}
				o.published[0].Elsewhere = []Holding{{Variable: "OTHER [*]", KeyID: otherKey}}
			},
			step: StepBegin, warns: []string{oldKey},
		},
		"another variable that holds the user's other key, which is left alone": {
			given: func(o *observed) {
				withKeys(o, aged(oldKey, 10*day), aged(otherKey, day))
				o.published[0].Elsewhere = []Holding{{Variable: "OTHER [*]", KeyID: otherKey}}
			},
			status: StatusNotDue, warns: []string{otherKey},
		},
		"no variable here, and one that holds the user's key elsewhere": refused(func(o *observed) {
			o.published[0].KeyID, o.published[0].Secret = Variable{}, Variable{}
			o.published[0].Elsewhere = []Holding{{Variable: "AWS_ACCESS_KEY_ID [production]", KeyID: oldKey}}
		}, "AWS_ACCESS_KEY_ID [production] holds the key "+oldKey),

		"a lease that ends in a second": {
			given:  func(o *observed) { o.record.Lease = Lease{"them", noon.Add(time.Second)} },
			status: StatusBusy, says: []string{"another run holds the rotation of svc-billing until 2026-11-21 12:00 UTC"},
		},
		"a lease that ends now":      begins(func(o *observed) { o.record.Lease = Lease{"them", noon} }),
		"a lease that was released":  begins(func(o *observed) { o.record.Lease = Lease{Owner: "them"} }),
		"our own lease":              begins(func(o *observed) { o.record.Lease = Lease{"us", noon.Add(time.Hour)} }),
		"a lease against force":      {given: func(o *observed) { o.record.Lease, o.request.Force = Lease{"them", noon.Add(time.Hour)}, true }, status: StatusBusy, says: []string{"another run"}},
		"a user that was made again": refused(func(o *observed) { o.user.UniqueID = "AIDA2" }, "AIDA2", "AIDA1", "force"),
		"a user that the journal does not know": begins(func(o *observed) {
			o.record = Record{}
		}),
		"a rotation in flight of another place": refused(func(o *observed) {
			o.record.Phase, o.record.NewKeyID = PhasePublished, newKeyID
			o.record.Request.EnvironmentScope = "production"
		}, "in flight for AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY [production] of project 4711", "[production]", "let it end"),
		"an ended rotation of another place": begins(func(o *observed) { o.record.Request.EnvironmentScope = "production" }),

		"three keys": refused(func(o *observed) {
			withKeys(o, aged(oldKey, 84*day), aged(otherKey, day), aged(thirdKey, day))
		}, "has 3 keys", oldKey, otherKey, thirdKey, "delete those that nobody uses"),
		"three keys by force": refused(func(o *observed) {
			o.request.Force = true
			withKeys(o, aged(oldKey, 84*day), aged(otherKey, day), aged(thirdKey, day))
		}, "has 3 keys"),
		"a quarantine": refused(func(o *observed) { o.user.Quarantine = []string{"AWSCompromisedKeyQuarantineV2"} },
			"AWS attached AWSCompromisedKeyQuarantineV2 to user svc-billing", "leaked", "force"),
		"a quarantine by force": begins(func(o *observed) {
			o.user.Quarantine, o.request.Force = []string{"AWSCompromisedKeyQuarantineV2"}, true
		}),
		"a quarantine of a key that is not due": refused(func(o *observed) {
			young(o)
			o.user.Quarantine = []string{"AWSCompromisedKeyQuarantineV2"}
		}, "AWSCompromisedKeyQuarantineV2"),

		"every fault at once": refused(func(o *observed) {
			o.preflight.Checks = checked(CheckFault, "the role of the token is too low", "there is no branch main")
			o.published[0].Faults = []string{"AWS_ACCESS_KEY_ID [*] is of type File"}
		}, "role of the token", "no branch main", "of type File"),
		"a fault when nothing is due": refused(func(o *observed) {
			young(o)
			o.preflight.Checks = []Check{{State: CheckFault, Detail: "the token has expired"}}
		}, "the token has expired"),
		"a fault by force": refused(func(o *observed) {
			o.request.Force, o.preflight.Checks = true, checked(CheckFault, "the token has expired")
		}, "the token has expired"),
		"a protected key id for a ref that is not": refused(func(o *observed) {
			o.published[0].KeyID.Protected, o.preflight.Turns[0].RefProtected = true, false
		}, "AWS_ACCESS_KEY_ID is protected, and main is not"),
		"a protected secret for a ref that is not": refused(func(o *observed) {
			o.published[0].Secret.Protected, o.preflight.Turns[0].RefProtected = true, false
		}, "AWS_SECRET_ACCESS_KEY is protected, and main is not"),
		"protected variables for a protected ref": begins(func(o *observed) {
			o.published[0].KeyID.Protected, o.published[0].Secret.Protected = true, true
		}),
		"what is live cannot be deployed again": refused(func(o *observed) {
			o.request.Redeploy, o.preflight.Turns[0].CannotRedeploy = RedeployDeployment, "environment production is stopped"
		}, "environment production is stopped", `fallback "pipeline"`),
		"what is live cannot be deployed again, and a pipeline may be run": begins(func(o *observed) {
			o.request.Redeploy, o.request.Fallback, o.preflight.Turns[0].CannotRedeploy = RedeployDeployment, RedeployPipeline, "environment production is stopped"
		}),
		"a protected secret for what is live on a ref that is not": refused(func(o *observed) {
			o.request.Redeploy, o.preflight.Turns[0].LiveRef, o.published[0].Secret.Protected = RedeployDeployment, "feature", true
		}, "AWS_SECRET_ACCESS_KEY is protected, and feature is not"),
		"a protected secret, and a fallback to a ref that is not protected": refused(func(o *observed) {
			o.request.Redeploy, o.request.Fallback, o.published[0].Secret.Protected = RedeployDeployment, RedeployPipeline, true
			o.preflight.Turns[0].LiveRef, o.preflight.Turns[0].LiveRefProtected, o.preflight.Turns[0].RefProtected = "v1", true, false
		}, "AWS_SECRET_ACCESS_KEY is protected, and main is not"),
		"a protected secret for what is live, and a ref that nothing is run on": begins(func(o *observed) {
			o.request.Redeploy, o.published[0].Secret.Protected = RedeployDeployment, true
			o.preflight.Turns[0].LiveRef, o.preflight.Turns[0].LiveRefProtected, o.preflight.Turns[0].RefProtected = "v1", true, false
		}),
		"open variables for an open ref": begins(func(o *observed) { o.preflight.Turns[0].RefProtected = false }),
		"a token that may only read":     refused(func(o *observed) { o.preflight.ReadOnly = true }, "may only read", "scope api"),
		"a plan with a token that may only read": begins(func(o *observed) {
			o.preflight.ReadOnly, o.readOnly = true, true
		}),
		"a retire_key that names the published key": refused(func(o *observed) { o.request.RetireKey = oldKey }, "retire_key names "+oldKey, "replaced, not retired"),
		"a retire_key that names the published one of two": refused(func(o *observed) {
			withKeys(o, aged(oldKey, 84*day), aged(otherKey, day))
			o.request.RetireKey = oldKey
		}, "retire_key names "+oldKey),
		"a retire_key that names a hidden published key": refused(func(o *observed) {
			o.published[0].KeyID = Variable{Exists: true, Hidden: true, Claims: oldKey}
			o.request.RetireKey = oldKey
		}, "retire_key names "+oldKey),
	})
}

func TestIdleWithoutAKey(t *testing.T) {
	bootstrap := func(t *testing.T, v verdict) {
		t.Helper()
		if v.previous != "" || v.adopt != "" {
			t.Errorf("it is to retire %q and to adopt %q, want neither", v.previous, v.adopt)
		}
	}
	table(t, idleAndDue, map[string]decision{
		"and without variables: the first key is made": {
			given: func(o *observed) { o.keys, o.published = nil, []Published{{}} },
			step:  StepBegin, says: []string{"had no key"}, check: bootstrap,
		},
		"and with variables that hold what is gone": {
			given: func(o *observed) { o.keys = nil },
			step:  StepBegin, says: []string{"had no key"}, check: bootstrap,
		},
	})
}

func TestIdleWithOneKeyThatIsPublished(t *testing.T) {
	dueOn := func(want time.Time) func(t *testing.T, v verdict) {
		return func(t *testing.T, v verdict) {
			t.Helper()
			if !v.nextDue.Equal(want) || v.keyID != oldKey {
				t.Errorf("key %s is due at %s, want %s at %s", v.keyID, v.nextDue, oldKey, want)
			}
		}
	}
	retires := func(t *testing.T, v verdict) {
		t.Helper()
		if v.previous != oldKey {
			t.Errorf("it is to retire %q, want %q", v.previous, oldKey)
		}
	}
	table(t, idleAndDue, map[string]decision{
		"a second too young": {
			given:  func(o *observed) { o.keys[0].CreatedAt = noon.Add(-83*day + time.Second) },
			status: StatusNotDue, says: []string{oldKey, "82 days old", "due on 2026-11-21"},
			check: dueOn(noon.Add(time.Second)),
		},
		"due at this very second": {
			given: func(o *observed) { o.keys[0].CreatedAt = noon.Add(-83 * day) },
			step:  StepBegin, keyID: oldKey, says: []string{oldKey + " was 83 days old"}, check: retires,
		},
		"age is counted on IAM's clock, not on ours": {
			given:  func(o *observed) { o.keys[0].CreatedAt, o.now = noon.Add(-10*day), noon.Add(300*day) },
			status: StatusNotDue, says: []string{"10 days old"}, check: dueOn(noon.Add(73 * day)),
		},
		"max_age_days and lead_days are the request's": {
			given: func(o *observed) {
				young(o)
				o.request.MaxAgeDays, o.request.LeadDays = 11, 1
			},
			step: StepBegin, keyID: oldKey, says: []string{"10 days old"}, check: retires,
		},
		"without a lead it is due at its age": {
			given: func(o *observed) {
				young(o)
				o.request.MaxAgeDays, o.request.LeadDays = 11, 0
			},
			status: StatusNotDue, check: dueOn(noon.Add(day)),
		},
		"forced": {
			given: func(o *observed) { young(o); o.request.Force = true },
			step:  StepBegin, keyID: oldKey, says: []string{"10 days old", "forced"}, check: retires,
		},
		"warnings of the preflight are passed on": {
			given: func(o *observed) {
				young(o)
				o.preflight.Checks = []Check{{State: CheckWarning, Detail: "the token expires on 2026-11-30"}}
			},
			status: StatusNotDue, warns: []string{"the token expires on 2026-11-30"}, check: dueOn(noon.Add(73 * day)),
		},
		"its secret variable is missing": {
			given: func(o *observed) { young(o); o.published[0].Secret = Variable{} },
			step:  StepBegin, keyID: oldKey, says: []string{"AWS_SECRET_ACCESS_KEY is missing"}, check: retires,
		},
		"hidden and not stamped: it is taken as published": {
			given: func(o *observed) { o.published[0].KeyID = Variable{Exists: true, Hidden: true} },
			step:  StepBegin, keyID: oldKey, says: []string{"84 days old"}, check: retires,
		},
		"hidden and stamped": {
			given: func(o *observed) { o.published[0].KeyID = Variable{Exists: true, Hidden: true, Claims: oldKey} },
			step:  StepBegin, keyID: oldKey, check: retires,
		},
		"a value outranks a stamp that a person left behind": {
			given: func(o *observed) { o.published[0].KeyID.Claims = otherKey },
			step:  StepBegin, keyID: oldKey, check: retires,
		},
		"inactive and due": {
			given:  func(o *observed) { o.keys[0].Status = KeyInactive },
			status: StatusHeld, says: []string{"the published key " + oldKey + " is inactive", "switch it on again", "force"},
		},
		"inactive and forced": {
			given: func(o *observed) { o.keys[0].Status, o.request.Force = KeyInactive, true },
			step:  StepBegin, keyID: oldKey, check: retires,
		},
		"expired and due": {
			given:  func(o *observed) { o.keys[0].Status = KeyExpired },
			status: StatusHeld, says: []string{"the published key " + oldKey + " is expired"},
		},
		"expired and forced": {
			given: func(o *observed) { o.keys[0].Status, o.request.Force = KeyExpired, true },
			step:  StepBegin, keyID: oldKey, check: retires,
		},
	})
}

func TestIdleWithOneKeyThatIsNotPublished(t *testing.T) {
	leaves := func(t *testing.T, v verdict) {
		t.Helper()
		if v.previous != "" {
			t.Errorf("it is to retire %q, which was not published", v.previous)
		}
	}
	left := []string{oldKey + " was not published", "retire_key"}
	foreign := func(o *observed) { o.published[0].KeyID.Value = otherKey }
	table(t, idleAndDue, map[string]decision{
		"the variables are missing": {
			given: func(o *observed) { young(o); o.published = []Published{{}} },
			step:  StepBegin, says: []string{"held no key of this user"}, warns: left, check: leaves,
		},
		"the key id variable is missing": {
			given: func(o *observed) { young(o); o.published[0].KeyID = Variable{} },
			step:  StepBegin, warns: left, check: leaves,
		},
		"another key is published, and the secret variable is missing": {
			given: func(o *observed) { young(o); foreign(o); o.published[0].Secret = Variable{} },
			step:  StepBegin, warns: left, check: leaves,
		},
		"a foreign key is published": {
			given: foreign, status: StatusHeld,
			says: []string{"AWS_ACCESS_KEY_ID holds " + otherKey, "no key of user svc-billing", oldKey, "force"},
		},
		"a foreign key is published, and it was forced": {
			given: func(o *observed) { foreign(o); o.request.Force = true },
			step:  StepBegin, says: []string{"held no key of this user"}, warns: left, check: leaves,
		},
		"a foreign key is published, and retire_key names ours without force": {
			given:  func(o *observed) { foreign(o); o.request.RetireKey = oldKey },
			status: StatusHeld, says: []string{otherKey},
		},
		"a foreign key is published, it was forced, and retire_key names ours": {
			given: func(o *observed) { foreign(o); o.request.Force, o.request.RetireKey = true, oldKey },
			step:  StepBegin, keyID: oldKey,
			check: func(t *testing.T, v verdict) {
				t.Helper()
				if v.previous != oldKey {
					t.Errorf("it is to retire %q, want %q", v.previous, oldKey)
				}
			},
		},
		"what is published cannot be read": {
			given:  func(o *observed) { o.published[0].KeyID.Value = "" },
			status: StatusHeld, says: []string{"holds nothing that can be read"},
		},
		"hidden, and stamped with another key": {
			given:  func(o *observed) { o.published[0].KeyID = Variable{Exists: true, Hidden: true, Claims: otherKey} },
			status: StatusHeld, says: []string{otherKey},
		},
	})
}

func TestIdleWithTwoKeys(t *testing.T) {
	two := func() observed {
		o := idleAndDue()
		o.keys = []AccessKey{aged(otherKey, 40*day), aged(oldKey, 84*day)}
		return o
	}
	notDue := func(o *observed) { o.keys[1].CreatedAt = noon.Add(-10 * day) }
	table(t, two, map[string]decision{
		"the published one is not due": {
			given: notDue, status: StatusNotDue, says: []string{oldKey, "due on"},
			warns: []string{otherKey + " (active)", "in the way"},
			check: func(t *testing.T, v verdict) {
				t.Helper()
				if v.keyID != oldKey || !v.nextDue.Equal(noon.Add(73*day)) {
					t.Errorf("%s is due at %s", v.keyID, v.nextDue)
				}
			},
		},
		"the published one is not due, the other is inactive": {
			given:  func(o *observed) { notDue(o); o.keys[0].Status = KeyInactive },
			status: StatusNotDue, warns: []string{otherKey + " (inactive)"},
		},
		"the published one is due, the other is inactive": {
			given: func(o *observed) { o.keys[0].Status = KeyInactive },
			step:  StepTidy, keyID: otherKey, says: []string{"84 days old", otherKey, "inactive"},
		},
		"the published one is due, the other has expired": {
			given: func(o *observed) { o.keys[0].Status = KeyExpired },
			step:  StepTidy, keyID: otherKey,
		},
		"the published one is forced, the other is inactive": {
			given: func(o *observed) { notDue(o); o.keys[0].Status, o.request.Force = KeyInactive, true },
			step:  StepTidy, keyID: otherKey, says: []string{"forced"},
		},
		"the published one is due, the other is active and used": {
			given: func(o *observed) {
				o.lastUse = LastUse{At: noon.Add(-time.Hour), Service: "s3", Region: "eu-central-1"}
			},
			status: StatusHeld, says: []string{otherKey + " is active, not ours", "last used 2026-11-21 11:00 UTC by s3 in eu-central-1", "84 days old", "retire_key"},
		},
		"the other is active and was used where there are no regions": {
			given:  func(o *observed) { o.lastUse = LastUse{At: noon.Add(-time.Hour), Service: "iam"} },
			status: StatusHeld, says: []string{"11:00 UTC by iam:"},
		},
		"the other is active and was never used": {
			given: func(*observed) {}, status: StatusHeld, says: []string{otherKey + " is active", "never used"},
		},
		"the other is active and its last use cannot be read": {
			given:  func(o *observed) { o.lastUseErr = errors.New("access denied") },
			status: StatusHeld, says: []string{otherKey, "access denied"},
		},
		"force alone does not touch the other": {
			given:  func(o *observed) { notDue(o); o.request.Force = true },
			status: StatusHeld, says: []string{otherKey + " is active", "forced"},
		},
		"the other is active, and retire_key names it": {
			given: func(o *observed) { o.request.RetireKey = otherKey },
			step:  StepDeactivate, keyID: otherKey, says: []string{"retire_key names " + otherKey},
		},
		"the other is active, and retire_key names a third": {
			given:  func(o *observed) { o.request.RetireKey = thirdKey },
			status: StatusHeld, says: []string{otherKey},
		},
		"retire_key names the other before it is due": {
			given:  func(o *observed) { notDue(o); o.request.RetireKey = otherKey },
			status: StatusNotDue, warns: []string{otherKey},
		},
		"neither is published": {
			given:  func(o *observed) { o.published[0].KeyID.Value = thirdKey },
			status: StatusHeld, says: []string{"two keys", oldKey, otherKey, "holds " + thirdKey, "delete the one that nobody uses"},
		},
		"neither is published, by force": {
			given:  func(o *observed) { o.published[0].KeyID.Value, o.request.Force = thirdKey, true },
			status: StatusHeld, says: []string{"two keys"},
		},
		"the variables are missing": {
			given:  func(o *observed) { o.published = []Published{{}} },
			status: StatusHeld, says: []string{"two keys", "nothing that can be read"},
		},
		"hidden and not stamped": {
			given:  func(o *observed) { o.published[0].KeyID = Variable{Exists: true, Hidden: true} },
			status: StatusHeld, says: []string{"two keys", "cannot be told"},
		},
		"hidden and stamped": {
			given:  func(o *observed) { o.published[0].KeyID = Variable{Exists: true, Hidden: true, Claims: oldKey} },
			status: StatusHeld, says: []string{otherKey + " is active"},
		},
		"the secret variable is missing": {
			given: func(o *observed) { notDue(o); o.published[0].Secret, o.keys[0].Status = Variable{}, KeyInactive },
			step:  StepTidy, keyID: otherKey, says: []string{"AWS_SECRET_ACCESS_KEY is missing"},
		},
		"too little time is left: the slot is not freed for nothing": {
			given:  func(o *observed) { o.keys[0].Status, o.left = KeyInactive, time.Second },
			status: StatusWaiting, says: []string{"too little time"},
		},
		"the published one is inactive as well: no key is deleted before a person has looked": {
			given:  func(o *observed) { o.keys[0].Status, o.keys[1].Status = KeyInactive, KeyInactive },
			status: StatusHeld, says: []string{"the published key " + oldKey + " is inactive"},
		},
	})
}

func TestATornPairWithoutARecord(t *testing.T) {
	torn := func() observed {
		o := idleAndDue()
		o.keys = []AccessKey{aged(oldKey, 10*day), aged(newKeyID, time.Hour)}
		o.published[0].KeyID.Claims, o.published[0].Secret.Claims = oldKey, newKeyID
		return o
	}
	table(t, torn, map[string]decision{
		"is finished without its secret, due or not": {
			given: func(*observed) {}, step: StepBegin, keyID: newKeyID,
			says: []string{"torn", "the secret is that of " + newKeyID, "the id that of " + oldKey},
			check: func(t *testing.T, v verdict) {
				t.Helper()
				if v.adopt != newKeyID || v.previous != oldKey {
					t.Errorf("it is to adopt %q and to retire %q", v.adopt, v.previous)
				}
			},
		},
		"is finished when it is hidden": {
			given: func(o *observed) { o.published[0].KeyID.Hidden, o.published[0].KeyID.Value = true, "" },
			step:  StepBegin, keyID: newKeyID, says: []string{"torn"},
		},
		"is finished when the key of the id is gone, which is not retired": {
			given: func(o *observed) { o.keys = o.keys[1:] },
			step:  StepBegin, keyID: newKeyID,
			check: func(t *testing.T, v verdict) {
				t.Helper()
				if v.adopt != newKeyID || v.previous != "" {
					t.Errorf("it is to adopt %q and to retire %q", v.adopt, v.previous)
				}
			},
		},
		"whose key is gone needs a new one": {
			given: func(o *observed) { o.keys = o.keys[:1] },
			step:  StepBegin, keyID: oldKey, says: []string{"torn"},
			check: func(t *testing.T, v verdict) {
				t.Helper()
				if v.adopt != "" || v.previous != oldKey {
					t.Errorf("it is to adopt %q and to retire %q", v.adopt, v.previous)
				}
			},
		},
		"whose key was switched off needs a new one, and its slot": {
			given: func(o *observed) { o.keys[1].Status = KeyInactive },
			step:  StepTidy, keyID: newKeyID, says: []string{"torn"},
		},
		"whose key is gone, with both slots taken, is told": {
			given:  func(o *observed) { o.keys[1].ID = otherKey },
			status: StatusHeld, says: []string{"torn", otherKey},
		},
		"is not one when a person has put in another pair and left the stamps": {
			given:  func(o *observed) { o.published[0].KeyID.Value, o.published[0].KeyID.Claims = newKeyID, oldKey },
			status: StatusNotDue, warns: []string{oldKey},
		},
		"is not one when a person has written the old pair back and left the stamps": {
			given:  func(o *observed) { o.published[0].KeyID.Claims = newKeyID },
			status: StatusNotDue, warns: []string{newKeyID},
		},
		"is not one without a stamp on the secret": {
			given:  func(o *observed) { o.published[0].Secret.Claims = "" },
			status: StatusNotDue, warns: []string{newKeyID},
		},
		"is one without a stamp on the id, when the key of the secret is the newer": {
			given: func(o *observed) { o.published[0].KeyID.Claims = "" }, step: StepBegin, keyID: newKeyID,
		},
		"is not one without a stamp on the id, when the key of the secret is the older: a person has written both": {
			given: func(o *observed) {
				o.published[0].KeyID.Claims = ""
				o.keys = []AccessKey{aged(oldKey, time.Hour), aged(newKeyID, 10*day)}
			},
			status: StatusNotDue, warns: []string{newKeyID},
		},
	})
}

func TestARunMustHaveTheTimeToPublishWhatItMakes(t *testing.T) {
	table(t, idleAndDue, map[string]decision{
		"a run that is too short by itself fails, and says what to change": {
			given:  func(o *observed) { o.whole, o.left = 21*time.Second, 21*time.Second },
			status: StatusFailed, says: []string{"84 days old", "a run of 21s is too short", "needs 22s", "timeout or RUN_TIMEOUT"},
		},
		"a run that has used its time up waits for the next": {
			given:  func(o *observed) { o.left = 21 * time.Second },
			status: StatusWaiting, says: []string{"84 days old", "the next run begins"},
		},
		"a run that has just the time begins": {
			given: func(o *observed) { o.whole, o.left = 22*time.Second, 22*time.Second },
			step:  StepBegin, keyID: oldKey,
		},
		"a run that is too short says what is not due": {
			given:  func(o *observed) { young(o); o.whole, o.left = time.Second, time.Second },
			status: StatusNotDue,
		},
	})
}

// inFlight is a rotation of oldKey in a phase.
func inFlight(p Phase) observed {
	o := idleAndDue()
	o.record.Phase, o.record.PreviousKeyID, o.record.KnownKeys = p, oldKey, []string{oldKey}
	o.record.Reason, o.record.Refs, o.record.Protect = "key "+oldKey+" was 84 days old", []string{"main"}, []bool{true}
	return o
}

func TestCreating(t *testing.T) {
	creating := func() observed {
		o := inFlight(PhaseCreating)
		o.record.CreatingSince = noon.Add(-time.Hour)
		o.record.CreatingUntil = noon.Add(-45 * time.Minute).Add(500 * time.Millisecond)
		o.keys = append(o.keys, aged(newKeyID, 50*time.Minute))
		return o
	}
	made := func(at time.Time) func(o *observed) {
		return func(o *observed) { o.keys[1].CreatedAt = at }
	}
	restarts := func(given func(*observed)) decision {
		return decision{given: given, step: StepRestart, says: []string{"no key was made"}}
	}
	discards := func(given func(*observed)) decision {
		return decision{given: given, step: StepDiscard, keyID: newKeyID, says: []string{newKeyID, "reply was lost", "nobody has its secret"}}
	}
	table(t, creating, map[string]decision{
		"the run that said so creates": {
			given: func(o *observed) { o.begun, o.keys = true, nil }, step: StepCreate, says: []string{"84 days old"},
		},
		"a later run waits until a key would show": {
			given: func(o *observed) {
				o.keys = o.keys[:1]
				o.record.CreatingSince = noon.Add(-20*time.Minute + time.Second)
			},
			status: StatusWaiting, says: []string{"reply was lost", "from 2026-11-21 12:00 UTC on"},
		},
		"a later run waits even when it sees a key": {
			given: func(o *observed) {
				o.record.CreatingSince = noon.Add(-20*time.Minute + time.Second)
				o.keys[1].CreatedAt = o.record.CreatingSince
			},
			status: StatusWaiting,
		},
		"at its very end the wait is over": restarts(func(o *observed) {
			o.keys = o.keys[:1]
			o.record.CreatingSince = noon.Add(-20 * time.Minute)
		}),
		"the wait is on IAM's clock": {
			given:  func(o *observed) { o.iamNow = noon.Add(-50 * time.Minute) },
			status: StatusWaiting,
		},
		"no key was made":  restarts(func(o *observed) { o.keys = o.keys[:1] }),
		"one key was made": discards(func(*observed) {}),
		"a key of the window's first second is ours": discards(made(noon.Add(-time.Hour))),
		"a key of the second before is not":          restarts(made(noon.Add(-time.Hour - time.Second))),
		"a key of the window's last second is ours":  discards(made(noon.Add(-45 * time.Minute))),
		"a key of the second after is not":           restarts(made(noon.Add(-45*time.Minute + time.Second))),
		"a window that began within a second has it all": discards(func(o *observed) {
			o.record.CreatingSince = noon.Add(-time.Hour).Add(999 * time.Millisecond)
			o.keys[1].CreatedAt = noon.Add(-time.Hour)
		}),
		"a key that was known before is not ours": restarts(func(o *observed) { o.record.KnownKeys = []string{oldKey, newKeyID} }),
		"a young key is somebody's work": {
			given: func(o *observed) {
				o.record.CreatingUntil = noon
				o.keys[1].CreatedAt = noon.Add(-20*time.Minute + time.Second)
			},
			status: StatusWaiting, says: []string{newKeyID, "young", "from 2026-11-21 12:00 UTC on"},
		},
		"a key that is just old enough is ours": discards(func(o *observed) {
			o.record.CreatingUntil = noon
			o.keys[1].CreatedAt = noon.Add(-20 * time.Minute)
		}),
		"a key that was used is somebody's work": {
			given: func(o *observed) {
				o.lastUse = LastUse{At: noon.Add(-30 * time.Minute), Service: "ec2", Region: "eu-west-1"}
			},
			status: StatusHeld, says: []string{newKeyID, "last used 2026-11-21 11:30 UTC by ec2 in eu-west-1", "somebody's work"},
		},
		"a key whose last use cannot be read is kept": {
			given:  func(o *observed) { o.lastUseErr = errors.New("throttled") },
			status: StatusHeld, says: []string{newKeyID, "throttled"},
		},
		"of two keys nobody can tell which is ours": {
			given:  func(o *observed) { o.keys = append(o.keys, aged(otherKey, 49*time.Minute)) },
			status: StatusHeld, says: []string{newKeyID, otherKey, "nobody can tell which"},
		},
		"two keys were made, one of them before the window": discards(func(o *observed) {
			o.keys = append(o.keys, aged(otherKey, 2*time.Hour))
		}),
		"a key whose id is published is not ours":      restarts(func(o *observed) { o.published[0].KeyID.Value = newKeyID }),
		"a key that the id is stamped with is not":     restarts(func(o *observed) { o.published[0].KeyID.Claims = newKeyID }),
		"a key that the secret is stamped with is not": restarts(func(o *observed) { o.published[0].Secret.Claims = newKeyID }),
		"a key that another variable holds is not": restarts(func(o *observed) {
			o.published[0].Elsewhere = []Holding{{Variable: "MINE [*]", KeyID: newKeyID}}
		}),
		"force does not hurry it": {
			given: func(o *observed) {
				o.request.Force = true
				o.record.CreatingSince = noon.Add(-time.Minute)
			},
			status: StatusWaiting,
		},
	})
}

func TestTheLastUseThatMattersIsAskedFor(t *testing.T) {
	cases := map[string]struct {
		o    observed
		want string
	}{
		"creating, of the one candidate": {func() observed {
			o := inFlight(PhaseCreating)
			o.record.CreatingSince, o.record.CreatingUntil = noon.Add(-time.Hour), noon
			o.keys = append(o.keys, aged(newKeyID, 30*time.Minute))
			return o
		}(), newKeyID},
		"creating, without a candidate": {inFlight(PhaseCreating), ""},
		"retiring, of the previous key": {inFlight(PhaseRetiring), oldKey},
		"at the end of a soak": {func() observed {
			o := inFlight(PhaseSoaking)
			o.request.SoakHours = 24
			o.record.SoakUntil, o.record.RetiringSince, o.record.Told = noon, noon.Add(-day), true
			return o
		}(), oldKey},
		"at the end of a soak that the request does not ask for any more": {func() observed {
			o := inFlight(PhaseSoaking)
			o.record.SoakUntil, o.record.RetiringSince, o.record.Told = noon, noon.Add(-day), true
			return o
		}(), oldKey},
		"idle, of the one in the way": {func() observed {
			o := idleAndDue()
			o.keys = append(o.keys, aged(otherKey, day))
			return o
		}(), otherKey},
		"idle, of none that is inactive": {func() observed {
			o := idleAndDue()
			o.keys = append(o.keys, withStatus(aged(otherKey, day), KeyInactive))
			return o
		}(), ""},
		"idle with one key": {idleAndDue(), ""},
		"created":           {inFlight(PhaseCreated), ""},
		"published":         {inFlight(PhasePublished), ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := suspect(c.o); got != c.want {
				t.Errorf("it asks for %q, want %q", got, c.want)
			}
		})
	}
}

func TestCreated(t *testing.T) {
	created := func() observed {
		o := inFlight(PhaseCreated)
		o.record.NewKeyID = newKeyID
		o.keys = append(o.keys, aged(newKeyID, time.Minute))
		return o
	}
	here := func(o *observed) { o.havePair = true }
	proven := func(o *observed) { o.havePair, o.proven = true, true }
	half := func(o *observed) { o.published[0].Secret.Claims = newKeyID }
	whole := func(o *observed) {
		half(o)
		o.published[0].KeyID.Value, o.published[0].KeyID.Claims = newKeyID, newKeyID
	}
	table(t, created, map[string]decision{
		"is proven first":   {given: here, step: StepProve, keyID: newKeyID},
		"is published then": {given: proven, step: StepPublishSecret, keyID: newKeyID, says: []string{newKeyID + " works"}},
		"half published goes on": {
			given: func(o *observed) { proven(o); half(o) }, step: StepPublishKeyID, keyID: newKeyID, says: []string{"half published"},
		},
		"half published by a run that died goes on without the secret": {
			given: half, step: StepPublishKeyID, keyID: newKeyID, says: []string{"half published"},
		},
		"whose id a person has changed back since it was published whole, stamps and all left": {
			given:  func(o *observed) { half(o); o.published[0].KeyID.Claims = newKeyID },
			status: StatusHeld, says: []string{"somebody changed the variables"},
		},
		"half published with a key that is gone starts over": {
			given: func(o *observed) { half(o); o.keys = o.keys[:1] },
			step:  StepRestart, says: []string{newKeyID + " is gone"},
		},
		"published by this run":        {given: func(o *observed) { proven(o); whole(o) }, step: StepMark, keyID: newKeyID, says: []string{"is published"}},
		"published by a run that died": {given: whole, step: StepMark, keyID: newKeyID},
		"published and hidden": {
			given: func(o *observed) {
				half(o)
				o.published[0].KeyID = Variable{Exists: true, Hidden: true, Claims: newKeyID}
			},
			step: StepMark, keyID: newKeyID,
		},
		"given up while it was proven": {
			given: func(o *observed) { here(o); o.givenUp = "it did not authenticate" },
			step:  StepDiscard, keyID: newKeyID, says: []string{"it did not authenticate"},
		},
		"given up while it was published": {
			given: func(o *observed) { proven(o); o.givenUp = "403 Forbidden" },
			step:  StepDiscard, keyID: newKeyID, says: []string{"403 Forbidden"},
		},
		"of a run that died is deleted at once, however young": {
			given: func(o *observed) { o.keys[1].CreatedAt = noon },
			step:  StepDiscard, keyID: newKeyID, says: []string{"ended before it was published", "nobody has its secret"},
		},
		"of a run that died, whose key is gone": {
			given: func(o *observed) { o.keys = o.keys[:1] }, step: StepDiscard, keyID: newKeyID,
		},
		"whose id a person has published without its secret": {
			given:  func(o *observed) { o.published[0].KeyID.Value = newKeyID },
			status: StatusHeld, says: []string{newKeyID, "a secret that is not its own", "force"},
		},
		"whose id a person has published elsewhere": {
			given:  func(o *observed) { o.published[0].Elsewhere = []Holding{{Variable: "MINE [*]", KeyID: newKeyID}} },
			status: StatusHeld, says: []string{newKeyID},
		},
		"whose id a person has published, by force": {
			given: func(o *observed) { o.published[0].KeyID.Value, o.request.Force = newKeyID, true },
			step:  StepRestart, says: []string{"by force"},
		},
	})
}

func TestPublished(t *testing.T) {
	published := func() observed {
		o := inFlight(PhasePublished)
		o.record.NewKeyID, o.record.Marked, o.record.Mark = newKeyID, true, 60
		o.record.Attempts = []time.Time{noon}
		o.published[0].KeyID.Value, o.published[0].KeyID.Claims, o.published[0].Secret.Claims = newKeyID, newKeyID, newKeyID
		o.keys = append(o.keys, aged(newKeyID, 20*time.Minute))
		return o
	}
	deployed := func(s DeploymentState) func(o *observed) {
		return func(o *observed) { o.deployed = Deployment{Kind: "pipeline", ID: 61, State: s} }
	}
	failed := func(ago ...time.Duration) func(o *observed) {
		return func(o *observed) {
			o.record.Marked, o.record.Attempts, o.record.LastError = false, nil, "pipeline 61 ended as failed"
			for _, a := range ago {
				o.record.Attempts = append(o.record.Attempts, noon.Add(-a))
			}
		}
	}
	again := func(given func(*observed)) decision {
		return decision{given: given, step: StepMark, keyID: newKeyID, says: []string{"the service needs " + newKeyID}}
	}
	table(t, published, map[string]decision{
		"is redeployed":                {given: func(*observed) {}, step: StepRedeploy, keyID: newKeyID, says: []string{"the service needs " + newKeyID}},
		"whose redeploy runs":          {given: deployed(DeploymentRunning), step: StepAwait, keyID: newKeyID, says: []string{"pipeline 61"}},
		"whose redeploy waits":         {given: deployed(DeploymentBlocked), step: StepAwait, keyID: newKeyID},
		"whose redeploy has succeeded": {given: deployed(DeploymentSucceeded), step: StepAwait, keyID: newKeyID},
		"whose redeploy has failed":    {given: deployed(DeploymentFailed), step: StepAwait, keyID: newKeyID},
		"whose variables somebody has changed is not redeployed again": {
			given: func(o *observed) {
				failed(time.Hour)(o)
				o.published[0].KeyID.Value, o.published[0].KeyID.Claims = oldKey, ""
			},
			status: StatusHeld, says: []string{"no longer hold " + newKeyID, "retire_key"},
		},
		"that somebody else has deployed": {
			given: func(o *observed) {
				failed(0, 0, 0)(o)
				o.deployed = Deployment{Kind: "deployment", ID: 7, State: DeploymentSucceeded}
			},
			step: StepAwait, keyID: newKeyID, says: []string{"deployment 7"},
		},
		"with an older redeploy that failed": again(func(o *observed) { failed(time.Hour)(o); deployed(DeploymentFailed)(o) }),
		"with redeploy none": {
			given: func(o *observed) { o.request.Redeploy, o.request.OverlapHours = RedeployNone, 24 },
			step:  StepAwait, keyID: newKeyID, says: []string{"nothing is redeployed", "24h"},
		},
		"never tried, and not marked": again(failed()),
		"tried once":                  again(failed(time.Minute)),
		"tried twice":                 again(failed(2*time.Minute, time.Minute)),
		"tried three times": {
			given:  failed(23*time.Hour, 2*time.Hour, time.Hour),
			status: StatusWaiting,
			says:   []string{"3 redeploys have failed", "pipeline 61 ended as failed", "tried from 2026-11-21 13:00 UTC on", "both keys work"},
		},
		"tried three times, the first a second less than a day ago": {
			given: failed(day-time.Second, time.Hour, time.Minute), status: StatusWaiting, says: []string{"12:00 UTC"},
		},
		"tried three times, the first a day ago": again(failed(day, time.Hour, time.Minute)),
		"tried four times: the window moves on": {
			given:  failed(25*time.Hour, 23*time.Hour, 2*time.Hour, time.Hour),
			status: StatusWaiting, says: []string{"3 redeploys", "13:00 UTC"},
		},
		"tried on other days": again(failed(49*time.Hour, 48*time.Hour, 25*time.Hour, day, time.Hour)),
		"tried three times, and forced: runner minutes are not burnt by it": {
			given:  func(o *observed) { failed(3*time.Hour, 2*time.Hour, time.Hour)(o); o.request.Force = true },
			status: StatusWaiting,
		},
	})
}

func TestRedeploying(t *testing.T) {
	redeploying := func(d Deployment) func(o *observed) {
		return func(o *observed) { o.deployed = d }
	}
	base := func() observed {
		o := inFlight(PhaseRedeploying)
		o.record.NewKeyID, o.record.Marked = newKeyID, true
		o.record.Deployment = Deployment{Kind: "pipeline", ID: 61, URL: "https://gitlab.example.com/61"}
		return o
	}
	d := Deployment{Kind: "pipeline", ID: 61, URL: "https://gitlab.example.com/61"}
	with := func(status string, s DeploymentState, detail string) Deployment {
		d := d
		d.Status, d.State, d.Detail = status, s, detail
		return d
	}
	await := func(d Deployment, says ...string) decision {
		return decision{given: redeploying(d), step: StepAwait, keyID: newKeyID, says: says}
	}
	table(t, base, map[string]decision{
		"runs":                           await(with("running", DeploymentRunning, ""), "pipeline 61 is running"),
		"has succeeded":                  await(with("success", DeploymentSucceeded, ""), "pipeline 61 succeeded"),
		"has failed":                     await(with("failed", DeploymentFailed, ""), "pipeline 61 ended as failed", "https://gitlab.example.com/61"),
		"was canceled":                   await(with("canceled", DeploymentFailed, ""), "pipeline 61 ended as canceled"),
		"was green and deployed nothing": await(with("success", DeploymentFailed, "the pipeline succeeded, and deployed nothing to production"), "deployed nothing to production"),
		"is gone":                        await(Deployment{}, "pipeline 61 is gone"),
		"waits for somebody": {
			given:  redeploying(with("manual", DeploymentBlocked, "its job deploy is manual")),
			status: StatusWaiting, says: []string{"pipeline 61 is manual", "waits for somebody", "its job deploy is manual"},
		},
		"waits for its time": {
			given:  redeploying(with("scheduled", DeploymentBlocked, "")),
			status: StatusWaiting, says: []string{"scheduled", "https://gitlab.example.com/61"},
		},
	})
}

// retiringNow is a rotation whose deployment succeeded ten minutes ago.
func retiringNow() observed {
	o := inFlight(PhaseRetiring)
	o.record.NewKeyID = newKeyID
	o.record.PublishedAt, o.record.DeployedAt = noon.Add(-15*time.Minute), noon.Add(-10*time.Minute)
	o.record.RetiringSince = noon.Add(-9 * time.Minute)
	o.keys = append(o.keys, aged(newKeyID, 20*time.Minute))
	o.published[0].KeyID.Value, o.published[0].KeyID.Claims, o.published[0].Secret.Claims = newKeyID, newKeyID, newKeyID
	return o
}

// vetoes are what holds back a deactivate and a delete alike.
func vetoes(does Step) map[string]decision {
	goes := func(given func(*observed)) decision {
		return decision{given: given, step: does, keyID: oldKey}
	}
	held := func(given func(*observed), says ...string) decision {
		return decision{given: given, status: StatusHeld, says: says}
	}
	used := func(at time.Time) func(o *observed) {
		return func(o *observed) { o.lastUse = LastUse{At: at, Service: "s3", Region: "eu-central-1"} }
	}
	deployed := noon.Add(-10 * time.Minute)
	return map[string]decision{
		"never used":                 goes(func(*observed) {}),
		"used before the deployment": goes(used(deployed.Add(-time.Second))),
		"used at the deployment":     goes(used(deployed)),
		"used after the deployment":  held(used(deployed.Add(time.Second)), oldKey+" was used after the deployment", "by s3 in eu-central-1", "retire_key"),
		"used after the deployment, and retire_key names it": goes(func(o *observed) {
			used(noon)(o)
			o.request.RetireKey = oldKey
		}),
		"used after the deployment, and retire_key names another": held(func(o *observed) {
			used(noon)(o)
			o.request.RetireKey = otherKey
		}, "was used after"),
		"used after the deployment, and forced": held(func(o *observed) {
			used(noon)(o)
			o.request.Force = true
		}, "was used after"),
		"its last use cannot be read": held(func(o *observed) { o.lastUseErr = errors.New("access denied") }, "last use of "+oldKey+" cannot be read", "access denied"),
		"its last use cannot be read, and retire_key names it": goes(func(o *observed) {
			o.lastUseErr, o.request.RetireKey = errors.New("access denied"), oldKey
		}),
		"IAM's clock is ahead: what looks later was earlier": goes(func(o *observed) {
			o.iamNow = noon.Add(5 * time.Minute)
			used(deployed.Add(5*time.Minute - time.Second))(o)
		}),
		"IAM's clock is ahead: what was later is": held(func(o *observed) {
			o.iamNow = noon.Add(5 * time.Minute)
			used(deployed.Add(5*time.Minute + time.Second))(o)
		}, "was used after"),
		"IAM's clock is behind: what looks earlier was later": held(func(o *observed) {
			o.iamNow = noon.Add(-5 * time.Minute)
			used(deployed.Add(-5*time.Minute + time.Second))(o)
		}, "was used after"),
		"IAM's clock is behind: what was earlier is": goes(func(o *observed) {
			o.iamNow = noon.Add(-5 * time.Minute)
			used(deployed.Add(-5 * time.Minute))(o)
		}),
		"two seconds between the clocks are what rounding makes": held(func(o *observed) {
			o.iamNow = noon.Add(2 * time.Second)
			used(deployed.Add(time.Second))(o)
		}, "was used after"),
		"our own clock is of no account": goes(func(o *observed) {
			o.now = o.now.Add(3 * time.Hour)
			used(deployed)(o)
		}),
		"the id variable was changed": held(func(o *observed) { o.published[0].KeyID.Value = otherKey },
			"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY [*] of project 4711 no longer hold "+newKeyID, "both keys are kept", "force"),
		"the secret variable was changed": held(func(o *observed) { o.published[0].Secret.Claims = "" }, "no longer hold "+newKeyID),
		"the old pair was put back": held(func(o *observed) {
			o.published[0].KeyID.Value, o.published[0].KeyID.Claims, o.published[0].Secret.Claims = oldKey, oldKey, oldKey
		}, "no longer hold "+newKeyID),
		"the variables are gone": held(func(o *observed) { o.published[0].KeyID, o.published[0].Secret = Variable{}, Variable{} }, "no longer hold "+newKeyID),
		"the variables were changed, and retire_key names the old key": held(func(o *observed) {
			o.published[0].KeyID.Value, o.request.RetireKey = otherKey, oldKey
		}, "no longer hold "+newKeyID),
		"the variables are hidden": goes(func(o *observed) {
			o.published[0].KeyID = Variable{Exists: true, Hidden: true, Claims: newKeyID}
		}),
		"the variables were changed, by force": {
			given: func(o *observed) { o.published[0].KeyID.Value, o.request.Force = otherKey, true },
			step:  StepRestart, says: []string{newKeyID + " is no longer what is published", "by force"},
		},
		"the new key is inactive":     held(func(o *observed) { o.keys[1].Status = KeyInactive }, newKeyID+" is gone or not active", "the old one is kept"),
		"the new key has expired":     held(func(o *observed) { o.keys[1].Status = KeyExpired }, newKeyID+" is gone or not active"),
		"the new key is listed first": goes(func(o *observed) { slices.Reverse(o.keys) }),
		"the new key is gone":         held(func(o *observed) { o.keys = o.keys[:1] }, newKeyID+" is gone or not active", "the old one is kept"),
		"the new key is inactive, and retire_key names the old": held(func(o *observed) {
			o.keys[1].Status, o.request.RetireKey = KeyInactive, oldKey
		}, newKeyID+" is gone or not active"),
		"another variable holds the old key": held(func(o *observed) {
			o.published[0].Elsewhere = []Holding{{Variable: "BACKUP_KEY [*]", KeyID: oldKey}}
		}, "BACKUP_KEY [*] holds "+oldKey),
		"another variable holds the new key": goes(func(o *observed) {
			o.published[0].Elsewhere = []Holding{{Variable: "BACKUP_KEY [*]", KeyID: newKeyID}}
		}),
		"the old key is gone": {given: func(o *observed) { o.keys = o.keys[1:] }, step: StepFinish, keyID: oldKey, says: []string{oldKey + " is gone"}},
	}
}

func TestWhatHoldsBackADeactivation(t *testing.T) { table(t, retiringNow, vetoes(StepDeactivate)) }

func TestRetiring(t *testing.T) {
	jobs := func(n int) []Job {
		var all []Job
		for i := range n {
			all = append(all, Job{ID: int64(i), Name: fmt.Sprintf("job-%d", i), URL: fmt.Sprintf("https://gitlab.example.com/jobs/%d", i)})
		}
		return all
	}
	table(t, retiringNow, map[string]decision{
		"there is no old key": {given: func(o *observed) { o.record.PreviousKeyID = "" }, step: StepFinish, says: []string{"no old key"}},
		"the overlap is not over": {
			given: func(o *observed) {
				o.request.OverlapHours = 2
				o.record.RetiringSince = noon.Add(-2*time.Hour + time.Second)
			},
			status: StatusWaiting, says: []string{"both keys work until the overlap ends", "12:00 UTC"},
		},
		"the overlap is just over": {
			given: func(o *observed) {
				o.request.OverlapHours = 2
				o.record.RetiringSince = noon.Add(-2 * time.Hour)
			},
			step: StepDeactivate, keyID: oldKey, says: []string{newKeyID + " is deployed", "nothing is known to use " + oldKey},
		},
		"a job that began before is running": {
			given: func(o *observed) { o.holders = jobs(1) }, status: StatusWaiting,
			says: []string{"may hold " + oldKey, "job-0 (https://gitlab.example.com/jobs/0)"},
		},
		"five such jobs are running": {
			given: func(o *observed) { o.holders = jobs(5) }, status: StatusWaiting,
			says: []string{"job-0", "job-2", "and 2 more"},
		},
		"a job has been running for a second less than a day": {
			given: func(o *observed) {
				o.holders, o.record.RetiringSince = jobs(1), noon.Add(-day+time.Second)
			},
			status: StatusWaiting,
		},
		"a job has been running for a day": {
			given:  func(o *observed) { o.holders, o.record.RetiringSince = jobs(1), noon.Add(-day) },
			status: StatusHeld, says: []string{"job-0", "may hold " + oldKey, "cancel them"},
		},
		"a job is running, and retire_key names the old key: its job would die": {
			given:  func(o *observed) { o.holders, o.request.RetireKey = jobs(1), oldKey },
			status: StatusWaiting,
		},
		"the overlap comes before the jobs": {
			given:  func(o *observed) { o.request.OverlapHours, o.holders = 2, jobs(1) },
			status: StatusWaiting, says: []string{"overlap"},
		},
		"the jobs come before the last use": {
			given:  func(o *observed) { o.holders, o.lastUse = jobs(1), LastUse{At: noon, Service: "s3"} },
			status: StatusWaiting, says: []string{"job-0"},
		},
		"the old key is inactive already": {
			given: func(o *observed) { o.keys[0].Status = KeyInactive }, step: StepDeactivate, keyID: oldKey,
		},
	})
}

func soakingNow() observed {
	o := retiringNow()
	o.record.Phase, o.record.SoakUntil, o.request.SoakHours = PhaseSoaking, noon, 48
	o.keys[0].Status = KeyInactive
	return o
}

func TestWhatHoldsBackADeletion(t *testing.T) { table(t, soakingNow, vetoes(StepDelete)) }

func TestSoaking(t *testing.T) {
	table(t, soakingNow, map[string]decision{
		"is not over": {
			given: func(o *observed) { o.record.SoakUntil = noon.Add(time.Second) }, status: StatusWaiting,
			says: []string{oldKey + " is inactive", "deleted from 2026-11-21 12:00 UTC on", "force ends the soak"},
		},
		"is just over": {given: func(*observed) {}, step: StepDelete, keyID: oldKey, says: []string{"its soak is over"}},
		"is ended by force": {
			given: func(o *observed) { o.record.SoakUntil, o.request.Force = noon.Add(day), true },
			step:  StepDelete, keyID: oldKey,
		},
		"is over, and somebody switched the key on": {
			given:  func(o *observed) { o.keys[0].Status = KeyActive },
			status: StatusHeld, says: []string{oldKey + " was switched on again", "somebody needs it"},
		},
		"is ended by force, and somebody switched the key on": {
			given: func(o *observed) {
				o.keys[0].Status, o.record.SoakUntil, o.request.Force = KeyActive, noon.Add(day), true
			},
			status: StatusHeld, says: []string{"switched on again"},
		},
		"is not over, and the key is gone": {
			given: func(o *observed) { o.record.SoakUntil, o.keys = noon.Add(day), o.keys[1:] },
			step:  StepFinish, keyID: oldKey, says: []string{oldKey + " is gone"},
		},
		"is counted on our own clock": {
			given: func(o *observed) {
				o.iamNow, o.gitLab, o.record.SoakUntil = noon.Add(day), noon.Add(day), noon.Add(time.Hour)
			},
			status: StatusWaiting,
		},
	})
}

func TestWithoutAPhaseARecordIsIdle(t *testing.T) {
	for _, p := range []Phase{"", PhaseIdle} {
		o := idleAndDue()
		o.record.Phase = p
		if o.record.InFlight() || decide(o).step != StepBegin {
			t.Errorf("phase %q: %+v", p, decide(o))
		}
	}
}

func TestDecidingChangesNothingThatWasSeen(t *testing.T) {
	o := retiringNow()
	o.keys = slices.Grow(o.keys, 4)
	o.preflight.Checks = append(make([]Check, 0, 4), Check{State: CheckWarning, Detail: "the token expires soon"})
	before := fmt.Sprintf("%+v", o)
	decide(o)
	for _, p := range []Phase{PhaseIdle, PhaseCreating, PhaseCreated, PhasePublished, PhaseRedeploying, PhaseSoaking} {
		again := o
		again.record.Phase = p
		decide(again)
	}
	if after := fmt.Sprintf("%+v", o); after != before {
		t.Errorf("what was seen has changed:\n%s\n%s", before, after)
	}
}
