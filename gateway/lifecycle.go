package gateway

import "time"

// lifecycle is a server's life: it starts with New, is ending from the call of Shutdown on, and
// has stopped when its loops have ended. What waits for something else waits for one of the two
// as well.
type lifecycle struct {
	started time.Time
	ending  chan struct{} // closed when Shutdown begins
	stopped chan struct{} // closed when the loops have ended
	failed  chan error    // has room for one: the first failure is the one to report
}

func newLifecycle() lifecycle {
	return lifecycle{started: time.Now(), ending: make(chan struct{}), stopped: make(chan struct{}), failed: make(chan error, 1)}
}

// fail notes that the server can no longer serve all of its clients.
func (l *lifecycle) fail(err error) {
	select {
	case l.failed <- err:
	default:
	}
}
