package rotator

import (
	"fmt"
	"slices"
	"strings"
)

// What the places of a request hold. A key is published when it is whole in all of them.

// progress is how far a key has come at one place.
type progress int

const (
	absent progress = iota // it holds another key, or none
	half                   // the secret is there, the key id is not
	whole
	wrong // somebody has changed one of them
)

func placed(p Published, id string) progress {
	switch {
	case p.Secret.Claims == id && holdsKeyID(p.KeyID, id):
		return whole
	case p.Secret.Claims == id && p.KeyID.Claims != id: // that stamp is written with the id: whoever changed that, changed the secret too
		return half
	case slices.Contains([]string{p.KeyID.Value, p.KeyID.Claims, p.Secret.Claims}, id):
		return wrong
	}
	return absent
}

func holdsKeyID(v Variable, id string) bool {
	return v.Value == id || v.Hidden && v.Claims == id
}

// samePlaces tells whether two requests publish to the same places, in whatever order.
func samePlaces(a, b Request) bool {
	p, q := a.Places(), b.Places()
	return len(p) == len(q) && !slices.ContainsFunc(p, func(place Place) bool { return !slices.Contains(q, place) })
}

// placesWhere are the indices of the places where a key has come so far.
func placesWhere(o observed, id string, is progress) []int {
	var found []int
	for i, p := range o.published {
		if placed(p, id) == is {
			found = append(found, i)
		}
	}
	return found
}

// publishedEverywhere tells whether a key is whole in all places, as they were read.
func publishedEverywhere(o observed, id string) bool {
	return len(placesWhere(o, id, whole)) == len(o.request.Places())
}

// heldKeyID is the key that a place hands out, "" when that cannot be told. A value
// outranks a stamp: people edit values and leave descriptions.
func heldKeyID(o observed, p Published) string {
	v := p.KeyID
	switch {
	case !v.Exists:
		return ""
	case v.Value != "":
		return v.Value
	case !v.Hidden:
		return ""
	case v.Claims == "" && len(o.keys) == 1:
		return o.keys[0].ID
	}
	return v.Claims
}

// heldKeyIDs are what the places that have a key id variable hand out, each once.
func heldKeyIDs(o observed) []string {
	var ids []string
	for _, p := range o.published {
		if id := heldKeyID(o, p); p.KeyID.Exists && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// publishedKeyID is the key that the places hand out, "" when that cannot be told: they
// hold none, or not the same. Of several the one counts that a person has not given up
// in retire_key, by force.
func publishedKeyID(o observed) string {
	ids := heldKeyIDs(o)
	if len(ids) > 1 && o.request.Force {
		ids = notGivenUp(o, ids)
	}
	if len(ids) != 1 {
		return ""
	}
	return ids[0]
}

// notGivenUp are the keys among those that the places hand out which a person has not
// given up in retire_key. A place that cannot be read, beside one that hands out the key
// that is given up, has the user's other key: that is what the person says.
func notGivenUp(o observed, ids []string) []string {
	unread := slices.Contains(ids, "") && slices.Contains(ids, o.request.RetireKey)
	left := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !hasKey(o.keys, id) || id == o.request.RetireKey })
	if len(left) > 0 || !unread {
		return left
	}
	for _, k := range o.keys {
		if k.ID != o.request.RetireKey {
			left = append(left, k.ID)
		}
	}
	return left
}

// holdings says which place hands out what.
func holdings(o observed) string {
	var all []string
	for i, p := range o.request.Places() {
		if i < len(o.published) {
			all = append(all, fmt.Sprintf("%s has %s", p.Owner()+" ["+p.EnvironmentScope+"]", orNothing(heldKeyID(o, o.published[i]))))
		}
	}
	return strings.Join(all, ", ")
}

// missing names a variable that is not there, "" when all are.
func missing(o observed) string {
	for i, p := range o.request.Places() {
		if i >= len(o.published) {
			return ""
		}
		names := p.Variables()
		switch seen := o.published[i]; {
		case !seen.Secret.Exists:
			return names[0]
		case !seen.KeyID.Exists:
			return names[len(names)-1]
		}
	}
	return ""
}

// elsewhere are the other variables that hold key ids, of all places.
func elsewhere(o observed) []Holding {
	var all []Holding
	for _, p := range o.published {
		all = append(all, p.Elsewhere...)
	}
	return all
}

func isPublishedAnywhere(o observed, keyID string) bool {
	holds := func(p Published) bool {
		return slices.Contains([]string{p.KeyID.Value, p.KeyID.Claims, p.Secret.Claims}, keyID)
	}
	return slices.ContainsFunc(o.published, holds) ||
		slices.ContainsFunc(elsewhere(o), func(h Holding) bool { return h.KeyID == keyID })
}

// next is the place that a pair is published to next, of those that do not have it: first
// those whose secret can be read back. If the run dies between two places, its secret is
// not lost then.
func next(o observed, id string) (place int, found bool) {
	left := placesWhere(o, id, absent)
	if len(left) == 0 {
		return 0, false
	}
	if i := slices.IndexFunc(left, func(i int) bool { return !o.published[i].Secret.Hidden }); i >= 0 {
		return left[i], true
	}
	return left[0], true
}

// readable is a place from which a key's secret can be read back.
func readable(o observed, id string) (place int, found bool) {
	for _, i := range placesWhere(o, id, whole) {
		if !o.published[i].Secret.Hidden {
			return i, true
		}
	}
	return 0, false
}
