package rotator_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"credential-rotator/rotator"
)

// denying is Keys that cannot be listed, for which AWS has other words each time.
type denying struct {
	rotator.Keys
	words func() string
}

func (d denying) List(context.Context, string) ([]rotator.AccessKey, error) {
	return nil, fmt.Errorf("AccessDenied: %s", d.words())
}

func TestAFailureIsToldOnceThoughAWSHasAnotherIDForEachRequest(t *testing.T) {
	for name, c := range map[string]struct {
		words string // with a number
		told  int
	}{
		"the id of an IAM request":      {"(HTTP 403, request 6d4feb0c-75cc-44f5-a171-fcf10df6%04x); grant it", 1},
		"that of a request to DynamoDB": {"RequestID: 46LTFG3NERQY2XZULQZ5CV4KQNSO5AEMVJF66Q9ASUAAJG7R%04d, api error", 1},
		"the port of a connection":      {"read tcp 127.0.0.1:4%04d->127.0.0.1:443: connection reset by peer", 1},
		"another pipeline each time":    {"pipeline %d failed: https://gitlab.example/-/pipelines/1", 4},
	} {
		t.Run(name, func(t *testing.T) {
			perform(t, func(s *stage) {
				s.request.SoakHours = 10
				s.wants(s.run(), rotator.StatusRotated)
				s.days(1)
				before, n := len(s.notices()), 0
				for range 4 {
					r := s.rotator()
					r.Keys = denying{r.Keys, func() string { n++; return fmt.Sprintf(c.words, n) }}
					s.wants(s.advance(r, s.request), rotator.StatusFailed, "AccessDenied")
					time.Sleep(5 * time.Minute)
				}
				if told := len(s.notices()) - before; told != c.told {
					t.Errorf("it was told %d times, want %d", told, c.told)
				}
			})
		})
	}
}

// slow is a Notifier that hangs.
type slow struct{}

func (slow) Notify(ctx context.Context, _ rotator.Notice, _ rotator.Result) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestABusThatHangsDoesNotUseUpTheRun(t *testing.T) {
	perform(t, func(s *stage) {
		s.wants(s.run(), rotator.StatusRotated)
		s.days(90)
		began := time.Now()
		s.wants(s.run(), rotator.StatusRotated)
		took := time.Since(began)
		s.days(90)
		r := s.rotator()
		r.Notifier = slow{}
		began = time.Now()
		s.warns(s.wants(s.advance(r, s.request), rotator.StatusRotated), "nobody was notified (Started, Succeeded)")
		if more := time.Since(began) - took; more > 15*time.Second {
			t.Errorf("it took %s longer", more)
		}
	})
}

func TestAYoungKeyBesideAnOldOneIsAsQuiet(t *testing.T) {
	perform(t, func(s *stage) {
		s.wants(s.run(), rotator.StatusRotated)
		time.Sleep(time.Minute) // until IAM lists the old key no more
		s.CreateKey(serviceUser, 200*day)
		before := len(s.Calls())
		s.warns(s.wants(s.run(), rotator.StatusNotDue), "has a second key")
		if n := len(s.Calls()) - before; n > 5 { // a warning is worth another look at the journal
			t.Errorf("it made %d calls: %v", n, s.Calls()[before:])
		}
	})
}
