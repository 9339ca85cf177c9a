// Package leaktest fails the tests of a package that leave goroutines over. It is a package of its own because
// tests of all others use it, also of those that know no other package, and because goleak alone
// waits for goroutines that are about to end for less than half a second, in which a busy machine may not come to
// them.
package leaktest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds the wait for goroutines that are about to end.
const patience = time.Minute

// Main is a package's TestMain: it runs the tests, and exits.
func Main(m *testing.M, ignored ...goleak.Option) { os.Exit(Run(m, ignored...)) }

// Run runs a package's tests, and returns the status with which to exit.
func Run(m *testing.M, ignored ...goleak.Option) (status int) {
	if status = m.Run(); status == 0 {
		if err := Goroutines(ignored...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
	}
	return status
}

// Goroutines returns an error if goroutines are left over.
func Goroutines(ignored ...goleak.Option) (err error) {
	for end := time.Now().Add(patience); ; {
		if err = goleak.Find(ignored...); err == nil || time.Now().After(end) {
			return err
		}
	}
}
