package takeover

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"time"

	"sluice/gateway/handover"
	"sluice/gateway/loop"
	"sluice/poller"
)

// New is the process that takes a server over. It implements handover.New.
type New struct {
	// Build returns the parts of the server that takes over. addresses are those of the listeners
	// that will come, by name; node is the node's name, and id its number. Its error is why this process cannot take over.
	Build func(addresses map[string]string, node string, id uint64) (*Parts, error)
	// Serve is called when this process serves, with the listeners. taken is false if the other process has died
	// before it had handed anything over.
	Serve func(listeners map[string]net.Listener, connections int, taken bool)
	// Freed is called when the other process has nothing any more.
	Freed func()
	// Frozen is for how long nobody was served, when Serve is called.
	Frozen time.Duration

	froze       time.Duration // when that began: poller.Monotonic
	parts       *Parts
	taking      *loop.Taking
	listeners   map[string]net.Listener
	connections int
}

// Agree implements handover.New.
func (n *New) Agree(w handover.Welcome) error {
	var needs needs
	if err := json.Unmarshal(w.Needs, &needs); err != nil {
		return fmt.Errorf("what the other process says of itself cannot be read: %w", err)
	}
	p, err := n.Build(needs.Listeners, needs.Node, needs.NodeID)
	if err != nil {
		return err
	}
	if err := p.accepts(&needs); err != nil {
		return err
	}
	n.parts, n.taking, n.listeners = p, p.Set.Take(), make(map[string]net.Listener)
	return nil
}

// Listener implements handover.New.
func (n *New) Listener(name string, f *os.File) error {
	l, err := net.FileListener(f)
	f.Close() // ignored: the listener has a duplicate
	if err != nil {
		return fmt.Errorf("the listener %s: %w", name, err)
	}
	n.listeners[name] = l
	return nil
}

// Add implements handover.New.
func (n *New) Add(ids []uint64, fds []int) error { return n.taking.Add(ids, fds) }

// Gone implements handover.New.
func (n *New) Gone(ids []uint64) { n.taking.Gone(ids) }

// Restore implements handover.New.
func (n *New) Restore(piece []byte) error { return n.restore(piece) }

// Prepared implements handover.New.
func (n *New) Prepared() error {
	if n.parts.Mover == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), preparePatience)
	defer cancel()
	return n.parts.Mover.Prepare(ctx)
}

// preparePatience is for the engine to have what the other process has. That waits a little longer.
const preparePatience = 8 * time.Second

// Load implements handover.New.
func (n *New) Load(b []byte) (connections int, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // everybody waits: what is built stays, so that there is nothing to collect
	n.connections, err = n.load(b)
	return n.connections, err
}

// Start implements handover.New.
func (n *New) Start() {
	if n.parts.Up == nil {
		n.parts.Space.Restored()
	}
	if n.parts.Mover != nil {
		n.parts.Mover.GoOn()
	}
	n.taking.Start()
	n.Frozen = poller.Monotonic() - n.froze
	n.serve(true)
}

// Fresh implements handover.New.
func (n *New) Fresh() {
	if n.taking == nil { // there is nothing to serve with
		return
	}
	n.taking.Abandon()
	n.parts.Space.Discard()
	if n.parts.Mover != nil {
		n.parts.Mover.GoOn()
	}
	n.serve(false)
}

func (n *New) serve(taken bool) {
	for _, l := range n.listeners {
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(true) // the other process has left the file to this one
		}
	}
	n.Serve(n.listeners, n.connections, taken)
}

// Straggler implements handover.New.
func (n *New) Straggler(sent []byte, fd int) { n.parts.Edge.Straggler(sent, fd) }

// Released implements handover.New.
func (n *New) Released() {
	n.Freed()
	if p := n.parts; p != nil && p.Up != nil {
		go func() {
			p.Up(p.Set.Stopped())
			p.Space.Restored() // and so its channels are compared with what the engine has
		}()
	}
}
