package engine

import "time"

// Reporter is an engine that can be away, and counts what it does. It is optional.
type Reporter interface {
	// Stats returns how the engine is doing. It may be called from any goroutine, and never waits.
	Stats() Stats
}

// Stats is how an engine is doing. Counters begin with the process.
type Stats struct {
	Parts     []Part        // always the same ones, in the same order
	Away      time.Duration // for how long some part has been down; 0 while all are up
	AwayTotal time.Duration // sum of those times

	Pending      int           // publications that are not answered
	PendingBytes int           // their payloads
	Lag          time.Duration // age of the oldest of them
	Waiting      int           // messages that have arrived, and are not yet in their channels

	Stored       uint64            // publications that were stored in a history
	CaughtUp     uint64            // channels that were filled from the store after something was missed
	Resubscribed uint64            // channels whose subscription was renewed with the connection
	Gaps         map[string]uint64 // entries of channels, by cause; all causes that there are

	Nodes      int    // nodes that are live, this one included; 1 for a single node
	Unanswered uint64 // questions that a live node did not answer in time
}

// Part is a part of an engine.
type Part struct {
	Name string // "connection", "store", "subscriptions"
	Up   bool
}

// Up reports whether all parts are up.
func (s *Stats) Up() bool {
	for _, p := range s.Parts {
		if !p.Up {
			return false
		}
	}
	return true
}

// The causes of gaps: why publications of a channel may be lost.
const (
	GapChain     = "chain"     // a message does not follow the one before it of the same node
	GapReconnect = "reconnect" // this node's connection broke
	GapPublisher = "publisher" // another node's connection broke, and it announced that
	GapSilent    = "silent"    // another node was not heard for some time
	GapGone      = "gone"      // another node ended while this one did not hear it
	GapSlow      = "slow"      // this node did not take its messages in time
	GapVersion   = "version"   // a message of a newer version
	GapRefused   = "refused"   // the servers refused the channel's subscription
	GapTrimmed   = "trimmed"   // the store does not keep them any more
)

// GapCauses are all causes of gaps.
var GapCauses = []string{GapChain, GapReconnect, GapPublisher, GapSilent, GapGone, GapSlow, GapVersion, GapRefused, GapTrimmed}
