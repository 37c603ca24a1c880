package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"credential-rotator/rotator"
)

type handler func(context.Context, json.RawMessage) (any, error)

// newHandler wires the function once per cold start. A configuration that is wrong
// is the answer to every event: a function that dies at its start tells nobody why.
func newHandler(environ []string, s streams) handler {
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
	var mu sync.Mutex // Lambda reads both streams into one log
	log := slog.New(slog.NewJSONHandler(lines{&mu, s.err}, &slog.HandlerOptions{Level: levels()[strings.ToLower(c.LogLevel)]}))
	m := &metrics{lines{&mu, s.out}, c.MetricsNamespace, c.FunctionName}
	return func(ctx context.Context, event json.RawMessage) (any, error) {
		id, arn := invocation(ctx)
		log := log.With("request_id", id)
		r, err := a.rotator("lambda/"+id, watchers(logSteps(log), m.step))
		if err != nil {
			return nil, err
		}
		e, fault := rotator.DecodeEvent(event)
		if fault == nil {
			fault = allowed(arn, e)
		}
		answer, err := a.serve(ctx, r, e, fault)
		logAnswer(log, answer)
		m.answer(answer)
		if err != nil {
			return nil, err
		}
		return answer, nil
	}
}

// invocation is what Lambda says about one: its id, and the ARN that it came to.
func invocation(ctx context.Context) (id, arn string) {
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		return lc.AwsRequestID, lc.InvokedFunctionArn
	}
	return "", ""
}

// watchers tells each of several of every step.
func watchers(all ...func(rotator.Progress)) func(rotator.Progress) {
	return func(p rotator.Progress) {
		for _, watch := range all {
			watch(p)
		}
	}
}

// logAnswer logs every result, also those that the caller gets as an error.
func logAnswer(log *slog.Logger, answer any) {
	for _, r := range resultsOf(answer) {
		log.Info("result", "result", r)
	}
	if check, ok := answer.(rotator.TokenCheck); ok {
		log.Info("checked the token", "check", check)
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
