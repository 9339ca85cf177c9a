//go:build !race

package gateway

// raceEnabled tells that the race detector slows everything down.
const raceEnabled = false
