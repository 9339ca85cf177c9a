package clienttest

import (
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"sluice/poller/leaktest"

	"go.uber.org/goleak"
)

// RunTests runs a package's tests and fails when a goroutine or a descriptor is left over.
func RunTests(m *testing.M, leaks ...goleak.Option) (status int) {
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == strconv.Itoa(defaultParallel()) {
		// Parallel tests wait for time to pass and hardly compute.
		flag.Set("test.parallel", "16") // ignored: then they take longer
	}
	// The Go runtime opens its own poller at the first use and keeps it.
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close() // ignored: nobody knew of it
	}
	before := Descriptors()
	status = m.Run()
	if status == 0 {
		if err := leaktest.Goroutines(leaks...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
		left := Opened(before, Descriptors())
		for end := time.Now().Add(Patience); len(left) > 0 && time.Now().Before(end); left = Opened(before, Descriptors()) {
			time.Sleep(10 * time.Millisecond)
		}
		for fd, what := range left {
			fmt.Fprintf(os.Stderr, "descriptor %d (%s) is left over\n", fd, what)
			status = 1
		}
	}
	return status
}

// defaultParallel is what the testing package takes where it is told nothing.
func defaultParallel() int {
	n, _ := strconv.Atoi(flag.Lookup("test.parallel").DefValue) // ignored: 0 equals no value
	return n
}

// Descriptors is a census of /proc/self/fd: what each number stands for.
func Descriptors() map[int]string {
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		panic(err)
	}
	all := make(map[int]string)
	for _, name := range names {
		fd, _ := strconv.Atoi(filepath.Base(name))      // ignored: they are numbers
		if what, err := os.Readlink(name); err == nil { // else: the descriptor that Glob itself used
			all[fd] = what
		}
	}
	return all
}

// Opened returns what after has and before has not.
func Opened(before, after map[int]string) map[int]string {
	diff := maps.Clone(after)
	maps.DeleteFunc(diff, func(fd int, what string) bool { return before[fd] == what })
	return diff
}
