package rotator_test

import (
	"slices"
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// helds is how often a person was told that it is held.
func (s *stage) helds() (n int) {
	for _, notice := range s.notices() {
		if notice == rotator.NoticeHeld {
			n++
		}
	}
	return n
}

func TestWhatIsHeldBeforeItBeginsIsToldOnceAWeekAndNotEveryDay(t *testing.T) {
	perform(t, func(s *stage) {
		s.CreateKey(serviceUser, 200*day)
		var told []int
		for tick := range 16 { // its reason tells another age each day
			before := s.helds()
			one := func() { s.wants(s.run(), rotator.StatusHeld, "is active, not ours") }
			if tick%7 == 0 {
				one()
			} else {
				s.quiet(one)
			}
			if s.helds() > before {
				told = append(told, tick)
			}
			s.days(1)
		}
		if want := []int{0, 7, 14}; !slices.Equal(told, want) {
			t.Errorf("it was told on the days %v, want %v", told, want)
		}
	})
}

func TestWhatIsHeldForAnotherReasonIsToldAtOnce(t *testing.T) {
	perform(t, func(s *stage) {
		other := s.CreateKey(serviceUser, 200*day)
		s.wants(s.run(), rotator.StatusHeld, "is active, not ours")
		id := s.foreign().ID
		s.wants(s.run(), rotator.StatusHeld, "holds "+id)
		s.wants(s.run(), rotator.StatusHeld, "holds "+id)
		if n := s.helds(); n != 2 {
			t.Errorf("two reasons were told %d times", n)
		}
		s.DeleteKey(other.ID)
		s.wants(s.run(), rotator.StatusHeld, "which is no key of user")
		if n := s.helds(); n != 3 {
			t.Errorf("three reasons were told %d times", n)
		}
	})
}

func TestWhatIsHeldAgainAfterItWasMendedIsToldAgain(t *testing.T) {
	perform(t, func(s *stage) {
		held := func() {
			s.SetKeyStatus(s.Key.ID, inactive)
			s.wants(s.run(), rotator.StatusHeld, "somebody switched it off")
			s.quiet(func() { s.wants(s.run(), rotator.StatusHeld) })
			s.SetKeyStatus(s.Key.ID, active)
		}
		held()
		s.request.MaxAgeDays = 365 // not due: it is noted once that it is held no more
		s.wants(s.run(), rotator.StatusNotDue)
		s.quiet(func() { s.wants(s.run(), rotator.StatusNotDue) })
		s.request.MaxAgeDays = 90
		held()
		if n := s.helds(); n != 2 {
			t.Errorf("it was told %d times, want 2", n)
		}
		s.wants(s.run(), rotator.StatusRotated)
		s.released()
	})
}

// Nothing was begun for a user of whom it was only noted that it is held: one that is
// made again under its name is served.
func TestAUserThatWasOnlyHeldMayBeMadeAgain(t *testing.T) {
	perform(t, func(s *stage) {
		s.foreign()
		s.wants(s.run(), rotator.StatusHeld)
		s.RecreateUser(serviceUser)
		s.wants(s.run(), rotator.StatusRotated)
	})
}

// What the journal knows of a rotation is dropped by a run that begins another one, not
// by one that is held.
func TestARecordThatIsStillInFlightOutlivesAForcedRunThatIsHeld(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.SoakHours = 10
		s.wants(s.run(), rotator.StatusRotated, "inactive")
		s.RecreateUser(serviceUser)
		next := s.CreateKey(serviceUser, day)
		s.CreateKey(serviceUser, day)
		for name, value := range map[string]string{idVariable: next.ID, secretVariable: next.Secret.Reveal()} {
			s.EditVariable(4711, name, "*", func(v *sandbox.Variable) { v.Value, v.Description = value, "" })
		}
		s.wants(s.forced(), rotator.StatusHeld, "is active, not ours")
		if r := s.Record(serviceUser); r.Phase != rotator.PhaseSoaking {
			t.Errorf("the record is %+v", r)
		}
	})
}

func TestThatItIsHeldIsToldThoughTheJournalCannotKeepIt(t *testing.T) {
	perform(t, func(s *stage) {
		s.CreateKey(serviceUser, 200*day)
		s.every = failing("journal.Save", sandbox.Refused)
		for n := 1; n <= 2; n++ {
			s.warns(s.wants(s.run(), rotator.StatusHeld), "could not be saved, so the next may tell it again")
			if s.helds() != n {
				t.Errorf("it was told %d times by run %d", s.helds(), n)
			}
		}
	})
}

func TestWhatNobodyHeardIsToldAgain(t *testing.T) {
	for name, set := range map[string]func(*stage){
		"held before it begins": func(s *stage) { s.CreateKey(serviceUser, 200*day) },
		"held in flight": func(s *stage) {
			s.request.OverlapHours = 6
			s.wants(s.run(), rotator.StatusWaiting)
			time.Sleep(3 * time.Hour)
			s.UseKey(s.Key.ID, "s3", "eu-central-1")
			time.Sleep(3 * time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			perform(t, func(s *stage) {
				set(s)
				s.every = failing("notifier.Notify", sandbox.Refused)
				s.warns(s.wants(s.run(), rotator.StatusHeld), "nobody was notified (Held)")
				s.every = nil
				s.wants(s.run(), rotator.StatusHeld)
				s.wants(s.run(), rotator.StatusHeld)
				if n := s.helds(); n != 1 {
					t.Errorf("it was heard %d times, want once", n)
				}
			})
		})
	}
}

// A run that dies tells nobody that it did not do what it was forced to.
func TestAForcedRotationWhoseRunDiedIsStillForced(t *testing.T) {
	for name, dies := range map[string]string{
		"before its key was made":      "iam.CreateAccessKey",
		"before its key was published": "sts.GetCallerIdentity",
	} {
		t.Run(name, func(t *testing.T) {
			perform(t, func(s *stage) {
				s.wants(s.run(), rotator.StatusRotated)
				young := s.works()
				s.every = failing(dies, sandbox.CrashBefore)
				s.forced()
				s.every = nil
				time.Sleep(time.Hour)
				s.wants(s.resume()[serviceUser], rotator.StatusRotated, "forced")
				if s.works() == young {
					t.Error("it was not rotated")
				}
				s.wants(s.run(), rotator.StatusNotDue)
			})
		})
	}
}

// One that was told to have failed is not tried again by itself: whoever forced it knows.
func TestAForcedRotationThatFailedIsNotRepeated(t *testing.T) {
	perform(t, func(s *stage) {
		s.wants(s.run(), rotator.StatusRotated)
		s.every = failing("gitlab.PUT variable "+secretVariable, sandbox.Refused)
		s.wants(s.forced(), rotator.StatusFailed, "the new key was deleted")
		s.every = nil
		s.wants(s.run(), rotator.StatusNotDue)
	})
}
