package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/alecthomas/kong"

	"credential-rotator/rotator"
	"credential-rotator/rotator/journal/bolt"
)

// cli is the grammar of the command. A rotation's flags are the fields of a request.
type cli struct {
	Output string `short:"o" enum:"text,json" default:"text" help:"How answers are written: text or json."`

	Rotate rotateCmd `cmd:"" help:"Rotate the key of a user, if it is due."`
	Plan   planCmd   `cmd:"" help:"Tell what rotate would do, and why. Reads only."`
	Status statusCmd `cmd:"" help:"Show the user's keys, what is published, and the record."`
	Resume resumeCmd `cmd:"" help:"Advance every rotation that is in flight."`
	Handle handleCmd `cmd:"" help:"Do what the function would do with the event on standard input."`
	Ver    verCmd    `cmd:"" name:"version" help:"Print the version."`
}

// requestFlags are a request as flags. What is not given is not in its JSON, so that
// flags and events are read, completed and checked by the same code.
type requestFlags struct {
	User                    string  `arg:"" json:"user" help:"The IAM user whose key is rotated."`
	ProjectID               int64   `required:"" json:"project_id" placeholder:"N" help:"The GitLab project that deploys with it."`
	EnvironmentScope        *string `json:"environment_scope,omitempty" placeholder:"SCOPE" help:"Scope of the variables (*)."`
	AccessKeyIDVariable     *string `name:"access-key-id-variable" json:"access_key_id_variable,omitempty" placeholder:"NAME" help:"Variable of the key id (AWS_ACCESS_KEY_ID)."`
	SecretAccessKeyVariable *string `json:"secret_access_key_variable,omitempty" placeholder:"NAME" help:"Variable of the secret (AWS_SECRET_ACCESS_KEY)."`
	Redeploy                *string `json:"redeploy,omitempty" placeholder:"HOW" help:"pipeline, deployment or none (pipeline)."`
	Ref                     *string `json:"ref,omitempty" placeholder:"REF" help:"Branch or tag of the pipeline (the default branch)."`
	Environment             *string `json:"environment,omitempty" placeholder:"NAME" help:"Environment whose deployment proves success."`
	Fallback                *string `json:"fallback,omitempty" placeholder:"HOW" help:"With redeploy deployment: pipeline, when what is live cannot be retried."`
	MaxAgeDays              *int    `json:"max_age_days,omitempty" placeholder:"N" help:"How old a key may become (90)."`
	LeadDays                *int    `json:"lead_days,omitempty" placeholder:"N" help:"How much earlier it is replaced (7)."`
	OverlapHours            *int    `json:"overlap_hours,omitempty" placeholder:"N" help:"How long both keys work after the deployment (0)."`
	SoakHours               *int    `json:"soak_hours,omitempty" placeholder:"N" help:"How long the old key stays inactive before it is deleted (0)."`
	Force                   bool    `json:"force,omitempty" help:"Rotate though it is not due; end a soak."`
	RetireKey               *string `json:"retire_key,omitempty" placeholder:"ID" help:"A key that is in the way and may be retired."`
}

// request checks the flags as if they were an event.
func (f requestFlags) request() (rotator.Request, error) {
	data, err := json.Marshal(f)
	if err != nil {
		return rotator.Request{}, err
	}
	e, err := rotator.DecodeEvent(data)
	return e.Request, err
}

type (
	rotateCmd struct {
		requestFlags
		Wait time.Duration `placeholder:"30m" help:"Go on for so long while the result is waiting (instead of RUN_TIMEOUT)."`
	}
	planCmd   struct{ requestFlags }
	statusCmd struct{ requestFlags }
	resumeCmd struct{}
	handleCmd struct{}
	verCmd    struct{}
)

// session is a command under way.
type session struct {
	ctx     context.Context
	streams streams
	environ []string
	json    bool
	code    int
}

// run is the command: it returns the exit code.
func run(ctx context.Context, args, environ []string, s streams) int {
	var c cli
	exited := -1
	parser, err := kong.New(&c, kong.Name("credential-rotator"),
		kong.Description("Rotates the AWS access key that a service deployed from GitLab CI/CD uses, so that nobody notices."),
		kong.Writers(s.out, s.err), kong.Exit(func(code int) { exited = code }), kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		return fail(s.err, err)
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 { // --help has been printed
		return exited
	}
	if err != nil {
		return fail(s.err, fmt.Errorf("%w (credential-rotator --help tells the flags)", err))
	}
	u := &session{ctx: ctx, streams: s, environ: environ, json: c.Output == "json"}
	if err := parsed.Run(u); err != nil {
		return fail(s.err, err)
	}
	return u.code
}

func fail(w io.Writer, err error) int {
	var invalid *rotator.RequestError
	if errors.As(err, &invalid) {
		err = fmt.Errorf("the flags are wrong: %s", invalid.List())
	}
	_, _ = fmt.Fprintf(w, "credential-rotator: %v\n", err)
	return exitUsage
}

// start wires the rotator for a command. Every error here is one of configuration.
func (u *session) start(watch func(rotator.Progress)) (config, *rotator.Rotator, error) {
	c, err := loadConfig(u.environ)
	if err != nil {
		return c, nil, err
	}
	a, err := newApp(u.ctx, c)
	if err != nil {
		return c, nil, err
	}
	r, err := a.rotator(bolt.Owner(), watch)
	return c, r, err
}

// Run rotates.
func (cmd *rotateCmd) Run(u *session) error {
	request, err := cmd.request()
	if err != nil {
		return err
	}
	view := newView(u.streams.err, false, u.environ)
	defer view.close()
	c, r, err := u.start(view.step)
	if err != nil {
		return err
	}
	limit := c.RunTimeout
	if cmd.Wait > 0 {
		limit = cmd.Wait
	}
	ctx, cancel := context.WithTimeout(u.ctx, limit)
	defer cancel()
	result := rotate(ctx, r, request, cmd.Wait > 0, view)
	view.close()
	return u.answer(result)
}

// rotate advances, and with wait goes on as long as the result is one that time
// or somebody else may change.
func rotate(ctx context.Context, r *rotator.Rotator, request rotator.Request, wait bool, v *view) rotator.Result {
	for {
		result, _ := r.Advance(ctx, request) // the result says it all
		pending := result.Status == rotator.StatusWaiting || result.Status == rotator.StatusBusy
		if !wait || !pending || !v.waiting(ctx, result, r.Pace.PollInterval) {
			return result
		}
		if result.Status == rotator.StatusWaiting && result.RotationID != "" {
			request.Force = false // it has begun what it was to begin
		}
	}
}

// Run plans.
func (cmd *planCmd) Run(u *session) error {
	return u.read(cmd.requestFlags, func(ctx context.Context, r *rotator.Rotator, request rotator.Request) error {
		result, _ := r.Plan(ctx, request)
		return u.answer(result)
	})
}

// Run reports.
func (cmd *statusCmd) Run(u *session) error {
	return u.read(cmd.requestFlags, func(ctx context.Context, r *rotator.Rotator, request rotator.Request) error {
		report, err := r.Report(ctx, request)
		if err != nil {
			return u.answer(report.Outlook)
		}
		if u.json {
			_, err = u.streams.out.Write(encode(report))
			return err
		}
		return writeReport(u.streams.out, report, time.Now())
	})
}

func (u *session) read(flags requestFlags, look func(context.Context, *rotator.Rotator, rotator.Request) error) error {
	request, err := flags.request()
	if err != nil {
		return err
	}
	c, r, err := u.start(nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(u.ctx, c.RunTimeout)
	defer cancel()
	return look(ctx, r, request)
}

// Run resumes.
func (cmd *resumeCmd) Run(u *session) error {
	view := newView(u.streams.err, true, u.environ)
	c, r, err := u.start(view.step)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(u.ctx, c.RunTimeout)
	defer cancel()
	all, err := resume(ctx, r)
	if err != nil && len(all.Results) == 0 {
		_, _ = fmt.Fprintf(u.streams.err, "credential-rotator: %v\n", err)
	}
	if u.code = worst(all.Results); err != nil {
		u.code = exitFailed
	}
	if u.json {
		_, err = u.streams.out.Write(encode(all))
		return err
	}
	return writeResults(u.streams.out, all.Results)
}

// Run does what the function would do.
func (cmd *handleCmd) Run(u *session) error {
	view := newView(u.streams.err, true, u.environ)
	c, r, err := u.start(view.step)
	if err != nil {
		return err
	}
	event, err := io.ReadAll(io.LimitReader(u.streams.in, rotator.MaxEventBytes+1))
	if err != nil {
		return fmt.Errorf("reading standard input: %w", err)
	}
	ctx, cancel := context.WithTimeout(u.ctx, c.RunTimeout)
	defer cancel()
	answer, err := serve(ctx, r, event)
	switch a := answer.(type) {
	case rotator.Result:
		u.code = exitOf(a.Status)
	case results:
		if u.code = worst(a.Results); err != nil {
			u.code = exitFailed
		}
	}
	_, err = u.streams.out.Write(encode(answer))
	return err
}

// Run prints the version.
func (cmd *verCmd) Run(u *session) error {
	_, err := fmt.Fprintln(u.streams.out, "credential-rotator", version)
	return err
}

// answer writes a result, and sets the exit code that it means.
func (u *session) answer(r rotator.Result) error {
	u.code = exitOf(r.Status)
	if u.json {
		_, err := u.streams.out.Write(encode(r))
		return err
	}
	return writeResults(u.streams.out, []rotator.Result{r})
}
