package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/rotator/journal/bolt"
)

// session is a command under way.
type session struct {
	arguments
	streams streams
	environ []string
	app     *app // once it is wired
	code    int
}

// run is the command: it returns the exit code.
func run(ctx context.Context, args, environ []string, s streams) int {
	a, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		_, _ = io.WriteString(s.out, usage)
		return exitOK
	}
	u := &session{arguments: a, streams: s, environ: environ}
	if err != nil {
		err = fmt.Errorf("%w (credential-rotator --help tells more)", err)
	} else {
		err = u.do(ctx)
	}
	if err != nil {
		_, _ = fmt.Fprintf(s.err, "credential-rotator: %v\n", err)
		if at := (*fs.PathError)(nil); errors.As(err, &at) && at.Op == "write" {
			return max(u.code, exitFailed) // done as the code says, and nobody was told
		}
		return exitUsage
	}
	return u.code
}

// do does what the verb says. Every error is one of flags or configuration; what
// becomes of a request is an answer.
func (u *session) do(ctx context.Context) error {
	switch u.verb {
	case "rotate":
		return u.rotate(ctx)
	case "plan":
		return u.plan(ctx)
	case "status":
		return u.status(ctx)
	case "resume":
		return u.resume(ctx)
	case "handle":
		return u.handle(ctx)
	case tokenStatus:
		return u.tokenStatus(ctx)
	case tokenRotate:
		return u.tokenRotate(ctx)
	}
	_, err := fmt.Fprintln(u.streams.out, "credential-rotator", version)
	return err
}

// start wires the rotator for a command. Every error here is one of configuration.
func (u *session) start(ctx context.Context, watch func(rotator.Progress)) (config, *rotator.Rotator, error) {
	c, err := u.wire(ctx)
	if err != nil {
		return c, nil, err
	}
	r, err := u.app.rotator(bolt.Owner(), watch)
	return c, r, err
}

// wire reads the configuration, and makes the app of it.
func (u *session) wire(ctx context.Context) (config, error) {
	c, err := loadConfig(u.environ)
	if err == nil {
		u.app, err = newApp(ctx, c)
	}
	return c, err
}

func (u *session) rotate(ctx context.Context) error {
	request, err := u.request()
	if err != nil {
		return err
	}
	view := newView(u.streams.err, false, u.environ)
	defer view.close()
	c, r, err := u.start(ctx, view.step)
	if err != nil {
		return err
	}
	limit := c.RunTimeout
	if u.wait > 0 {
		limit = u.wait
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	result := advance(ctx, r, request, u.wait > 0, view)
	view.close()
	return u.answer(result, request)
}

// advance rotates, and with wait goes on as long as the result is one that time
// or somebody else may change.
func advance(ctx context.Context, r *rotator.Rotator, request rotator.Request, wait bool, v *view) rotator.Result {
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

func (u *session) plan(ctx context.Context) error {
	return u.read(ctx, func(ctx context.Context, c config, r *rotator.Rotator, request rotator.Request) error {
		result, _ := r.Plan(ctx, request)
		u.code = exitOf(result.Status)
		switch {
		case u.markdown:
			return writeMarkdown(u.streams.out, result, request, c.GitLabURL)
		case u.json:
			_, err := u.streams.out.Write(encode(result))
			return err
		}
		return writePlan(u.streams.out, u.page(), result, request)
	})
}

func (u *session) status(ctx context.Context) error {
	return u.read(ctx, func(ctx context.Context, _ config, r *rotator.Rotator, request rotator.Request) error {
		report, err := r.Report(ctx, request)
		if err != nil {
			return u.answer(report.Outlook, request)
		}
		if len(report.Unread) > 0 {
			u.code = exitFailed
		}
		if u.json {
			_, err = u.streams.out.Write(encode(listed(report)))
			return err
		}
		return writeReport(u.streams.out, u.page(), report, time.Now())
	})
}

// page is what an answer in text is written on.
func (u *session) page() *page { return pageFor(u.streams.out, u.environ) }

// listed makes a report's empty lists lists: null is nothing to iterate over.
func listed(r rotator.Report) rotator.Report {
	list(&r.Keys)
	list(&r.User.Quarantine)
	list(&r.Published)
	for i := range r.Published {
		list(&r.Published[i].Faults)
		list(&r.Published[i].Elsewhere)
		list(&r.Published[i].Redeploys)
	}
	list(&r.Unread)
	list(&r.Record.KnownKeys)
	list(&r.Record.Attempts)
	list(&r.Record.Warnings)
	list(&r.Record.Steps)
	return r
}

func list[T any](l *[]T) {
	if *l == nil {
		*l = []T{}
	}
}

func (u *session) read(ctx context.Context, look func(context.Context, config, *rotator.Rotator, rotator.Request) error) error {
	request, err := u.request()
	if err != nil {
		return err
	}
	c, r, err := u.start(ctx, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.RunTimeout)
	defer cancel()
	return look(ctx, c, r, request)
}

func (u *session) resume(ctx context.Context) error {
	view := newView(u.streams.err, true, u.environ)
	c, r, err := u.start(ctx, view.step)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.RunTimeout)
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
	return writeResults(u.streams.out, u.page(), all.Results)
}

// handle does what the function would do. Its log is for a person, and the metrics
// stand beside it: stdout is for the answer.
func (u *session) handle(ctx context.Context) error {
	errs := lines{&sync.Mutex{}, u.streams.err}
	m := &metrics{out: errs}
	view := newView(errs, true, u.environ)
	c, r, err := u.start(ctx, watchers(view.step, m.step))
	if err != nil {
		return err
	}
	m.namespace, m.function = c.MetricsNamespace, c.FunctionName
	event, err := io.ReadAll(io.LimitReader(u.streams.in, rotator.MaxEventBytes+1))
	if err != nil {
		return fmt.Errorf("reading standard input: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.RunTimeout)
	defer cancel()
	e, fault := rotator.DecodeEvent(event)
	answer, err := u.app.serve(ctx, r, e, fault)
	m.answer(answer)
	switch a := answer.(type) {
	case rotator.Result:
		u.code = exitOf(a.Status)
	case results:
		if u.code = worst(a.Results); err != nil {
			u.code = exitFailed
		}
	case rotator.TokenCheck:
		u.code = exitOfToken(a)
	}
	_, err = u.streams.out.Write(encode(answer))
	return err
}

// answer writes a result, and sets the exit code that it means.
func (u *session) answer(r rotator.Result, request rotator.Request) error {
	u.code = exitOf(r.Status)
	if u.json {
		_, err := u.streams.out.Write(encode(r))
		return err
	}
	return writeResult(u.streams.out, u.page(), r, request)
}
