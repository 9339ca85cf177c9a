package engine

import "context"

// Mover is an engine whose place another process can take: that goes on as the same node, from what this one has heard. It
// is optional. Package takeover says when each method is called.
type Mover interface {
	// Ahead appends what the new process's engine has to know before Hold.
	Ahead(dst []byte) []byte
	// Hold returns when nothing is appended to channels any more, until Release. After Heard has
	// been loaded elsewhere, and instead of Release, Moved says that the node is another process's: Close says nothing to others then.
	Hold(ctx context.Context) error
	// Heard appends what the engine has heard. It is held.
	Heard(dst []byte) []byte
	Release()
	Moved()

	// Load takes what Ahead or Heard has appended in the other process. An engine that takes over appends nothing to
	// channels, and says nothing to others, until GoOn.
	Load(b []byte) error
	// Prepare returns when everything that is published from now on to channels that were attached before arrives at this process.
	Prepare(ctx context.Context) error
	// GoOn is called when channels have what the other process had of them, and others were attached: what the other process
	// has not heard is appended. If Heard was not loaded, this node begins.
	GoOn()
}
