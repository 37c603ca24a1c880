package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"credential-rotator/rotator"
	"credential-rotator/rotator/awsiam"
	"credential-rotator/rotator/events"
	"credential-rotator/rotator/journal/bolt"
	"credential-rotator/rotator/journal/dynamo"
)

// app is the program wired up: everything but the token, which is read anew for
// each invocation.
type app struct {
	config config
	aws    aws.Config
}

func newApp(ctx context.Context, c config) (*app, error) {
	cfg, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("the AWS configuration is wrong: %w", err)
	}
	if cfg.Region == "" {
		return nil, errors.New("the configuration is wrong: the AWS profile has no region: set AWS_REGION")
	}
	return &app{c, cfg}, nil
}

// rotator wires one for one invocation. owner names it in leases.
func (a *app) rotator(owner string, watch func(rotator.Progress)) (*rotator.Rotator, error) {
	client, err := a.config.gitLab(a.token)
	if err != nil {
		return nil, err
	}
	at, err := a.config.journalAt()
	if err != nil {
		return nil, err
	}
	iam := awsiam.New(a.aws)
	r := &rotator.Rotator{
		Users: iam, Keys: iam,
		Prober:      awsiam.NewProber(a.aws, awsiam.ProberOptions{Regions: a.config.ProbeRegions}),
		Destination: client, Redeployer: client, Tagger: client,
		Notifier: silent{},
		Pace:     a.config.pace(),
		Owner:    owner,
		Watch:    watch,
	}
	if at.table != "" {
		r.Journal = dynamo.New(a.aws, at.table)
	} else {
		r.Journal = bolt.New(at.file)
	}
	if a.config.EventBus != "" {
		r.Notifier = events.New(a.aws, events.Options{Bus: a.config.EventBus})
	}
	if a.config.FollowUpRule != "" {
		r.FollowUp = events.NewFollowUp(a.aws, a.config.FollowUpRule)
	}
	return r, nil
}

// silent is the Notifier of who asked for none.
type silent struct{}

func (silent) Notify(context.Context, rotator.Notice, rotator.Result) error { return nil }

// results is the answer to a follow-up, and to the command's resume.
type results struct {
	Results []rotator.Result `json:"results"`
}

// serve is what an event does, in Lambda and for the command handle: the answer is a
// rotator.Result, results or a rotator.TokenCheck. The error is that of a refused or failed
// one. A fault is why the event may not be served.
func (a *app) serve(ctx context.Context, r *rotator.Rotator, e rotator.Event, fault error) (any, error) {
	switch {
	case fault != nil:
		return rotator.Invalid(e.Request, fault)
	case e.CheckToken:
		return a.checkToken(ctx)
	case e.FollowUp:
		return resume(ctx, r)
	}
	return r.Advance(ctx, e.Request)
}

// resultsOf are the results that an answer holds.
func resultsOf(answer any) []rotator.Result {
	switch a := answer.(type) {
	case rotator.Result:
		return []rotator.Result{a}
	case results:
		return a.Results
	}
	return nil
}

func resume(ctx context.Context, r *rotator.Rotator) (results, error) {
	all, err := r.Resume(ctx)
	if err != nil {
		return results{[]rotator.Result{}}, &rotator.FailedError{Reason: err.Error()}
	}
	var failed []string
	for _, one := range all {
		if exitOf(one.Status) == exitFailed {
			failed = append(failed, one.User+": "+one.Reason)
		}
	}
	if len(failed) > 0 {
		err = &rotator.FailedError{Reason: strings.Join(failed, "; ")}
	}
	return results{all}, err
}

// Exit codes: what a script can tell apart.
const (
	exitOK     = 0
	exitFailed = 1 // refused or failed
	exitUsage  = 2 // flags or configuration
	exitWait   = 3 // in flight, or somebody must look
)

func exitOf(s rotator.Status) int {
	switch s {
	case rotator.StatusRotated, rotator.StatusNotDue, rotator.StatusWouldRotate:
		return exitOK
	case rotator.StatusWaiting, rotator.StatusBusy, rotator.StatusHeld:
		return exitWait
	}
	return exitFailed
}

// worst is the exit code of several results.
func worst(all []rotator.Result) int {
	code := exitOK
	for _, r := range all {
		switch exitOf(r.Status) {
		case exitFailed:
			return exitFailed
		case exitWait:
			code = exitWait
		}
	}
	return code
}

func encode(v any) []byte {
	line, _ := json.Marshal(v) // a result has nothing that cannot be encoded
	return append(line, '\n')
}
