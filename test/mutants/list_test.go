package mutants

// The gates of the simulation, and the contract of the Redeployer.
const (
	contract = "contract"
	oneRun   = "OneRun"
	person   = "WhateverAPersonDoes"
	place    = "EveryPlace"
	several  = "TwoRuns"
)

// mutants are keyed by what is wrong with them. Two wrong versions are not here: one
// that forgets nothing of the key before (restart does so by way of caution, nothing
// rests on it), and one that trusts a clock that somebody sets back (the bubbles in
// which the simulation runs have but one clock; a machine that sleeps is played).
func mutants() map[string]mutant {
	return map[string]mutant{
		"it publishes a key that it has not seen work": {
			file: "create.go",
			old:  "	var last error\n	pause, streak",
			new:  "	if u.made.proven = true; u.made.proven {\n		return verdict{}, nil\n	}\n	var last error\n	pause, streak",
			gate: oneRun,
			by:   "which does not work",
		},
		"it deletes the old key without having switched it off": {
			file: "phases.go",
			old:  `return do(StepDeactivate, old, "%s is deployed`,
			new:  `return do(StepDelete, old, "%s is deployed`,
			gate: oneRun,
			by:   "which was active",
		},
		"it does not look again before it retires": {
			file: "redeploy.go",
			old:  "RetiringSince, r.LastError = PhaseRetiring, d, at, o.now.UTC(), \"\"\n		u.seen.forgetAllBut(u.seen.user)\n",
			new:  "RetiringSince, r.LastError = PhaseRetiring, d, at, o.now.UTC(), \"\"\n		u.seen.published = &[]Published{{KeyID: Variable{Value: r.NewKeyID}, Secret: Variable{Claims: r.NewKeyID}}}\n",
			gate: oneRun,
			by:   "which it had not looked whether it is published since its last write",
		},
		"it does not care for jobs that hold the old key": {
			file: "phases.go",
			old:  "	if len(o.holders) == 0 {",
			new:  "	if len(o.holders) >= 0 {",
			gate: place,
			by:   "which the running job 1 (migrate) holds",
		},
		"it takes every unknown key for its own": {
			file: "phases.go",
			old:  "return slices.Contains(r.KnownKeys, k.ID) ||",
			new:  "return false ||",
			gate: place,
			by:   "which the rotator did not make",
		},
		"it tells by its own clock when it made a key": {
			file: "act.go",
			old:  "CreatingSince: o.iamNow.Truncate(time.Second), CreatingUntil: o.iamNow.Add(createTime),",
			new:  "CreatingSince: now.UTC().Truncate(time.Second), CreatingUntil: now.UTC().Add(createTime),",
			gate: place,
			by:   "there is no end after",
		},
		"it compares IAM's clock with GitLab's": {
			file: "phases.go",
			old:  "		return gitLab.Add(skew)",
			new:  "		return gitLab",
			gate: place,
			by:   "was used after the deployment (last used",
		},
		"it takes a key for its own whenever that was made": {
			file: "phases.go",
			old:  "			k.CreatedAt.Before(r.CreatingSince.Truncate(time.Second)) || k.CreatedAt.After(r.CreatingUntil) ||\n",
			new:  "",
			gate: person,
			by:   "which the rotator did not make",
		},
		"it sends the create again": {
			file: "create.go",
			old:  "		pair, err := u.Keys.Create(ctx, u.request.User)\n",
			new:  "		pair, err := u.Keys.Create(ctx, u.request.User)\n		if err != nil {\n			pair, err = u.Keys.Create(ctx, u.request.User)\n		}\n",
			gate: oneRun,
			by:   "is active, not ours, never used: its slot is needed",
		},
		"it saves over whoever has taken over": {
			file: "advance.go",
			old:  "		case stored.Version != next.Version:\n			return Record{}, ErrConflict\n",
			new:  "		case stored.Version != next.Version:\n			next.Version = stored.Version\n",
			gate: oneRun,
			by:   "was told twice",
		},
		"it writes the key id before the secret": {
			file: "phases.go",
			old:  "	v := do(StepPublishSecret, id,",
			new:  "	v := do(StepPublishKeyID, id,",
			gate: oneRun,
			by:   "nobody can finish the torn pair",
		},
		"it takes a pipeline from before publishing for its own": {
			file: "redeploy.go",
			old:  "if d.After, err = u.Redeployer.Mark(ctx, d); err != nil {",
			new:  "if d.After = (Mark{}); err != nil {",
			gate: place,
			by:   "which is live in production",
		},
		"it takes the job that was live for its retry": {
			file: "redeploy.go",
			old:  "r.Mark, r.JobMark = d.After.Pipeline, d.After.Job\n",
			new:  "r.Mark, r.JobMark = d.After.Pipeline, d.After.Job-1\n",
			gate: several,
			by:   "which is live in production",
		},
		"it takes the retried job's old id": {
			file: "gitlab/live.go",
			old:  "	return jobDeployment(retried), nil\n",
			new:  "	return jobDeployment(found.job), nil\n",
			gate: contract,
			by:   "live:_",
		},
		"it retries a job that was retried already": {
			file: "gitlab/live.go",
			old:  "		if j.Name == of.Name && (newest == nil || j.ID > newest.ID) {\n			newest = j\n",
			new:  "		if j.Name == of.Name && (newest == nil || j.ID > newest.ID) {\n			newest = &gitlab.Job{ID: of.ID, Name: of.Name, Status: \"success\"}\n",
			gate: contract,
			by:   "live:_",
		},
		"it deploys again what began last, and not what ended last": {
			file: "gitlab/live.go",
			old:  "if last == nil || finished(dep).After(finished(last)) {",
			new:  "if last == nil {",
			gate: contract,
			by:   "live:_what_ended_last_is_live",
		},
		"it retries a job that keeps the old key": {
			file: "gitlab/live.go",
			old:  "	if own != \"\" {",
			new:  "	if own == \"?\" {",
			gate: contract,
			by:   "live:_what_cannot_be_retried_is_said",
		},
		"it retries one of several jobs": {
			file: "gitlab/live.go",
			old:  "	if len(beside) > 0 {",
			new:  "	if len(beside) > 9 {",
			gate: contract,
			by:   "live:_what_cannot_be_retried_is_said",
		},
		"it takes a job that succeeded for what is live": {
			file: "gitlab/live.go",
			old:  "		d.State, d.FinishedAt = rotator.DeploymentFailed, time.Time{}\n		d.Detail = fmt.Sprintf(\"job %d succeeded",
			new:  "		d.Detail = fmt.Sprintf(\"job %d succeeded",
			gate: contract,
			by:   "outlasted_is_no_proof",
		},
		"it starts again what was stopped": {
			file: "gitlab/live.go",
			old:  "e.State == \"stopped\" ||",
			new:  "e.State == \"gone\" ||",
			gate: contract,
			by:   "live:_what_cannot_be_retried_is_said",
		},
		"it takes a deployment that failed for one that succeeded": {
			file: "redeploy.go",
			old:  "	case d.State == DeploymentSucceeded || turnOf(u.request, u.record).Redeploy == RedeployNone:",
			new:  "	case d.State == DeploymentSucceeded || d.State == DeploymentFailed || turnOf(u.request, u.record).Redeploy == RedeployNone:",
			gate: place,
			by:   "which is live in production",
		},
		"it throws a half published pair away": {
			file: "phases.go",
			old:  "	case o.havePair, hasKey(o.keys, id), young:",
			new:  "	case o.havePair:",
			gate: place,
			by:   "the pair has been torn for",
		},
		"it does not care who holds the lease": {
			file: "decide.go",
			old:  "	if l.Owner == o.owner || !l.Held(o.now) {",
			new:  "	if l.Owner == o.owner || !l.Held(o.now) || true {",
			gate: oneRun,
			by:   "has taken the lease of another",
		},
		"it deletes the new key when a refusal follows a write of which nothing was heard": {
			file: "publish.go",
			old:  "	case errors.Is(err, ErrRefused) && u.made.doubtful == 0:",
			new:  "	case errors.Is(err, ErrRefused):",
			gate: place,
			by:   "nobody can finish the torn pair",
		},
		"it redeploys while an older job may still deploy the old key": {
			file: "redeploy.go",
			old:  "		if holders, err = u.Redeployer.Holders(ctx, d); err != nil {",
			new:  "		if err != nil {",
			gate: place,
			by:   "which is live in production",
		},
		"it overtakes a secret that is on its way": {
			file: "phases.go",
			old:  "o.iamNow.Before(until) {\n		return answer(StatusWaiting, \"the run that made",
			new:  "o.iamNow.IsZero() {\n		return answer(StatusWaiting, \"the run that made",
			gate: place,
			by:   "nobody can finish the torn pair",
		},
		"it takes the key that somebody made after a refused create": {
			file: "create.go",
			old:  "	if errors.Is(err, ErrRefused) {\n		if _, saveErr",
			new:  "	if errors.Is(err, ErrRefused) && false {\n		if _, saveErr",
			gate: person,
			by:   "which the rotator did not make",
		},
		"it writes though its lease may be over": {
			file: "advance.go",
			old:  "	if !u.leased() || end.After(u.lease) || end.Round(0).After(u.lease.Round(0)) {",
			new:  "	if end.IsZero() {",
			gate: oneRun,
			by:   "and the lease is that of",
		},
		"it does not look again after it has taken the lease": {
			file: "advance.go",
			old:  "			u.seen.forgetAllBut(u.seen.user)\n			continue",
			new:  "			u.seen.loaded = true",
			gate: oneRun,
			by:   "which it had not looked whether it is published since its last write",
		},
		"it deletes a key that somebody has switched on again": {
			file: "phases.go",
			old:  "	case o.keys[i].Status == KeyActive:\n		return answer(StatusHeld, \"%s was switched on",
			new:  "	case false:\n		return answer(StatusHeld, \"%s was switched on",
			gate: person,
			by:   "which was active",
		},
		"it uses the old key's last use for nothing": {
			file: "phases.go",
			old:  "	late := o.lastUse.At.After(onIAMClock(o, o.record.DeployedAt))",
			new:  "	late := false && o.lastUse.At.After(onIAMClock(o, o.record.DeployedAt))",
			gate: person,
			by:   "which was used after the deployment",
		},
	}
}
