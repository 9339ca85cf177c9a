package takeover

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/edge"
	"sluice/gateway/handover"
	"sluice/gateway/loop"
	"sluice/poller"
)

// descriptorSpare is how many descriptors the new process must have room for beside connections.
const descriptorSpare = 64

// Old is the process that hands a server over, once. It implements handover.Old.
type Old struct {
	Parts
	Passed   map[string]net.Listener // the listeners, by name
	Internal []net.Listener          // of those, where requests for the API are served
	// Retire is how long it may take to tell clients that cannot travel to come back.
	Retire time.Duration
	// Free frees what only one process can have. ctx bounds it.
	Free func(ctx context.Context) error

	live     loop.Live
	giving   *loop.Giving
	snapshot *channel.Snapshot
	room     []byte   // for the next piece of what channels keep
	copied   bool     // the parts are
	pieces   [][]byte // of them, that are not yet handed over
	files    []*os.File
	frozen   bool
	froze    time.Duration // when the freeze began: poller.Monotonic
	given    bool
}

// Welcome implements handover.Old.
func (o *Old) Welcome(h handover.Hello) (handover.Welcome, error) {
	n := needs{Listeners: make(map[string]string), Plain: make(map[string]int), Channels: o.Space.Channels(), Backing: o.Backing, Node: o.Node, NodeID: o.NodeID}
	for name, l := range o.Passed {
		n.Listeners[name] = l.Addr().String()
	}
	for v, err := range loop.EachLoop(context.Background(), o.Set, (*loop.Loop).Live) {
		if err != nil {
			return handover.Welcome{}, err
		}
		for variant, count := range v.Plain {
			n.Plain[variant] += count
		}
		n.Compressed += v.Compressed
		o.live.Secure += v.Secure
	}
	about := n.connections()
	if need := about + descriptorSpare; h.Descriptors < need {
		return handover.Welcome{}, fmt.Errorf("the new process may open %d files, and needs %d: raise its limit (ulimit -n, LimitNOFILE=)", h.Descriptors, need)
	}
	return handover.Welcome{Version: o.Version, Format: Format, Connections: about, Needs: n.append()}, nil
}

// Secure returns how many connections with TLS there were at the beginning, which stay in this process.
func (o *Old) Secure() int { return o.live.Secure }

// Listeners implements handover.Old.
func (o *Old) Listeners() (names []string, files []*os.File, err error) {
	for name := range o.Passed {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f, err := edge.Descriptor(o.Passed[name])
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		files, o.files = append(files, f), append(o.files, f)
	}
	return names, files, nil
}

// HasGiven reports whether the new process has served: this one has nothing any more.
func (o *Old) HasGiven() bool { return o.given }

// Close frees what the attempt has needed.
func (o *Old) Close() {
	for _, f := range o.files {
		f.Close() // ignored: it is a duplicate
	}
}

// Pass implements handover.Old.
func (o *Old) Pass(out *handover.Out) <-chan struct{} {
	var passed <-chan struct{}
	o.giving, passed = o.Set.Give(out)
	o.giving.Settle = o.Settle
	o.snapshot = o.Space.Snapshot()
	return passed
}

// Copy implements handover.Old.
func (o *Old) Copy(limit int) ([]byte, error) {
	if err := o.giving.Err(); err != nil {
		return nil, err
	}
	if o.room == nil {
		o.room = make([]byte, 0, limit+limit/4)
	}
	piece, more := o.snapshot.Copy(append(o.room[:0], pieceChannels), limit)
	if o.room = piece; more {
		return piece, nil
	}
	piece, more, err := o.giving.CopyLogs(append(o.room[:0], pieceLogs), limit)
	if o.room = piece; more || err != nil {
		return piece, err
	}
	o.room = nil
	if !o.copied {
		o.copied, o.pieces = true, copyParts(o.Others)
	}
	if len(o.pieces) == 0 {
		return nil, nil
	}
	piece, o.pieces = o.pieces[0], o.pieces[1:]
	return piece, nil
}

// Freeze implements handover.Old.
func (o *Old) Freeze(ctx context.Context) error {
	o.frozen, o.froze = true, poller.Monotonic()
	o.Relay.Hold()
	o.Publisher.Gate.Hold()
	o.Edge.Hold()
	o.Sessions.Hold()
	if err := o.giving.Freeze(ctx); err != nil || o.Mover == nil {
		return err
	}
	return o.Mover.Hold(ctx)
}

// Save implements handover.Old.
func (o *Old) Save() ([]byte, error) { return o.save(nil), nil }

// Thaw implements handover.Old.
func (o *Old) Thaw() {
	if o.frozen && o.Mover != nil {
		o.Mover.Release()
	}
	o.giving.Thaw()
	if o.frozen {
		for _, p := range o.Others {
			if p.Thawed != nil {
				p.Thawed()
			}
		}
		o.Sessions.Release()
		o.Edge.Release()
		o.Publisher.Gate.Release()
		o.Relay.Release()
	}
}

// Given implements handover.Old.
func (o *Old) Given() {
	o.given = true
	if o.Mover != nil {
		o.Mover.Moved()
	}
	network, address := "", ""
	if len(o.Internal) > 0 {
		at := o.Internal[0].Addr()
		network, address = at.Network(), at.String()
	}
	o.Relay.Move(network, address, func() {
		for _, l := range o.Internal {
			edge.LetGo(l)
		}
	})
	// After requests are known to be done elsewhere: those that have asked the loops, too.
	o.giving.Given(o.Retire)
	o.Publisher.Gate.Shut()
	for _, p := range o.Others {
		if p.Given != nil {
			p.Given()
		}
	}
}

// Stragglers implements handover.Old.
func (o *Old) Stragglers(pass func(sent []byte, fd int) error) { o.Edge.Move(pass) }

// Release implements handover.Old.
func (o *Old) Release(ctx context.Context) error {
	if o.Free == nil {
		return nil
	}
	return o.Free(ctx)
}
