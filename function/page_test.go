package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"credential-rotator/rotator"
)

func TestLinesAreBrokenBetweenWordsAndColoursTakeNoRoom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		wide int
		want string
	}{
		"what fits":               {"a line that fits", 20, "a line that fits"},
		"what does not":           {"a line that does not fit", 20, "a line that does not|fit"},
		"no terminal":             {"a line that does not fit", 0, "a line that does not fit"},
		"too narrow":              {"a line that does not fit", 10, "a line that does not fit"},
		"a long address":          {"see https://gitlab.example.com/a/b", 20, "see|https://gitlab.example.com/a/b"},
		"colours at the boundary": {"\x1b[31mdone\x1b[0m: a line that is", 21, "\x1b[31mdone\x1b[0m: a line that is"},
	} {
		if got := strings.Join(folded(c.text, c.wide), "|"); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestATimeSaysHowFarAwayItIs(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "now", time.Second: "now", -59 * time.Second: "now", time.Minute: "in 1 min", -3 * time.Minute: "3 min ago",
		-90 * time.Minute: "1 h ago", 47 * time.Hour: "in 47 h", 48 * time.Hour: "in 2 days", -84 * day: "84 days ago",
	} {
		if got := distance(now.Add(d), now); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
	if got := moment(time.Time{}, now); got != "nobody knows when" {
		t.Errorf("no time is %q", got)
	}
}

// planned is a plan with a bit of everything.
func planned() (rotator.Result, rotator.Request) {
	request := rotator.DefaultRequest()
	request.User, request.ProjectID = "svc-billing", 4711
	long := "AWS_SECRET_ACCESS_KEY is protected, and main is not a protected branch or tag: its jobs would not get the key; protect it, or redeploy a ref that is"
	return rotator.Result{Status: rotator.StatusRefused, Reason: long, User: "svc-billing", ProjectID: 4711, Warnings: []string{"the GitLab token expires on 2026-12-01: make a new one before"}, Checks: []rotator.Check{
		{Name: "IAM user", State: rotator.CheckOK, Detail: "arn:aws:iam::123456789012:user/svc-billing"},
		{Name: "GitLab token", State: rotator.CheckWarning, Detail: "the GitLab token expires on 2026-12-01: make a new one before"},
		{Name: "variables [*] of project 4711", State: rotator.CheckFault, Detail: long},
		{Name: "what is live in production/europe of project 4711", State: rotator.CheckOK, Detail: "job deploy can be retried"},
	}}, request
}

func TestAPlanFitsATerminalAndItsSignsStandBelowEachOther(t *testing.T) {
	t.Parallel()
	result, request := planned()
	for _, paint := range []bool{true, false} {
		p := &page{width: 80, paint: paint}
		if err := writePlan(io.Discard, p, result, request); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(p.String(), "\x1b") != paint {
			t.Errorf("painted is %t, and it is\n%q", paint, p.String())
		}
		want := `refused: what is marked ✗ has to be mended first
  user         svc-billing, project 4711

  ✓ IAM user                       arn:aws:iam::123456789012:user/svc-billing
  ! GitLab token                   the GitLab token expires on 2026-12-01: make
                                   a new one before
  ✗ variables [*] of project 4711  AWS_SECRET_ACCESS_KEY is protected, and main
                                   is not a protected branch or tag: its jobs
                                   would not get the key; protect it, or
                                   redeploy a ref that is
  ✓ what is live in production/europe of project 4711
                                   job deploy can be retried
`
		if got := regexp.MustCompile(`\x1b\[\d+m`).ReplaceAllString(p.String(), ""); got != want {
			t.Errorf("it is\n%s\nwant\n%s", got, want)
		}
	}
}

func TestAPageOfAFileHasNoColoursAndLongLines(t *testing.T) {
	t.Parallel()
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if p := pageFor(file, nil); p.width != 0 || p.paint {
		t.Error("it is taken for a terminal")
	}
}

func TestEveryStepThatAPersonMayHaveToWaitForHasATitle(t *testing.T) {
	t.Parallel()
	for _, s := range []rotator.Step{
		rotator.StepTidy, rotator.StepBegin, rotator.StepCreate, rotator.StepProve, rotator.StepRecover, rotator.StepPublishSecret, rotator.StepPublishKeyID,
		rotator.StepRedeploy, rotator.StepTag, rotator.StepUntag, rotator.StepAwait, rotator.StepDeactivate, rotator.StepDelete, rotator.StepDiscard, rotator.StepRestart, stepWait,
	} {
		if n := len(title(s)); n == 0 || n >= titleWide {
			t.Errorf("the title of %s is %q", s, title(s))
		}
	}
}

func TestARedeployIsSaidToWhoHasNotReadTheREADME(t *testing.T) {
	t.Parallel()
	way := func(edit func(*rotator.ProjectWay)) rotator.ProjectWay {
		w := rotator.ProjectWay{ProjectID: 7, Way: rotator.Way{Redeploy: rotator.RedeployPipeline}}
		edit(&w)
		return w
	}
	for want, w := range map[string]rotator.ProjectWay{
		"a pipeline is run on the default branch of project 7, and has to succeed": way(func(*rotator.ProjectWay) {}),
		"a pipeline is run on main of project 7 with the inputs a, b, and its deployment to live has to succeed": way(func(w *rotator.ProjectWay) {
			w.Ref, w.Environment, w.Inputs = "main", "live", map[string]any{"b": 1, "a": "x"}
		}),
		"what is live in live of project 7 is deployed again, by a retry of its job":                                                                way(func(w *rotator.ProjectWay) { w.Redeploy, w.Environment = "deployment", "live" }),
		"what is live in live of project 7 is deployed again, by a retry of its job; where that cannot be, a pipeline on the default branch is run": way(func(w *rotator.ProjectWay) { w.Redeploy, w.Environment, w.Fallback = "deployment", "live", "pipeline" }),
		"what is live in live of project 7 is deployed again, by a retry of its job; where that cannot be, a pipeline at the live commit is run, on a tag that is removed again": way(func(w *rotator.ProjectWay) {
			w.Redeploy, w.Environment, w.Fallback = "deployment", "live", "live_commit"
		}),
		"nothing is redeployed: both keys work for 6 h, in which the service has to fetch the new one": way(func(w *rotator.ProjectWay) { w.Redeploy = "none" }),
	} {
		if got := wayWords(w, 6); got != want {
			t.Errorf("it is %q, want %q", got, want)
		}
	}
}

func TestARequestIsSaidInTheFlagsThatMadeIt(t *testing.T) {
	t.Parallel()
	for _, flags := range []string{
		"--project-id 4711",
		"--project-id 4711 --environment-scope production --redeploy deployment --environment production --fallback pipeline --soak-hours 72",
		"--project-id 4711 --credentials-file-variable AWS_FILE --profile x --allow-unmasked",
		"--group-id 9 --redeploy none --max-age-days 30 --lead-days 3 --overlap-hours 6 --retire-key AKIAIOSFODNN7EXAMPLE --caller-job-id 7",
	} {
		a, err := parse(append([]string{"rotate", "svc-billing"}, strings.Fields(flags)...))
		if err != nil {
			t.Fatal(err)
		}
		request, err := a.request()
		if err != nil {
			t.Fatal(err)
		}
		if got := asFlags(request); got != flags {
			t.Errorf("%s is said as %s", flags, got)
		}
	}
}
