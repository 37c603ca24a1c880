package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// authorities reads the certificates of GITLAB_CA_FILE; without a file there are none.
// One that cannot be used is a fault of the configuration: it would be missed only when
// GitLab's certificate is looked at.
func authorities(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	if strings.Contains(path, "-----BEGIN") {
		return nil, errors.New("GITLAB_CA_FILE must be the path of a file with certificates (PEM), not the certificates")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		if at := (*fs.PathError)(nil); errors.As(err, &at) {
			err = at.Err // the path is said below
		}
		return nil, fmt.Errorf("GITLAB_CA_FILE cannot be read: %q: %w", path, err)
	}
	found := 0
	for rest := data; ; found++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("GITLAB_CA_FILE must hold certificates only, and %q has a %s", path, strings.ToLower(block.Type))
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("GITLAB_CA_FILE must hold certificates, and number %d of %q is none: %w", found+1, path, err)
		}
	}
	if found == 0 {
		return nil, fmt.Errorf(`GITLAB_CA_FILE must hold certificates in PEM ("-----BEGIN CERTIFICATE-----"), and %q has none`, path)
	}
	return data, nil
}
