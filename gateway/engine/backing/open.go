package backing

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/engine/local"
	"sluice/gateway/presence"
)

// Gateway is what an engine needs to know of its gateway.
type Gateway struct {
	Space      *channel.Space
	Present    *presence.Table
	Keep       func(name string) channel.Keep // the size of a channel's history
	Namespaces []Namespace
	// NamespaceOf returns the name of a channel's namespace.
	NamespaceOf func(channel string) string
	Name        string // the node's; "" for one that the form has
	MessageMax  int    // bytes
	Rate        int    // publications per second of one channel; 0 for no bound
	Describe    func() engine.NodeInfo
	Logger      *slog.Logger
	// After, if set, is closed when what only one process can have is free: it belongs to the process from which
	// this one takes over.
	After <-chan struct{}

	// ID is the node's: not 0, and no other live node's. 0 for one that is drawn. With one, another process
	// is the node until this one takes over.
	ID uint64
}

// Namespace is the history of a namespace's channels.
type Namespace struct {
	Name    string
	Size    int // publications; 0 for no history
	TTL     time.Duration
	Durable bool // it is stored
}

// Engine is an engine that was started.
type Engine struct {
	engine.Engine
	Name string // the node's
	ID   uint64 // the node's, 0 for none

	waits  string                      // what it waits for until it is ready
	ready  func() bool                 // nil: it is
	failed <-chan error                // nil: it does not fail
	close  func(context.Context) error // nil: there is nothing to close
}

// Plain returns an engine that needs nothing else, and is always ready.
func Plain(e engine.Engine, name string) Engine {
	if name == "" {
		name = hostName()
	}
	return Engine{Engine: e, Name: name}
}

// Open starts the engine that the settings ask for. Its error is one line for an operator.
func Open(ctx context.Context, s *Store, g Gateway) (Engine, error) {
	if s.form() == Memory {
		return Plain(local.Engine{Space: g.Space, Present: g.Present}, g.Name), nil
	}
	takes := g.ID != 0
	if !takes {
		g.ID = drawID()
	}
	e, err := s.openNATS(ctx, &g, takes)
	e.ID = g.ID
	if e.waits = "the data directory is not open yet"; s.form() == Servers {
		e.waits = "the NATS servers have not answered yet"
	}
	return e, err
}

// connectionBits is how many of a node's bits its connections' IDs begin with.
const connectionBits = 24

// ConnectionBits returns what the IDs of this node's connections begin with: 24 bits; 0 for any.
func (e *Engine) ConnectionBits() uint32 { return uint32(e.ID >> (64 - connectionBits)) }

// drawID returns a number that no other node has.
func drawID() (id uint64) {
	for id>>(64-connectionBits) == 0 {
		var b [8]byte
		rand.Read(b[:]) // never fails
		id = binary.BigEndian.Uint64(b[:])
	}
	return id
}

// Waits says what a server still waits for before it is ready, "" for nothing. Once the engine was there,
// readiness no longer depends on it: what needs no history is served while it is away.
func (e *Engine) Waits() string {
	if e.ready == nil || e.ready() {
		return ""
	}
	return e.waits
}

// Watch calls failed if the engine cannot go on, unless stop is closed before.
func (e *Engine) Watch(stop <-chan struct{}, failed func(error)) {
	select {
	case err := <-e.failed:
		failed(err)
	case <-stop:
	}
}

// closeTimeout bounds how long the engine may take to end.
const closeTimeout = 5 * time.Second

// Close ends the engine, after everything that publishes; also if ctx has ended, because a store that is
// not closed has to be doubted later.
func (e *Engine) Close(ctx context.Context) error {
	if e.close == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return e.close(ctx)
}
