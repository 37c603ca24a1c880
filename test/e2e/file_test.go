package e2e

import (
	"fmt"
	"strings"
	"testing"

	"credential-rotator/rotator"
	"credential-rotator/test/moto"
)

// fileScene is a key in a credentials file, which is written at once.
func fileScene(user string) scene {
	return scene{
		user: user, binding: fmt.Sprint(projectID), projects: []int64{projectID},
		places: []rotator.Place{{ProjectID: projectID, EnvironmentScope: "*", File: "AWS_CREDENTIALS", Profile: "shop"}},
		asks:   `"project_id":4711,"credentials_file_variable":"AWS_CREDENTIALS","profile":"shop","allow_unmasked":true,"environment":"production"`,
	}
}

func TestAKeyInACredentialsFileIsRotatedInOneWriteAndReadByTheAWSCLI(t *testing.T) {
	t.Parallel()
	moto.Require(t, "aws")
	e := newEstate(t, newCloud(t), fileScene("svc-billing"))
	f := newFunction(t, e.stage)
	t.Logf("the request: %s", e.event(true))
	a := f.run(t, e.event(true))
	if a.Status != rotator.StatusRotated {
		t.Fatalf("got %s\n%s", a.raw, e.trace())
	}
	t.Logf("%s: %s; warned of: %q", a.Status, a.Reason, a.Warnings)
	var sent []string
	for _, line := range e.wire.Writes() {
		if strings.Contains(line, "/variables") {
			sent = append(sent, line)
		}
	}
	if len(sent) != 1 || sent[0] != "gitlab PUT /projects/4711/variables/AWS_CREDENTIALS" {
		t.Errorf("the variables were written by %q", sent)
	}
	if v, _ := e.gitlab.Variable(projectID, "AWS_CREDENTIALS", "*"); v.Type != "file" || v.Masked {
		t.Errorf("it is a variable of type %s, masked %v", v.Type, v.Masked)
	}
	e.isRotatedFrom(e.first)
}

// What the one write of a file leaves is whole or nothing.
func TestTheProgramMayDieAtTheWriteOfAFile(t *testing.T) {
	t.Parallel()
	moto.Require(t, "aws")
	cloud := newCloud(t)
	e := newEstate(t, cloud, fileScene("svc-clean"))
	writes := cleanWrites(e.stage, func(t *testing.T, s *stage) target { return newCommand(t, s) })
	died := 0
	for _, d := range deaths(writes) {
		if !strings.HasSuffix(d.line, "/variables/AWS_CREDENTIALS") {
			continue
		}
		t.Run(string(d.when), func(t *testing.T) {
			e := newEstate(t, cloud, fileScene(d.name()))
			c := newCommand(t, e.stage)
			e.die(c, d)
			e.converge(c)
			e.isRotatedFrom(e.first)
			died++
		})
	}
	if died != 2 {
		t.Errorf("it died %d times, of writes %q", died, writes)
	}
}
