package dynamo

import (
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
)

// FuzzAStoredRecord: whatever stands in the table, it is read as it was saved, or told
// as an error that names the attribute.
func FuzzAStoredRecord(f *testing.F) {
	for _, record := range []string{
		`{"user":"svc-a","version":7,"phase":"retiring","lease":{"owner":"lambda/1/x","until":"2026-11-21T20:00:00Z"}}`,
		`{"user":"svc-a","known_keys":["AKIAOLDOLDOLDOLDOLD2"],"attempts":["2026-11-21T20:00:00Z"],"steps":[{"step":"create","at":"2026-11-21T20:00:00Z","ms":212}]}`,
		`{}`, `null`, `[]`, `"`, ``, `{"phase":7}`, `{"lease":null}`, `{"started_at":"yesterday"}`, `{"version":1e400}`, strings.Repeat(`{"request":`, 99), "\xff\x00",
	} {
		for _, version := range []string{"7", "", "-1", "x", "9223372036854775808", "1e3"} {
			f.Add(record, version)
		}
	}
	f.Fuzz(func(t *testing.T, record, version string) {
		stored := item{attrUser: str("svc-a"), attrRecord: str(record), attrVersion: &types.AttributeValueMemberN{Value: version}}
		r, err := decode(stored)
		if err != nil {
			if !strings.Contains(err.Error(), "attribute record") && !strings.Contains(err.Error(), "attribute version") {
				t.Fatalf("the error does not name the place: %v", err)
			}
			return
		}
		if r.User != "svc-a" || r.Version < 1 {
			t.Fatalf("what no run has saved is read as %+v", r)
		}
		if n, err := strconv.ParseInt(version, 10, 64); err != nil || n != r.Version {
			t.Fatalf("version %q is read as %d", version, r.Version)
		}
		put, err := (&Journal{table: "t"}).put(r, r.Version)
		if err != nil {
			t.Fatalf("what was read cannot be saved: %v", err)
		}
		again, err := decode(put.Item)
		if diff := cmp.Diff(r, again, cmp.Comparer(func(a, b rotator.Secret) bool { return a == b })); err != nil || diff != "" {
			t.Fatalf("saved and read again it differs: %v\n%s", err, diff)
		}
	})
}

// An item is foreign as well when an attribute is of another type, or not there.
func TestAnItemOfAnotherKindIsToldAsOne(t *testing.T) {
	for name, i := range map[string]item{
		"nothing":                {},
		"no version":             {attrUser: str("svc-a"), attrRecord: str("{}")},
		"no record":              {attrVersion: number(1)},
		"a version that is text": {attrRecord: str("{}"), attrVersion: str("1")},
		"a record that is not":   {attrRecord: number(1), attrVersion: number(1)},
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := decode(i); err == nil || !strings.Contains(err.Error(), "not one of credential-rotator") {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
}
