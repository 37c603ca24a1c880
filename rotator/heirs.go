package rotator

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Who gets a group's variables, and may have others that outrank them.

// readWithoutSubgroups reads the rest when what was refused is about subgroups that are
// gone: they have no variables any more.
func (u *run) readWithoutSubgroups(ctx context.Context, refused error) ([]Published, error) {
	known := u.record.Subgroups
	u.record.Subgroups = slices.DeleteFunc(slices.Clone(known), func(id int64) bool {
		of := u.request.Places()[0]
		of.ProjectID, of.GroupID = 0, id
		_, err := u.Destination.Read(ctx, []Place{of})
		return errors.Is(err, ErrRefused)
	})
	all, err := u.Destination.Read(ctx, slices.Concat(u.request.Places(), u.heirs()))
	if err != nil {
		u.record.Subgroups = known
		return nil, refused
	}
	told := fmt.Sprintf("a subgroup is gone, or its variables may not be read any more: %v", refused)
	if !slices.Contains(u.record.Warnings, told) {
		u.record.Warnings = append(slices.Clone(u.record.Warnings), told)
	}
	return all, nil
}

// heirs are, before the old key is retired, the projects that get a group's variables,
// and the subgroups in between: they may have their own of the same names, which outrank
// the group's.
func (u *run) heirs() []Place {
	if p := u.phase(); p != PhaseRetiring && p != PhaseSoaking {
		return nil
	}
	var heirs []Place
	add := func(of Place, project, group int64) {
		of.ProjectID, of.GroupID = project, group
		if !slices.Contains(heirs, of) && !slices.Contains(u.request.Places(), of) {
			heirs = append(heirs, of)
		}
	}
	for _, t := range u.request.Turns() {
		place := u.request.Places()[t.Target]
		if place.GroupID == 0 || t.ProjectID == 0 {
			continue
		}
		add(place, t.ProjectID, 0)
		for _, id := range u.record.Subgroups {
			add(place, 0, id)
		}
	}
	return heirs
}

// withHeirs takes what heirs hold for what is held elsewhere.
func withHeirs(all []Published, places, heirs []Place) []Published {
	for i, heir := range heirs {
		p := all[len(places)+i]
		for _, id := range []string{p.KeyID.Value, p.KeyID.Claims, p.Secret.Claims} {
			if h := (Holding{heir.String(), id}); id != "" && !slices.Contains(all[0].Elsewhere, h) {
				all[0].Elsewhere = append(all[0].Elsewhere, h)
			}
		}
		for _, h := range p.Elsewhere {
			all[0].Elsewhere = append(all[0].Elsewhere, Holding{h.Variable + " of " + heir.Owner(), h.KeyID})
		}
	}
	return all[:len(places)]
}
