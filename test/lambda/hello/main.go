// Command hello is the least that a Go function can be: the floor that scripts/bench
// measures the real one against.
package main

import (
	"context"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(context.Context) (string, error) { return "hello", nil })
}
