package sim

import (
	"fmt"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// severalPlaces are services whose key is in more places than one, or is deployed more
// than once.
func severalPlaces() []scene {
	return []scene{
		{name: "two places", faults: 1, fates: mostFates(), set: twoPlaces},
		{name: "two places, and one is hidden", faults: 1, fates: mostFates(), set: func(p *play) {
			twoPlaces(p)
			hide(p)
		}},
		{name: "two places, and both are hidden", faults: 1, fates: crashes("PUT variable"), asks: true, set: func(p *play) {
			twoPlaces(p)
			hide(p)
			for _, name := range []string{idVariable, secretVariable} {
				p.EditVariable(4712, name, "*", func(v *sandbox.Variable) { v.Hidden = true })
			}
		}},
		{name: "two places, and two crashes while it publishes", faults: 2, fates: crashes("variable"), set: twoPlaces},
		{name: "two places, and two runs", runs: 2, switches: 1, faults: 1, set: twoPlaces, fates: alphabet{
			writes: []sandbox.Fate{sandbox.CrashAfter, frozen}, only: "variable",
		}},
		{name: "two places, and a pipeline that fails", faults: 1, fates: crashes("gitlab"), set: func(p *play) {
			twoPlaces(p)
			p.QueueOutcomes([]int64{4711, 4712}[p.tape.choose(2)], sandbox.Failed)
		}},
		{name: "two places, and a job that began before", faults: 1, fates: crashes("gitlab"), set: func(p *play) {
			twoPlaces(p)
			job := p.RunningJob(4712, sandbox.JobSpec{Name: "deploy", Environment: "production"}, time.Hour)
			time.AfterFunc(17*time.Minute+500*time.Microsecond, func() { p.EndJob(job, nil) })
		}},
		{name: "two places, and one is not deployed", faults: 1, fates: crashes("gitlab"), tick: 35*time.Minute + time.Millisecond, set: func(p *play) {
			twoPlaces(p)
			p.request.OverlapHours, p.request.Destinations[1].Way = 1, rotator.Way{Redeploy: rotator.RedeployNone}
			p.SetLive(4712, "production", "") // nothing tells
			job := p.RunningJob(4712, sandbox.JobSpec{Name: "migrate"}, time.Hour)
			time.AfterFunc(3*time.Hour+500*time.Microsecond, func() { p.EndJob(job, nil) })
		}},
		{name: "two places, and a person", faults: 1, fates: refusals("variable " + secretVariable), acts: 1, asks: true, people: editors(), set: twoPlaces},
		{name: "a group and two of its projects", faults: 1, fates: mostFates(), set: groupOfTwo},
		{name: "a group, and a person", acts: 1, asks: true, people: copiers(), set: groupOfTwo},
		{name: "staging, then production", faults: 1, fates: mostFates(), set: stagingFirst},
		{name: "the live commit, on a tag", faults: 1, fates: mostFates(), set: liveCommit},
		{name: "a credentials file", faults: 1, fates: mostFates(), set: credentialsFile},
	}
}

// crashes are the ways in which a run dies at some calls, and writes that are lost or late.
func crashes(only string) alphabet {
	return alphabet{
		reads:  []sandbox.Fate{sandbox.CrashBefore},
		writes: []sandbox.Fate{sandbox.Lost, sandbox.Late, sandbox.CrashBefore, sandbox.CrashAfter, frozen},
		only:   only,
	}
}

// refusals are writes that are refused.
func refusals(only string) alphabet {
	return alphabet{writes: []sandbox.Fate{sandbox.Refused}, only: only}
}

const pastedWrongly = "what-somebody-has-pasted-wrongly"

// editors are people who change one of two places. Of a torn pair they keep off: who writes
// the old secret below the stamp of the new one breaks the service, and nobody can see it.
func editors() []act {
	torn := func(p *play, place int) bool {
		_, pair := p.Pair(p.services()[place])
		return pair == sandbox.PairTorn
	}
	writeBack := func(place int, project int64) act {
		return act{fmt.Sprintf("write the old pair into project %d and leave the stamps", project), func(p *play) {
			if torn(p, place) {
				return
			}
			for name, value := range map[string]string{idVariable: p.Key.ID, secretVariable: p.Key.Secret.Reveal()} {
				p.EditVariable(project, name, "*", func(v *sandbox.Variable) { v.Value = value })
			}
		}}
	}
	return []act{
		writeBack(0, 4711),
		writeBack(1, 4712),
		{"paste something over the secret, and mend it in a quarter of an hour", func(p *play) {
			if was, _ := p.Variable(4711, secretVariable, "*"); !torn(p, 0) {
				p.paste(pastedWrongly, was.Value)
				time.AfterFunc(15*time.Minute+500*time.Microsecond, func() { p.paste(was.Value, pastedWrongly) })
			}
		}},
		{"delete the newer key", func(p *play) {
			if keys := p.Keys(p.Service.User); len(keys) > 1 {
				p.DeleteKey(keys[1].ID)
			}
		}},
	}
}

// forgetters lose the journal when no run is at work.
func forgetters() []act {
	return []act{{"lose the journal", func(p *play) {
		if !p.Lease(p.Service.User).Held(time.Now()) {
			p.LoseRecord(p.Service.User)
		}
	}}}
}

// paste writes a value over the secret of the first project, if it is still the other one.
func (p *play) paste(value, over string) {
	p.EditVariable(4711, secretVariable, "*", func(v *sandbox.Variable) {
		if v.Value == over {
			v.Value = value
		}
	})
}

// copiers give one project of a group the old pair as its own, which outranks the group's.
func copiers() []act {
	return []act{{"give project 4712 the old pair", func(p *play) {
		for name, value := range map[string]string{idVariable: p.Key.ID, secretVariable: p.Key.Secret.Reveal()} {
			p.SetVariable(4712, sandbox.Variable{Key: name, Value: value, Masked: true})
		}
	}}}
}

// search is another project whose service has the same key.
func (p *play) search() {
	p.AddProject(sandbox.Project{ID: 4712, Path: "shop/search", Pipeline: []sandbox.JobSpec{{Name: "deploy", Environment: "production"}}})
	p.EditToken("rotator", func(t *sandbox.Token) { t.Roles[4712] = sandbox.Maintainer })
	p.SetLive(4712, "production", p.Key.ID)
}

// watch adds a service that the world watches over.
func (p *play) watch(s sandbox.Service) {
	p.Watch(s)
	p.also = append(p.also, s)
}

func twoPlaces(p *play) {
	p.search()
	p.TagUser(p.Service.User, sandbox.BindingTag, "4711 4712")
	p.SetVariable(4712, sandbox.Variable{Key: idVariable, Value: p.Key.ID, Masked: true})
	p.SetVariable(4712, sandbox.Variable{Key: secretVariable, Value: p.Key.Secret.Reveal(), Masked: true})
	second := p.Service
	second.Place.ProjectID = 4712
	p.watch(second)
	first, other := p.request.Target, p.request.Target
	other.ProjectID = 4712
	p.request.Target, p.request.Destinations = rotator.Target{}, []rotator.Target{first, other}
}

// groupOfTwo has the pair in variables of the group shop.
func groupOfTwo(p *play) {
	p.search()
	p.AddGroup(sandbox.Group{ID: 9, Path: "shop", Licensed: true})
	p.EditToken("rotator", func(t *sandbox.Token) { t.GroupRoles = map[int64]int{9: sandbox.Owner} })
	p.TagUser(p.Service.User, sandbox.BindingTag, "group:9")
	for name, value := range map[string]string{idVariable: p.Key.ID, secretVariable: p.Key.Secret.Reveal()} {
		p.DeleteVariable(4711, name, "*")
		p.SetGroupVariable(9, sandbox.Variable{Key: name, Value: value, Masked: true})
	}
	way := p.request.Way
	p.request.GroupID, p.request.ProjectID, p.request.Way = 9, 0, rotator.Way{Redeploy: rotator.RedeployPipeline}
	p.request.Redeploys = []rotator.ProjectWay{{ProjectID: 4711, Way: way}, {ProjectID: 4712, Way: way}}
	p.Service.Place.ProjectID, p.Service.Place.GroupID, p.Service.Project = 0, 9, 4711
	p.WatchOnly(p.Service)
	second := p.Service
	second.Project = 4712
	p.watch(second)
}

// stagingFirst deploys twice, each time by a pipeline that deploys to one environment. The
// success of the second is all its proof.
func stagingFirst(p *play) {
	p.EditProject(4711, func(project *sandbox.Project) {
		project.Refs = append(project.Refs, sandbox.Ref{Name: "staging", Protected: true})
		project.Inputs = []string{"to"}
		project.Pipeline = []sandbox.JobSpec{{Name: "deploy", Environment: "$[[ inputs.to ]]"}}
	})
	p.SetLive(4711, "staging", p.Key.ID)
	staging := p.Service
	staging.Environment = "staging"
	p.watch(staging)
	p.request.Way = rotator.Way{Redeploy: rotator.RedeployPipeline}
	for _, to := range []string{"staging", "production"} {
		p.request.Redeploys = append(p.request.Redeploys, rotator.ProjectWay{Way: rotator.Way{
			Redeploy: rotator.RedeployPipeline, Inputs: map[string]any{"to": to},
		}})
	}
	p.request.Redeploys[0].Environment = "staging"
}

// liveCommit is one whose live job is archived, so that its commit is deployed by a
// pipeline of its own.
func liveCommit(p *play) {
	deployedBefore(p)
	p.request.Fallback = rotator.FallbackLiveCommit
	if p.tape.choose(2) == 1 { // and a tag starts a pipeline of its own
		p.EditProject(4711, func(project *sandbox.Project) { project.TagPipelines = true })
	}
	p.ArchiveJob(liveJobs(p)[0].ID)
}

// credentialsFile has the pair in one variable.
func credentialsFile(p *play) {
	p.DeleteVariable(4711, idVariable, "*")
	p.DeleteVariable(4711, secretVariable, "*")
	p.SetVariable(4711, sandbox.Variable{
		Key: "AWS_CREDENTIALS", Type: "file",
		Value: "[shop]\naws_access_key_id = " + p.Key.ID + "\naws_secret_access_key = " + p.Key.Secret.Reveal() + "\n",
	})
	p.EditProject(4711, func(project *sandbox.Project) {
		project.Pipeline = []sandbox.JobSpec{{Name: "deploy", Environment: "production", CredentialsFile: "AWS_CREDENTIALS", Profile: "shop", Duration: time.Second}}
	})
	p.request.CredentialsFileVariable, p.request.Profile, p.request.AllowUnmasked = "AWS_CREDENTIALS", "shop", true
	p.Service.Place = p.request.Place()
	p.WatchOnly(p.Service)
}
