package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"credential-rotator/rotator"
)

type handler func(context.Context, json.RawMessage) (any, error)

// newHandler wires the function once per cold start. A configuration that is wrong
// is the answer to every event: a function that dies at its start tells nobody why.
func newHandler(environ []string, logs io.Writer) handler {
	c, err := loadConfig(environ)
	if err == nil && !strings.HasPrefix(c.Journal, "dynamodb://") {
		err = errors.New("the configuration is wrong: JOURNAL must be dynamodb://TABLE: a function keeps no files")
	}
	var a *app
	if err == nil {
		a, err = newApp(context.Background(), c)
	}
	if err != nil {
		return func(context.Context, json.RawMessage) (any, error) { return nil, err }
	}
	log := slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: levels()[strings.ToLower(c.LogLevel)]}))
	return func(ctx context.Context, event json.RawMessage) (any, error) {
		id := requestID(ctx)
		log := log.With("request_id", id)
		r, err := a.rotator("lambda/"+id, logSteps(log))
		if err != nil {
			return nil, err
		}
		answer, err := serve(ctx, r, event)
		logAnswer(log, answer)
		if err != nil {
			return nil, err
		}
		return answer, nil
	}
}

func requestID(ctx context.Context) string {
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		return lc.AwsRequestID
	}
	return ""
}

// logAnswer logs every result, also those that the caller gets as an error.
func logAnswer(log *slog.Logger, answer any) {
	all := results{}
	switch a := answer.(type) {
	case rotator.Result:
		all.Results = []rotator.Result{a}
	case results:
		all = a
	}
	for _, r := range all.Results {
		log.Info("result", "result", r)
	}
}

// levels are the words of LOG_LEVEL.
func levels() map[string]slog.Leveler {
	return map[string]slog.Leveler{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
}

// logSteps logs one event a step. What is waited for is logged at debug.
func logSteps(log *slog.Logger) func(rotator.Progress) {
	return func(p rotator.Progress) {
		level := slog.LevelInfo
		switch p.State {
		case rotator.StepStarted, rotator.StepWaiting:
			level = slog.LevelDebug
		case rotator.StepFailed:
			level = slog.LevelError
		}
		log.Log(context.Background(), level, "step",
			"step", string(p.Step), "state", string(p.State), "user", p.User, "rotation_id", p.RotationID,
			"ms", p.Elapsed.Milliseconds(), "detail", p.Detail)
	}
}
