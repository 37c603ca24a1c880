// Command zip packs a program for Lambda: one file called bootstrap, executable,
// with no date of its own, so that the same program gives the same bytes.
//
//	go run ./scripts/zip PROGRAM ZIPFILE
package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: zip PROGRAM ZIPFILE")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "zip:", err)
		os.Exit(1)
	}
}

func pack(program, zipFile string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("reading the program: %w", err)
	}
	var packed bytes.Buffer
	w := zip.NewWriter(&packed)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(out, flate.BestCompression)
	})
	header := &zip.FileHeader{
		Name:     "bootstrap",
		Method:   zip.Deflate,
		Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC), // the oldest that the format knows
	}
	header.SetMode(0o755)
	f, err := w.CreateHeader(header)
	if err != nil {
		return fmt.Errorf("beginning bootstrap: %w", err)
	}
	if _, err := f.Write(content); err != nil {
		return fmt.Errorf("packing bootstrap: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("ending the archive: %w", err)
	}
	if err := os.WriteFile(zipFile, packed.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	return nil
}
