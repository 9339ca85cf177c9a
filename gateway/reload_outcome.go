package gateway

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/ops"
)

// reloads is what the metrics say of reloads. Its zero value is that of a gateway that was not started yet.
type reloads struct {
	mu      sync.Mutex  // held by a reload
	later   *time.Timer // guarded by mu: until the next review; nil before the first one
	revokes bool        // guarded by mu: what that has to do, too

	// Atomic.
	failed   atomic.Bool // the last one
	at       atomic.Int64
	outcomes [reloadOutcomes]atomic.Uint64
}

// The outcomes of a reload.
const (
	reloadDone = iota
	reloadInvalid
	reloadNeedsRestart
	reloadOutcomes
)

// start notes that the first configuration is in use.
func (r *reloads) start() { r.at.Store(time.Now().UnixNano()) }

// note notes how a reload has ended.
func (r *reloads) note(err error) {
	outcome := reloadDone
	switch {
	case err == nil:
		r.at.Store(time.Now().UnixNano())
	case onlyNeedsRestart(err):
		outcome = reloadNeedsRestart
	default:
		outcome = reloadInvalid
	}
	r.failed.Store(err != nil)
	r.outcomes[outcome].Add(1)
}

// onlyNeedsRestart reports whether a configuration is valid, but for changes that a reload does not apply.
func onlyNeedsRestart(err error) bool {
	return errors.As(err, new(*NeedsRestart)) && !errors.As(err, new(interface{ Unwrap() []error }))
}

// snapshot returns what the metrics say.
func (r *reloads) snapshot() ops.Reloads {
	return ops.Reloads{
		Successful: !r.failed.Load(), At: time.Unix(0, r.at.Load()),
		Outcomes: map[string]uint64{
			"reloaded": r.outcomes[reloadDone].Load(), "invalid": r.outcomes[reloadInvalid].Load(), "needs_restart": r.outcomes[reloadNeedsRestart].Load(),
		},
	}
}

// ReloadFailed notes for the metrics that a program has found faults in a configuration, and so has not called
// [Server.Reload].
func (s *Server) ReloadFailed(err error) { s.reloads.note(err) }
