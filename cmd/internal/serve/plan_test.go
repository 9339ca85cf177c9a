package serve

import (
	"errors"
	"testing"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
)

func TestFaultsTogetherAreUsageOnlyIfEachIs(t *testing.T) {
	opts := option.New(new(Settings))
	if err := joinFaults(opts, []error{nil, nil}); err != nil {
		t.Errorf("no faults: %v", err)
	}
	wrong, broken := cli.Usagef("--raw x: not known"), errors.New("--listen nowhere:1: the host has no address here")
	if err := joinFaults(opts, []error{wrong, nil, wrong}); !errors.As(err, new(cli.UsageError)) {
		t.Errorf("usage alone: %v is none", err)
	}
	err := joinFaults(opts, []error{broken, nil})
	if errors.As(err, new(cli.UsageError)) || err.Error() != broken.Error() {
		t.Errorf("no usage: %v", err)
	}
}
