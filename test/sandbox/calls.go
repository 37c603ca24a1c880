package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"credential-rotator/rotator"
)

// Call is something that a run did to the world.
type Call struct {
	Run    string // who
	N      int    // which call of the run it is, from 1
	Name   string // what, such as "iam.CreateAccessKey"
	Detail string // to what, such as a key id
	Write  bool
	At     time.Time
	Fate   Fate
	Err    string // what the caller was told, "" when all went well
}

func (c Call) String() string {
	line := fmt.Sprintf("%s %s#%d %s %s", c.At.Format("15:04:05.000"), c.Run, c.N, c.Name, c.Detail)
	if c.Fate != OK {
		line += " [" + c.Fate.String() + "]"
	}
	if c.Err != "" {
		line += " = " + c.Err
	}
	return line
}

// Fate is what becomes of a call.
type Fate int

// The fates of a call. The last five are how HTTP goes wrong; a call of a port
// takes the meaning in brackets. Over HTTP there are no processes that die: Late
// and CrashAfter are Lost there, and CrashBefore cuts the connection.
const (
	OK          Fate = iota
	Refused          // not applied, and the caller is told so
	Lost             // applied, and the caller is told that it went wrong
	Late             // the caller is told that it went wrong, then it is applied
	Stalled          // applied, and no reply comes until the caller gives up
	CrashBefore      // the run dies before the call
	CrashAfter       // the call is applied, and the run dies before the reply

	BadGateway      // 502, not applied [as an error that says nothing]
	BadGatewayAfter // 502, applied [Lost]
	Unauthorized    // 401 [Refused]
	TooMany         // 429 [Refused]
	WebPage         // 200 and a page of HTML, not applied [as an error that says nothing]
)

func (f Fate) String() string {
	names := [...]string{
		"ok", "refused", "lost", "late", "stalled", "crash before", "crash after",
		"502 before", "502 after", "401", "429", "web page",
	}
	return names[f]
}

// Errors that only a world has.
var (
	// ErrDead is what a run gets from every port after it crashed.
	ErrDead = errors.New("this run has crashed")
	// ErrLost is the error of a call whose outcome the caller cannot know.
	ErrLost = errors.New("the connection was reset")
)

// process is whoever calls: a run with ports, or a caller of an HTTP front.
type process struct {
	w         *World
	name      string
	judged    bool // a rotator; a person is not judged
	intercept func(Call) Fate
	returned  func(Call)
	calls     int
	dead      bool

	sawKeys      int           // when it last listed keys, on World.seq
	sawVariables map[owner]int // when it last read variables, by whose they are
	wrote        int           // when it last wrote anything
	// sawLive is when it last looked what is live, by project and environment.
	sawLive map[string]int
	// users is whom it asked IAM about: one that serves several at once writes for
	// others between its look and its write.
	users map[string]bool
}

// sees notes that it has read the variables of a project or group.
func (p *process) sees(o owner) {
	if p.sawVariables == nil {
		p.sawVariables = map[owner]int{}
	}
	p.sawVariables[o] = p.w.seq
}

// op is a call before it is made.
type op struct {
	name   string
	detail string
	write  bool
	// says is all that the caller hands over, but for a secret that belongs there.
	says []any
	text string // the same, of a caller that has it as a text
}

// do is the one place through which every call of a run passes. apply does it, on
// a world that is brought up to now and locked.
//
// The interceptor is asked before, without the lock: it may wait, or do what a
// person does.
func (p *process) do(ctx context.Context, o op, apply func() error) error {
	call, err := p.next(o)
	if err != nil {
		return err
	}
	if p.intercept != nil {
		call.Fate = p.intercept(call)
	}
	err = p.meet(ctx, call, o, apply)
	if p.returned != nil {
		p.returned(call)
	}
	if call.Fate == Stalled && err == nil {
		<-ctx.Done()
		return fmt.Errorf("waiting for %s: %w", o.name, ctx.Err())
	}
	return err
}

func (p *process) next(o op) (Call, error) {
	defer p.w.enter()()
	if p.dead {
		return Call{}, ErrDead
	}
	p.calls++
	return Call{Run: p.name, N: p.calls, Name: o.name, Detail: o.detail, Write: o.write}, nil
}

// meet lets the call meet its fate.
func (p *process) meet(ctx context.Context, call Call, o op, apply func() error) (err error) {
	defer p.w.enter()()
	if p.dead {
		return ErrDead
	}
	defer func() {
		call.At = p.w.now
		if err != nil {
			call.Err = err.Error()
		}
		p.w.calls = append(p.w.calls, call)
		p.w.judgeWords(call, o)
	}()
	if err := ctx.Err(); err != nil {
		return err
	}
	switch call.Fate {
	case Refused, Unauthorized, TooMany:
		return refusal(call, errors.New("403 Forbidden"))
	case BadGateway, WebPage:
		return ErrLost
	case Lost, BadGatewayAfter:
		_ = p.apply(call, apply)
		return ErrLost
	case Late:
		p.w.after(p.w.opts.Lateness, func() { p.w.seq++; _ = p.apply(call, apply) })
		return ErrLost
	case CrashBefore:
		p.dead = true
		return ErrDead
	case CrashAfter:
		_ = p.apply(call, apply)
		p.dead = true
		return ErrDead
	}
	return p.apply(call, apply)
}

// apply does it, and judges it when it is a rotator's write.
func (p *process) apply(call Call, do func() error) error {
	if !call.Write || !p.judged {
		return do()
	}
	before := p.w.state()
	err := do()
	p.w.judge(p, call, before)
	p.wrote = p.w.seq
	return err
}

// refusal is how a definite no reads through a port. The journal, the notifier and
// the follow-up have no such word: their errors say nothing.
func refusal(call Call, err error) error {
	if strings.HasPrefix(call.Name, "journal.") || strings.HasPrefix(call.Name, "notifier.") || strings.HasPrefix(call.Name, "followup.") {
		return err
	}
	return fmt.Errorf("%w: %w", rotator.ErrRefused, err)
}

// judgeWords looks for secrets in everything that a call says or was told.
func (w *World) judgeWords(call Call, o op) {
	said := []byte(o.text)
	if len(o.says) > 0 {
		said, _ = json.Marshal(o.says)
	}
	for _, name := range w.leaksIn(string(said) + " " + call.Detail + " " + call.Err) {
		w.violate("%s: %s says %s", call.Run, call.Name, name)
	}
}

// Calls are all calls of all runs, in the order in which they met their fates.
func (w *World) Calls() []Call {
	defer w.enter()()
	return append([]Call(nil), w.calls...)
}
