package loop

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/local"
	"sluice/gateway/rate"
	"sluice/gateway/wire/deflate"
	"sluice/poller"
)

// loops are event loops behind a listener on loopback, whose clients speak plain.
type loops struct {
	gauges
	set       *Set
	space     *channel.Space
	publisher *engine.Publisher
	logs      *channel.Budget
	histories *channel.Budget
	endpoint  clienttest.Endpoint
	admitted  atomic.Int64 // connections, those on their way to a loop included
	failed    chan error
	once      sync.Once
	stop      func(context.Context) (ended bool, err error)
}

// loopsConfig is the configuration of loops: zero is the default, negative is off.
type loopsConfig struct {
	Loops                                                                int
	MaxMessage, MaxPending                                               int // bytes
	ChannelBuffer, MaxBuffered, SendBuffer                               int // bytes
	MaxChannels, MaxFragments, History, HistoryBytes                     int
	MessageRate, ControlRate, ChannelRate                                int // a second
	PingInterval, PongTimeout                                            time.Duration
	WriteTimeout, CloseTimeout, MessageTimeout, LoopTimeout, BatchWindow time.Duration
	DrainDuration                                                        time.Duration
	StopOver                                                             time.Duration // the loops stop at a pace, while no time passes
	Skips                                                                bool          // slow subscribers skip to the newest publication
	Filter                                                               func(channel string, payload []byte, binary bool, conn uint64) bool
	Engine                                                               engine.Engine
	Remote                                                               channel.Attacher // makes the space remote
	Logger                                                               *slog.Logger
	RealSeconds                                                          bool             // pass for the loops and the channels; else none does before the test ends
	Seconds                                                              <-chan time.Time // the watchdog's, instead
}

// compressors are those of all tests: each takes a megabyte.
var compressors = deflate.New(1, 16)

// set fills in what was left zero, and returns the loops' configuration.
func (cfg *loopsConfig) set() Config {
	cfg.Loops, cfg.History = cmp.Or(cfg.Loops, 2), cmp.Or(cfg.History, 100)
	cfg.ChannelBuffer, cfg.MaxBuffered, cfg.MaxChannels = cmp.Or(cfg.ChannelBuffer, 256<<10), cmp.Or(cfg.MaxBuffered, 512<<20), cmp.Or(cfg.MaxChannels, 1000)
	cfg.MaxMessage, cfg.MaxPending, cfg.MaxFragments = cmp.Or(cfg.MaxMessage, 64<<10), cmp.Or(cfg.MaxPending, 256<<10), cmp.Or(cfg.MaxFragments, 64)
	cfg.SendBuffer, cfg.WriteTimeout = cmp.Or(cfg.SendBuffer, 64<<10), cmp.Or(cfg.WriteTimeout, 10*time.Second)
	if cfg.Engine == nil {
		cfg.Engine = local.Engine{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError + 1}))
	}
	return Config{
		Loops: cfg.Loops, BatchWindow: cfg.BatchWindow, DrainDuration: cfg.DrainDuration, PingInterval: cmp.Or(cfg.PingInterval, 25*time.Second), PongTimeout: cmp.Or(cfg.PongTimeout, 10*time.Second),
		WriteTimeout: cfg.WriteTimeout, CloseTimeout: cmp.Or(cfg.CloseTimeout, 5*time.Second),
		MessageTimeout: cmp.Or(cfg.MessageTimeout, 10*time.Second), LoopTimeout: cmp.Or(cfg.LoopTimeout, 30*time.Second),
		MaxMessage: cfg.MaxMessage, MaxFragments: cfg.MaxFragments, MaxPending: cfg.MaxPending, ChannelBuffer: cfg.ChannelBuffer,
		HeldMax:     max(cfg.MaxBuffered/2/cfg.Loops, cfg.MaxPending),
		Rates:       ClientRates{Message: rateOf(cfg.MessageRate, 100), Control: rateOf(cfg.ControlRate, 10)},
		Compressors: compressors,
		Skips:       func(string) bool { return cfg.Skips }, Filter: cfg.Filter,
		Engine: cfg.Engine, Variants: plainVariants, Logger: cfg.Logger, Seconds: cfg.Seconds,
	}
}

// rateOf returns the limits of n a second; of as many for other machines, and none for this one,
// where n is 0.
func rateOf(n, remote int) ClientRate {
	local := max(n, 0)
	remote = max(cmp.Or(n, remote), 0)
	return ClientRate{Remote: rate.PerSecond(remote, 2*remote), Local: rate.PerSecond(local, 2*local)}
}

// newLoops returns loops that do not run yet, whose channels have no history, and their
// configuration.
func newLoops(t testing.TB, cfg *loopsConfig) (*loops, Config) {
	of := cfg.set()
	s := &loops{failed: make(chan error, 1), logs: channel.NewBudget(cfg.MaxBuffered / 8 * 3), histories: channel.NewBudget(cfg.MaxBuffered / 8)}
	s.t = t
	s.space = channel.NewSpace(cfg.ChannelBuffer, cfg.MaxChannels, s.logs)
	s.space.LimitRate(max(cfg.ChannelRate, 0), 0)
	s.publisher = engine.NewPublisher(of.Engine, s.space, cfg.MaxMessage)
	of.Space, of.Admission, of.Clock, of.Failed = s.space, s, s.clock.Now, func(err error) {
		select {
		case s.failed <- err:
		default:
		}
	}
	return s, of
}

// startLoops runs loops until the test ends, and then sees that nothing is left of their
// clients.
func startLoops(t testing.TB, cfg loopsConfig) *loops {
	t.Helper()
	return serveLoops(t, cfg, *clienttest.OverTLS)
}

// startLoopsTLS is startLoops with clients that speak TLS.
func startLoopsTLS(t testing.TB, cfg loopsConfig) *loops {
	t.Helper()
	return serveLoops(t, cfg, true)
}

func serveLoops(t testing.TB, cfg loopsConfig, secured bool) *loops {
	t.Helper()
	every := time.Hour // longer than the test
	if cfg.RealSeconds {
		every = time.Second
	}
	seconds, trims := time.NewTicker(every), time.NewTicker(every)
	if cfg.Seconds == nil {
		cfg.Seconds = seconds.C
	}
	s, of := newLoops(t, &cfg)
	kept := channel.Keep{Count: max(cfg.History, 0), TTL: time.Minute.Milliseconds()}
	s.space.KeepHistory(channel.History{Of: func(string) channel.Keep { return kept }, Bytes: cmp.Or(cfg.HistoryBytes, 1<<20), Budget: s.histories}, time.Now().UnixMilli())
	if cfg.Remote != nil {
		s.space.Remote(cfg.Remote, nil)
	}
	var err error
	if s.set, err = New(of); err != nil {
		t.Fatal(err)
	}
	s.all = s.set.loops
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := poller.Tune(l.(*net.TCPListener), poller.Options{SendBuffer: cfg.SendBuffer, NotsentLowat: -1, UserTimeout: -1, NoDelay: true}); err != nil {
		t.Fatal(err)
	}
	s.endpoint = clienttest.Endpoint{Addr: l.Addr().String(), Secured: secured, Quiet: s.quiet}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { s.greet(c.(*net.TCPConn)) })
		}
	})
	serving.Go(func() {
		for {
			select {
			case now := <-trims.C:
				s.space.Trim(now.UnixMilli())
			case <-s.set.stopped:
				return
			}
		}
	})
	s.stop = func(ctx context.Context) (bool, error) {
		if cfg.StopOver == 0 {
			s.clock.Start()
		}
		seconds.Reset(time.Second) // connections that do not end in order end by their deadlines
		l.Close()                  // ignored: nobody connects any more
		defer serving.Wait()
		return s.set.Stop(ctx, cfg.StopOver)
	}
	t.Cleanup(s.shutdown)
	return s
}

// shutdown stops the loops, and sees that nothing is left. A second call does nothing.
func (s *loops) shutdown() {
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
		defer cancel()
		if _, err := s.stop(ctx); err != nil {
			s.t.Errorf("the loops do not stop: %v", err)
		}
		for range 8 { // once round all shards
			s.space.Trim(time.Now().Add(time.Hour).UnixMilli())
		}
		for what, n := range map[string]int{
			"connections": int(s.admitted.Load()), "channels": s.space.Channels(), "bytes of logs": s.logs.Used(), "bytes of histories": s.histories.Used(),
		} {
			if n != 0 {
				s.t.Errorf("%d %s are left over", n, what)
			}
		}
		s.wantLoopsEmpty()
	})
}

// greet reads a request, and hands its connection to a loop.
func (s *loops) greet(tcp *net.TCPConn) {
	c := net.Conn(tcp)
	tcp.SetDeadline(time.Now().Add(clienttest.Patience)) // ignored: then a test may hang
	if s.endpoint.Secured {
		c = NewSecure(nil, tcp, clienttest.TestTLS())
	}
	in := bufio.NewReader(c)
	r, err := http.ReadRequest(in)
	if err != nil {
		c.Close() // ignored: the client may be gone
		return
	}
	early, _ := in.Peek(in.Buffered()) // cannot fail
	h, head := plainHello(r)
	fd, sec, err := Detach(c)
	if err != nil {
		s.t.Errorf("the descriptor stays with package net: %v", err)
		return
	}
	s.admitted.Add(1)
	compressed := r.Header.Get("Sec-WebSocket-Extensions") != "" || r.Header.Get("Accept-Encoding") != ""
	if compressed && h.Variant == plainStream {
		head = strings.Replace(head, "Connection: close", "Connection: close\r\nContent-Encoding: gzip", 1)
	} else if compressed {
		head = strings.TrimSuffix(head, "\r\n") + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
	}
	s.set.Arrive(&Arrival{Compressed: compressed, Hello: h, FD: fd, Secure: sec, Client: tcp.RemoteAddr().(*net.TCPAddr).AddrPort(), Response: []byte(head), Early: early, From: s})
}

// Leave and NotArrived implement Origin, Left and Blame Admission.
func (s *loops) Leave()           {}
func (s *loops) NotArrived(error) {}
func (s *loops) Left(Seat, bool)  { s.admitted.Add(-1) }
func (s *loops) Taken(netip.AddrPort, bool) Seat {
	s.admitted.Add(1)
	return 0
}
func (s *loops) Blame(Seat) {}

func (s *loops) Endpoint() clienttest.Endpoint { return s.endpoint }

// publish publishes text from outside.
func (s *loops) publish(name, text string) channel.Receipt {
	s.t.Helper()
	r, err := s.tryPublish(clienttest.Patience, name, text)
	if err != nil {
		s.t.Fatalf("publish into %q: %v", name, err)
	}
	return r
}

// tryPublish publishes text from outside, and waits for room no longer than wait.
func (s *loops) tryPublish(wait time.Duration, name, text string) (channel.Receipt, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	return s.publisher.Publish(ctx, 0, name, channel.Publication{Payload: []byte(text)})
}

func (s *loops) connections() int64 { return s.admitted.Load() }

// wantConnections waits until so many connections are there.
func (s *loops) wantConnections(n int64) {
	s.t.Helper()
	clienttest.WaitFor(s.t, fmt.Sprintf("%d connections to be there", n), func() bool { return s.connections() == n })
}

// publishersWaiting counts the publishers that a channel refused and that have not tried again.
func (s *loops) publishersWaiting(name string) int {
	if ch := s.space.Find(name); ch != nil {
		return ch.Waiting()
	}
	return 0
}
