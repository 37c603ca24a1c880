package gitlab_test

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
)

const (
	selfPath    = "GET /personal_access_tokens/self"
	projectPath = "GET /projects/4711"
	branchPath  = "GET /projects/4711/repository/branches/main"
	tagPath     = "GET /projects/4711/repository/tags/main"

	schedulesPath = "GET /projects/4711/pipeline_schedules"
	variablesPath = "GET /projects/4711/variables"
)

func theRequest() rotator.Request {
	r := rotator.DefaultRequest()
	r.User, r.ProjectID = "svc-billing", 4711
	return r
}

// goodReplies are those of a project that can be rotated for, at 2000-01-01.
func goodReplies() map[string]answer {
	return map[string]answer{
		selfPath:    ok(`{"id":42,"name":"rotator","revoked":false,"scopes":["api"],"user_id":1337,"active":true,"expires_at":"2000-12-31"}`),
		projectPath: ok(`{"id":4711,"path_with_namespace":"shop/billing","default_branch":"main","archived":false,"builds_access_level":"enabled"}`),
		branchPath:  ok(`{"name":"main","protected":true,"default":true,"can_push":true}`),

		variablesPath: ok(`[{"key":"COLOUR","value":"red","environment_scope":"*","variable_type":"env_var","description":null}]`),
		schedulesPath: ok(`[]`),
	}
}

// looks are the calls of a preflight but for the two of what jobs get, which follow when
// nothing is wrong.
func looks(calls []call) int {
	n := 0
	for _, c := range calls {
		if c.String() != variablesPath && c.String() != schedulesPath {
			n++
		}
	}
	return n
}

func TestPreflight(t *testing.T) {
	gone := answer{status: 404, body: `{"message":"404 Branch Not Found"}`}
	for name, c := range map[string]struct {
		replies map[string]answer // that differ from goodReplies
		request func(*rotator.Request)
		want    seen
		calls   int
	}{
		"all is well": {
			want: seen{Ref: "main", RefProtected: true}, calls: 3,
		},
		"a branch that is not protected": {
			replies: map[string]answer{branchPath: ok(`{"name":"main","protected":false}`)},
			want:    seen{Ref: "main"}, calls: 3,
		},
		"a tag, its name escaped": {
			request: func(r *rotator.Request) { r.Ref = "v1.0/eu" },
			replies: map[string]answer{"GET /projects/4711/repository/tags/v1%2E0%2Feu": ok(`{"name":"v1.0/eu","protected":true}`)},
			want:    seen{Ref: "v1.0/eu", RefProtected: true}, calls: 4,
		},
		"no such ref": {
			replies: map[string]answer{branchPath: gone},
			want:    seen{Ref: "main", Faults: []string{`project 4711 has no branch or tag "main": correct ref`}}, calls: 4,
		},
		"an empty project": {
			replies: map[string]answer{projectPath: ok(`{"id":4711,"default_branch":null}`)},
			want:    seen{Faults: []string{"project 4711 has no default branch to redeploy: push one, or name a ref"}}, calls: 2,
		},
		"an empty project that is not redeployed": {
			request: func(r *rotator.Request) { r.Redeploy = rotator.RedeployNone },
			replies: map[string]answer{projectPath: ok(`{"id":4711,"default_branch":null,"builds_access_level":"disabled"}`)},
			want:    seen{}, calls: 2,
		},
		"a project without code that is not redeployed": {
			request: func(r *rotator.Request) { r.Redeploy = rotator.RedeployNone },
			replies: map[string]answer{branchPath: gone},
			want:    seen{}, calls: 4,
		},
		"archived, and the ref is wrong: both are told": {
			replies: map[string]answer{projectPath: ok(`{"id":4711,"default_branch":"main","archived":true}`), branchPath: gone},
			want: seen{Ref: "main", Faults: []string{
				"project 4711 is archived, so nothing can be written or run in it: unarchive it, or stop rotating for it",
				`project 4711 has no branch or tag "main": correct ref`,
			}}, calls: 4,
		},
		"CI/CD is off": {
			replies: map[string]answer{projectPath: ok(`{"id":4711,"default_branch":"main","builds_access_level":"disabled"}`)},
			want:    seen{Ref: "main", RefProtected: true, Faults: []string{`CI/CD is switched off in project 4711: switch it on (Settings > General > Visibility), or rotate with redeploy "none"`}}, calls: 3,
		},
		"no such project": {
			replies: map[string]answer{projectPath: {status: 404, body: `{"message":"404 Project Not Found"}`}},
			want:    seen{Faults: []string{"project 4711 does not exist, or the GitLab token cannot see it: correct project_id, or add the token's user to the project"}}, calls: 2,
		},
		"code that the token may not read": {
			replies: map[string]answer{branchPath: {status: 403, body: `{"message":"403 Forbidden"}`}},
			want:    seen{Ref: "main", Faults: []string{"the branches of project 4711 cannot be read: gitlab.example.com answered 403 Forbidden: the GitLab token needs the scope api, and its user the role Maintainer in the project"}}, calls: 3,
		},
		"a token that only reads": {
			replies: map[string]answer{selfPath: ok(`{"id":42,"scopes":["read_api"]}`)},
			want:    seen{ReadOnly: true, Ref: "main", RefProtected: true}, calls: 3,
		},
		"a token of another scope": {
			replies: map[string]answer{selfPath: ok(`{"id":42,"scopes":["read_repository","self_rotate"]}`)},
			want:    seen{Faults: []string{`the GitLab token has the scopes "read_repository self_rotate": it needs api (read_api is enough for a plan)`}}, calls: 1,
		},
		"a fine-grained token": {
			replies: map[string]answer{selfPath: ok(`{"id":42,"granular":true,"scopes":["granular"]}`)},
			want:    seen{Ref: "main", RefProtected: true}, calls: 3,
		},
		"a token that ends soon": {
			replies: map[string]answer{selfPath: ok(`{"id":42,"scopes":["api"],"expires_at":"2000-01-30"}`)},
			want:    seen{Ref: "main", RefProtected: true, Warnings: []string{"the GitLab token expires on 2000-01-30: make a new one before"}}, calls: 3,
		},
		"a token that never ends": {
			replies: map[string]answer{selfPath: ok(`{"id":42,"scopes":["api"],"expires_at":null}`)},
			want:    seen{Ref: "main", RefProtected: true}, calls: 3,
		},
		"an instance too old to tell about the token": {
			replies: map[string]answer{selfPath: {status: 404, body: `{"error":"404 Not Found"}`}},
			want:    seen{Ref: "main", RefProtected: true}, calls: 3,
		},
		"a token that may not ask about itself": {
			replies: map[string]answer{selfPath: {status: 403, body: `{"message":"403 Forbidden"}`}},
			want:    seen{Ref: "main", RefProtected: true}, calls: 3,
		},
		"an unknown token": {
			replies: map[string]answer{selfPath: {status: 401, body: `{"message":"401 Unauthorized"}`}},
			want:    seen{Faults: []string{"gitlab.example.com answered 401 Unauthorized: it does not know the GitLab token; make a new one (scope api, role Maintainer) and put it where the old one is kept"}}, calls: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				replies := goodReplies()
				for path, a := range c.replies {
					replies[path] = a
				}
				client, s := client(t, routes(replies))
				r := theRequest()
				if c.request != nil {
					c.request(&r)
				}
				got, err := lookBefore(t.Context(), client, r)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("Preflight (-want +got):\n%s", diff)
				}
				if looks(s.calls) != c.calls {
					t.Errorf("%d calls, want %d:\n%s", len(s.calls), c.calls, made(s.calls))
				}
			})
		})
	}
}

func TestAPreflightThatCannotLookIsAnError(t *testing.T) {
	html := answer{status: 404, body: "<html>", header: map[string]string{"Content-Type": "text/html"}}
	for name, c := range map[string]struct {
		path   string
		answer answer
		says   string
	}{
		"another site":       {selfPath, html, "looking at the GitLab token: "},
		"down":               {selfPath, answer{status: 503}, "looking at the GitLab token: "},
		"down a call later":  {projectPath, answer{status: 503}, "looking at project 4711: "},
		"another project":    {projectPath, ok(`{"id":4712}`), "another project"},
		"down at last":       {branchPath, answer{status: 503}, "looking at ref main of project 4711: "},
		"a page at last":     {branchPath, html, "looking at ref main of project 4711: "},
		"a ref that is null": {branchPath, ok(`null`), "looking at ref main of project 4711: "},
		"down at the tag":    {tagPath, answer{status: 503}, "looking at ref main of project 4711: "},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				replies := goodReplies()
				if c.path == tagPath {
					delete(replies, branchPath)
				}
				replies[c.path] = c.answer
				client, _ := client(t, routes(replies))
				_, err := client.Preflight(t.Context(), theRequest())
				says(t, err, c.says)
			})
		})
	}
}
