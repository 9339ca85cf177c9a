//go:build race

package clienttest

// RaceEnabled reports whether the race detector slows everything down.
const RaceEnabled = true
