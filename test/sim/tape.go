package sim

import (
	"fmt"
	"strconv"
	"strings"
)

// tape is a story's choices. At every place of which it says nothing the choice is
// 0, which is always the way in which nothing happens.
type tape struct {
	says  []choice // in the order of their places
	sizes []uint8  // how many ways there were at each place, as far as it was played
}

// choice is a place on a tape, and the way that is taken there.
type choice struct{ at, way int }

// end is the first place after all that the tape says.
func (t *tape) end() int {
	if len(t.says) == 0 {
		return 0
	}
	return t.says[len(t.says)-1].at + 1
}

// choose is the next choice of n ways. Where there is one way there is no choice.
func (t *tape) choose(n int) int {
	if n <= 1 {
		return 0
	}
	at := len(t.sizes)
	t.sizes = append(t.sizes, uint8(min(n, 255))) // #nosec G115: it is bounded
	for _, c := range t.says {
		if c.at == at {
			return min(c.way, n-1)
		}
	}
	return 0
}

// String is the tape as parseTape reads it: 17x0,3 is seventeen times 0, then 3.
func (t *tape) String() string {
	var parts []string
	at := 0
	for _, c := range t.says {
		if zeros := c.at - at; zeros > 0 {
			parts = append(parts, fmt.Sprintf("%dx0", zeros))
		}
		parts = append(parts, strconv.Itoa(c.way))
		at = c.at + 1
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, ",")
}

func parseTape(text string) (*tape, error) {
	t := &tape{}
	at := 0
	for part := range strings.SplitSeq(text, ",") {
		times, value, found := strings.Cut(part, "x")
		if !found {
			times, value = "1", part
		}
		n, err := strconv.Atoi(times)
		if err != nil {
			return nil, fmt.Errorf("reading the tape %q: %w", text, err)
		}
		way, err := strconv.Atoi(value)
		if err != nil {
			return nil, fmt.Errorf("reading the tape %q: %w", text, err)
		}
		for ; n > 0; n-- {
			if way != 0 {
				t.says = append(t.says, choice{at, way})
			}
			at++
		}
	}
	return t, nil
}
