package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block is a transcript in the README: commands, each with what it answers.
type block struct {
	line  int
	scene string
	shown []exchange
}

type exchange struct{ command, answer string }

var marker = regexp.MustCompile(`^<!-- scene: ([a-z-]+) -->$`)

// blocks finds the fenced blocks of info console that begin with "$ credential-rotator".
// A comment before one, <!-- scene: NAME -->, says in which of the scenes it happens;
// blank lines may be between them.
func blocks(text string) ([]block, error) {
	var found []block
	scene, fence := "", 0
	var inside []string
	for i, line := range strings.Split(text, "\n") {
		switch m := marker.FindStringSubmatch(line); {
		case fence > 0 && line == "```":
			if strings.HasPrefix(inside[0], "$ credential-rotator") {
				found = append(found, block{fence, scene, exchanges(inside)})
			} else if scene != "" {
				return nil, fmt.Errorf("line %d: a scene is set for a block that does not begin with $ credential-rotator", fence)
			}
			scene, fence, inside = "", 0, nil
		case fence > 0:
			inside = append(inside, line)
		case line == "```console":
			fence, inside = i+1, nil
		case m != nil:
			scene = m[1]
		case strings.HasPrefix(line, "<!-- scene"):
			return nil, fmt.Errorf("line %d: %s is not like <!-- scene: due -->", i+1, line)
		case strings.TrimSpace(line) != "" && scene != "":
			return nil, fmt.Errorf("line %d: there is no console block after the scene %s", i+1, scene)
		}
	}
	if fence > 0 {
		return nil, fmt.Errorf("line %d: the block has no end", fence)
	}
	return found, nil
}

// exchanges are the commands of a block; one may go on after a backslash.
func exchanges(lines []string) []exchange {
	var all []exchange
	more := false
	for _, line := range lines {
		command, begins := strings.CutPrefix(line, "$ ")
		switch {
		case begins:
			all = append(all, exchange{command: command})
		case more:
			all[len(all)-1].command += "\n" + line
		default:
			all[len(all)-1].answer += line + "\n"
		}
		more = (begins || more) && strings.HasSuffix(line, `\`)
	}
	return all
}

func TestTheREADMEShowsWhatTheProgramDoes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatalf("the README is not there, or cannot be read: %v", err)
	}
	all, err := blocks(string(text))
	if err != nil {
		t.Fatalf("README.md: %v", err)
	}
	if len(all) == 0 {
		t.Fatal("README.md shows no command: no block of ```console begins with $ credential-rotator")
	}
	for _, b := range all {
		t.Run(fmt.Sprintf("line %d", b.line), func(t *testing.T) {
			t.Parallel()
			playBlock(t, b)
		})
	}
}

// playBlock runs the commands of a block, one after the other, in its scene.
func playBlock(t *testing.T, b block) {
	s := stageFor(t)
	s.UseKey(s.key, "s3", "eu-central-1")
	if b.scene != "" {
		if err := s.begin(b.scene); err != nil {
			t.Fatalf("README.md:%d: %v", b.line, err)
		}
	}
	var got, want strings.Builder
	code := 0
	for _, e := range b.shown {
		var answer string
		answer, code = s.shell(t, e.command, code)
		_, _ = fmt.Fprintf(&got, "$ %s\n%s", e.command, shownOnTerminal(answer))
		_, _ = fmt.Fprintf(&want, "$ %s\n%s", e.command, shownOnTerminal(e.answer))
	}
	if got, want := normal(jobless(got.String())), normal(jobless(want.String())); got != want {
		t.Errorf("README.md:%d shows\n%s\nbut this happens (ids, times and hosts aside)\n%s", b.line, want, got)
	}
	if faults := s.faults(); len(faults) > 0 {
		t.Errorf("README.md:%d: %s", b.line, strings.Join(faults, "\n"))
	}
}

// jobless is a text without the ids of jobs.
func jobless(text string) string {
	return regexp.MustCompile(`/jobs/\d+`).ReplaceAllString(text, "/jobs/JOB")
}

// shell runs a line as a shell does, after a command that ended with a code. What
// goes to stdout and stderr is in the order in which it was written.
func (s *stage) shell(t *testing.T, line string, before int) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", fmt.Sprintf("(exit %d)\n%s", before, line))
	cmd.Env = append(s.environ(), "PATH="+os.Getenv("PATH"))
	cmd.Dir = s.dir
	out, err := cmd.CombinedOutput()
	s.hear(string(out))
	exit := (*exec.ExitError)(nil)
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// shownOnTerminal is an answer as a terminal shows it in the end: without the lines
// that only tell what is waited for. JSON may be laid out in any way.
func shownOnTerminal(answer string) string {
	if text, err := indented(answer); err == nil {
		return text
	}
	lines := slices.DeleteFunc(strings.Split(answer, "\n"), func(line string) bool { return strings.HasPrefix(line, "… ") })
	return strings.Join(lines, "\n")
}

func TestBlocksAreFoundWithTheirScenes(t *testing.T) {
	t.Parallel()
	got, err := blocks("# Title\n\n```console\n$ credential-rotator version\ncredential-rotator dev\n```\n\n<!-- scene: young -->\n\n```console\n" +
		"$ credential-rotator plan svc-billing \\\n    --project-id 4711\nnot due\n  more\n$ echo $?\n0\n```\n```console\n$ terraform apply\n```\n```sh\n$ credential-rotator\n```\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []block{
		{3, "", []exchange{{"credential-rotator version", "credential-rotator dev\n"}}},
		{10, "young", []exchange{{"credential-rotator plan svc-billing \\\n    --project-id 4711", "not due\n  more\n"}, {"echo $?", "0\n"}}},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, wrong := range []string{
		"<!-- scene due -->\n", "<!-- scene: due -->\nText.\n", "```console\n$ credential-rotator\n", "<!-- scene: due -->\n```console\n$ ls\n```\n",
	} {
		if _, err := blocks(wrong); err == nil {
			t.Errorf("%q is taken for right", wrong)
		}
	}
}

func TestATranscriptIsWhatATerminalShowsInTheEnd(t *testing.T) {
	t.Parallel()
	all, err := blocks(`<!-- scene: due -->
` + "```console" + `
$ credential-rotator rotate svc-billing --project-id 4711 \
    --environment production
✓ begin             key AKIAIOSFODNN7EXAMPLE was 84 days old
✓ create a key      AKIAI44QH8DHBEXAMPLE
✓ prove it          authenticated 3 of 3 times in a row  17s
✓ publish secret    AWS_SECRET_ACCESS_KEY of project 4711 [*]
✓ publish key id    AWS_ACCESS_KEY_ID of project 4711 [*]
✓ redeploy          pipeline 61 on main  https://gitlab.com/shop/billing/-/pipelines/61
✓ deployment        pipeline 61 succeeded  1m12s
✓ deactivate old    AKIAIOSFODNN7EXAMPLE
✓ delete old        AKIAIOSFODNN7EXAMPLE
rotated: key AKIAIOSFODNN7EXAMPLE was 84 days old
  user         svc-billing, project 4711
  published    AKIAI44QH8DHBEXAMPLE
  previous     AKIAIOSFODNN7EXAMPLE, deleted
  deployment   pipeline 61, success, https://gitlab.com/shop/billing/-/pipelines/61
  next due     2027-02-12
$ echo $?
0
` + "```" + `

<!-- scene: young -->
` + "```console" + `
$ credential-rotator rotate svc-billing --project-id 4711 -o json
{"status":"not_due","reason":"key AKIAIOSFODNN7EXAMPLE is 10 days old and due on 2027-02-03",
 "user":"svc-billing","project_id":4711,"current_key_id":"AKIAIOSFODNN7EXAMPLE",
 "next_due":"2027-02-03T20:00:00Z","warnings":[],"steps":[]}
` + "```\n")
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	for _, b := range all {
		playBlock(t, b)
	}
}

func TestEverySceneCanBeShown(t *testing.T) {
	t.Parallel()
	for _, scene := range sceneNames() {
		t.Run(scene, func(t *testing.T) {
			t.Parallel()
			s := stageFor(t)
			s.UseKey(s.key, "s3", "eu-central-1")
			if err := s.begin(scene); err != nil {
				t.Fatal(err)
			}
			out, code := s.shell(t, "credential-rotator status svc-billing --project-id 4711 --environment production", 0)
			if code > 1 || out == "" {
				t.Errorf("exit %d: %s", code, out)
			}
			t.Log(out)
			if faults := s.faults(); len(faults) > 0 {
				t.Error(strings.Join(faults, "\n"))
			}
		})
	}
}
