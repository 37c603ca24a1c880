package sim

import (
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// one are the scenes of one run, with its faults and those of the runs that follow.
func one() []scene {
	return []scene{
		{name: "any fault", faults: 1, fates: anywhere()},
		{name: "two faults", faults: 2, fates: mostFates()},
	}
}

// several are the scenes of runs that begin at once.
func several() []scene {
	return []scene{
		{name: "two runs", runs: 2, switches: 3},
		{name: "two runs and a fault", runs: 2, switches: 1, faults: 1, fates: mostFates()},
		{name: "two runs, and one stops at a write", runs: 2, switches: 2, faults: 1, fates: alphabet{
			writes: []sandbox.Fate{sandbox.CrashAfter, frozen},
		}},
		{name: "two runs that deploy again what is live", runs: 2, switches: 1, faults: 1, fates: alphabet{
			writes: []sandbox.Fate{sandbox.Refused, sandbox.Lost, sandbox.Late, sandbox.CrashAfter, frozen}, only: "retry",
		}, set: deployedBefore},
	}
}

// long are the scenes for a night.
func long() []scene {
	scenes := []scene{
		{name: "any two faults", faults: 2, fates: anywhere()},
		{name: "two runs and any two faults", runs: 2, switches: 2, faults: 2},
		{name: "three runs and two faults", runs: 3, switches: 3, faults: 2, fates: mostFates()},
		{name: "a person acts, and two faults", acts: 1, faults: 2, fates: mostFates(), asks: true, people: people()},
		{name: "two runs, a person and a fault", runs: 2, switches: 2, acts: 1, faults: 1, fates: mostFates(), asks: true, people: people()},
		{name: "two acts", acts: 2, asks: true, people: people()},
		{name: "two places, and the journal is lost", faults: 1, fates: crashes("variable AWS"), acts: 1, asks: true, people: forgetters(), set: twoPlaces},
	}
	for _, sc := range append(places(), severalPlaces()...) {
		sc.name, sc.faults, sc.fates = sc.name+", and two faults", 2, mostFates()
		scenes = append(scenes, sc)
	}
	return scenes
}

// places are other services than the usual one, and what GitLab does to them.
func places() []scene {
	return []scene{
		{name: "a soak", faults: 1, set: func(p *play) { p.request.SoakHours = 1 }, tick: 35*time.Minute + time.Millisecond},
		{name: "an overlap", faults: 1, set: func(p *play) { p.request.OverlapHours = 1 }, tick: 35*time.Minute + time.Millisecond},
		{name: "no redeploy", faults: 1, tick: 35*time.Minute + time.Millisecond, set: noRedeploy},
		{name: "hidden variables", faults: 1, set: hide},
		{name: "missing variables", faults: 1, spare: 1, set: func(p *play) {
			p.DeleteVariable(4711, idVariable, "*")
			p.DeleteVariable(4711, secretVariable, "*")
		}},
		{name: "a key of this very second", faults: 1, spare: 1, world: func(o *sandbox.Options) { o.ListLag = 0 }, set: func(p *play) {
			p.DeleteVariable(4711, idVariable, "*")
			p.DeleteVariable(4711, secretVariable, "*")
			p.DeleteKey(p.Key.ID)
			p.CreateKey(p.Service.User, 0)
		}},
		{name: "no key yet", faults: 1, set: func(p *play) {
			p.DeleteVariable(4711, idVariable, "*")
			p.DeleteVariable(4711, secretVariable, "*")
			p.DeleteKey(p.Key.ID)
		}},
		{name: "a foreign pair, by force", faults: 1, spare: 1, asks: true, set: foreign, between: unforced},
		{name: "clocks that differ", faults: 1, apart: true, set: func(p *play) {
			p.UseKey(p.Key.ID, "s3", "eu-central-1") // before the rotation, which IAM's clock does not show by itself
		}},
		{name: "an older deploy job", faults: 1, set: olderJob},
		{name: "an outcome of the pipeline", faults: 1, fates: mostFates(), set: outcome, between: playJobs},
		{name: "what is live, again", faults: 1, fates: mostFates(), set: again, between: playJobs},
		{name: "a sleep between the look at what is live and its retry", faults: 1, set: deployedBefore, fates: alphabet{
			reads: []sandbox.Fate{sandbox.Lost, sandbox.CrashBefore, dozed}, only: "GET live",
		}},
		{name: "replies that are late", faults: 1, world: func(o *sandbox.Options) { o.Lateness = 45*time.Second + time.Millisecond }},
		{name: "variables that are written late", runs: 2, faults: 2, fates: alphabet{
			writes: []sandbox.Fate{sandbox.Refused, sandbox.Lost, sandbox.Late, sandbox.CrashAfter}, only: "variable AWS",
		}, world: func(o *sandbox.Options) { o.Lateness = 45*time.Second + time.Millisecond }},
		{name: "short runs", faults: 1, runTime: 40*time.Second + time.Millisecond},
	}
}

// meddled is what people do in between.
func meddled() []scene {
	lost := alphabet{writes: []sandbox.Fate{sandbox.Refused, sandbox.Lost, sandbox.CrashBefore, sandbox.CrashAfter}, only: "iam.CreateAccessKey"}
	return []scene{
		{name: "a person acts", acts: 1, asks: true, people: people()},
		{name: "a person acts during a soak", acts: 1, asks: true, people: people(), tick: 35*time.Minute + time.Millisecond, set: func(p *play) { p.request.SoakHours = 1 }},
		{name: "somebody deploys, and what is live is deployed again", acts: 1, people: deployers(), set: deployedBefore},
		{name: "a person makes a key, and a create is lost", faults: 1, acts: 1, asks: true, fates: lost, people: []act{makeKey()}},
	}
}

// noRedeploy only publishes. A job may have the old key longer than the overlap lasts.
func noRedeploy(p *play) {
	p.request.Redeploy, p.request.OverlapHours = rotator.RedeployNone, 1
	p.SetLive(p.Service.Place.ProjectID, p.Service.Environment, "") // nothing tells
	if p.tape.choose(2) == 1 {
		job := p.RunningJob(4711, sandbox.JobSpec{Name: "migrate"}, time.Hour)
		time.AfterFunc(3*time.Hour+500*time.Microsecond, func() { p.EndJob(job, nil) })
	}
}

func hide(p *play) {
	for _, name := range []string{idVariable, secretVariable} {
		p.EditVariable(4711, name, "*", func(v *sandbox.Variable) { v.Hidden = true })
	}
}

// foreign publishes the pair of another user.
func foreign(p *play) {
	p.AddUser(sandbox.User{Name: "other"})
	p.publish(p.CreateKey("other", 90*24*time.Hour))
	p.SetLive(4711, "production", "")
	p.request.Force = true
}

// unforced: force is for one run.
func unforced(p *play) { p.request.Force = false }

// olderJob is a job that deploys what it fetched an hour ago, and ends sooner or later.
func olderJob(p *play) {
	ends := []time.Duration{time.Second, 25 * time.Second, 17 * time.Minute}
	job := p.RunningJob(4711, sandbox.JobSpec{Name: "deploy", Environment: "production"}, time.Hour)
	time.AfterFunc(ends[p.tape.choose(len(ends))]+500*time.Microsecond, func() { p.EndJob(job, nil) })
}

// deployedBefore is a service of which it is known what is live: it is deployed again.
func deployedBefore(p *play) {
	p.request.Redeploy = rotator.RedeployDeployment
	for _, ago := range []time.Duration{2 * time.Hour, time.Hour} { // another version, and what is live
		p.Deployed(4711, sandbox.Past{Job: sandbox.JobSpec{Name: "deploy", Environment: "production"}, Ago: ago})
	}
}

// liveJobs are the job that had deployed what was live when the scene began, and its retries.
func liveJobs(p *play) []sandbox.Job { return p.Pipelines(4711)[1].Jobs }

// again is one whose job cannot be retried, so that a pipeline is run, or one whose
// retry ends in some way.
func again(p *play) {
	ends := []sandbox.Outcome{sandbox.Success, sandbox.Failed, sandbox.Manual}
	deployedBefore(p)
	if n := p.tape.choose(len(ends) + 1); n < len(ends) {
		p.QueueOutcomes(4711, ends[n])
		return
	}
	p.request.Fallback = rotator.RedeployPipeline
	p.ArchiveJob(liveJobs(p)[0].ID)
}

// deployers are people who deploy, while a rotation may be about to.
func deployers() []act {
	return []act{
		{"push", func(p *play) { p.RunPipeline(4711, "main") }},
		{"retry the live job", func(p *play) {
			if jobs := liveJobs(p); len(jobs) == 1 {
				p.Retry(4711, jobs[0].ID)
			}
		}},
		{"deploy another version", func(p *play) {
			p.Deployed(4711, sandbox.Past{Job: sandbox.JobSpec{Name: "deploy", Environment: "production"}})
		}},
	}
}

func outcome(p *play) {
	all := []sandbox.Outcome{sandbox.Failed, sandbox.Canceled, sandbox.Skipped, sandbox.Manual, sandbox.Scheduled}
	p.QueueOutcomes(4711, all[p.tape.choose(len(all))])
}

// playJobs plays what waits for somebody.
func playJobs(p *play) {
	for _, pl := range p.Pipelines(4711) {
		for _, j := range pl.Jobs {
			if j.Status == "manual" || j.Status == "scheduled" {
				p.PlayJob(j.ID)
			}
		}
	}
}

// publish is a person who writes a pair over the variables, stamps and all.
func (p *play) publish(pair rotator.KeyPair) {
	for name, value := range map[string]string{idVariable: pair.ID, secretVariable: pair.Secret.Reveal()} {
		if _, exists := p.Variable(4711, name, "*"); exists {
			p.EditVariable(4711, name, "*", func(v *sandbox.Variable) { v.Value, v.Description = value, "" })
		}
	}
}

// use is a use of a key. Of several within a quarter of an hour IAM tells the first.
func (p *play) use(keyID string) {
	p.UseKey(keyID, "s3", "eu-central-1")
	if p.used == "" {
		p.used, p.usedAt, p.usedAfter = keyID, time.Now(), len(p.Calls())
	}
}

const switchesOn = "switch the older key on"

// makeKey is somebody's new key, as long as there is room for one.
func makeKey() act {
	return act{"make a key", func(p *play) {
		if len(p.Keys(p.Service.User)) < 2 {
			p.CreateKey(p.Service.User, 0)
			p.madeAt = time.Now()
		}
	}}
}

// people are what a person may do at any moment. Half a pair nobody writes here: who
// leaves the stamp on another secret breaks the service, and nobody can see it.
func people() []act {
	key := func(p *play, n int) string {
		if keys := p.Keys(p.Service.User); n < len(keys) {
			return keys[n].ID
		}
		return ""
	}
	set := func(n int, status rotator.KeyStatus) func(*play) {
		return func(p *play) {
			if id := key(p, n); id != "" {
				p.SetKeyStatus(id, status)
			}
		}
	}
	remove := func(n int) func(*play) {
		return func(p *play) {
			if id := key(p, n); id != "" {
				p.DeleteKey(id)
			}
		}
	}
	return []act{
		{"write the old pair back", func(p *play) { p.publish(p.Key) }},
		makeKey(),
		{"delete the older key", remove(0)},
		{"delete the newer key", remove(1)},
		{"switch the older key off", set(0, rotator.KeyInactive)},
		{"switch the newer key off", set(1, rotator.KeyInactive)},
		{switchesOn, set(0, rotator.KeyActive)},
		{"make the user again", func(p *play) { p.RecreateUser(p.Service.User) }},
		{"delete the key id variable", func(p *play) {
			if _, exists := p.Variable(4711, idVariable, "*"); exists {
				p.DeleteVariable(4711, idVariable, "*")
			}
		}},
		{"use the older key", func(p *play) {
			if id := key(p, 0); id != "" {
				p.use(id)
			}
		}},
		{"cancel every pipeline", func(p *play) {
			for _, pl := range p.Pipelines(4711) {
				p.CancelPipeline(pl.ID)
			}
		}},
	}
}
