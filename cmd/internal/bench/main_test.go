package bench

import (
	"fmt"
	"os"
	"testing"

	"sluice/poller/leaktest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "bench" { // it would run all tests again, in each of which it starts itself
		fmt.Fprintln(os.Stderr, "a test has started a sending process, which only the command has")
		os.Exit(2)
	}
	leaktest.Main(m)
}
