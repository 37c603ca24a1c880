// Command credential-rotator is the one program: a Lambda function when the Lambda
// runtime starts it, a command elsewhere. Both end in the same few lines of
// package rotator.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/aws/aws-lambda-go/lambda"
)

// version is set by the linker.
var version = "dev"

func main() {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		lambda.Start(newHandler(os.Environ(), streams{out: os.Stdout, err: os.Stderr}))
		return
	}
	signal.Ignore(syscall.SIGPIPE) // a rotation matters more than who reads its log
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		ends = append(ends, syscall.SIGHUP) // its terminal is gone: that is no reason to lose a token
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	code := run(ctx, os.Args[1:], os.Environ(), streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// streams are what a command reads and writes: answers go to out, everything else
// to err.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}
