// Package rotator is the product: what it means to rotate the access key that a
// service deployed from GitLab CI/CD uses, so that nobody notices.
package rotator
