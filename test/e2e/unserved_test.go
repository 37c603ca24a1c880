package e2e

import (
	"fmt"
	"strings"
	"testing"

	"credential-rotator/rotator"
)

// Whatever is wrong with where a key is to go is found before there is another one.
func TestARequestThatDoesNotFitItsUserIsRefusedBeforeAKeyIsMade(t *testing.T) {
	t.Parallel()
	cloud := newCloud(t)
	group := fmt.Sprintf("group:%d", groupID)
	ways := func(projects ...int64) string {
		var all []string
		for _, id := range projects {
			all = append(all, fmt.Sprintf(`{"project_id":%d,"environment":"production"}`, id))
		}
		return strings.Join(all, ",")
	}
	i := 0
	for name, c := range map[string]struct {
		binding, asks string
		says          []string
		calls         int // at most
	}{
		"a group that the user is not bound to": {
			"4711", `"group_id":9,"redeploys":[` + ways(projectID, searchID, mailID) + `]`,
			[]string{"bound to 4711, not to group 9", "credential-rotator:project-ids = group:9"},
			4,
		},
		"another group than that of the user": {
			"group:8", `"group_id":9,"redeploys":[` + ways(projectID, searchID, mailID) + `]`,
			[]string{"bound to group:8, not to group 9"},
			4,
		},
		"a group of which the user is bound to one project only, and both are asked for": {
			"4711", `"destinations":[{"project_id":4711},{"group_id":9,"redeploys":[` + ways(searchID) + `]}]`,
			[]string{"bound to 4711, not to group 9"},
			4,
		},
		"a project in redeploys that is not in the group": {
			group, `"group_id":9,"redeploys":[` + ways(projectID, searchID, mailID, strangeID) + `]`,
			[]string{"project 5000 is not in group 9", "correct redeploys"},
			16,
		},
		"a project that the binding names and the request forgets": {
			"4711 4712", `"project_id":4711,"environment":"production"`,
			[]string{"does not cover 4712", "name all of them in destinations"},
			4,
		},
		"a group that the binding names and the request forgets": {
			group + " 4711", `"destinations":[{"project_id":4711}]`,
			[]string{"does not cover group:9"},
			4,
		},
		"a group without redeploys": {
			group, `"group_id":9`, []string{"redeploys is missing", "say which of its projects"}, 0,
		},
	} {
		i++
		user := fmt.Sprintf("svc-refused-%d", i)
		t.Run(name, func(t *testing.T) {
			sc := groupScene(user)
			sc.binding, sc.asks = c.binding, c.asks
			e := newEstate(t, cloud, sc)
			a := newFunction(t, e.stage).run(t, e.event(true))
			if a.Status != rotator.StatusRefused {
				t.Fatalf("got %s\n%s", a.raw, e.trace())
			}
			for _, want := range c.says {
				if !strings.Contains(a.Reason, want) {
					t.Errorf("it does not say %q: %s", want, a.Reason)
				}
			}
			if writes := e.wire.Writes(); len(writes) > 0 || len(e.keys()) != 1 {
				t.Errorf("it wrote %q, and the keys are %s", writes, keyList(e.keys()))
			}
			if n := len(e.wire.Calls()); n > c.calls {
				t.Errorf("it took %d calls, at most %d\n%s", n, c.calls, e.trace())
			}
			t.Logf("%s\n%s\nafter %d calls, none of which writes", e.event(true), a.Reason, len(e.wire.Calls()))
		})
	}
}
