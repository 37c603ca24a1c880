package sim

import (
	"fmt"
	"strings"
	"time"
)

// line is one line of a story that is not a call.
type line struct {
	after int // so many calls
	at    time.Time
	text  string
}

// note adds a line to the story, when it is told.
func (p *play) note(format string, args ...any) {
	if p.tell {
		p.told = append(p.told, line{len(p.Calls()), time.Now(), fmt.Sprintf(format, args...)})
	}
}

// story tells what has happened, one line an event. The keys are called KEY1, KEY2
// and so on, in the order in which they were made.
func (p *play) story() string {
	var b strings.Builder
	told := p.told
	for i, c := range p.Calls() {
		for len(told) > 0 && told[0].after <= i {
			fmt.Fprintf(&b, "%s   -- %s\n", told[0].at.UTC().Format("15:04:05.000"), told[0].text)
			told = told[1:]
		}
		fmt.Fprintf(&b, "%s\n", c)
	}
	for _, l := range told {
		fmt.Fprintf(&b, "%s   -- %s\n", l.at.UTC().Format("15:04:05.000"), l.text)
	}
	text := b.String()
	for i, id := range p.KeyIDs() {
		text = strings.ReplaceAll(text, id, fmt.Sprint("KEY", i+1))
	}
	return text
}
