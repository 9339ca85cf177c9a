package poller

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

// watched counts the descriptors that the kernel watches for p.
func watched(t *testing.T, p *Poller) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", reflect.ValueOf(p.ep).Elem().FieldByName("fd").Int()))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "tfd:")
}

// A descriptor that the kernel goes on watching wakes the loop again and again, though
// its handler is not called any more.
func TestKernelDoesNotWatchWhatWasDeleted(t *testing.T) {
	fds := newFDs(t)
	l := newLoop(t)
	a, _ := fds.pair(t)
	before := watched(t, l.Poller)
	var d Desc
	l.do(func() {
		if err := l.Add(&d, a, Readable, handlerFunc(func(Events) {})); err != nil {
			t.Error(err)
		}
		if n := watched(t, l.Poller); n != before+1 {
			t.Errorf("%d are watched after Add, want %d", n, before+1)
		}
	})
	l.del(&d)
	if n := watched(t, l.Poller); n != before {
		t.Errorf("%d are watched after Del, want %d", n, before)
	}
}
