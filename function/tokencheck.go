package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/rotator/events"
	"credential-rotator/rotator/gitlab"
)

// tokenPlace is where the token is kept, in words.
func (a *app) tokenPlace() rotator.TokenPlace {
	if store := a.store(); store != nil {
		return rotator.TokenPlace{Name: store.Name(), Rotates: true}
	}
	return rotator.TokenPlace{Name: "GITLAB_TOKEN"}
}

// lookAtToken asks GitLab about the token; look is how much.
func (a *app) lookAtToken(ctx context.Context, look func(*gitlab.Client, context.Context) (rotator.Token, error)) (rotator.TokenCheck, error) {
	client, err := a.config.gitLab(a.token)
	if err != nil {
		return rotator.TokenCheck{}, err
	}
	t, err := look(client, ctx)
	if err != nil {
		return rotator.TokenProblem(tokenFault(err), a.tokenPlace(), errors.Is(err, rotator.ErrRefused)), nil
	}
	return rotator.CheckToken(t, a.tokenPlace(), time.Now()), nil
}

// tokenFault is why a token does not work. A token that is revoked may be so because a
// run of token rotate did not live to store the next.
func tokenFault(err error) string {
	reason := strings.TrimPrefix(err.Error(), rotator.ErrRefused.Error()+": ")
	if errors.Is(err, rotator.ErrRefused) && strings.Contains(reason, "revoked") {
		reason += ". (If credential-rotator token rotate has ended before it said that the new token is stored, that one is lost: revoke it by its name in GitLab)"
	}
	return reason
}

// checkToken is what {"action":"check_token"} does, in one call of GitLab. A token that
// expires soon is told on the bus, and so is one that does not work; that is also the
// error, like a refused request. So is a GitLab that cannot be asked, which is not told:
// nobody knows anything about the token then.
func (a *app) checkToken(ctx context.Context) (rotator.TokenCheck, error) {
	check, err := a.lookAtToken(ctx, (*gitlab.Client).TokenAlone)
	if err != nil {
		return check, err
	}
	if a.config.EventBus != "" && (check.Status == rotator.TokenExpiring || check.Status == rotator.TokenInvalid) {
		if err := events.New(a.aws, events.Options{Bus: a.config.EventBus}).TellOfToken(ctx, check); err != nil {
			check.Warnings = append(check.Warnings, "nobody was notified: "+err.Error())
		}
	}
	switch {
	case check.Status == rotator.TokenInvalid:
		return check, &rotator.RefusedError{Reason: check.Reason}
	case check.Status == rotator.TokenUnknown && !check.Taken:
		return check, &rotator.FailedError{Reason: check.Reason}
	}
	return check, nil
}

// exitOfToken is the exit code of a look at the token.
func exitOfToken(c rotator.TokenCheck) int {
	switch {
	case c.Status == rotator.TokenOK:
		return exitOK
	case c.Status == rotator.TokenExpiring, c.Status == rotator.TokenUnknown && c.Taken:
		return exitWait
	}
	return exitFailed
}

// tokenStatus says what there is to know about the token. Its error is one of the
// configuration.
func (u *session) tokenStatus(ctx context.Context) error {
	c, err := u.wire(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.RunTimeout)
	defer cancel()
	check, err := u.app.lookAtToken(ctx, (*gitlab.Client).Token)
	if err != nil {
		return err
	}
	u.code = exitOfToken(check)
	if u.json {
		_, err = u.streams.out.Write(encode(check))
		return err
	}
	return writeTokenCheck(u.streams.out, check)
}

// writeTokenCheck writes a look at the token as a person reads it.
func writeTokenCheck(w io.Writer, c rotator.TokenCheck) error {
	p := &page{} // a line is a line
	p.write(string(c.Status)+": ", 0, c.Reason)
	line := func(name, value string) {
		if value != "" {
			p.fact(name, "%s", value)
		}
	}
	if c.ID != 0 {
		line("token", strings.TrimSpace(fmt.Sprintf("%s (id %d) %s", c.Name, c.ID, c.Kind)))
		line("scopes", strings.Join(c.Scopes, ", "))
	}
	line("kept in", c.KeptIn)
	for _, warning := range c.Warnings {
		line("warning", warning)
	}
	_, err := io.WriteString(w, p.String())
	return err
}
