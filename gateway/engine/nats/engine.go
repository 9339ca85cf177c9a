package nats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/engine/local"
	"sluice/gateway/setting"

	natsgo "github.com/nats-io/nats.go"
)

// Engine implements engine.Engine and engine.Reporter.
type Engine struct {
	// Set at construction.
	cfg      Config
	log      *slog.Logger
	now      func() time.Time
	single   bool // the store is in this process, and there are no other nodes
	begun    time.Time
	local    local.Engine // of a single node: channels without a durable history
	durable  map[string]bool
	live     string // what subjects of live messages begin with
	lanes    []*lane
	embedded *embedded // nil in a cluster
	link     *link
	readers  *workers
	failed   chan error
	stop     chan struct{}
	joined   chan struct{} // closed when link is what it will be
	running  sync.WaitGroup

	// Atomic.
	streams    atomic.Pointer[streams] // nil until they are open, and if there are none
	opened     atomic.Bool
	nodes      atomic.Pointer[nodes] // nil until they are known, and of a single node
	answers    atomic.Pointer[func(request []byte, reply func([]byte))]
	moving     atomic.Bool // a single node's store is another process's yet: publications wait (move_store.go)
	usable     atomic.Bool // link can be used
	connected  atomic.Bool
	connection atomic.Uint64 // how often the connection broke
	closed     atomic.Bool
	counts     counts
	unread     atomic.Int64  // when there was a line about a message that cannot be read: uptime
	refusals   atomic.Int64  // channels whose subscription is refused
	verifying  atomic.Int64  // lanes that verify their subscriptions, and
	shed       atomic.Bool   // whether some were refused
	verified   atomic.Uint64 // the connection whose subscriptions were verified: its number and 1

	opening atomic.Bool

	sending sync.Mutex // of a single node: held by the lane that sends a batch
	looking sync.Mutex // connected changes
	outage  outage

	// Of a node that moves (move.go). held is of the old process; the others are of the new one, and set before GoOn.
	held         *holding
	ahead, taken *takenState
	before       heardBefore
	connection0  uint64 // Engine.connection when it subscribed
	goesOn       atomic.Bool

	wake chan struct{} // of the housekeeper
	// Owned by the housekeeper: when it did what it does, and the number of looks at streams.
	tried, round time.Time
	looked       int
}

// New returns an engine. That of a single node has opened its store, within ctx. That of a cluster connects
// to its servers later, and is Ready when they have answered.
func New(ctx context.Context, cfg Config) (_ *Engine, err error) {
	e := &Engine{
		cfg: cfg, log: cfg.Logger, now: cfg.Clock, single: cfg.DataDir != "", begun: time.Now(),
		local:   local.Engine{Space: cfg.Space, Present: cfg.Present},
		durable: make(map[string]bool), live: cmp.Or(cfg.Servers.Prefix, defaultPrefix) + ".ch.",
		failed: make(chan error, 1), stop: make(chan struct{}), joined: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	for _, h := range cfg.Histories {
		e.durable[h.Namespace] = h.Durable && h.Size > 0
	}
	e.moving.Store(e.single && cfg.After != nil)
	for range runtime.GOMAXPROCS(0) {
		e.lanes = append(e.lanes, newLane(e))
	}
	e.readers = startWorkers(&e.running)
	if !e.single {
		go e.join()
	} else if cfg.After != nil {
		go e.startLater()
	} else if err := e.start(ctx); err != nil {
		close(e.joined)
		_ = e.end(ctx) // ignored: the error that matters is the other one
		return nil, err
	} else {
		close(e.joined)
	}
	for _, l := range e.lanes {
		e.running.Go(l.send)
		e.running.Go(l.receive)
	}
	e.running.Go(e.keepHouse)
	return e, nil
}

// startAgain is how long a node waits that cannot open its directory, until it tries again.
const startAgain = time.Second

// A process that dies ends its part of a takeover before its lock of the directory is free, by the time that the kernel needs
// to close its files: so long the directory is tried again and again, and publications wait.
const (
	dyingPatience = time.Second
	dyingAgain    = 10 * time.Millisecond
)

// startLater starts a single node's own server when the process that has the directory has let go of it. If that fails, the
// engine stays away: connections are served, and a start that fails would end them.
func (e *Engine) startLater() {
	defer close(e.joined)
	defer e.arrived()
	select {
	case <-e.cfg.After:
	case <-e.stop:
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-e.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	for freed := time.Now(); ; {
		err := e.start(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		again := startAgain
		if e.embedded == nil && time.Since(freed) < dyingPatience {
			again = dyingAgain
		} else {
			e.arrived()
			e.log.Error("the data directory cannot be opened: publications with history fail until it can", "error", err)
		}
		if e.embedded != nil { // it was opened, and something else is wrong
			return
		}
		select {
		case <-e.stop:
			return
		case <-time.After(again):
		}
	}
}

// start starts a single node's own server.
func (e *Engine) start(ctx context.Context) (err error) {
	e.embedded, err = startEmbedded(embeddedConfig{
		dir: e.cfg.DataDir, name: e.cfg.Name, dataMax: e.cfg.DataMax, syncAlways: e.cfg.Sync == "always",
		maxMessage: e.cfg.MaxMessage, log: e.log, now: e.now, free: e.cfg.test.free,
	})
	if err == nil {
		err = e.connect(ctx, Servers{Prefix: e.cfg.Servers.Prefix}, e.embedded)
	}
	if err == nil {
		err = e.open(ctx)
	}
	e.usable.Store(err == nil)
	if err == nil {
		e.look()
	}
	return err
}

// join joins a cluster. It ends when the engine does, at the latest.
func (e *Engine) join() {
	defer close(e.joined)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-e.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := e.connect(ctx, e.cfg.Servers, nil)
	if err == nil {
		err = e.mayServe()
	}
	if err == nil {
		var n *nodes
		n, err = natsNodes(ctx, e.link.main, nodesConfig{
			id: e.cfg.NodeID, name: e.cfg.Name, prefix: cmp.Or(e.cfg.Servers.Prefix, defaultPrefix), lanes: e, present: e.cfg.Present,
			quiet: e.cfg.Takes, describe: e.cfg.Describe, logger: e.log, nameTaken: func() { e.fail(nameTaken(e.cfg.Name)) },
		})
		if e.nodes.Store(n); err == nil && e.goesOn.Load() {
			e.nodesGoOn(n)
		}
		if answer := e.answers.Load(); answer != nil {
			n.setAnswer(*answer)
		}
	}
	if err != nil {
		e.fail(err)
		return
	}
	e.usable.Store(true)
	e.look()
	e.wakeHousekeeper()
}

// mayServe uses the subject of no channel: if the user may not publish and subscribe to channels, denied is called now.
func (e *Engine) mayServe() error {
	sub, err := e.link.main.SubscribeSync(e.live + probeToken)
	if err == nil {
		_ = e.link.main.Publish(sub.Subject, nil) // ignored: the connection broke; it will show with a channel
		err = sub.Unsubscribe()
	}
	return err
}

// connect connects to the servers, or to the one in this process.
func (e *Engine) connect(ctx context.Context, to Servers, in natsgo.InProcessConnProvider) (err error) {
	events := linkEvents{down: e.down, up: e.up, slow: e.slow, full: e.full, denied: e.denied, closed: e.fail}
	if e.link, err = dial(ctx, to, in, e.cfg.MaxMessage, events, e.log); err != nil {
		return err
	}
	for _, l := range e.lanes {
		if _, err := e.link.main.ChanSubscribe(l.inbox+"*", l.answers); err != nil {
			return err
		}
	}
	return nil
}

// Ready reports whether the engine has begun to serve: its streams were open once.
func (e *Engine) Ready() bool { return e.opened.Load() }

// Failed reports what the engine cannot go on with.
func (e *Engine) Failed() <-chan error { return e.failed }

// fail reports that the engine cannot go on.
func (e *Engine) fail(err error) {
	if err == nil || e.closed.Load() {
		return
	}
	select {
	case e.failed <- err:
	default: // one is enough
	}
}

// denied ends the engine if it has no right that it cannot do without: what it publishes would be lost, or
// channels would be silent. It goes on without a channel's subscription and, where it has begun to serve, without
// JetStream's API.
func (e *Engine) denied(what, subject string) {
	if e.deniedLive(what, subject) {
		return
	}
	prefix := cmp.Or(e.cfg.Servers.Prefix, defaultPrefix)
	if !strings.HasPrefix(subject, "$JS.") || !e.opened.Load() {
		e.fail(setting.Error(fmt.Sprintf("the servers of {NATSURL} deny %s to %s: allow the user to publish and subscribe to %s.> and _INBOX.>, and to publish to $JS.API.>",
			setting.Literal(strings.ToLower(what)), setting.Literal(subject), setting.Literal(prefix))))
	}
}

// Close publishes what waits, if that is soon done, and ends the engine. It answers everybody.
func (e *Engine) Close(ctx context.Context) error {
	if e.closed.Swap(true) {
		return nil
	}
	draining, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, l := range e.lanes {
		l.drain(draining)
	}
	return e.end(ctx)
}

// end ends all goroutines, and what they use.
func (e *Engine) end(ctx context.Context) (err error) {
	close(e.stop)
	<-e.joined
	e.nodes.Load().close()
	for _, l := range e.lanes {
		l.close()
	}
	e.readers.close()
	if e.link != nil {
		e.link.close()
	}
	e.running.Wait()
	for _, l := range e.lanes {
		l.abandon()
	}
	if e.embedded != nil {
		err = e.embedded.close(ctx)
	}
	return err
}

// keeps reports whether a channel's history is stored.
func (e *Engine) keeps(name string) bool { return e.durable[e.cfg.NamespaceOf(name)] }

// Remote reports whether a channel is the engine's, and not only this node's: what channel.Space.Remote needs.
func (e *Engine) Remote(name string) bool { return !e.single || e.keeps(name) }

// lane returns the lane of a channel.
func (e *Engine) lane(name string) *lane { return e.lanes[laneOf(hash(name), len(e.lanes))] }

// bucket returns the bucket of a channel, of which publishers count their messages.
func bucket(name string) int { return bucketOf(hash(name)) }

// stream returns the stream of a channel with a stored history, nil if it is not open yet.
func (e *Engine) stream(name string) *stream { return e.streams.Load().of(name) }

// Attach implements engine.Engine.
func (e *Engine) Attach(ch *channel.Channel) {
	l := e.lane(ch.Name())
	l.post(func() { l.attach(ch) })
}

// Detach implements engine.Engine.
func (e *Engine) Detach(ch *channel.Channel) {
	l := e.lane(ch.Name())
	l.post(func() { l.detach(ch) })
}

// Fill implements engine.Engine.
func (e *Engine) Fill(ch *channel.Channel) {
	l := e.lane(ch.Name())
	l.post(func() { l.fill(ch) })
}

// look looks whether there is a connection.
func (e *Engine) look() {
	e.looking.Lock()
	defer e.looking.Unlock()
	e.connected.Store(e.usable.Load() && e.link.main.IsConnected())
	e.changed()
}

// down notes that the connection broke. It is called on a goroutine of the client's, as up and slow are.
func (e *Engine) down() {
	if !e.usable.Load() {
		return
	}
	e.connection.Add(1)
	e.doubt()
	e.look()
	for _, l := range e.lanes {
		l.post(l.down)
	}
}

// up notes that the connection is there again.
func (e *Engine) up() {
	if !e.usable.Load() {
		return
	}
	e.look()
	for _, l := range e.lanes {
		l.post(l.up)
	}
	e.nodes.Load().up()
	e.checkPositions()
	e.wakeHousekeeper()
}

func (e *Engine) wakeHousekeeper() {
	select {
	case e.wake <- struct{}{}:
	default: // it has not looked yet
	}
}

// unavailable returns an error of a stream as the engine's callers know it.
func unavailable(err error) error {
	if err == nil || errors.Is(err, engine.ErrUnavailable) || errors.Is(err, engine.ErrEpoch) {
		return err
	}
	return engine.ErrUnavailable
}
