package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
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

	Journal string `env:"JOURNAL"` // dynamodb://TABLE or file:///PATH

	ProbeDelay     time.Duration `env:"PROBE_DELAY" envDefault:"5s"`
	ProbeInterval  time.Duration `env:"PROBE_INTERVAL" envDefault:"6s"`
	ProbeSuccesses int           `env:"PROBE_SUCCESSES" envDefault:"3"`
	ProbeTimeout   time.Duration `env:"PROBE_TIMEOUT" envDefault:"3m"`
	ProbeRegions   []string      `env:"PROBE_REGIONS"`
	PollInterval   time.Duration `env:"POLL_INTERVAL" envDefault:"10s"`
	RunTimeout     time.Duration `env:"RUN_TIMEOUT" envDefault:"30m"` // of the command; a function has Lambda's
	OrphanAge      time.Duration `env:"ORPHAN_AGE" envDefault:"20m"`

	EventBus string `env:"EVENT_BUS"` // off when empty
	LogLevel string `env:"LOG_LEVEL" envDefault:"info"`
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
	must(sources == 1, "set one of GITLAB_TOKEN, GITLAB_TOKEN_SECRET and GITLAB_TOKEN_PARAMETER (%d are set)", sources)
	must(validURL(c.GitLabURL), "GITLAB_URL must be https://HOST[/PATH] (http:// only on this machine: it would send the token in clear), not %q", c.GitLabURL)
	if err == nil {
		must(c.ProbeDelay >= 0 && c.ProbeInterval >= 0 && c.ProbeSuccesses > 0 && c.ProbeTimeout > 0, "PROBE_DELAY and PROBE_INTERVAL must not be negative, PROBE_SUCCESSES and PROBE_TIMEOUT must be above 0")
		must(c.ProbeTimeout > c.ProbeDelay+time.Duration(c.ProbeSuccesses-1)*c.ProbeInterval, "PROBE_TIMEOUT (%s) must be longer than %d probes take", c.ProbeTimeout, c.ProbeSuccesses)
		must(c.PollInterval > 0 && c.RunTimeout > 0 && c.OrphanAge > 0, "POLL_INTERVAL, RUN_TIMEOUT and ORPHAN_AGE must be above 0")
	}
	_, err = c.journalAt()
	must(err == nil, "%v", err)
	must(vars["AWS_REGION"] != "" || vars["AWS_DEFAULT_REGION"] != "" || vars["AWS_PROFILE"] != "" || hasAWSConfig(vars), "AWS_REGION is not set: IAM is global, but STS and the journal are asked in a region")
	must(levels[c.LogLevel] != nil, "LOG_LEVEL must be debug, info, warn or error, not %q", c.LogLevel)
	if len(faults) > 0 {
		return config{}, errors.New("the configuration is wrong: " + strings.Join(faults, "; "))
	}
	return c, nil
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
