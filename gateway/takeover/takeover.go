package takeover

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"sluice/gateway/channel"
	"sluice/gateway/edge"
	"sluice/gateway/engine"
	"sluice/gateway/loop"
	"sluice/gateway/ops"
	"sluice/gateway/setting"
)

// The formats of what is handed over, beside the messages of package handover: this process's own, and the oldest that
// it takes.
const (
	Format      = 1
	OldestTaken = 1
)

// Parts are what is handed over of a server.
type Parts struct {
	Set       *loop.Set
	Space     *channel.Space
	Edge      *edge.Server
	Publisher *engine.Publisher
	Relay     *ops.Relay
	// Sessions take what other nodes send for this one's connections; not while they are held.
	Sessions interface {
		Hold()
		Release()
	}
	Logger *slog.Logger
	Names  setting.Names // what texts call settings

	Others []Part

	Version string // of the program
	Node    string // the node's name,
	NodeID  uint64 // and its number; 0 for none
	Backing string // what backs channels: only a process with the same can take over
	// Mover is the engine if channels are shared with other nodes; else nil.
	Mover engine.Mover
	// Settle waits until the engine has answered everything that was published; nil where it answers at once.
	Settle func(context.Context) error
	// Up returns when the engine is there, or stop is closed; nil where it is there at once.
	Up func(stop <-chan struct{})
	// Off are the variants of connections that are not served, each with the reason.
	Off            map[string]string
	MaxConnections int
	MaxChannels    int
	Compression    bool
}

// needs is what the old process says that the new one must be able to serve. It is JSON, of which each version ignores
// what it does not know.
type needs struct {
	Listeners  map[string]string // addresses by name
	Plain      map[string]int    // connections by variant
	Compressed int
	Channels   int
	Backing    string
	Node       string
	NodeID     uint64
}

func (n *needs) connections() (sum int) {
	for _, k := range n.Plain {
		sum += k
	}
	return sum
}

func (n *needs) append() []byte {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err) // there is nothing in it that could fail
	}
	return b
}

// accepts returns why a server with these parts could not serve what is live in the other process.
func (p *Parts) accepts(n *needs) error {
	var why []string
	reject := func(format string, args ...any) { why = append(why, p.Names.Text(fmt.Sprintf(format, args...))) }
	off := make(map[string]int)
	for variant, count := range n.Plain {
		if reason := p.Off[variant]; reason != "" {
			off[reason] += count
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(off)) {
		reject("%s, and %d of its clients are connected", reason, off[reason])
	}
	if open := n.connections(); open > p.MaxConnections {
		reject("{MaxConnections} %d: %d are connected", p.MaxConnections, open)
	}
	if n.Channels > p.MaxChannels {
		reject("{MaxChannels} %d: there are %d", p.MaxChannels, n.Channels)
	}
	if n.Compressed > 0 && !p.Compression {
		reject("{Compression} off: %d clients have negotiated compression", n.Compressed)
	}
	if n.Backing != p.Backing {
		reject("channels are backed by %s, and not by %s", p.Backing, n.Backing)
	}
	if why != nil {
		return fmt.Errorf("its configuration would not accept what is live: %s", strings.Join(why, "; "))
	}
	return nil
}
