package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"credential-rotator/rotator"
)

// config is everything that the environment says. What AWS is called with is the
// SDK's own (AWS_REGION, AWS_ENDPOINT_URL, …).
type config struct {
	GitLabURL            string         `env:"GITLAB_URL" envDefault:"https://gitlab.com"`
	GitLabToken          rotator.Secret `env:"GITLAB_TOKEN"`           // the token itself, or
	GitLabTokenSecret    string         `env:"GITLAB_TOKEN_SECRET"`    // a Secrets Manager id: plain, or JSON with "token", or
	GitLabTokenParameter string         `env:"GITLAB_TOKEN_PARAMETER"` // an SSM SecureString
	GitLabCAFile         string         `env:"GITLAB_CA_FILE"`         // PEM: authorities for GitLab only, besides the system's

	gitLabCAs []byte // what GITLAB_CA_FILE holds

	Journal string `env:"JOURNAL"` // dynamodb://TABLE or file:///PATH

	ProbeDelay     time.Duration `env:"PROBE_DELAY" envDefault:"5s"`
	ProbeInterval  time.Duration `env:"PROBE_INTERVAL" envDefault:"6s"`
	ProbeSuccesses int           `env:"PROBE_SUCCESSES" envDefault:"3"`
	ProbeTimeout   time.Duration `env:"PROBE_TIMEOUT" envDefault:"3m"`
	ProbeRegions   []string      `env:"PROBE_REGIONS"`
	PollInterval   time.Duration `env:"POLL_INTERVAL" envDefault:"10s"`
	RunTimeout     time.Duration `env:"RUN_TIMEOUT" envDefault:"30m"` // of the command; a function has Lambda's
	OrphanAge      time.Duration `env:"ORPHAN_AGE" envDefault:"20m"`

	EventBus         string `env:"EVENT_BUS"`         // off when empty
	FollowUpRule     string `env:"FOLLOW_UP_RULE"`    // of the default bus; off when empty
	MetricsNamespace string `env:"METRICS_NAMESPACE"` // off when empty
	LogLevel         string `env:"LOG_LEVEL" envDefault:"info"`

	FunctionName string `env:"AWS_LAMBDA_FUNCTION_NAME" envDefault:"command"` // set by Lambda
}

// journal is where the journal is, once JOURNAL is understood.
type journalAt struct{ table, file string }

// loadConfig reads and checks the environment as a whole: all faults are in one error.
func loadConfig(environ []string) (config, error) {
	var c config
	vars := env.ToMap(environ)
	err := env.ParseWithOptions(&c, env.Options{Environment: vars})
	faults := parseFaults(err)
	must := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	sources := 0
	for _, given := range []bool{!c.GitLabToken.Empty(), c.GitLabTokenSecret != "", c.GitLabTokenParameter != ""} {
		if given {
			sources++
		}
	}
	const tokens = "GITLAB_TOKEN, GITLAB_TOKEN_SECRET (a Secrets Manager id) and GITLAB_TOKEN_PARAMETER (an SSM parameter)"
	must(sources > 0, "there is no GitLab token: set one of %s", tokens)
	must(sources < 2, "which GitLab token is meant? only one of %s may be set", tokens)
	must(validURL(c.GitLabURL), "GITLAB_URL must be https://HOST[/PATH] and no more (http:// only on this machine: it would send the token in clear)") // not shown: it may hold a token
	must(!strings.HasPrefix(c.GitLabTokenSecret, "glpat-"), "GITLAB_TOKEN_SECRET must be the id of the secret that holds the token, not the token")
	must(!strings.HasPrefix(c.GitLabTokenParameter, "glpat-"), "GITLAB_TOKEN_PARAMETER must be the name of the parameter that holds the token, not the token")
	c.gitLabCAs, err = authorities(c.GitLabCAFile)
	must(err == nil, "%v", err)
	faults = append(faults, c.paceFaults(strings.Join(faults, " "))...)
	_, err = c.journalAt()
	must(err == nil, "%v", err)
	must(vars["AWS_REGION"] != "" || vars["AWS_DEFAULT_REGION"] != "" || vars["AWS_PROFILE"] != "" || hasAWSConfig(vars), "AWS_REGION is not set: IAM is global, but STS and the journal are asked in a region")
	must(c.MetricsNamespace == "" || isNamespace(c.MetricsNamespace), "METRICS_NAMESPACE must be 1 to 255 of A-Z a-z 0-9 . - _ / # : and space, and begin neither with AWS/ nor with a colon, unlike %q", c.MetricsNamespace)
	must(levels()[strings.ToLower(c.LogLevel)] != nil, "LOG_LEVEL must be debug, info, warn or error, not %q", c.LogLevel)
	must(c.FollowUpRule == "" || regexp.MustCompile(`^[A-Za-z0-9._-]+$`).MatchString(c.FollowUpRule), "FOLLOW_UP_RULE must be the name of an EventBridge rule, which is no ARN, not %q", c.FollowUpRule)
	region := regexp.MustCompile(`^[a-z]{2}[a-z-]*-[a-z]+-[0-9]+$`)
	for _, r := range c.ProbeRegions {
		must(region.MatchString(r), "PROBE_REGIONS must be regions such as eu-central-1,us-east-1, and %q is none", r)
	}
	if len(faults) > 0 {
		return config{}, errors.New("the configuration is wrong: " + strings.Join(faults, "; "))
	}
	return c, nil
}

// paceFaults are the waits that make no sense, but for those of which it was said
// already that they cannot be read.
func (c config) paceFaults(said string) []string {
	var faults []string
	must := func(ok bool, name, format string, args ...any) {
		if !ok && !strings.Contains(said, name) {
			faults = append(faults, name+" must be "+fmt.Sprintf(format, args...))
		}
	}
	for name, d := range map[string]time.Duration{"PROBE_DELAY": c.ProbeDelay, "PROBE_INTERVAL": c.ProbeInterval} {
		must(d >= 0, name, "0 or longer, not %s", d)
	}
	for name, d := range map[string]time.Duration{"PROBE_TIMEOUT": c.ProbeTimeout, "POLL_INTERVAL": c.PollInterval, "RUN_TIMEOUT": c.RunTimeout, "ORPHAN_AGE": c.OrphanAge} {
		must(d > 0, name, "longer than 0, not %s", d)
	}
	must(c.ProbeSuccesses > 0, "PROBE_SUCCESSES", "above 0, not %d", c.ProbeSuccesses)
	if len(faults) == 0 && !strings.Contains(said, "PROBE_") {
		must(c.ProbeTimeout > c.ProbeDelay+time.Duration(c.ProbeSuccesses-1)*c.ProbeInterval, "PROBE_TIMEOUT",
			"longer than %d probes take, not %s", c.ProbeSuccesses, c.ProbeTimeout)
	}
	slices.Sort(faults)
	return faults
}

// parseFaults says which variable could not be read, without its value.
func parseFaults(err error) []string {
	var all env.AggregateError
	if !errors.As(err, &all) {
		return nil
	}
	var faults []string
	for _, e := range all.Errors {
		var parse env.ParseError
		if errors.As(e, &parse) {
			faults = append(faults, fmt.Sprintf("%s must be a %s", variableOf(parse.Name), typeOf(parse.Type.String())))
		}
	}
	return faults
}

func typeOf(t string) string {
	if t == "time.Duration" {
		return "duration such as 30s or 5m"
	}
	return "whole number"
}

// variableOf turns the name of a field into that of its variable.
func variableOf(field string) string {
	return strings.ToUpper(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(field, "${1}_$2"))
}

func hasAWSConfig(vars map[string]string) bool {
	path := vars["AWS_CONFIG_FILE"]
	if path == "" {
		path = filepath.Join(vars["HOME"], ".aws", "config")
	}
	_, err := os.Stat(path)
	return err == nil
}

func validURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && local
}

func (c config) journalAt() (journalAt, error) {
	scheme, rest, _ := strings.Cut(c.Journal, "://")
	switch {
	case c.Journal == "":
		dir, err := stateDir()
		return journalAt{file: filepath.Join(dir, "credential-rotator", "journal.db")}, err
	case scheme == "dynamodb" && regexp.MustCompile(`^[A-Za-z0-9_.-]{3,255}$`).MatchString(rest):
		return journalAt{table: rest}, nil
	case scheme == "file" && filepath.IsAbs(rest):
		return journalAt{file: rest}, nil
	}
	return journalAt{}, fmt.Errorf("JOURNAL must be dynamodb://TABLE or file:///PATH, not %q", c.Journal)
}

func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("JOURNAL is not set, and there is no home directory for the default: set JOURNAL=file:///PATH")
	}
	return filepath.Join(home, ".local", "state"), nil
}

func (c config) pace() rotator.Pace {
	return rotator.Pace{
		ProbeDelay: c.ProbeDelay, ProbeInterval: c.ProbeInterval, ProbeSuccesses: c.ProbeSuccesses, ProbeTimeout: c.ProbeTimeout,
		PollInterval: c.PollInterval, OrphanAge: c.OrphanAge,
	}
}
