package sandbox

import (
	"maps"
	"strings"
)

// What a job has when it starts.

// pickUp gives the job the variables of now: what the pipeline was given outranks what
// the project and its groups have (GitLab lib/gitlab/ci/variables/builder.rb). One of type file is a
// file, and its variable the path; nothing in the world asks for the path, so env has
// the content.
func (j *job) pickUp() {
	pl := j.pipeline
	j.env, j.files = map[string]string{}, map[string]bool{}
	for key, v := range pl.project.reaching(j.Environment, pl.ref.Protected) {
		j.env[key] = v.Value
		if v.Type == "file" && pl.own[key] == "" {
			j.files[key] = true
		}
	}
	maps.Copy(j.env, pl.own)
	if pl.schedule != nil { // what it has now outranks both (GitLab lib/gitlab/ci/variables/builder.rb)
		maps.Copy(j.env, pl.schedule.Variables)
	}
}

func (j *job) usesPair() bool { return j.KeyIDVariable != "" || j.CredentialsFile != "" }

// pair is the pair that the job works with. A credentials file is one only when its
// variable is of type file: else the SDKs are told a path that there is nothing at.
func (j *job) pair() (keyID, secret string) {
	switch {
	case j.CredentialsFile == "":
		return j.env[j.KeyIDVariable], j.env[j.SecretVariable]
	case j.files[j.CredentialsFile]:
		return credentialsIn(j.env[j.CredentialsFile], j.Profile)
	}
	return "", ""
}

func (j *job) keyID() string {
	id, _ := j.pair()
	return id
}

// credentialsIn reads a profile of an AWS credentials file, "" is default. Of several
// lines that say the same the last holds (AWS SDKs and Tools Reference Guide, Shared
// config and credentials files).
func credentialsIn(file, profile string) (keyID, secret string) {
	if profile == "" {
		profile = "default"
	}
	in := false
	for line := range strings.Lines(file) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok {
			name, _, _ = strings.Cut(name, "]")
			in = strings.TrimSpace(name) == profile
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !in || !ok || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "aws_access_key_id":
			keyID = strings.TrimSpace(value)
		case "aws_secret_access_key":
			secret = strings.TrimSpace(value)
		}
	}
	return keyID, secret
}
