package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// tornPatience is how long a pair may be torn for each fault or stall: until a lease is over
// that was not given back, and the next run comes.
func (p *play) tornPatience() time.Duration {
	return time.Duration(len(p.met)+p.scene.switches) * (runTime + 30*time.Second + p.scene.tick)
}

func (p *play) blame(format string, args ...any) {
	p.wrong = append(p.wrong, fmt.Sprintf(format, args...))
	p.note("WRONG: "+format, args...)
}

// look asks, after every call, whether the promise still holds.
func (p *play) look() {
	if len(p.wrong) > 0 {
		return
	}
	for _, v := range p.Violations() {
		if !p.excused(v) {
			p.blame("%s", v)
		}
	}
	p.judgeLease()
	for i, service := range p.services() {
		p.judgePair(i, service)
	}
}

// services are all that the world watches over: the usual one, and those that a scene adds.
func (p *play) services() []sandbox.Service {
	return append([]sandbox.Service{p.Service}, p.also...)
}

// judgePair asks whether a job of a service that starts now gets a pair that works.
func (p *play) judgePair(i int, service sandbox.Service) {
	id, pair := p.Pair(service)
	if pair != sandbox.PairTorn {
		delete(p.tornSince, i)
	} else if _, torn := p.tornSince[i]; !torn {
		p.tornSince[i] = time.Now()
	}
	switch since, torn := p.tornSince[i]; {
	case len(p.acted) > 0: // what a person broke the world knows how to judge
	case pair == sandbox.PairBroken:
		p.blame("a job that starts now gets the pair %s, which does not work", id)
	case torn && time.Since(since) > p.tornPatience():
		p.blame("the pair has been torn for %s", time.Since(since))
	}
}

// judgeLease: nobody takes a lease that another still holds.
func (p *play) judgeLease() {
	before := p.lease
	p.lease = p.Lease(p.Service.User)
	if before.Owner != p.lease.Owner && before.Held(time.Now()) {
		p.blame("a run that was never given it has taken the lease of another, which lasts until %s", before.Until.Format("15:04:05"))
	}
}

// judgeWriter: nobody writes to IAM or GitLab but who holds the lease.
func (p *play) judgeWriter(r *run, c sandbox.Call) {
	if l := p.Lease(p.Service.User); !strings.HasPrefix(l.Owner, r.name+"/") || !l.Held(time.Now()) {
		p.blame("run %s is about to %s %s, and the lease is that of %s until %s", r.name, c.Name, c.Detail, l.Owner, l.Until.Format("15:04:05"))
	}
}

// excused is what the rotator cannot know: whose a key is that somebody made while a
// create of ours was lost, within the time that a slow call takes, and that nobody has
// used for ORPHAN_AGE; and that a key which somebody has switched on again had been
// switched off by a run that crashed before it could say so.
func (p *play) excused(violation string) bool {
	const window = 2 * time.Minute
	if !strings.Contains(violation, "did not make") {
		return false
	}
	made := !p.madeAt.IsZero() && strings.Contains(violation, "DeleteAccessKey") &&
		slices.ContainsFunc(p.met, func(m meeting) bool { return m.fate != sandbox.Refused && m.at.Sub(p.madeAt).Abs() < window })
	unsaid := slices.ContainsFunc(p.met, func(m meeting) bool {
		return m.call.Name == "iam.UpdateAccessKey" || m.call.Name == "journal.Save" && strings.HasSuffix(m.call.Detail, string(rotator.PhaseSoaking))
	})
	return made || unsaid && slices.Contains(p.acted, switchesOn)
}

// judgeUse: an old key that was used after the deployment, as the run could read,
// is not switched off.
func (p *play) judgeUse() {
	if p.used == "" || !p.usedAt.After(p.deployed(p.used).Add(3*time.Second)) { // clocks are read to the second
		return
	}
	looked := map[string]bool{}
	for _, c := range p.Calls()[p.usedAfter:] {
		switch {
		case c.Name == "iam.GetAccessKeyLastUsed" && c.Detail == p.used:
			looked[c.Run] = true
		case c.Name == "iam.UpdateAccessKey" && c.Detail == p.used && c.Err == "" && looked[c.Run]:
			p.blame("run %s switched %s off, which was used after the deployment", c.Run, p.used)
		}
	}
}

// deployed is when a job first deployed another key than old; far away if none did.
func (p *play) deployed(old string) time.Time {
	for _, pl := range p.Pipelines(p.Service.Place.ProjectID) {
		for _, j := range pl.Jobs {
			if j.Environment != "" && j.Status == "success" && j.KeyID != old {
				return j.Finished
			}
		}
	}
	return time.Now()
}

// judgeRun looks at how a run has ended.
func (p *play) judgeRun(r *run) {
	p.note("run %s ends with %s: %s %v", r.name, r.result.Status, r.result.Reason, r.result.Warnings)
	said := append([]string{r.result.Reason, fmt.Sprint(r.result.Deployment, r.result.Deployments, r.err)}, r.result.Warnings...)
	if leaks := p.LeaksIn(strings.Join(said, " ")); len(leaks) > 0 {
		p.blame("the result of run %s says %v", r.name, leaks)
	}
	if r.result.Reason == "" {
		p.blame("run %s ends with %s and no reason", r.name, r.result.Status)
	}
}

// judgeFollowed: when no run is at work and a rotation is in flight, it is followed up.
func (p *play) judgeFollowed() {
	if len(p.wrong) == 0 && p.Record(p.Service.User).InFlight() && !p.Followed() && !p.unswitched() {
		p.blame("a rotation is in flight, no run is at work, and nobody follows up")
	}
}

// unswitched: the follow-up is off because its own calls went wrong, and since then no
// run has come to an end that might have switched it on. One that cannot read the journal
// does not know of it.
func (p *play) unswitched() bool {
	for _, r := range slices.Backward(p.runs) {
		if slices.ContainsFunc(p.met, func(m meeting) bool { return m.run == r && isSwitch(m.call) }) {
			return true
		}
		blind := slices.ContainsFunc(p.met, func(m meeting) bool { return m.run == r && m.call.Name == "journal.Load" })
		if r.result.Status != rotator.StatusBusy && !r.ports.Dead() && !blind {
			return false
		}
	}
	return false
}

// judgeSwitchedOff: when nothing is in flight any more, one more follow-up at most is
// what it takes to end them.
func (p *play) judgeSwitchedOff() {
	if len(p.wrong) > 0 || p.Record(p.Service.User).InFlight() || !p.Followed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.scene.runTime)
	defer cancel()
	if results, err := rotatorOf(p.Run("follow-up")).Resume(ctx); err != nil || len(results) > 0 || p.Followed() {
		p.blame("nothing is in flight, and follow-ups go on: %v %v", results, err)
	}
}

// isEnd tells whether a run has found nothing to do: nothing is due, or, when a
// person acted, twice the same person is asked for. It must have changed nothing.
func (p *play) isEnd(r *run) bool {
	before := p.runs[len(p.runs)-2].result
	switch s := r.result.Status; {
	case s == rotator.StatusNotDue && r.writes > 0:
		p.blame("run %s found nothing to do, and wrote", r.name)
	case s == rotator.StatusNotDue:
	case !p.scene.asks || s != rotator.StatusHeld && s != rotator.StatusRefused:
		return false
	case before.Status != s || before.Reason != r.result.Reason:
		return false
	case r.touched > 0:
		p.blame("run %s asks for a person again, and changed something", r.name)
	}
	return true
}

// judgeEnd asks whether the world has healed, and whether whoever should know was told.
func (p *play) judgeEnd() {
	p.look()
	if len(p.wrong) > 0 {
		return
	}
	last := p.runs[len(p.runs)-1].result
	if len(p.acted) == 0 && last.Status == rotator.StatusNotDue {
		p.judgeKeys()
	} else if p.Record(p.Service.User).InFlight() && last.Status == rotator.StatusNotDue {
		p.blame("nothing is due, and a rotation is in flight")
	}
	for _, m := range p.met {
		p.judgeTold(m)
	}
	p.judgeNotices()
	p.judgeUse()
	p.judgeTags()
}

// judgeKeys: one young key is published and works, and the service runs with it.
func (p *play) judgeKeys() {
	keys := p.Keys(p.Service.User)
	for _, service := range p.services() {
		id, pair := p.Pair(service)
		sound := slices.ContainsFunc(keys, func(k sandbox.Key) bool {
			return k.ID == id && k.Status == rotator.KeyActive && time.Since(k.CreatedAt) < 10*24*time.Hour
		})
		if !sound || pair != sandbox.PairWorks || len(keys) != 1+p.scene.spare {
			p.blame("it ends with the keys %v, and the published %s, which is %s", keys, id, pair)
		}
	}
}

// judgeTags: a tag that was made for one pipeline is removed again.
func (p *play) judgeTags() {
	refused := slices.ContainsFunc(p.met, func(m meeting) bool { return m.call.Name == "gitlab.DELETE tag" && m.fate == sandbox.Refused }) // which a warning tells
	for _, tag := range p.Tags(4711) {
		if strings.HasPrefix(tag, rotator.TagPrefix) && !refused {
			p.blame("the tag %s is left", tag)
		}
	}
}

// judgeNotices: nobody is told twice that a rotation began or succeeded.
func (p *play) judgeNotices() {
	told := map[string]bool{}
	for _, n := range p.Notices() {
		what := string(n.Notice) + " " + n.Result.RotationID
		if told[what] && (n.Notice == rotator.NoticeStarted || n.Notice == rotator.NoticeSucceeded) {
			p.blame("%s was told twice", what)
		}
		told[what] = true
	}
}

// judgeTold: a fault is told by the run that met it, or that run got over it. A run
// that has crashed tells nothing any more.
func (p *play) judgeTold(m meeting) {
	if m.moot || m.run.ports.Dead() || len(p.wrong) > 0 {
		return
	}
	switch m.run.result.Status {
	case rotator.StatusNotDue:
		if m.call.Name == "iam.GetAccessKeyLastUsed" { // that of a spare key, which is in nobody's way yet
			return
		}
	case rotator.StatusFailed, rotator.StatusWaiting, rotator.StatusBusy, rotator.StatusHeld, rotator.StatusRefused:
		return
	}
	for _, w := range m.run.result.Warnings {
		if strings.Contains(w, "403 Forbidden") || strings.Contains(w, sandbox.ErrLost.Error()) || strings.Contains(w, "deadline exceeded") {
			return
		}
	}
	for i, c := range p.Calls() { // it asked again, and got an answer
		if i > 0 && c.Run == m.run.name && c.N > m.call.N && c.Err == "" && sameAim(c, m.call) {
			return
		}
	}
	p.blame("run %s met %s at %s %s, and says nothing of it: %s, %s",
		m.run.name, fateName(m.fate), m.call.Name, m.call.Detail, m.run.result.Status, m.run.result.Reason)
}

// sameAim: the same call again, or the one that asks what has become of it.
func sameAim(again, first sandbox.Call) bool {
	asks := map[string]string{
		"journal.Save": "journal.Load", "followup.Enable": "followup.Disable",
		"gitlab.POST pipeline": "gitlab.GET redeploy", "gitlab.POST retry": "gitlab.GET redeploy", "gitlab.GET live": "gitlab.GET redeploy",
	}
	if strings.Contains(first.Name, " variable ") { // a write of one
		return again.Name == "gitlab.GET variables"
	}
	return again.Name == first.Name || again.Name == asks[first.Name]
}
