package gitlab

import (
	"strings"
	"testing"
	"time"
)

const (
	stampID = "AKIANEWNEWNEWNEWNEW2"
	aStamp  = "[credential-rotator: AKIAOLDOLDOLDOLDOLD2 2026-11-21T20:00Z]"
)

func stampAt() time.Time {
	return time.Date(2026, 11, 21, 21, 0, 59, 0, time.FixedZone("CET", 3600))
}

func TestAStampSaysTheKeyAndTheMinuteInUTC(t *testing.T) {
	for text, want := range map[string]string{
		"the key of billing": "the key of billing [credential-rotator: AKIANEWNEWNEWNEWNEW2 2026-11-21T20:00Z]",
		"":                   " [credential-rotator: AKIANEWNEWNEWNEWNEW2 2026-11-21T20:00Z]",
	} {
		if got := stamped(text, stampID, stampAt()); got != want {
			t.Errorf("stamped(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestUnstamped(t *testing.T) {
	for name, c := range map[string]struct{ description, text, keyID string }{
		"no description":                             {"", "", ""},
		"no stamp":                                   {"mine", "mine", ""},
		"text and stamp":                             {"mine " + aStamp, "mine", "AKIAOLDOLDOLDOLDOLD2"},
		"a stamp alone":                              {" " + aStamp, "", "AKIAOLDOLDOLDOLDOLD2"},
		"a stamp alone, its space trimmed":           {aStamp, "", "AKIAOLDOLDOLDOLDOLD2"},
		"text that somebody wrote behind it":         {"mine " + aStamp + " too", "mine too", "AKIAOLDOLDOLDOLDOLD2"},
		"two stamps: the last one counts":            {"a " + aStamp + " b [credential-rotator: AKIANEWNEWNEWNEWNEW2 2026-11-21T20:00Z]", "a " + aStamp + " b", stampID},
		"a stamp and a torn one: the whole one":      {aStamp + " [credential-rotator: AKIANEW", " [credential-rotator: AKIANEW", "AKIAOLDOLDOLDOLDOLD2"},
		"a mark without a key":                       {"[credential-rotator: 2026-11-21T20:00Z]", "[credential-rotator: 2026-11-21T20:00Z]", ""},
		"a mark with a time that is none":            {"[credential-rotator: AKIANEWNEWNEWNEWNEW2 yesterday]", "[credential-rotator: AKIANEWNEWNEWNEWNEW2 yesterday]", ""},
		"a mark with an id that no key has":          {"[credential-rotator: AKIA!NEWNEWNEWNEWNE2 2026-11-21T20:00Z]", "[credential-rotator: AKIA!NEWNEWNEWNEWNE2 2026-11-21T20:00Z]", ""},
		"a second space before it belongs to text":   {"mine  " + aStamp, "mine ", "AKIAOLDOLDOLDOLDOLD2"},
		"a stamp in the middle of a mark is a stamp": {"[credential-rotator: " + aStamp + "]", "[credential-rotator:]", "AKIAOLDOLDOLDOLDOLD2"},
	} {
		t.Run(name, func(t *testing.T) {
			text, keyID := unstamped(c.description)
			if text != c.text || keyID != c.keyID {
				t.Errorf("unstamped(%q) = %q, %q, want %q, %q", c.description, text, keyID, c.text, c.keyID)
			}
		})
	}
}

func TestRoomForAStampIsCountedInCharacters(t *testing.T) {
	most := descriptionLimit - len(stamped("", stampID, stampAt()))
	if err := roomForStamp(strings.Repeat("ü", most), stampID); err != nil {
		t.Errorf("%d characters: %v", most, err)
	}
	if err := roomForStamp(strings.Repeat("ü", most+1), stampID); err == nil {
		t.Errorf("%d characters: no error", most+1)
	}
}

func TestOnlyAccessKeyIDsAreTakenForOne(t *testing.T) {
	for value, want := range map[string]bool{
		stampID: true, "ASIANEWNEWNEWNEWNEW2": true, "AKIAIOSFODNN7EXAMPLE": true,
		"": false, "AKIA": false, "AIDANEWNEWNEWNEWNEW2": false, "AKIAnewnewnewnewnew2": false, "AKIANEWNEWNEWNEWNEW2 ": false, "xAKIANEWNEWNEWNEWNEW2": false,
	} {
		if got := isAccessKeyID(value); got != want {
			t.Errorf("isAccessKeyID(%q) = %v", value, got)
		}
	}
}

// FuzzStamp: whatever a person wrote, a stamp is found again, the text survives, and
// stamping again changes the stamp alone.
func FuzzStamp(f *testing.F) {
	for _, text := range []string{
		"", "mine", " mine ", aStamp, "a " + aStamp + " b", "[credential-rotator: ", stampMark + stampMark, "ünïcödé ✓", "]", "\xff",
		"x [credential-rotator: AKIANEWNEWNEWNEWNEW2 2026-11-21T20:00Z",
	} {
		f.Add(text, int64(1795291200))
	}
	f.Fuzz(func(t *testing.T, text string, unix int64) {
		at := time.Unix(unix%(1<<35), 0)
		if year := at.UTC().Year(); year < 1000 || year > 9999 {
			t.Skip("no such year in a stamp")
		}
		description := stamped(text, stampID, at)
		gotText, gotID := unstamped(description)
		if gotText != text || gotID != stampID {
			t.Fatalf("unstamped(%q) = %q, %q", description, gotText, gotID)
		}
		before, _ := unstamped(text)
		after, id := unstamped(stamped(before, stampID, at))
		if after != before || id != stampID {
			t.Fatalf("stamping %q again gives %q, %q", text, after, id)
		}
	})
}
