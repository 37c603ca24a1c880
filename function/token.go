package main

import (
	"context"

	"credential-rotator/rotator"
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
