//go:build race

package main

import "os"

// raceRows are the rows that run with a gateway built with -race: it has no time for the others.
var raceRows = []int{1, 8, 10, 19}

// A gateway ends at its first race, which no row passes.
func init() { os.Setenv("GORACE", "halt_on_error=1") }
