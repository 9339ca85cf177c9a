package main

import (
	"errors"
	"testing"
)

func TestFaultsTogetherAreUsageOnlyIfEachIs(t *testing.T) {
	opts := new(settings).options()
	if err := joinFaults(opts, []error{nil, nil}); err != nil {
		t.Errorf("no faults: %v", err)
	}
	wrong, broken := usagef("--raw x: not known"), errors.New("--listen nowhere:1: the host has no address here")
	if err := joinFaults(opts, []error{wrong, nil, wrong}); !errors.As(err, new(usageError)) {
		t.Errorf("usage alone: %v is none", err)
	}
	err := joinFaults(opts, []error{broken, nil})
	if errors.As(err, new(usageError)) || err.Error() != broken.Error() {
		t.Errorf("no usage: %v", err)
	}
}
