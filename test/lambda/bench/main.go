// Command bench measures what a Lambda function costs before it does anything:
// size, time from start until it asks for its first event, memory at that moment.
// The functions are started in turn, so that what else the machine does meets all.
//
//	go run ./test/lambda/bench FLOOR.zip FUNCTION.zip
package main

import (
	"archive/zip"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"credential-rotator/test/lambda"
)

// rounds is odd, so that a median is a measurement.
const rounds = 11

// The budget, from measuring the same libraries with nothing around them.
const (
	maxReadyRatio  = 4.0
	maxResidentMB  = 20.0
	maxZipMB       = 7.0
	startTimeLimit = 10 * time.Second
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: bench FLOOR.zip FUNCTION.zip")
		os.Exit(2)
	}
	if err := bench(os.Stdout, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// cost is what was measured of one function.
type cost struct {
	bootstrap  string
	binary     float64 // MB
	zip        float64 // MB
	ready      []time.Duration
	residentMB []float64
}

func bench(out io.Writer, floorZip, functionZip string) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	floor, err := unpack(floorZip, filepath.Join(dir, "floor"))
	if err != nil {
		return err
	}
	function, err := unpack(functionZip, filepath.Join(dir, "function"))
	if err != nil {
		return err
	}
	for range rounds {
		for _, c := range []*cost{floor, function} {
			if err := c.start(); err != nil {
				return err
			}
		}
	}
	report(out, floor, function)
	return nil
}

// unpack writes the archive's bootstrap to dir.
func unpack(zipFile, dir string) (*cost, error) {
	archive, err := zip.OpenReader(zipFile)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", zipFile, err)
	}
	defer archive.Close()
	packed, err := archive.Open("bootstrap")
	if err != nil {
		return nil, fmt.Errorf("opening bootstrap in %s: %w", zipFile, err)
	}
	defer packed.Close()
	content, err := io.ReadAll(packed)
	if err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", zipFile, err)
	}
	info, err := os.Stat(zipFile)
	if err != nil {
		return nil, fmt.Errorf("sizing %s: %w", zipFile, err)
	}
	c := &cost{bootstrap: filepath.Join(dir, "bootstrap"), binary: megabytes(int64(len(content))), zip: megabytes(info.Size())}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	if err := os.WriteFile(c.bootstrap, content, 0o755); err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", zipFile, err)
	}
	return c, nil
}

// start measures one start, with a configuration that needs no remote call.
func (c *cost) start() error {
	f := lambda.New(lambda.Options{Bootstrap: c.bootstrap, Env: []string{
		"JOURNAL=dynamodb://bench",
		"GITLAB_TOKEN_SECRET=bench",
		"AWS_ACCESS_KEY_ID=bench",
		"AWS_SECRET_ACCESS_KEY=bench",
	}})
	defer f.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeLimit)
	defer cancel()
	took, pid, err := f.Ready(ctx)
	if err != nil {
		return err
	}
	resident, err := residentMB(pid)
	if err != nil {
		return err
	}
	c.ready = append(c.ready, took)
	c.residentMB = append(c.residentMB, resident)
	return nil
}

// residentMB is VmRSS of Linux.
func residentMB(pid int) (float64, error) {
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("reading memory use: %w", err)
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			var kilobytes int64
			if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
				return 0, fmt.Errorf("reading memory use from %q: %w", rest, err)
			}
			return megabytes(kilobytes << 10), nil
		}
	}
	return 0, errors.New("reading memory use: no VmRSS")
}

func report(out io.Writer, floor, function *cost) {
	ready := func(c *cost) float64 { return float64(median(c.ready).Microseconds()) / 1000 }
	line := func(name string, a, b float64, budget string) {
		fmt.Fprintf(out, "%-24s %9.2f %9.2f %7.1fx   %s\n", name, a, b, b/a, budget)
	}
	fmt.Fprintf(out, "%-24s %9s %9s %8s   %s\n", "", "nothing", "function", "ratio", "budget")
	line("binary, MB", floor.binary, function.binary, "")
	line("zip, MB", floor.zip, function.zip, within(function.zip, maxZipMB, "MB"))
	line("start to ready, ms", ready(floor), ready(function), within(ready(function)/ready(floor), maxReadyRatio, "x"))
	line("resident when ready, MB", median(floor.residentMB), median(function.residentMB),
		within(median(function.residentMB), maxResidentMB, "MB"))
	fmt.Fprintf(out, "medians of %d starts, in turn; information, not a gate\n", rounds)
}

func within(got, limit float64, unit string) string {
	verdict := "within"
	if got > limit {
		verdict = "OVER"
	}
	return fmt.Sprintf("%s %g %s", verdict, limit, unit)
}

func megabytes(bytes int64) float64 { return float64(bytes) / 1e6 }

func median[T int64 | float64 | time.Duration](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
