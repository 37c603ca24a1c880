package sim

import (
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"credential-rotator/test/loud"
)

var (
	replayScene = flag.String("sim.scene", "", "the scene of the tape to play")
	replayTape  = flag.String("sim.tape", "", "the tape to play, as a failure prints it")
	longMode    = flag.Bool("sim.long", os.Getenv("CREDENTIAL_ROTATOR_SIM") == "long", "play the scenes for a night as well")
	longBudget  = flag.Duration("sim.budget", 30*time.Minute, "how long the scenes for a night may take in all")
	played      counts
)

func TestGateOneRunWithTwoFaultsHeals(t *testing.T)         { exploreAll(t, one()) }
func TestGateTwoRunsAtOnceAreOneRotation(t *testing.T)      { exploreAll(t, several()) }
func TestGateEveryPlaceHealsFromAFault(t *testing.T)        { exploreAll(t, places()) }
func TestGateSeveralPlacesHealFromAFault(t *testing.T)      { exploreAll(t, severalPlaces()) }
func TestGateWhateverAPersonDoesNothingBreaks(t *testing.T) { exploreAll(t, meddled()) }

// exploreAll plays every tape of every scene. With -short fewer fates are tried.
func exploreAll(t *testing.T, scenes []scene) {
	for _, sc := range scenes {
		if testing.Short() && sc.fates.only == "" {
			sc.fates, sc.switches = fewFates(), min(sc.switches, 1)
		}
		explore(t, sc, &played, time.Time{})
	}
}

// TestANightOfFaults plays as many tapes of the scenes for a night as its budget allows.
func TestANightOfFaults(t *testing.T) {
	if !*longMode {
		t.Skip("only with -sim.long, or CREDENTIAL_ROTATOR_SIM=long")
	}
	scenes := long()
	each := *longBudget / time.Duration(len(scenes))
	loud.Say("sim: %s for %d scenes, at most %s each", *longBudget, len(scenes), each)
	for _, sc := range scenes {
		var c counts
		began := time.Now()
		left := explore(t, sc, &c, began.Add(each))
		whole := "which is all of them"
		if left > 0 {
			whole = "of at least " + number(int64(left)+c.schedules.Load())
		}
		loud.Say("sim: %s: %s schedules in %s, %s", sc.name, number(c.schedules.Load()), time.Since(began).Round(time.Second), whole)
	}
}

// TestReplay plays one tape, and tells its story.
func TestReplay(t *testing.T) {
	if *replayTape == "" {
		t.Skip("only with -sim.tape")
	}
	scenes := slices.Concat(one(), several(), places(), severalPlaces(), meddled(), long())
	i := slices.IndexFunc(scenes, func(sc scene) bool { return sc.name == *replayScene })
	if i < 0 {
		t.Fatalf("there is no scene %q", *replayScene)
	}
	tp, err := parseTape(*replayTape)
	if err != nil {
		t.Fatal(err)
	}
	p := scenes[i].withDefaults().play(t, tp, nil)
	t.Log("\n" + p.text)
	for _, wrong := range p.wrong {
		t.Error(wrong)
	}
}
