package sandbox

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"credential-rotator/rotator"
)

// saved is a record as a journal would keep it: as JSON, so that what does not
// survive being written down is missed.
type saved struct {
	version int64
	lease   rotator.Lease
	line    []byte
	record  *rotator.Record // as it was read back; nil: nobody has, yet
	by      *process
}

// Notification is what a run told others.
type Notification struct {
	Run    string
	Notice rotator.Notice
	Result rotator.Result
}

// Load implements rotator.Journal.
func (p *Ports) Load(ctx context.Context, user string) (rotator.Record, error) {
	var out rotator.Record
	err := p.do(ctx, op{name: "journal.Load", detail: user}, func() error {
		out = p.w.record(user)
		return nil
	})
	if err != nil {
		return rotator.Record{}, err
	}
	return out, nil
}

// Save implements rotator.Journal.
func (p *Ports) Save(ctx context.Context, r rotator.Record) (rotator.Record, error) {
	next := r
	next.Version++
	line, err := json.Marshal(next)
	if err != nil {
		return rotator.Record{}, err
	}
	o := op{name: "journal.Save", detail: strings.TrimSpace(r.User + " " + string(r.Phase)), write: true, text: string(line)}
	err = p.do(ctx, o, func() error {
		if p.w.version(r.User) != r.Version {
			return rotator.ErrConflict
		}
		p.w.journal[r.User] = &saved{version: next.Version, lease: next.Lease, line: line, by: &p.process}
		return nil
	})
	if err != nil {
		return rotator.Record{}, err
	}
	return next, nil
}

// InFlight implements rotator.Journal.
func (p *Ports) InFlight(ctx context.Context) ([]rotator.Record, error) {
	var out []rotator.Record
	err := p.do(ctx, op{name: "journal.InFlight"}, func() error {
		for user := range p.w.journal {
			if r := p.w.record(user); r.InFlight() {
				out = append(out, r)
			}
		}
		slices.SortFunc(out, func(a, b rotator.Record) int { return strings.Compare(a.User, b.User) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Append implements rotator.Journal.
func (p *Ports) Append(ctx context.Context, e rotator.Entry) error {
	return p.do(ctx, op{name: "journal.Append", detail: e.User, write: true, says: []any{e}}, func() error {
		p.w.history = append(slices.DeleteFunc(p.w.history, func(was rotator.Entry) bool {
			return was.User == e.User && was.StartedAt.Equal(e.StartedAt)
		}), e)
		return nil
	})
}

// Notify implements rotator.Notifier.
func (p *Ports) Notify(ctx context.Context, n rotator.Notice, r rotator.Result) error {
	return p.do(ctx, op{name: "notifier.Notify", detail: string(n), write: true, says: []any{r}}, func() error {
		p.w.notices = append(p.w.notices, Notification{p.name, n, r})
		return nil
	})
}

// Enable implements rotator.FollowUp.
func (p *Ports) Enable(ctx context.Context) error { return p.follow(ctx, "Enable", true) }

// Disable implements rotator.FollowUp.
func (p *Ports) Disable(ctx context.Context) error { return p.follow(ctx, "Disable", false) }

func (p *Ports) follow(ctx context.Context, verb string, on bool) error {
	return p.do(ctx, op{name: "followup." + verb, write: true}, func() error {
		p.w.followed = on
		return nil
	})
}

// Followed tells whether the follow-up is switched on.
func (w *World) Followed() bool {
	defer w.enter()()
	return w.followed
}

// record is the user's record. Whoever gets it may change what it points to.
func (w *World) record(user string) rotator.Record {
	kept := w.journal[user]
	if kept == nil {
		return rotator.Record{}
	}
	if kept.record == nil {
		kept.record = &rotator.Record{}
		must(json.Unmarshal(kept.line, kept.record))
	}
	r := *kept.record
	r.KnownKeys, r.Attempts = slices.Clone(r.KnownKeys), slices.Clone(r.Attempts)
	r.Warnings, r.Steps = slices.Clone(r.Warnings), slices.Clone(r.Steps)
	r.Refs, r.Protect, r.Deployments = slices.Clone(r.Refs), slices.Clone(r.Protect), slices.Clone(r.Deployments)
	return r
}

func (w *World) version(user string) int64 {
	if kept := w.journal[user]; kept != nil {
		return kept.version
	}
	return 0
}

// Lease is that of the user's record.
func (w *World) Lease(user string) rotator.Lease {
	defer w.enter()()
	if kept := w.journal[user]; kept != nil {
		return kept.lease
	}
	return rotator.Lease{}
}

// Record is the user's record in the journal, of Version 0 when there is none.
func (w *World) Record(user string) rotator.Record {
	defer w.enter()()
	return w.record(user)
}

// History is what was appended to the journal.
func (w *World) History() []rotator.Entry {
	defer w.enter()()
	return slices.Clone(w.history)
}

// Notices are all notifications, in order.
func (w *World) Notices() []Notification {
	defer w.enter()()
	return slices.Clone(w.notices)
}
