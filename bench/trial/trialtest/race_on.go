//go:build race

package trialtest

// Race reports whether this test runs with the race detector.
const Race = true
