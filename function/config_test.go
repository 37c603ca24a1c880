package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// least is an environment with all that is required.
func least(more ...string) []string {
	return append([]string{"GITLAB_TOKEN=glpat-something", "AWS_REGION=us-east-1", "HOME=/home/nobody"}, more...)
}

func TestWhatTheEnvironmentDoesNotSayHasADefault(t *testing.T) {
	t.Parallel()
	for name, environ := range map[string][]string{
		"not set": least(),
		"empty": least("GITLAB_URL=", "JOURNAL=", "PROBE_DELAY=", "PROBE_INTERVAL=", "PROBE_SUCCESSES=", "PROBE_TIMEOUT=", "PROBE_REGIONS=",
			"POLL_INTERVAL=", "RUN_TIMEOUT=", "ORPHAN_AGE=", "EVENT_BUS=", "FOLLOW_UP_RULE=", "METRICS_NAMESPACE=", "LOG_LEVEL=", "GITLAB_TOKEN_SECRET=", "GITLAB_TOKEN_PARAMETER="),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := loadConfig(environ)
			if err != nil {
				t.Fatal(err)
			}
			if c.GitLabToken.Reveal() != "glpat-something" {
				t.Error("the token is not the one that was set")
			}
			if c.GitLabURL != "https://gitlab.com" || c.LogLevel != "info" || c.EventBus+c.FollowUpRule+c.MetricsNamespace != "" || len(c.ProbeRegions) > 0 {
				t.Errorf("GITLAB_URL %q, LOG_LEVEL %q, EVENT_BUS %q, FOLLOW_UP_RULE %q, METRICS_NAMESPACE %q, PROBE_REGIONS %q",
					c.GitLabURL, c.LogLevel, c.EventBus, c.FollowUpRule, c.MetricsNamespace, c.ProbeRegions)
			}
			p := c.pace()
			for what, got := range map[string][2]time.Duration{
				"PROBE_DELAY":    {p.ProbeDelay, 5 * time.Second},
				"PROBE_INTERVAL": {p.ProbeInterval, 6 * time.Second},
				"PROBE_TIMEOUT":  {p.ProbeTimeout, 3 * time.Minute},
				"POLL_INTERVAL":  {p.PollInterval, 10 * time.Second},
				"ORPHAN_AGE":     {p.OrphanAge, 20 * time.Minute},
				"RUN_TIMEOUT":    {c.RunTimeout, 30 * time.Minute},
			} {
				if got[0] != got[1] {
					t.Errorf("%s is %s, want %s", what, got[0], got[1])
				}
			}
			if p.ProbeSuccesses != 3 {
				t.Errorf("PROBE_SUCCESSES is %d, want 3", p.ProbeSuccesses)
			}
		})
	}
}

func TestTheEnvironmentIsRead(t *testing.T) {
	t.Parallel()
	c, err := loadConfig(least("GITLAB_URL=https://git.example.com/gitlab", "JOURNAL=dynamodb://keys", "PROBE_DELAY=1s", "PROBE_REGIONS=eu-central-1,us-east-1",
		"PROBE_SUCCESSES=2", "EVENT_BUS=default", "FOLLOW_UP_RULE=credential-rotator-follow-up", "LOG_LEVEL=debug", "RUN_TIMEOUT=1h"))
	if err != nil {
		t.Fatal(err)
	}
	if c.GitLabURL != "https://git.example.com/gitlab" || c.ProbeDelay != time.Second || c.ProbeSuccesses != 2 || c.EventBus != "default" || c.FollowUpRule != "credential-rotator-follow-up" ||
		c.LogLevel != "debug" || c.RunTimeout != time.Hour || strings.Join(c.ProbeRegions, " ") != "eu-central-1 us-east-1" {
		t.Errorf("not all of it: %+v", c)
	}
}

func TestEveryFaultOfTheConfigurationIsToldAtOnce(t *testing.T) {
	t.Parallel()
	_, err := loadConfig([]string{
		"GITLAB_TOKEN=glpat-secret-value", "GITLAB_TOKEN_SECRET=gitlab/token", "GITLAB_URL=gitlab.com", "JOURNAL=/tmp/journal.db",
		"PROBE_DELAY=soon", "PROBE_INTERVAL=-1s", "PROBE_SUCCESSES=several", "PROBE_TIMEOUT=0s",
		"POLL_INTERVAL=0s", "RUN_TIMEOUT=half an hour", "ORPHAN_AGE=-1s", "LOG_LEVEL=loud", "METRICS_NAMESPACE=AWS/Lambda", "HOME=/nowhere",
		"FOLLOW_UP_RULE=arn:aws:events:eu-central-1:123456789012:rule/x",
	})
	if err == nil {
		t.Fatal("all of this was accepted")
	}
	for _, want := range []string{
		"which GitLab token is meant", `GITLAB_URL must be https://HOST[/PATH]`, `JOURNAL must be dynamodb://TABLE or file:///PATH, not "/tmp/journal.db"`,
		"PROBE_DELAY must be a duration such as 30s or 5m", "PROBE_INTERVAL must be 0 or longer, not -1s", "PROBE_SUCCESSES must be a whole number",
		"PROBE_TIMEOUT must be longer than 0, not 0s", "POLL_INTERVAL must be longer than 0", "RUN_TIMEOUT must be a duration", "ORPHAN_AGE must be longer than 0",
		"AWS_REGION is not set", "LOG_LEVEL must be debug, info, warn or error", "METRICS_NAMESPACE must be 1 to 255 of",
		"FOLLOW_UP_RULE must be the name of an EventBridge rule",
	} {
		if n := strings.Count(err.Error(), want); n != 1 {
			t.Errorf("%q is told %d times in: %v", want, n, err)
		}
	}
	if strings.Contains(err.Error(), "secret-value") || strings.Contains(err.Error(), "\n") {
		t.Errorf("the error shows the token, or is more than one line: %v", err)
	}
	for _, name := range []string{"PROBE_DELAY", "PROBE_SUCCESSES", "RUN_TIMEOUT"} {
		if n := strings.Count(err.Error(), name); n != 1 {
			t.Errorf("%s cannot be read, and is told of %d times in: %v", name, n, err)
		}
	}
}

func TestProbingMustFitIntoItsTimeout(t *testing.T) {
	t.Parallel()
	_, err := loadConfig(least("PROBE_TIMEOUT=10s"))
	if err == nil || !strings.Contains(err.Error(), "PROBE_TIMEOUT must be longer than 3 probes take, not 10s") {
		t.Errorf("got %v", err)
	}
}

func TestAValueThatMayBeASecretIsNotShown(t *testing.T) {
	t.Parallel()
	for _, environ := range [][]string{
		least("PROBE_DELAY=glpat-pasted-here"),
		least("PROBE_SUCCESSES=glpat-pasted-here"),
		least("GITLAB_TOKEN=", "GITLAB_TOKEN_SECRET=glpat-pasted-here"),
		least("GITLAB_TOKEN=", "GITLAB_TOKEN_PARAMETER=glpat-pasted-here"),
		least("GITLAB_URL=https://oauth2:glpat-pasted-here@gitlab.com"),
		least("GITLAB_URL=https://gitlab.com/?private_token=glpat-pasted-here"),
	} {
		_, err := loadConfig(environ)
		if err == nil {
			t.Errorf("%s was accepted", environ[len(environ)-1])
			continue
		}
		if strings.Contains(err.Error(), "pasted-here") || strings.Contains(err.Error(), "glpat-something") {
			t.Errorf("%s is shown in: %v", environ[len(environ)-1], err)
		}
	}
}

func TestGitLabIsAskedOverTLSUnlessItIsOnThisMachine(t *testing.T) {
	t.Parallel()
	for url, ok := range map[string]bool{
		"https://gitlab.com":               true,
		"https://git.example.com/gitlab/":  true,
		"https://git.example.com:8443":     true,
		"http://localhost:8080":            true,
		"http://127.0.0.1:8080":            true,
		"http://127.8.8.8":                 true,
		"http://[::1]:8080":                true,
		"http://gitlab.com":                false,
		"http://192.168.1.10":              false,
		"http://localhost.example.com":     false,
		"http://127.0.0.1.example.com":     false,
		"https://":                         false,
		"https://user:password@gitlab.com": false,
		"https://gitlab.com?x=1":           false,
		"https://gitlab.com#api":           false,
		"ftp://gitlab.com":                 false,
		"gitlab.com":                       false,
		"gitlab.com:443":                   false,
		"//gitlab.com":                     false,
		"https://gitlab.com:port":          false,
	} {
		if _, err := loadConfig(least("GITLAB_URL=" + url)); (err == nil) != ok {
			t.Errorf("%s: accepted is %t, want %t (%v)", url, err == nil, ok, err)
		}
	}
}

func TestTheJournalIsATableOrAnAbsolutePath(t *testing.T) {
	t.Parallel()
	for journal, want := range map[string]journalAt{
		"dynamodb://credential-rotator": {table: "credential-rotator"},
		"dynamodb://a.b_C-1":            {table: "a.b_C-1"},
		"file:///var/lib/journal.db":    {file: "/var/lib/journal.db"},
	} {
		c, err := loadConfig(least("JOURNAL=" + journal))
		if err != nil {
			t.Errorf("%s: %v", journal, err)
			continue
		}
		if at, err := c.journalAt(); err != nil || at != want {
			t.Errorf("%s is %+v, %v; want %+v", journal, at, err, want)
		}
	}
	for _, journal := range []string{
		"dynamodb://", "dynamodb://ab", "dynamodb://a/b", "dynamodb://table?x=1", "dynamodb:table", "file://", "file://journal.db", "file://./journal.db",
		"/journal.db", "s3://bucket/journal", "DYNAMODB://table", " dynamodb://table", "dynamodb://" + strings.Repeat("x", 256),
	} {
		if _, err := loadConfig(least("JOURNAL=" + journal)); err == nil || !strings.Contains(err.Error(), "JOURNAL must be dynamodb://TABLE or file:///PATH") {
			t.Errorf("%q: %v", journal, err)
		}
	}
}

func TestTheMetricsNamespaceIsOneThatCloudWatchAllows(t *testing.T) {
	t.Parallel()
	for namespace, ok := range map[string]bool{
		"CredentialRotator":      true,
		"Shop/Keys #1_a.b-c:d":   true,
		"aws/keys":               true,
		"AWSKeys":                true,
		"7":                      true,
		strings.Repeat("x", 255): true,
		strings.Repeat("x", 256): false,
		"AWS/Lambda":             false,
		"AWS/":                   false,
		":keys":                  false,
		" ":                      false,
		"keys\n":                 false,
		"keys\t1":                false,
		"schlüssel":              false,
		"keys,more":              false,
		"\"keys\"":               false,
		"keys\x7f":               false,
	} {
		_, err := loadConfig(least("METRICS_NAMESPACE=" + namespace))
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "METRICS_NAMESPACE must be 1 to 255 of A-Z a-z 0-9") {
			t.Errorf("%q: accepted is %t, want %t (%v)", namespace, err == nil, ok, err)
		}
	}
}

func TestTheRegionMayComeFromAProfile(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	none := []string{"GITLAB_TOKEN=x", "HOME=" + home}
	if _, err := loadConfig(none); err == nil || !strings.Contains(err.Error(), "AWS_REGION is not set") {
		t.Errorf("without any: %v", err)
	}
	for _, more := range []string{"AWS_DEFAULT_REGION=us-east-1", "AWS_PROFILE=work"} {
		if _, err := loadConfig(append(none, more)); err != nil {
			t.Errorf("with %s: %v", more, err)
		}
	}
	if err := os.Mkdir(filepath.Join(home, ".aws"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".aws", "config"), []byte("[default]\nregion = eu-central-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadConfig(none); err != nil {
		t.Errorf("with a profile: %v", err)
	}
}

func TestTheFunctionKeepsItsJournalInDynamoDB(t *testing.T) {
	t.Parallel()
	for _, journal := range []string{"", "file:///tmp/journal.db"} {
		_, err := newHandler(least("JOURNAL="+journal), streams{})(t.Context(), []byte(`{"user":"svc-billing","project_id":4711}`))
		if err == nil || !strings.Contains(err.Error(), "JOURNAL must be dynamodb://TABLE: a function keeps no files") {
			t.Errorf("JOURNAL=%s: %v", journal, err)
		}
	}
}

func TestAWrongConfigurationIsTheFunctionsAnswerToEveryEvent(t *testing.T) {
	t.Parallel()
	h := newHandler([]string{"GITLAB_TOKEN=glpat-secret-value", "GITLAB_TOKEN_SECRET=x", "LOG_LEVEL=loud"}, streams{})
	for range 2 {
		answer, err := h(t.Context(), []byte(`{"action":"follow_up"}`))
		if answer != nil || err == nil || !strings.Contains(err.Error(), "LOG_LEVEL") || !strings.Contains(err.Error(), "AWS_REGION") {
			t.Errorf("got %v, %v", answer, err)
		} else if strings.Contains(err.Error(), "secret-value") {
			t.Errorf("the token is shown: %v", err)
		}
	}
}
