package hostile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.etcd.io/bbolt"

	"credential-rotator/rotator"
	"credential-rotator/rotator/journal/bolt"
	"credential-rotator/rotator/journal/dynamo"
	"credential-rotator/test/loud"
	"credential-rotator/test/moto"
	"credential-rotator/test/sandbox"
)

const (
	// crowd is how many processes contend for one user.
	crowd = 20
	// writes of a rotation: create, two variables, pipeline, deactivate, delete.
	writes = 6
)

// ledger is a journal, and the hand of the tests in it.
type ledger struct {
	rotator.Journal
	env []string // points the command at it
	// rewrite changes what is stored about the user without a new version, which no
	// run does.
	rewrite func(change func(*rotator.Record)) error
}

// ledgers are the journals by name. Those in DynamoDB share a moto, which starts with
// the first.
func ledgers(t *testing.T) map[string]func(*testing.T, *stage) ledger {
	server := sync.OnceValue(func() *moto.Server { return moto.Start(t) })
	return map[string]func(*testing.T, *stage) ledger{
		"in a file": func(_ *testing.T, s *stage) ledger { return inFile(s.journal()) },
		"in DynamoDB": func(t *testing.T, _ *stage) ledger {
			moto.Require(t, "moto_server") // of the test that asks: what skips it must not end the other's
			return inTable(t, server())
		},
	}
}

func inFile(path string) ledger {
	return ledger{
		Journal: bolt.New(path),
		rewrite: func(change func(*rotator.Record)) error {
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				return err
			}
			defer func() { _ = db.Close() }()
			return db.Update(func(tx *bbolt.Tx) error {
				current := tx.Bucket([]byte("current"))
				text, err := changed(current.Get([]byte("svc-billing")), change)
				if err != nil {
					return err
				}
				return current.Put([]byte("svc-billing"), text)
			})
		},
	}
}

// inTable is a journal in a table of its own.
func inTable(t *testing.T, s *moto.Server) ledger {
	table := "journal-" + strings.ToLower(fmt.Sprintf("%x", time.Now().UnixNano()))
	s.CreateTable(t, table)
	client := dynamodb.NewFromConfig(s.Admin())
	key := map[string]types.AttributeValue{"user": &types.AttributeValueMemberS{Value: "svc-billing"}, "item": &types.AttributeValueMemberS{Value: "current"}}
	return ledger{
		Journal: dynamo.New(s.Admin(), table),
		env:     []string{"JOURNAL=dynamodb://" + table, "AWS_ENDPOINT_URL_DYNAMODB=" + s.URL, "AWS_REGION=" + moto.Region},
		rewrite: func(change func(*rotator.Record)) error {
			ctx := t.Context()
			out, err := client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &table, Key: key, ConsistentRead: aws.Bool(true)})
			if err != nil {
				return err
			}
			text, err := changed([]byte(out.Item["record"].(*types.AttributeValueMemberS).Value), change)
			if err != nil {
				return err
			}
			out.Item["record"] = &types.AttributeValueMemberS{Value: string(text)}
			_, err = client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &table, Item: out.Item})
			return err
		},
	}
}

func changed(text []byte, change func(*rotator.Record)) ([]byte, error) {
	var r rotator.Record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	change(&r)
	return json.Marshal(r)
}

// contended is a stage with a journal, in a world where a rotation takes a while.
func contended(t *testing.T, open func(*testing.T, *stage) ledger) (*stage, ledger) {
	t.Helper()
	s, err := newStage(program(t), t.TempDir(), sandbox.Options{Seed: 1, JobPickUp: 20 * time.Millisecond, JobDuration: 400 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.server.Close)
	l := open(t, s)
	s.env = l.env
	return s, l
}

// rush runs the command in as many processes at once, and returns what they answered.
func (s *stage) rush(t *testing.T) map[rotator.Status]int {
	t.Helper()
	statuses := map[rotator.Status]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for range crowd {
		all.Go(func() {
			cmd, stdout, stderr := s.command(due)
			err := cmd.Run()
			a := s.hear(cmd, err, stdout.String(), stderr.String())
			mu.Lock()
			defer mu.Unlock()
			statuses[a.Status]++
			for _, fault := range a.faults {
				t.Error(fault)
			}
		})
	}
	all.Wait()
	return statuses
}

// isOneRotation asserts that one key was made, once, and all is well.
func (s *stage) isOneRotation(t *testing.T, l ledger, statuses map[rotator.Status]int) {
	t.Helper()
	made := 0
	for _, c := range s.Calls() {
		if c.Name == "iam.CreateAccessKey" {
			made++
		}
	}
	if made != 1 || statuses[rotator.StatusRotated] != 1 || statuses[rotator.StatusRotated]+statuses[rotator.StatusBusy]+statuses[rotator.StatusNotDue] != crowd {
		t.Errorf("%d keys were made by %v", made, statuses)
	}
	s.isWell(t)
	if list, err := l.InFlight(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("in flight is %v, %v", list, err)
	}
}

func (s *stage) isWell(t *testing.T) {
	t.Helper()
	for _, fault := range s.faults() {
		t.Error(fault)
	}
	if t.Failed() {
		t.Log(s.tell(nil))
	}
}

func TestACrowdOfProcessesMakesOneRotation(t *testing.T) {
	t.Parallel()
	for name, open := range ledgers(t) {
		t.Run(name, func(t *testing.T) {
			s, l := contended(t, open)
			began := time.Now()
			statuses := s.rush(t)
			s.isOneRotation(t, l, statuses)
			loud.Say("journal %s: %d processes contended for one user and made 1 rotation, in %s", name, crowd, time.Since(began).Round(10*time.Millisecond))
		})
	}
}

// A lease is somebody's until it is over, by the clock of whoever took it: one that is
// minutes ahead is waited for, and nothing is touched meanwhile.
func TestALeaseOfAnotherClockIsWaitedFor(t *testing.T) {
	t.Parallel()
	for name, open := range ledgers(t) {
		t.Run(name, func(t *testing.T) {
			s, l := contended(t, open)
			save := func(r rotator.Record) rotator.Record {
				saved, err := l.Save(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				return saved
			}
			r := save(rotator.Record{User: "svc-billing", Phase: rotator.PhaseIdle, Lease: rotator.Lease{Owner: "elsewhere/1/1/1/x", Until: time.Now().Add(10 * time.Minute).UTC()}})
			if a, err := s.run(due); err != nil || a.Status != rotator.StatusBusy || s.writes() > 0 {
				t.Errorf("a lease for ten minutes: %s (%s), %d writes, %v", a.Status, a.Reason, s.writes(), err)
			}
			r.Lease.Until = time.Now().Add(-10 * time.Minute).UTC()
			save(r)
			s.isOneRotation(t, l, s.rush(t))
		})
	}
}

// A clock that is minutes ahead takes a lease for over while its owner is at work. At
// each of its writes the owner is held up, another process takes over, and only then
// does the write arrive. Safety must not rest on leases.
func TestALeaseThatIsTakenAwayByAClockThatIsAheadBreaksNothing(t *testing.T) {
	t.Parallel()
	for name, open := range ledgers(t) {
		t.Run(name, func(t *testing.T) {
			for write := range writes {
				t.Run(fmt.Sprint("at write ", write+1), func(t *testing.T) {
					t.Parallel()
					s, l := contended(t, open)
					if what := s.takeOver(t, l, write+1); what == "" {
						t.Errorf("a rotation has only %d writes", write)
					}
					s.isWell(t)
				})
			}
		})
	}
}

// takeOver holds the first run up at one of its writes, lets another one take over,
// and both go on. It returns the write, "" when the first one ended before.
func (s *stage) takeOver(t *testing.T, l ledger, write int) (what string) {
	t.Helper()
	reached, release := make(chan string, 1), make(chan struct{})
	s.InterceptHTTP(hold(write, reached, release))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if _, err := s.run(due); err != nil {
			t.Error(err)
		}
	}()
	select {
	case what = <-reached:
	case <-ended:
		return ""
	}
	if err := l.rewrite(ahead); err != nil {
		t.Errorf("taking the lease away: %v", err)
	}
	second, stdout, stderr := s.command(due)
	err := second.Run()
	s.hear(second, err, stdout.String(), stderr.String())
	close(release)
	<-ended
	for range mostRuns {
		a, err := s.run(due)
		if err != nil {
			t.Error(err)
		}
		if a.Status == rotator.StatusNotDue || a.Status == rotator.StatusRotated {
			return what
		}
		time.Sleep(pause)
	}
	t.Errorf("%s was held up, and the rotation has no end", what)
	return what
}

// ahead makes of a record what a process sees in it whose clock is minutes ahead: what
// is on our clock, and not on IAM's or GitLab's, is longer ago.
func ahead(r *rotator.Record) {
	const skew = 5 * time.Minute
	for _, ours := range []*time.Time{&r.StartedAt, &r.RetiringSince, &r.Lease.Until} {
		if !ours.IsZero() {
			*ours = ours.Add(-skew)
		}
	}
}

// hold keeps the n-th write waiting until it is released, and says which it is.
func hold(n int, reached chan<- string, release <-chan struct{}) sandbox.HTTPIntercept {
	var mu sync.Mutex
	return func(r *http.Request) sandbox.Fate {
		what := sandbox.Writes(r)
		if what == "" {
			return sandbox.OK
		}
		mu.Lock()
		n--
		held := n == 0
		mu.Unlock()
		if held {
			reached <- what
			<-release
		}
		return sandbox.OK
	}
}

// What is no journal is told in one error that names the file. Nothing is done then,
// and the file stays as it is.
func TestAJournalFileThatIsNoneEndsARunBeforeItBegins(t *testing.T) {
	t.Parallel()
	whole := aJournal(t)
	files := map[string][]byte{
		"empty":            {},
		"text":             []byte("to whom it may concern\n"),
		"zeros":            make([]byte, 1<<16),
		"a quarter of it":  whole[:len(whole)/4],
		"a page of it":     whole[:os.Getpagesize()],
		"another database": foreign(t),
	}
	for name, content := range files {
		t.Run(name, func(t *testing.T) {
			s, _ := contended(t, func(_ *testing.T, s *stage) ledger { return inFile(s.journal()) })
			if err := os.WriteFile(s.journal(), content, 0o600); err != nil {
				t.Fatal(err)
			}
			a, err := s.run(due)
			if err != nil || a.Status != rotator.StatusFailed || strings.Count(a.Reason, s.journal()) != 1 || s.writes() > 0 {
				t.Errorf("%s: %s, %d writes, %v", a.Status, a.Reason, s.writes(), err)
			}
			if left, err := os.ReadFile(s.journal()); err != nil || !bytes.Equal(left, content) {
				t.Errorf("the file was changed: %v", err)
			}
			if files, _ := os.ReadDir(s.dir); len(files) != 1 {
				t.Errorf("there is more than the file: %v", files)
			}
		})
	}
}

// aJournal is a journal file in use.
func aJournal(t *testing.T) []byte {
	t.Helper()
	path := t.TempDir() + "/journal.db"
	for i := range 20 {
		if _, err := bolt.New(path).Save(t.Context(), rotator.Record{User: fmt.Sprint("svc-", i), LastError: strings.Repeat("x", 3000)}); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// foreign is the database of another program.
func foreign(t *testing.T) []byte {
	t.Helper()
	path := t.TempDir() + "/theirs.db"
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
