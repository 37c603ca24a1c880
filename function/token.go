package main

import (
	"context"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/rotator/gitlab"
	"credential-rotator/rotator/tokenstore"
)

// store is where the configuration says that the token is kept; nil when it is in the
// environment.
func (a *app) store() tokenstore.Store {
	switch c := a.config; {
	case c.GitLabTokenSecret != "":
		return tokenstore.NewSecret(a.aws, c.GitLabTokenSecret)
	case c.GitLabTokenParameter != "":
		return tokenstore.NewParameter(a.aws, c.GitLabTokenParameter)
	}
	return nil
}

// token reads the GitLab token from where the configuration says it is.
func (a *app) token(ctx context.Context) (rotator.Secret, error) {
	if store := a.store(); store != nil {
		return store.Read(ctx)
	}
	return a.config.GitLabToken, nil
}

// firstPause is before a call of GitLab is made a second time: as usual, but for tests.
var firstPause time.Duration //nolint:gochecknoglobals // a test's program is this one, in a process of its own

// gitLab is a client of GitLab as the configuration has it.
func (c config) gitLab(token func(context.Context) (rotator.Secret, error)) (*gitlab.Client, error) {
	return gitlab.New(gitlab.Options{URL: c.GitLabURL, Token: token, Authorities: c.gitLabCAs, FirstPause: firstPause})
}

// gitLabWith is a client with one token and no other: what is read anew could be one that
// GitLab must not see twice.
func (c config) gitLabWith(token rotator.Secret) (*gitlab.Client, error) {
	return c.gitLab(func(context.Context) (rotator.Secret, error) { return token, nil })
}
