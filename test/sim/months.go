package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

const (
	day      = 24 * time.Hour
	maxAge   = 30 // days
	leadDays = 7
	// dailyRuns bounds how often follow-ups come on one day: two hours' worth.
	dailyRuns = 24
)

// months is half a year of one account with several services, which a seed makes up:
// one run a day for each service, follow-ups while a rotation is in flight, calls
// that go wrong, pipelines that fail, people who leave things about.
type months struct {
	*sandbox.World
	rng      *rand.Rand
	services []*service
	runs     int
	rotated  int
	faults   int
	calls    int
	wrong    []string
}

// service is one of the services, with the request of its rule.
type service struct {
	sandbox.Service
	request rotator.Request
	stray   string // a key that somebody made and will delete
	torn    int    // days on which its pair was torn
	alone   int    // days on which a rotation of it was in flight and not followed up
}

func newMonths(seed uint64) *months {
	o := sandbox.Lifelike()
	o.Seed = seed
	m := &months{World: sandbox.New(o), rng: rand.New(rand.NewPCG(seed, 4711))} // #nosec G404: a story
	roles := map[int64]int{}
	for n := range 3 {
		m.add(n, int64(100+n))
		roles[int64(100+n)] = sandbox.Maintainer
	}
	m.AddToken(sandbox.Token{Name: "rotator", Scopes: []string{"api"}, Roles: roles})
	return m
}

// add makes a service, whose key is of any age, and its rule.
func (m *months) add(n int, project int64) {
	s := &service{Service: sandbox.Service{
		User: fmt.Sprint("svc-", n), Environment: "production",
		Place: sandbox.NewScene(sandbox.Options{}).Service.Place,
	}}
	s.Place.ProjectID = project
	m.AddUser(sandbox.User{Name: s.User, Tags: map[string]string{sandbox.BindingTag: fmt.Sprint(project)}})
	pair := m.CreateKey(s.User, time.Duration(1+m.rng.IntN(maxAge-leadDays))*day)
	m.AddProject(sandbox.Project{ID: project, Path: "shop/" + s.User, Pipeline: []sandbox.JobSpec{{Name: "deploy", Environment: "production"}}})
	hidden := m.rng.IntN(3) == 0
	m.SetVariable(project, sandbox.Variable{Key: idVariable, Value: pair.ID, Masked: true, Hidden: hidden})
	m.SetVariable(project, sandbox.Variable{Key: secretVariable, Value: pair.Secret.Reveal(), Masked: true, Hidden: hidden})
	m.SetLive(project, "production", pair.ID)
	m.Watch(s.Service)
	s.request = rotator.DefaultRequest()
	s.request.User, s.request.ProjectID, s.request.Environment = s.User, project, s.Environment
	s.request.MaxAgeDays, s.request.LeadDays = maxAge, leadDays
	s.request.SoakHours, s.request.OverlapHours = []int{0, 0, 1, 24}[m.rng.IntN(4)], []int{0, 0, 1}[m.rng.IntN(3)]
	m.services = append(m.services, s)
}

// play lets days pass. It must run in a bubble.
func (m *months) play(days int) {
	for range days {
		morning := time.Now()
		for _, s := range m.services {
			m.people(s)
		}
		time.Sleep(time.Minute) // whose a key is that was made in the very second nobody can tell
		for _, s := range m.services {
			m.run(s)
		}
		for range dailyRuns {
			time.Sleep(tick)
			m.followUp()
		}
		for _, s := range m.services {
			m.judgeDay(s)
		}
		if len(m.wrong) > 0 {
			return
		}
		time.Sleep(time.Until(morning.Add(day)))
	}
}

// followUp advances what is in flight, if the follow-up is switched on. With nothing in
// flight it is what switches it off, if the run that was to do so could not.
func (m *months) followUp() {
	if !m.Followed() {
		return
	}
	idle := true
	for _, s := range m.services {
		r := m.Record(s.User)
		idle = idle && !r.InFlight()
		if r.InFlight() && !time.Now().Before(r.LookAgain) {
			m.run(s)
		}
	}
	if idle {
		m.resume()
	}
}

func (m *months) resume() {
	m.runs++
	ctx, cancel := context.WithTimeout(context.Background(), runTime)
	defer cancel()
	_, _ = rotatorOf(m.process("follow-up")).Resume(ctx) // that it could not is met by the next
}

// process is that of one run, some calls of which go wrong.
func (m *months) process(name string) *sandbox.Ports {
	return m.Run(fmt.Sprint(name, "/", m.runs)).Intercept(func(c sandbox.Call) sandbox.Fate {
		m.calls++
		if m.rng.IntN(150) > 0 {
			return sandbox.OK
		}
		m.faults++
		ways := anywhere().of(c)
		ways = slices.DeleteFunc(ways, func(f sandbox.Fate) bool { return f == frozen || f == dozed }) // nobody else moves here
		return ways[m.rng.IntN(len(ways))]
	})
}

// run is one run.
func (m *months) run(s *service) {
	m.runs++
	ctx, cancel := context.WithTimeout(context.Background(), runTime)
	defer cancel()
	result, err := rotatorOf(m.process(s.User)).Advance(ctx, s.request)
	if result.Status == rotator.StatusRotated {
		m.rotated++
	}
	if leaks := m.LeaksIn(fmt.Sprintf("%+v %v", result, err)); len(leaks) > 0 || result.Reason == "" {
		m.wrong = append(m.wrong, fmt.Sprintf("the result of %s says %v, and the reason %q", s.User, leaks, result.Reason))
	}
}

// people are what happens around a service on a day.
func (m *months) people(s *service) {
	project := s.Place.ProjectID
	if m.rng.IntN(8) == 0 {
		outcomes := []sandbox.Outcome{sandbox.Failed, sandbox.Canceled, sandbox.Skipped, sandbox.Manual, sandbox.Scheduled}
		m.QueueOutcomes(project, outcomes[m.rng.IntN(len(outcomes))])
	}
	for _, pl := range m.Pipelines(project) {
		for _, j := range pl.Jobs {
			if j.Status == "manual" || j.Status == "scheduled" {
				m.PlayJob(j.ID)
			}
		}
	}
	if m.rng.IntN(6) == 0 {
		m.RunPipeline(project, "main")
	}
	switch keys := m.Keys(s.User); {
	case s.stray != "":
		if slices.ContainsFunc(keys, func(k sandbox.Key) bool { return k.ID == s.stray }) {
			m.DeleteKey(s.stray)
		}
		s.stray = ""
	case len(keys) == 1 && !m.Record(s.User).InFlight() && m.rng.IntN(20) == 0:
		s.stray = m.CreateKey(s.User, 0).ID
	}
}

// judgeDay: at the end of a day the promise holds, and nobody's key is too old.
func (m *months) judgeDay(s *service) {
	m.wrong = append(m.wrong, m.Violations()...)
	id, pair := m.Pair(s.Service)
	if pair != sandbox.PairTorn {
		s.torn = 0
	} else if s.torn++; s.torn > 1 {
		m.wrong = append(m.wrong, fmt.Sprintf("the pair of %s has been torn for days", s.User))
	}
	if pair != sandbox.PairWorks && pair != sandbox.PairTorn {
		m.wrong = append(m.wrong, fmt.Sprintf("the pair of %s, %s, is %s", s.User, id, pair))
	}
	if m.Followed() || !m.Record(s.User).InFlight() {
		s.alone = 0
	} else if s.alone++; s.alone > 1 {
		m.wrong = append(m.wrong, fmt.Sprintf("the rotation of %s has been in flight for days, and nobody follows up", s.User))
	}
	for _, k := range m.Keys(s.User) {
		if age := time.Since(k.CreatedAt); k.ID == id && age > maxAge*day {
			m.wrong = append(m.wrong, fmt.Sprintf("the key of %s is %d days old", s.User, age/day))
		}
	}
}
