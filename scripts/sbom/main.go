// Command sbom writes what a Go program is made of, as `go version -m` tells it, in
// CycloneDX 1.6 JSON. It has no date and no number of its own, so that the same
// program gives the same bytes.
//
//	go run ./scripts/sbom PROGRAM VERSION SBOMFILE
package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"runtime/debug"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: sbom PROGRAM VERSION SBOMFILE")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func write(program, version, sbomFile string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("reading the program: %w", err)
	}
	info, err := buildinfo.Read(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("reading what %s is made of: %w", program, err)
	}
	var out bytes.Buffer
	encoder := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false)
	if err := encoder.EncodeVersion(bomOf(info, version, sha256.Sum256(content)), cdx.SpecVersion1_6); err != nil {
		return fmt.Errorf("writing the SBOM: %w", err)
	}
	if err := os.WriteFile(sbomFile, out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing the SBOM: %w", err)
	}
	return nil
}

func bomOf(info *debug.BuildInfo, version string, sum [sha256.Size]byte) *cdx.BOM {
	program := cdx.Component{
		BOMRef: info.Main.Path, Type: cdx.ComponentTypeApplication, Name: info.Main.Path, Version: version,
		Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		Properties: settings(info),
	}
	components := []cdx.Component{library("std", strings.TrimPrefix(info.GoVersion, "go"), "")}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		components = append(components, library(m.Path, m.Version, m.Sum))
	}
	// The program does not tell which module needs which.
	var refs []string
	dependencies := []cdx.Dependency{{Ref: program.BOMRef, Dependencies: &refs}}
	for _, c := range components {
		refs = append(refs, c.BOMRef)
		dependencies = append(dependencies, cdx.Dependency{Ref: c.BOMRef})
	}
	bom := cdx.NewBOM()
	bom.SerialNumber = serial(sum)
	bom.Metadata = &cdx.Metadata{Component: &program}
	bom.Components, bom.Dependencies = &components, &dependencies
	return bom
}

// library is a Go module. The sum is go.sum's: a hash over its files' hashes, and so
// a property, not a hash of anything that could be downloaded.
func library(path, version, sum string) cdx.Component {
	// The purl specification: golang paths in lower case, versions percent-encoded.
	purl := "pkg:golang/" + strings.ToLower(path) + "@" + url.QueryEscape(version)
	c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: purl, Scope: cdx.ScopeRequired}
	if sum != "" {
		c.Properties = &[]cdx.Property{{Name: "go.sum", Value: sum}}
	}
	return c
}

// settings are those of the build that make one program out of many.
func settings(info *debug.BuildInfo) *[]cdx.Property {
	properties := []cdx.Property{}
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS", "GOARCH", "CGO_ENABLED", "-tags":
			properties = append(properties, cdx.Property{Name: "go.build." + strings.TrimPrefix(s.Key, "-"), Value: s.Value})
		}
	}
	return &properties
}

// serial is the document's number, a UUID: another program has another one.
func serial(sum [sha256.Size]byte) string {
	b := sum[:16]
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80 // version 8: made as its maker likes
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
