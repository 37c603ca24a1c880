package rotator

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// sight is what a run has read and may still believe. observe fills in what the
// phase needs and is not here; whatever an act makes doubtful is forgotten, so that
// it is read again right before the next decision.
type sight struct {
	loaded      bool // the record
	user        User
	userAt      time.Time // ours, when IAM said its own time
	keys        *[]AccessKey
	preflight   *Preflight
	published   *[]Published
	publishedAt time.Time // ours, when GitLab said its own time
	deployed    *Deployment
	holders     *[]Job
	quiet       bool // nothing is due, so nothing more is asked
	lastUse     *LastUse
	lastUseErr  error
}

// forgetAllBut keeps only who the user is: that was asked a moment ago.
func (s *sight) forgetAllBut(u User) {
	*s = sight{loaded: true, user: u, userAt: s.userAt}
}

// observe looks at what the phase needs to decide, and at nothing else.
func (u *run) observe(ctx context.Context) (observed, error) {
	if err := u.lookAtUser(ctx); err != nil {
		return observed{}, err
	}
	if o := u.observed(); len(refusals(o)) > 0 {
		return o, nil
	}
	for _, look := range u.looks() {
		if err := look(ctx); err != nil {
			return observed{}, err
		}
	}
	return u.observed(), nil
}

// looks are the reads of a phase, in order.
func (u *run) looks() []func(context.Context) error {
	switch u.phase() {
	case PhaseCreating:
		if u.begun {
			return nil
		}
		return []func(context.Context) error{u.lookAtKeys, u.lookAtPublished, u.lookAtLastUse}
	case PhaseCreated:
		if u.made.pair.ID != "" && (!u.made.proven || u.made.givenUp != "") {
			return nil // it has not been published, or is not going to be
		}
		if u.made.pair.ID != "" {
			return []func(context.Context) error{u.lookAtPublished}
		}
		return []func(context.Context) error{u.lookAtKeys, u.lookAtPublished}
	case PhasePublished:
		if u.record.Marked {
			return []func(context.Context) error{u.lookAtDeployment}
		}
		// Nothing is under way: may it begin, and is there still something to redeploy?
		return []func(context.Context) error{u.lookAtDeployment, u.lookAtHolders, u.lookAtKeys, u.lookAtPublished}
	case PhaseRedeploying:
		return []func(context.Context) error{u.lookAtDeployment}
	case PhaseRetiring:
		overlap := u.record.RetiringSince.Add(hours(u.request.OverlapHours))
		if u.record.PreviousKeyID == "" || time.Now().Before(overlap) {
			return nil
		}
		return []func(context.Context) error{u.lookAtHolders, u.lookAtKeys, u.lookAtLastUse, u.lookAtPublished}
	case PhaseSoaking:
		return []func(context.Context) error{u.lookAtKeys, u.lookAtLastUse, u.lookAtPublished}
	default:
		return []func(context.Context) error{u.lookAtKeys, u.lookIfQuiet, u.lookBefore, u.lookAtPublished, u.lookAtLastUse}
	}
}

func (u *run) observed() observed {
	now := time.Now()
	o := observed{
		now: now, left: u.stop.Sub(now), whole: u.stop.Sub(u.began), needed: u.Pace.untilPublished(len(u.request.Places())), orphan: u.Pace.OrphanAge,
		owner: u.owner, request: u.request, record: u.record, user: u.seen.user, readOnly: u.readOnly,
		lastUseErr: u.seen.lastUseErr,
		begun:      u.begun, havePair: u.made.pair.ID != "", proven: u.made.proven, givenUp: u.made.givenUp,
		iamNow: u.seen.user.At.Add(now.Sub(u.seen.userAt)),
	}
	o.keys = valueOr(u.seen.keys)
	o.preflight = valueOr(u.seen.preflight)
	o.published = valueOr(u.seen.published)
	o.deployed = valueOr(u.seen.deployed)
	o.holders = valueOr(u.seen.holders)
	o.lastUse = valueOr(u.seen.lastUse)
	if len(o.published) > 0 { // what was read last was read then
		o.gitLab = publishedAt(o).Add(now.Sub(u.seen.publishedAt))
	}
	return o
}

// untilPublished is how long a secret exists only in this process, if all goes well.
func (p Pace) untilPublished(places int) time.Duration {
	const publishing = 5 * time.Second // two writes and the reads before them, unhurried; to each place
	probing := p.ProbeDelay + time.Duration(p.ProbeSuccesses-1)*p.ProbeInterval
	return probing + time.Duration(places)*min(publishing, probing)
}

func valueOr[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

func (u *run) lookAtUser(ctx context.Context) error {
	if !u.seen.loaded {
		record, err := u.Journal.Load(ctx, u.request.User)
		if err != nil {
			return err
		}
		u.loaded, u.record, u.seen.loaded = record, record, true
		u.gone = slices.Clone(record.Gone)
	}
	if u.seen.userAt.IsZero() {
		user, err := u.Users.User(ctx, u.request.User)
		if errors.Is(err, ErrNotFound) && u.record.InFlight() && u.request.Force && !u.readOnly {
			err = errors.Join(err, u.forget(ctx))
		}
		if err != nil {
			return err
		}
		u.seen.user, u.seen.userAt = user, time.Now()
	}
	switch r := u.record; {
	case u.request.Force && (r.UniqueID != u.seen.user.UniqueID || r.InFlight() && !samePlaces(r.Request, u.request)):
		u.record = Record{Version: r.Version, Lease: r.Lease} // what it says is about another user, or other places
	case r.InFlight() && samePlaces(r.Request, u.request) && !u.request.Force:
		// A rotation ends by the rules that it began with: whoever asks by hand, in
		// passing, does not loosen them. Force takes the new ones.
		retire, caller := orElse(u.request.RetireKey, r.Request.RetireKey), cmp.Or(u.request.CallerJobID, r.Request.CallerJobID)
		u.request = r.Request
		u.request.RetireKey, u.request.CallerJobID = retire, caller
	case r.InFlight() && r.UniqueID == u.seen.user.UniqueID && u.request.Force: // but not at the expense of the proof
		u.request.OverlapHours = max(u.request.OverlapHours, r.Request.OverlapHours)
		if err := u.forceRedeploys(ctx); err != nil {
			return err
		}
		u.request.CallerJobID = cmp.Or(u.request.CallerJobID, r.Request.CallerJobID)
	}
	return nil
}

// forget closes the record of a user who is gone, and whose keys are gone with it.
func (u *run) forget(ctx context.Context) error {
	return u.save(ctx, func(r *Record) {
		*r = Record{User: r.User, Version: r.Version, Lease: Lease{Owner: r.Lease.Owner}, Request: r.Request, Phase: PhaseIdle}
	})
}

func (u *run) lookAtKeys(ctx context.Context) error {
	if u.seen.keys != nil {
		return nil
	}
	keys, err := u.Keys.List(ctx, u.request.User)
	keys = u.withoutGone(keys)
	u.seen.keys = &keys
	if u.createdAt == nil {
		u.createdAt = map[string]time.Time{}
	}
	for _, k := range keys {
		u.createdAt[k.ID] = k.CreatedAt
	}
	return err
}

func (u *run) withoutGone(keys []AccessKey) []AccessKey {
	return slices.DeleteFunc(keys, func(k AccessKey) bool { return slices.Contains(u.gone, k.ID) })
}

// lookIfQuiet spares the daily run of a key that is young the preflight: what is
// published is read, and if nothing is to be done then, nothing more is asked. It still
// shows that the token works.
func (u *run) lookIfQuiet(ctx context.Context) error {
	young := func(k AccessKey) bool { return u.observed().iamNow.Before(dueAt(u.request, k)) }
	keys := valueOr(u.seen.keys)
	if u.readOnly || u.request.Force || !slices.ContainsFunc(keys, young) {
		return nil
	}
	if err := u.lookAtPublished(ctx); err != nil {
		return err
	}
	u.seen.quiet = decide(u.observed()).status == StatusNotDue
	return nil
}

// lookBefore is the preflight.
func (u *run) lookBefore(ctx context.Context) error {
	if u.seen.preflight != nil || u.seen.quiet {
		return nil
	}
	p, err := u.Destination.Preflight(ctx, u.request)
	u.seen.preflight = &p
	u.seen.published = nil
	if p.Published != nil {
		u.sawPublished(p.Published)
	}
	return err
}

func (u *run) lookAtPublished(ctx context.Context) error {
	if u.seen.published != nil || u.seen.preflight != nil { // which says why it was not read
		return nil
	}
	places := u.request.Places()
	all, err := u.Destination.Read(ctx, slices.Concat(places, u.heirs()))
	if errors.Is(err, ErrRefused) && len(u.record.Subgroups) > 0 {
		all, err = u.readWithoutSubgroups(ctx, err)
	}
	if err == nil {
		all = withHeirs(all, places, u.heirs())
	}
	if errors.Is(err, ErrRefused) && !u.record.InFlight() {
		all = make([]Published, len(places))
		all[0].Faults, err = []string{err.Error()}, nil
	}
	u.sawPublished(all)
	return err
}

func (u *run) sawPublished(all []Published) {
	for i := range all {
		if !isAccessKeyID(all[i].KeyID.Value) {
			all[i].KeyID.Value = "" // whatever it is, swapped names may have made it a secret
		}
	}
	u.seen.published, u.seen.publishedAt = &all, time.Now()
}

func (u *run) lookAtDeployment(ctx context.Context) error {
	if u.seen.deployed != nil {
		return nil
	}
	if turnOf(u.request, u.record).Redeploy == RedeployNone || u.record.Fresh {
		u.seen.deployed = &Deployment{}
		return nil
	}
	d, err := u.Redeployer.Check(ctx, u.redeploy())
	u.seen.deployed = &d
	if known := u.record.Deployment; d.Kind == known.Kind && d.ID == known.ID {
		u.record.Deployment = d // as it is now: the next save and the result tell it
	}
	return err
}

// lookAtHolders finds the jobs that may hold the old key: before a redeploy those of its
// project, before the old key is retired those of all projects that may use it.
func (u *run) lookAtHolders(ctx context.Context) error {
	if u.seen.holders != nil {
		return nil
	}
	var asked []Redeploy
	switch {
	case u.phase() == PhaseRetiring:
		asked = u.holderQuestions()
	case turnOf(u.request, u.record).Redeploy != RedeployNone: // which has no project, if it is a group's
		asked = []Redeploy{u.redeploy()}
	}
	jobs := []Job{}
	u.seen.holders = &jobs
	for _, r := range asked {
		found, err := u.Redeployer.Holders(ctx, r)
		if err != nil {
			return err
		}
		jobs = append(jobs, found...)
	}
	return nil
}

// holderQuestions are one for each project and group that the key is published to or
// redeployed in.
func (u *run) holderQuestions() []Redeploy {
	turns := u.request.Turns()
	if len(u.request.Targets()) == 1 && u.request.Targets()[0].GroupID == 0 && len(turns) <= 1 {
		return []Redeploy{u.redeploy()}
	}
	ask := func(project, group int64) Redeploy { // without a mark: it is that of one project
		return Redeploy{ProjectID: project, GroupID: group, PublishedAt: u.record.PublishedAt, After: Unmarked(), CallerJob: u.request.CallerJobID}
	}
	var all []Redeploy
	var asked []int64
	for _, t := range u.request.Targets() {
		if t.GroupID != 0 {
			all = append(all, ask(0, t.GroupID))
		} else if !slices.Contains(asked, t.ProjectID) {
			all, asked = append(all, ask(t.ProjectID, 0)), append(asked, t.ProjectID)
		}
	}
	for _, t := range turns { // the projects of groups are asked for with the group
		if u.request.Targets()[t.Target].GroupID == 0 && !slices.Contains(asked, t.ProjectID) {
			all, asked = append(all, ask(t.ProjectID, 0)), append(asked, t.ProjectID)
		}
	}
	return all
}

// lookAtLastUse reads the last use of the one key that it matters for. That it
// cannot be read is an observation too; and that there is no such second key, which was
// deleted a moment ago, another.
func (u *run) lookAtLastUse(ctx context.Context) error {
	if u.seen.lastUse != nil || u.seen.quiet {
		return nil
	}
	id := suspect(u.observed())
	if id == "" {
		return nil
	}
	u.seen.lastUse = &LastUse{}
	*u.seen.lastUse, u.seen.lastUseErr = u.Users.LastUsed(ctx, id)
	if errors.Is(u.seen.lastUseErr, ErrNotFound) && !u.record.InFlight() {
		u.gone = append(u.gone, id)
		*u.seen.keys, u.seen.lastUseErr = u.withoutGone(*u.seen.keys), nil
	}
	return nil
}

// isSharedEnvironment tells whether another turn deploys to the same environment: then
// neither deploys all that is there.
func isSharedEnvironment(r Request, t Turn) bool {
	same := 0
	for _, other := range r.Turns() {
		if other.Redeploy != RedeployNone && other.ProjectID == t.ProjectID && other.Environment == t.Environment {
			same++
		}
	}
	return same > 1
}

// redeploy is what is asked of the Redeployer in this turn.
func (u *run) redeploy() Redeploy {
	r := u.record
	t := turnOf(u.request, r)
	names := u.request.Places()[t.Target].Variables()
	d := Redeploy{
		ProjectID: t.ProjectID, Ref: r.ref(), Environment: t.Environment, Inputs: t.Inputs,
		Variables: [2]string{names[len(names)-1], names[0]}, PublishedAt: r.PublishedAt,
		After: Mark{Pipeline: r.Mark, Job: r.JobMark}, CallerJob: u.request.CallerJobID,
		Live: t.Redeploy == RedeployDeployment && (!r.FellBack || t.Fallback == ""),
	}
	if r.Fresh {
		d.After = Unmarked()
	}
	d.Own = !d.Live && (len(t.Inputs) > 0 || isSharedEnvironment(u.request, t))
	kind := KindPipeline
	if d.Live {
		kind = KindDeployment
	}
	if r.Phase == PhaseRedeploying && r.Deployment.Kind == kind {
		d.ID = r.Deployment.ID
	}
	return d
}
