// Command demo shows a whole rotation on the sandbox: the real program, built from
// this repository, against IAM, STS and GitLab as they are played in this process,
// over loopback. It needs no account, and nothing in it is real.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"credential-rotator/test/sandbox"
)

func main() {
	serve := flag.Bool("serve", false, "leave the sandbox up, and print the environment to point tools at it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *serve)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is the sandbox with the real program beside it.
type demo struct {
	out     io.Writer
	scene   *sandbox.Scene
	server  *sandbox.Server
	program string
	journal string

	mu       sync.Mutex
	deployed []string // what the deploy jobs told
}

func run(ctx context.Context, serve bool) error {
	dir, err := os.MkdirTemp("", "credential-rotator-demo")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d := &demo{out: os.Stdout, program: filepath.Join(dir, "credential-rotator"), journal: filepath.Join(dir, "journal.db")}
	options := sandbox.Lifelike()
	options.PropagationDelay = 1500 * time.Millisecond // seconds, in the real one
	options.Deploy = d.deploy
	d.scene = sandbox.NewScene(options)
	if d.server, err = sandbox.Serve(d.scene.World); err != nil {
		return err
	}
	defer d.server.Close()
	d.say("This is a sandbox: IAM, STS and GitLab, played in this process. Nothing here is real.\n\n")
	if serve {
		return d.serve(ctx)
	}
	if err := build(ctx, d.program); err != nil {
		return err
	}
	return d.rotation(ctx)
}

func (d *demo) say(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format, args...) }

// build compiles the program that the demo shows.
func build(ctx context.Context, program string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "credential-rotator/function")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building the program: %w", err)
	}
	return nil
}

// rotation is the demo: before, the rotation, after.
func (d *demo) rotation(ctx context.Context) error {
	who := []string{"svc-billing", "--project-id", "4711", "--environment", "production"}
	for _, verb := range []string{"status", "rotate", "status"} {
		if err := d.command(ctx, append([]string{verb}, who...)); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, told := range d.deployed {
		d.say("%s\n", told)
	}
	if broken := d.scene.Violations(); len(broken) > 0 {
		return fmt.Errorf("the promise was broken: %s", strings.Join(broken, "; "))
	}
	d.say("The sandbox judged every write: at no moment would a job have got a pair that does not work,\nbut for the instant between the two variables, which the rotation itself ended.\n")
	return nil
}

// command runs the program as a person would, and shows that.
func (d *demo) command(ctx context.Context, args []string) error {
	d.say("$ credential-rotator %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, d.program, args...)
	cmd.Env = append(os.Environ(), d.environment()...)
	cmd.Stdout, cmd.Stderr = d.out, d.out // one stream, in order
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("credential-rotator %s: %w", args[0], err)
	}
	d.say("\n")
	return nil
}

// environment points the program, and any SDK, at the sandbox.
func (d *demo) environment() []string {
	operator := d.scene.Operator()
	return []string{
		"AWS_ENDPOINT_URL=" + d.server.AWSURL,
		"AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=" + operator.ID,
		"AWS_SECRET_ACCESS_KEY=" + operator.Secret,
		"GITLAB_URL=" + d.server.GitLabURL,
		"GITLAB_TOKEN=" + d.scene.Token,
		"JOURNAL=file://" + d.journal,
		// A demo is watched: everything goes faster than it should against AWS.
		"PROBE_DELAY=2s", "PROBE_INTERVAL=500ms", "POLL_INTERVAL=500ms",
	}
}

// deploy is what the project's deploy job does: it asks AWS who it is, with the pair
// that it was given.
func (d *demo) deploy(ctx context.Context, job sandbox.JobEnv) error {
	client := sts.New(sts.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(d.server.AWSURL),
		Credentials:  credentials.NewStaticCredentialsProvider(job.KeyID, job.Secret, ""),
	})
	who, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deployed = append(d.deployed, fmt.Sprintf("The deploy job of pipeline %d got %s, and AWS took it for %s.", job.PipelineID, job.KeyID, aws.ToString(who.Arn)))
	return nil
}

// serve leaves the sandbox up until it is interrupted.
func (d *demo) serve(ctx context.Context) error {
	d.say("Point aws, curl or credential-rotator at it from another terminal:\n\n")
	for _, e := range d.environment() {
		d.say("export %s\n", e)
	}
	d.say("\ncredential-rotator plan svc-billing --project-id 4711\ncurl -H \"PRIVATE-TOKEN: $GITLAB_TOKEN\" $GITLAB_URL/api/v4/projects/4711/variables\naws iam list-access-keys --user-name svc-billing\n\nCtrl-C ends it.\n")
	<-ctx.Done()
	return nil
}
