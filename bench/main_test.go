package bench

import (
	goflag "flag"
	"fmt"
	"os"
	"testing"

	"sluice/poller/leaktest"
)

// TestMain is the other process of TestFloor when it is started as such;
// else it runs the tests and fails when goroutines or descriptors are left over.
func TestMain(m *testing.M) {
	if os.Getenv("BENCH_TEST_FLOOR_SENDER") != "" {
		if err := FloorSender(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Tests that run in parallel wait more than they compute.
	goflag.Parse()
	if parallel := goflag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		parallel.Value.Set("16") // ignored: it is a number
	}
	before := descriptors()
	code := m.Run()
	if code == 0 {
		if err := leaktest.Goroutines(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if left := descriptors() - before; left > runtimeDescriptors {
			fmt.Fprintf(os.Stderr, "%d descriptors are left over\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

// runtimeDescriptors is what the Go runtime opens for itself once and keeps: its
// epoll and its eventfd.
const runtimeDescriptors = 2

func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}
