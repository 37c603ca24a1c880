package mutants

// mutants are keyed by what is wrong with them.
func mutants() map[string]mutant {
	return map[string]mutant{
		"it publishes a key that it has not seen work": {
			file: "create.go",
			old:  "	var last error\n	pause, streak",
			new:  "	if u.made.proven = true; u.made.proven {\n		return verdict{}, nil\n	}\n	var last error\n	pause, streak",
			by:   "does not work",
		},
		"it deletes the old key without having switched it off": {
			file: "phases.go",
			old:  `return do(StepDeactivate, old, "%s is deployed`,
			new:  `return do(StepDelete, old, "%s is deployed`,
			by:   "was active",
		},
		"it does not look again before it retires": {
			file: "redeploy.go",
			old:  "			r.LastError = \"\"\n		})\n		u.seen.forgetAllBut(u.seen.user)",
			new:  "			r.LastError = \"\"\n		})",
			by:   "is published",
		},
		"it does not care for jobs that hold the old key": {
			file: "phases.go",
			old:  "	if len(o.holders) == 0 {",
			new:  "	if len(o.holders) >= 0 {",
			by:   "holds",
		},
		"it takes every unknown key for its own": {
			file: "phases.go",
			old:  "return slices.Contains(r.KnownKeys, k.ID) ||",
			new:  "return",
			by:   "did not make",
		},
		"it takes a key for its own whenever that was made": {
			file: "phases.go",
			old:  "			k.CreatedAt.Before(r.CreatingSince.Truncate(time.Second)) || k.CreatedAt.After(r.CreatingUntil) ||\n",
			new:  "",
			by:   "did not make",
		},
		"it writes after its lease is over": {
			file: "advance.go",
			old:  "	if !u.leased() || end.After(u.lease) || end.Round(0).After(u.lease.Round(0)) {",
			new:  "	if false && end.IsZero() {",
			by:   "",
		},
		"it sends the create again": {
			file: "create.go",
			old:  "		pair, err := u.Keys.Create(ctx, u.request.User)\n",
			new:  "		pair, err := u.Keys.Create(ctx, u.request.User)\n		if err != nil {\n			pair, err = u.Keys.Create(ctx, u.request.User)\n		}\n",
			by:   "",
		},
		"it saves over whoever has taken over": {
			file: "advance.go",
			old:  "		case stored.Version != next.Version:\n			return Record{}, ErrConflict\n",
			new:  "		case stored.Version != next.Version:\n			next.Version = stored.Version\n",
			by:   "",
		},
		"it writes the key id before the secret": {
			file: "phases.go",
			old:  "	return do(StepPublishSecret, id,",
			new:  "	return do(StepPublishKeyID, id,",
			by:   "",
		},
		"it takes a pipeline from before publishing for its own": {
			file: "redeploy.go",
			old:  "if d.After, err = u.Redeployer.Mark(ctx, d); err != nil {",
			new:  "if d.After = 0; err != nil {",
			by:   "",
		},
		"it takes a deployment that failed for one that succeeded": {
			file: "redeploy.go",
			old:  "	case d.State == DeploymentSucceeded || u.request.Redeploy == RedeployNone:",
			new:  "	case d.State == DeploymentSucceeded || d.State == DeploymentFailed || u.request.Redeploy == RedeployNone:",
			by:   "is live in",
		},
		"it throws a half published pair away": {
			file: "phases.go",
			old:  "	case p.Secret.Claims == id && (o.havePair || hasKey(o.keys, id)):",
			new:  "	case p.Secret.Claims == id && o.havePair:",
			by:   "",
		},
		"it does not care who holds the lease": {
			file: "decide.go",
			old:  "	if l.Owner == o.owner || !l.Held(o.now) {",
			new:  "	if l.Owner == o.owner || !l.Held(o.now) || true {",
			by:   "",
		},
		"it deletes the new key when a refusal follows a write of which nothing was heard": {
			file: "publish.go",
			old:  "	case errors.Is(err, ErrRefused) && u.made.doubtful == 0:",
			new:  "	case errors.Is(err, ErrRefused):",
			by:   "",
		},
		"it redeploys while an older job may still deploy the old key": {
			file: "redeploy.go",
			old:  "		if holders, err = u.Redeployer.Holders(ctx, d); err != nil {",
			new:  "		if err != nil {",
			by:   "is live in",
		},
		"it gives the lease back while a write may be on its way": {
			file: "close.go",
			old:  "		if u.made.doubtful > 0 && r.Phase == PhaseCreated {",
			new:  "		if false {",
			by:   "",
		},
		"it takes the key that somebody made after a refused create": {
			file: "create.go",
			old:  "	if errors.Is(err, ErrRefused) {\n		if _, saveErr",
			new:  "	if false {\n		if _, saveErr",
			by:   "did not make",
		},
		"it does not look again after it has taken the lease": {
			file: "advance.go",
			old:  "			u.seen.forgetAllBut(u.seen.user)\n			continue",
			new:  "			u.seen.loaded = true",
			by:   "",
		},
		"it deletes a key that somebody has switched on again": {
			file: "phases.go",
			old:  "	case o.keys[i].Status == KeyActive:\n		return answer(StatusHeld, \"%s was switched on",
			new:  "	case false:\n		return answer(StatusHeld, \"%s was switched on",
			by:   "",
		},
		"it uses the old key's last use for nothing": {
			file: "phases.go",
			old:  "	late := o.lastUse.At.After(onIAMClock(o, o.record.DeployedAt))",
			new:  "	late := false && o.lastUse.At.After(onIAMClock(o, o.record.DeployedAt))",
			by:   "",
		},
		"it forgets the proof of the key before": {
			file: "create.go",
			old:  "	u.begun, u.made = false, madeKey{}\n",
			new:  "	u.begun, u.made = false, madeKey{proven: u.made.proven}\n",
			by:   "",
		},
	}
}
