package gitlab

import (
	"fmt"
	"strings"

	"credential-rotator/rotator"
)

// profile is what is seen of one profile of an AWS credentials file.
type profile struct {
	keyID  string // an access key id, "" without one
	secret rotator.Secret
	others bool // the file holds more than this pair
}

// credentialsFile is a file that holds one pair (AWS CLI, Configuration and credential
// file settings).
func credentialsFile(name string, pair rotator.KeyPair) rotator.Secret {
	return rotator.NewSecret(fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", name, pair.ID, pair.Secret.Reveal()))
}

// profileOf reads a credentials file. A comment and an empty line are nothing.
func profileOf(text, name string) profile {
	var found profile
	within := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, _ := strings.Cut(line, "=")
		key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
		switch {
		case line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";"):
		case strings.HasPrefix(line, "["):
			within = strings.TrimSpace(strings.Trim(line, "[]"))
			found.others = found.others || within != name
		case within == name && key == "aws_access_key_id":
			if isAccessKeyID(value) {
				found.keyID = value
			}
		case within == name && key == "aws_secret_access_key":
			found.secret = rotator.NewSecret(value)
		default:
			found.others = true
		}
	}
	return found
}
