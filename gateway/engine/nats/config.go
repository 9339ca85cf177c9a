package nats

import (
	"log/slog"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/presence"

	natsgo "github.com/nats-io/nats.go"
)

// Config is what an engine needs to know. Either DataDir is set or Servers.URLs.
type Config struct {
	Space   *channel.Space
	Present *presence.Table
	// Keep returns the size of a channel's history, whether it is durable or not.
	Keep        func(name string) channel.Keep
	Histories   []HistoryOf // of all namespaces that keep one
	NamespaceOf func(channel string) string

	// Of a single node: its store.
	DataDir string
	DataMax int64  // bytes
	Sync    string // "interval" or "always"

	// Of a cluster.
	Servers Servers

	Name        string // the node's; "" for one that the engine draws
	NodeID      uint64 // not 0, and no other live node's
	MaxMessage  int    // bytes of a payload
	ChannelRate int    // publications per second of one channel on this node; 0 for no bound
	Describe    func() engine.NodeInfo
	// After, if set, is closed when a single node may open its directory, which another process has until then. The
	// engine is away before.
	After <-chan struct{}
	// Takes says that another process is this node of a cluster, until GoOn.
	Takes  bool
	Logger *slog.Logger
	Clock  func() time.Time // nil for time.Now

	test tests
}

// HistoryOf is the history of a namespace's channels.
type HistoryOf struct {
	Namespace string
	Size      int
	TTL       time.Duration
	Durable   bool // else it is in the node's memory only
}

// Servers says how to reach the NATS servers of a cluster of nodes.
type Servers struct {
	URLs                       []string
	Creds, Nkey, CA, Cert, Key string // files, "" for none
	Prefix                     string // of streams' names and subjects; "" for "sluice"
	Replicas                   int    // of streams: 1, 3 or 5; 0 for 3 where the servers are a cluster, else 1
}

// tests is what tests change.
type tests struct {
	drop     func(name string) bool           // which live messages do not come
	withhold func(answer *natsgo.Msg) bool    // and which answers
	live     int                              // room for live messages, in place of liveMost
	patience time.Duration                    // in place of patience,
	idle     time.Duration                    // of idleWait,
	again    time.Duration                    // and of refusedAgain
	unmarked func()                           // called when a batch was sent, and before its mark is
	free     func(path string) (int64, error) // the free space of a file system; nil: as it is
}
