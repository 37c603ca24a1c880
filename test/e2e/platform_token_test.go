package e2e

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/moto"
	"credential-rotator/test/sandbox"
)

// looksAfterItsToken is the daily look at a token that ends soon: somebody is told, and
// rotates it at a desk, by a right that the function does not have. The function goes on
// with the new one.
func (p *platform) looksAfterItsToken(queue string) {
	p.t.Helper()
	f := p.start(runTimeout, "")
	event := p.input("credential-rotator-check-token")
	check := func(want rotator.TokenStatus) answer {
		p.t.Helper()
		a := f.run(p.t, event)
		if a.Status != rotator.Status(want) || len(a.Warnings) > 0 {
			p.t.Fatalf("want %s, got %s\n%s", want, a.raw, p.trace())
		}
		return a
	}
	check(rotator.TokenOK)
	if more := p.messages(queue); len(more) > 0 {
		p.t.Errorf("told of a token with time: %q", more)
	}

	p.gitlab.EditToken("rotator", func(t *sandbox.Token) { t.Expires = time.Now().AddDate(0, 0, 10) })
	a := check(rotator.TokenExpiring)
	message := p.message(queue)
	p.holdsNoSecret("the message", message)
	if want := `{"message": "Credential Rotation Token Expiring", "reason": "` + a.Reason + `"}`; message != want {
		p.t.Errorf("the topic's subscriber reads %s, want %s", message, want)
	}
	p.tell("told on the topic: %s", message)

	p.rotatesTheToken()
	check(rotator.TokenOK)
	p.is(f.run(p.t, p.tick()), rotator.StatusNotDue)
	p.is(p.start(runTimeout, p.published()).run(p.t, p.tick()), rotator.StatusRotated) // it writes with it
	p.ids = append(p.ids, p.published())
}

// rotatesTheToken is what a person does, with rights of his own.
func (p *platform) rotatesTheToken() {
	p.t.Helper()
	front := httptest.NewServer(p.gitlab.GitLab())
	defer front.Close()
	admin := p.admin()
	cmd := exec.CommandContext(p.t.Context(), program(p.t), "token", "rotate", "--expires-in-days", "60")
	cmd.Env = []string{
		"GITLAB_URL=" + front.URL, "GITLAB_TOKEN_SECRET=credential-rotator/gitlab-token", "HOME=" + p.t.TempDir(), "PATH=" + os.Getenv("PATH"),
		"AWS_ENDPOINT_URL=" + p.cloud.URL, "AWS_REGION=" + moto.Region, "AWS_ACCESS_KEY_ID=" + admin.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + admin.SecretAccessKey,
	}
	out, err := cmd.CombinedOutput()
	var now struct{ SecretString string }
	p.ask(moto.Call{Service: "secretsmanager", Action: "secretsmanager.GetSecretValue", Body: `{"SecretId":"credential-rotator/gitlab-token","VersionStage":"AWSCURRENT"}`}, &now)
	p.wire.Remember(now.SecretString)
	p.holdsNoSecret("what token rotate says", string(out))
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if last := lines[len(lines)-1]; err != nil || !strings.HasPrefix(last, "rotated: token ") {
		p.t.Fatalf("token rotate: %v\n%s", err, out)
	}
	p.tell("a person runs token rotate: %s", lines[len(lines)-1])
}
