//go:build faults

package poller

import "sync/atomic"

// Fault decides about a call on a descriptor, before it is made. p is what is read
// into or written, nil for epoll_ctl. An error is the call's, which is not made. A
// shorter slice takes p's place; of no bytes it is EAGAIN. It runs on the goroutine
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
