package nats

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/gateway/engine/nats/datadir"
)

// The server in this process, which stores in a data directory. It has no port: the engine is its
// only client, through net.Pipe.
//
// A server whose store failed to write (a full disk, an error of the device) does not write to
// that stream again until it is restarted, so the keeper restarts it, once there is room. Its
// clients see that as a connection that breaks and comes back.

const (
	roomLeast     = datadir.RoomLeast
	roomAgain     = roomLeast / 8          // so much more lets it go on, so that the state does not flap
	roomLook      = time.Second            // how often the free space is looked at
	roomNear      = 8 * roomLeast          // below it,
	roomLookNear  = roomLook / 10          // so often
	restartLeast  = time.Second            // between a restart that did not help and the next,
	restartMost   = time.Minute            // doubling up to this
	noteInterval  = 100 * time.Millisecond // how far the mark may be behind what was acknowledged,
	noteMost      = 10_000                 // or by how many publications of a stream
	noteLeast     = noteInterval / 10      // but not more often
	syncInterval  = time.Second            // of fsync, unless it is always: not measurable at 1,000 publications/s
	memoryStreams = 1 << 20                // there are none; but 0 would be three quarters of the machine
)

// embeddedConfig is what startEmbedded needs.
type embeddedConfig struct {
	dir        string
	name       string // "": the directory's
	dataMax    int64  // bytes of all streams
	syncAlways bool   // fsync before each acknowledgement
	maxMessage int
	log        *slog.Logger
	now        func() time.Time
	free       func(path string) (int64, error) // nil: the file system's
	look       time.Duration                    // how often it is looked at; 0: as roomLook says
}

// embedded is a running server and its directory.
type embedded struct {
	// Set at construction.
	cfg  embeddedConfig
	dir  *datadir.Dir // owned by the keeper while it runs
	opts server.Options
	wake chan struct{} // cap 1: the keeper has something to look at
	stop chan struct{}
	done chan struct{}

	// Atomic: read from lanes and loops.
	marks      atomic.Pointer[map[string]*endMark]
	raised     atomic.Uint64 // the generation
	full       atomic.Bool   // below roomLeast
	restarting atomic.Bool
	asleep     atomic.Bool // the keeper waits for the first acknowledgement
	failed     atomic.Bool // the server has reported an error: look at its health

	mu sync.Mutex
	// Guarded by mu.
	server *server.Server // nil while none runs
	open   bool           // the generation that belongs to what it has is known
}

// endMark is the highest acknowledged sequence of a stream.
type endMark struct{ acknowledged, noted atomic.Uint64 }

// startEmbedded opens the data directory and starts the server in it. Its error is one line.
func startEmbedded(cfg embeddedConfig) (_ *embedded, err error) {
	if cfg.now == nil {
		cfg.now = time.Now
	}
	if cfg.look == 0 {
		cfg.look = roomLook
	}
	if cfg.free == nil {
		cfg.free = datadir.Free
	}
	if cfg.log == nil {
		cfg.log = slog.New(slog.DiscardHandler)
	}
	dir, err := datadir.Open(cfg.dir)
	if err != nil {
		return nil, err
	}
	e := &embedded{cfg: cfg, dir: dir, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	e.marks.Store(&map[string]*endMark{})
	for _, w := range dir.Warnings() {
		cfg.log.Warn(w)
	}
	defer func() {
		if err != nil {
			e.shutdown()
			dir.Close(false, nil) // ignored: the error that matters is err
		}
	}()
	e.opts = e.options()
	ends, err := e.start()
	if err != nil {
		return nil, err
	}
	reasons, err := dir.Settle(ends, cfg.syncAlways, cfg.now())
	if err != nil {
		return nil, err
	}
	e.settled(ends, reasons)
	e.look()
	go e.keep()
	return e, nil
}

func (e *embedded) options() server.Options {
	payload := min(e.cfg.maxMessage+payloadOverhead, math.MaxInt32/2)
	return server.Options{
		ServerName: e.name(), DontListen: true, NoSigs: true,
		MaxPayload: int32(payload), MaxPending: max(server.MAX_PENDING_SIZE, 2*int64(payload)),
		JetStream: true, StoreDir: e.dir.Path(), JetStreamMaxMemory: memoryStreams,
		// A server whose streams reserve more than it may store refuses even to make them smaller.
		JetStreamMaxStore: max(e.cfg.dataMax, e.dir.Reserved()),
		SyncAlways:        e.cfg.syncAlways, SyncInterval: syncInterval,
		DisableJetStreamBanner: true,
	}
}

// start starts a server and returns the ends of its streams.
func (e *embedded) start() (map[string]datadir.End, error) {
	opts := e.opts // a server changes its own
	srv, err := server.NewServer(&opts)
	if err != nil {
		return nil, &datadir.Fault{Dir: e.dir.Path(), Err: err}
	}
	log := &serverLog{to: e.cfg.log, failed: e.serverFailed}
	log.quiet.Store(true)
	srv.SetLoggerV2(log, e.cfg.log.Enabled(context.Background(), slog.LevelDebug), false, false)
	srv.Start() // returns when the streams are recovered
	var ends map[string]datadir.End
	if text := log.fatal.Load(); text != nil {
		err = errors.New(*text)
	} else {
		ends, err = endsOf(srv)
	}
	if err != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
		return nil, &datadir.Fault{Dir: e.dir.Path(), Err: err}
	}
	log.quiet.Store(false)
	e.mu.Lock()
	e.server = srv
	e.mu.Unlock()
	return ends, nil
}

// endsOf returns the ends of all streams.
func endsOf(srv *server.Server) (map[string]datadir.End, error) {
	account, err := srv.JszAccount(&server.JSzOptions{Account: server.DEFAULT_GLOBAL_ACCOUNT, Streams: true})
	if err != nil {
		return nil, err
	}
	ends := map[string]datadir.End{}
	for _, s := range account.Streams {
		ends[s.Name] = datadir.End{Last: s.State.LastSeq}
	}
	return ends, nil
}

// settled takes over what the directory has decided.
func (e *embedded) settled(ends map[string]datadir.End, reasons []string) {
	e.raised.Store(e.dir.Generation())
	if len(reasons) > 0 {
		e.cfg.log.Warn("positions from before are invalid, and clients that have one will be notified: "+strings.Join(reasons, "; "), "directory", e.dir.Path(), "generation", e.dir.Generation())
	}
	for name, end := range ends {
		m := e.markOf(name)
		m.acknowledged.Store(end.Last)
		m.noted.Store(end.Last)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open = true
}

// InProcessConn returns a connection to the server that runs at present, so that a client
// connects again to one that was restarted. Before it is known what that has lost, there is none: the client
// would take its streams for what they were.
func (e *embedded) InProcessConn() (net.Conn, error) {
	e.mu.Lock()
	srv, open := e.server, e.open
	e.mu.Unlock()
	if srv == nil || !open {
		return nil, errors.New("the embedded server is not running")
	}
	return srv.InProcessConn()
}

// running returns the server that runs at present, nil if none does.
func (e *embedded) running() *server.Server {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.server
}

// name returns the node's name.
func (e *embedded) name() string { return cmp.Or(e.cfg.name, e.dir.Name()) }

// generation returns the directory's generation. It may rise while the server is restarted.
func (e *embedded) generation() uint64 { return e.raised.Load() }

// room reports whether something can be stored: there is space, and a server.
func (e *embedded) room() bool { return !e.full.Load() && !e.restarting.Load() }

// acknowledged notes that a stream's sequence has been acknowledged.
func (e *embedded) acknowledged(stream string, seq uint64) {
	m := (*e.marks.Load())[stream]
	if m == nil {
		m = e.markOf(stream)
	}
	for old := m.acknowledged.Load(); seq > old; old = m.acknowledged.Load() {
		if m.acknowledged.CompareAndSwap(old, seq) {
			break
		}
	}
	if e.asleep.Load() || seq >= m.noted.Load()+noteMost {
		e.poke()
	}
}

// markOf returns a stream's mark, which it adds if there is none.
func (e *embedded) markOf(stream string) *endMark {
	for {
		old := e.marks.Load()
		if m := (*old)[stream]; m != nil {
			return m
		}
		marks, m := maps.Clone(*old), &endMark{}
		marks[stream] = m
		if e.marks.CompareAndSwap(old, &marks) {
			return m
		}
	}
}

// poke wakes the keeper.
func (e *embedded) poke() {
	select {
	case e.wake <- struct{}{}:
	default: // it has not looked yet
	}
}

// serverFailed is called by the server, perhaps under its locks.
func (e *embedded) serverFailed() {
	e.failed.Store(true)
	e.poke()
}

// close ends the server and marks the directory as clean. Clients must have been closed. If ctx
// ends first, the directory is as after a kill.
func (e *embedded) close(ctx context.Context) error {
	close(e.stop)
	ended := make(chan error, 1)
	go func() {
		<-e.done
		clean := e.illness() == ""
		e.shutdown()
		ended <- e.dir.Close(clean, e.highest())
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return &datadir.Fault{Dir: e.dir.Path(), Err: ctx.Err()}
	}
}

// shutdown ends the server that runs, if there is one.
func (e *embedded) shutdown() {
	e.mu.Lock()
	srv := e.server
	e.server, e.open = nil, false
	e.mu.Unlock()
	if srv != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
	}
}

// illness returns what is wrong with the server, "" if nothing is.
func (e *embedded) illness() string {
	srv := e.running()
	if srv == nil {
		return "it is not running"
	}
	for _, fault := range srv.Healthz(&server.HealthzOptions{Details: true}).Errors {
		// A stream that could not be read is no reason: it is not better after a restart.
		if fault.Type != server.HealthzErrorStream || strings.Contains(fault.Error, "write error") {
			return fault.Error
		}
	}
	return ""
}

// highest returns the highest acknowledged sequence of each stream.
func (e *embedded) highest() map[string]uint64 {
	all := map[string]uint64{}
	for name, m := range *e.marks.Load() {
		all[name] = m.acknowledged.Load()
	}
	return all
}

// NodeName returns the node's name: the configured one or, of a single node, the one that its
// directory has.
func (e *Engine) NodeName() string {
	if e.embedded != nil {
		return e.embedded.name()
	}
	return e.cfg.Name
}
