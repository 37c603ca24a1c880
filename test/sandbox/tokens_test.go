package sandbox

import (
	"net/http"
	"strings"
	"testing"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// rotatesSelf asks for the next token by one of the three ways, with a date or "".
func rotatesSelf(t *testing.T, server *Server, token, path, expires string) (got *gitlab.PersonalAccessToken, status int, said string) {
	t.Helper()
	c := gitlabClient(t, server, token)
	body := map[string]any{}
	if expires != "" {
		body["expires_at"] = expires
	}
	req, err := c.NewRequest(http.MethodPost, path, body, nil)
	check(t, err)
	got = &gitlab.PersonalAccessToken{}
	resp, err := c.Do(req, got)
	if err != nil {
		said = err.Error()
	}
	return got, resp.StatusCode, said
}

const ownPath = "personal_access_tokens/self/rotate"

func daysFromNow(n int) string { return time.Now().UTC().AddDate(0, 0, n).Format(time.DateOnly) }

func TestARotatedTokenReplacesItselfInOneStep(t *testing.T) {
	s, server := served(t, Options{})
	got, status, _ := rotatesSelf(t, server, s.Token, ownPath, daysFromNow(90))
	if status != 200 || got.Token == s.Token || got.Name != "rotator" || time.Time(*got.ExpiresAt).Format(time.DateOnly) != daysFromNow(90) || got.Scopes[0] != "api" {
		t.Fatalf("got %d, %+v", status, got)
	}
	if _, _, err := gitlabClient(t, server, got.Token).Projects.GetProject(4711, nil); err != nil {
		t.Error("the new token lost the role of the old:", err)
	}
	_, resp, err := gitlabClient(t, server, s.Token).PersonalAccessTokens.GetSinglePersonalAccessToken()
	if resp.StatusCode != 401 || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("the old token: %v", err)
	}
	if len(s.ActiveTokens("rotator")) != 1 {
		t.Error("looking at an old token revoked the new one")
	}
	if names := s.LeaksIn("log: " + got.Token); len(names) != 1 {
		t.Error("the new token is no canary")
	}
}

func TestATokenThatIsRotatedWithoutADateLivesForAWeek(t *testing.T) {
	s, server := served(t, Options{})
	got, _, _ := rotatesSelf(t, server, s.Token, ownPath, "")
	if day := time.Time(*got.ExpiresAt).Format(time.DateOnly); day != daysFromNow(7) {
		t.Errorf("it ends on %s", day)
	}
}

func TestATokenMayNotLiveForEver(t *testing.T) {
	for _, c := range []struct {
		long   bool
		expire string
		status int
	}{
		{false, daysFromNow(365), 200},
		{false, daysFromNow(366), 400},
		{true, daysFromNow(400), 200},
		{true, daysFromNow(401), 400},
		{false, "tomorrow", 400},
	} {
		s, server := served(t, Options{LongTokens: c.long})
		_, status, said := rotatesSelf(t, server, s.Token, ownPath, c.expire)
		if status != c.status {
			t.Errorf("%s: %d %s", c.expire, status, said)
		}
		if c.status == 400 && len(s.ActiveTokens("rotator")) != 1 {
			t.Errorf("%s was refused, and the token is gone", c.expire)
		}
	}
}

func TestWhoMayRotateWhichToken(t *testing.T) {
	for name, c := range map[string]struct {
		token  Token
		path   string
		status int
	}{
		"a project's by its project":        {Token{Scopes: []string{"api"}, Username: "project_4711_bot_ab12"}, "projects/4711/access_tokens/self/rotate", 200},
		"a project's by the personal way":   {Token{Scopes: []string{"api"}, Username: "project_4711_bot_ab12"}, ownPath, 200},
		"a project's by another project":    {Token{Scopes: []string{"api"}, Username: "project_4711_bot_ab12"}, "projects/4712/access_tokens/self/rotate", 401},
		"a project's by a group":            {Token{Scopes: []string{"api"}, Username: "project_4711_bot_ab12"}, "groups/4711/access_tokens/self/rotate", 401},
		"a group's by its group":            {Token{Scopes: []string{"api"}, Username: "group_9_bot"}, "groups/9/access_tokens/self/rotate", 200},
		"a person's by a project":           {Token{Scopes: []string{"api"}, Username: "alice"}, "projects/4711/access_tokens/self/rotate", 405},
		"a person's, which may only rotate": {Token{Scopes: []string{"self_rotate"}, Username: "alice"}, ownPath, 200},
		"one that may only read":            {Token{Scopes: []string{"read_api"}, Username: "alice"}, ownPath, 403},
	} {
		t.Run(name, func(t *testing.T) {
			s, server := served(t, Options{})
			c.token.Name = "other"
			_, status, said := rotatesSelf(t, server, s.AddToken(c.token), c.path, daysFromNow(30))
			if status != c.status || len(s.ActiveTokens("other")) != 1 {
				t.Errorf("got %d %s", status, said)
			}
		})
	}
}

func TestARevokedTokenThatRotatesItselfTakesItsFamilyWithIt(t *testing.T) {
	for _, path := range []string{ownPath, "projects/4711/access_tokens/self/rotate", "groups/9/access_tokens/self/rotate"} {
		s, server := served(t, Options{})
		other := s.AddToken(Token{Name: "other", Scopes: []string{"api"}})
		second, _, _ := rotatesSelf(t, server, s.Token, ownPath, daysFromNow(30))
		third, _, _ := rotatesSelf(t, server, second.Token, ownPath, daysFromNow(30))
		_, status, said := rotatesSelf(t, server, s.Token, path, daysFromNow(30))
		if status != 401 || !strings.Contains(said, "revoked") || len(s.ActiveTokens("rotator")) != 0 {
			t.Errorf("%s: %d %s, active are %v", path, status, said, s.ActiveTokens("rotator"))
		}
		if _, _, err := gitlabClient(t, server, third.Token).PersonalAccessTokens.GetSinglePersonalAccessToken(); err == nil {
			t.Errorf("%s: the newest token still works", path)
		}
		if _, _, err := gitlabClient(t, server, other).PersonalAccessTokens.GetSinglePersonalAccessToken(); err != nil {
			t.Errorf("%s: a token of another family is gone: %v", path, err)
		}
	}
}
