//go:build faults

package poller

import (
	"fmt"
	"sync/atomic"
)

// Fault decides about a call on a descriptor, before it is made. p is what is read
// into or written, nil for epoll_ctl. An error is the call's, which is not made. A
// shorter slice takes p's place; of no bytes it is EAGAIN. Made is a call that the Fault
// has made itself. It runs on the goroutine
// that makes the call, a poller's or an acceptor's.
type Fault func(call Call, fd int, p []byte) ([]byte, error)

var injected atomic.Pointer[Fault] // tests change it while loops run

// Inject puts f before the calls of all pollers, until the next Inject; nil for nothing.
func Inject(f Fault) {
	if f == nil {
		injected.Store(nil)
		return
	}
	injected.Store(&f)
}

func fault(call Call, fd int, p []byte) ([]byte, error) {
	if f := injected.Load(); f != nil {
		return (*f)(call, fd, p)
	}
	return p, nil
}

// Made is the result of a call that a Fault has made itself: so many bytes were read or
// written, 0 for EAGAIN; of other calls it is success.
type Made int

func (m Made) Error() string { return fmt.Sprintf("poller: made by a test: %d bytes", int(m)) }

// made returns what a call does whose Fault or kernel returned err.
func made(err error) (int, error) {
	if m, ok := err.(Made); ok {
		return int(m), nil
	}
	return 0, err
}
