package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/gobwas/httphead"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"sluice/poller"
)

// fleet is all subscribers of a run, spread over the receiving loops.
type fleet struct {
	// Set at construction.
	target target   // what concerns all nodes, and the first of them
	nodes  []target // all of them
	clock  clock
	loops  []*loop
}

// goodbye is the Close frame that a subscriber leaves with: 1000.
var goodbye = maskedFrame(ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))

// newFleet starts n loops for connections to one server.
func newFleet(t target, n int) (*fleet, error) { return newFleetOf([]target{t}, n) }

// newFleetOf starts n loops for connections to several nodes.
func newFleetOf(nodes []target, n int) (*fleet, error) { return newFleetAt(newClock(), nodes, n) }

// newFleetAt is newFleetOf for a fleet that shares its clock with others.
func newFleetAt(c clock, nodes []target, n int) (*fleet, error) {
	f := &fleet{target: nodes[0], nodes: nodes, clock: c}
	for range n {
		l, err := newLoop(f.clock, f.target, len(nodes))
		if err != nil {
			f.close()
			return nil, err
		}
		f.loops = append(f.loops, l)
	}
	return f, nil
}

// dialing is one connecting of many subscribers.
type dialing struct {
	connections int
	outstanding int  // how many may be under way at a time
	keepGoing   bool // count failures, else end at the first

	// What came out of it.
	latency  *hdr.Histogram // connect and upgrade, microseconds
	elapsed  time.Duration
	failed   int64
	firstErr error
	done     atomic.Int64 // for the progress line
}

// dial opens the connections and hands each to a loop. It returns the first
// failure, unless d says to keep going.
func (f *fleet) dial(ctx context.Context, d *dialing) error {
	if err := checkDescriptors(d.connections + d.outstanding); err != nil {
		return err
	}
	d.latency = newLatency()
	var mu sync.Mutex // guards d's outcome
	begin := time.Now()
	err := parallel(ctx, d.outstanding, d.connections, func(ctx context.Context, i int) error {
		took, err := f.dialOne(ctx, i)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			d.done.Add(1)
			d.latency.RecordValue(min(took, latencyMax).Microseconds()) // ignored: within the bounds
			return nil
		case ctx.Err() != nil:
			return nil // interrupted: neither open nor failed
		}
		err = fmt.Errorf("connection %d of %d: %w", i+1, d.connections, err)
		if d.failed++; d.failed == 1 {
			d.firstErr = err
		}
		if d.keepGoing {
			return nil
		}
		return err
	})
	d.elapsed = time.Since(begin)
	return err
}

// parallel calls f with 0 to n-1 on so many goroutines, until n, an error or the end of ctx. It
// returns the first error of f.
func parallel(ctx context.Context, goroutines, n int, f func(ctx context.Context, i int) error) (first error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		next atomic.Int64
		once sync.Once
		wg   sync.WaitGroup
	)
	for range min(goroutines, n) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := f(ctx, i); err != nil {
					once.Do(func() { first = err })
					cancel()
				}
			}
		})
	}
	wg.Wait()
	return first
}

func (f *fleet) dialOne(ctx context.Context, i int) (time.Duration, error) {
	begin := time.Now()
	node := f.target.audience.round(i) % len(f.nodes)
	c, early, err := f.nodes[node].open(ctx, i)
	took := time.Since(begin)
	if err != nil {
		return 0, err
	}
	if f.target.once {
		return took, c.Close()
	}
	fd, secure, err := detach(c)
	if err != nil {
		return 0, err
	}
	l := f.loops[i/len(f.nodes)%len(f.loops)]
	k := &conn{fd: fd, secure: secure, stream: f.target.audience.stream(i), node: node}
	k.session, err = f.target.audience.session(i)
	l.do(func() {
		if e := l.add(k, early); err == nil {
			err = e
		}
		if err == nil && k.cut && k.session != nil {
			err = errors.New("the server closed the connection at once; its log may say why")
		}
		if err == nil && k.session != nil {
			if since := f.target.audience.since; since != nil {
				k.stands = standing{true, since[k.stream].offset}
			}
			err = k.write(k.session.flush())
		}
	})
	if k.session == nil {
		return took, err
	}
	if err == nil {
		err = k.session.wait(ctx, f.target.timeout)
	}
	if err != nil {
		l.do(func() { l.refuse(k) })
	}
	return time.Since(begin), err
}

// begin opens the account of a phase on every loop, for connections that are there and
// for those that are to come, if any are.
func (f *fleet) begin(p phase, toCome int) {
	for i, l := range f.loops {
		room := (toCome + len(f.loops) - 1 - i) / len(f.loops)
		l.do(func() { l.begin(p, room) })
	}
}

// delivered counts the messages of the present phase so far that live
// connections have got.
func (f *fleet) delivered() (n int64) {
	for _, l := range f.loops {
		n += l.progress.Load()
	}
	return n
}

// totalReads counts the reads that brought something since the phase began.
func (f *fleet) totalReads() (n int64) {
	for _, l := range f.loops {
		l.do(func() { n += l.reads })
	}
	return n
}

// live counts the connections that the server has not ended.
func (f *fleet) live() (n int64) {
	for _, l := range f.loops {
		n += l.live.Load()
	}
	return n
}

// err returns the failure of a loop, if one has failed.
func (f *fleet) err() error {
	for _, l := range f.loops {
		select {
		case err := <-l.deaf:
			l.deaf <- err // for the next one who asks
			return fmt.Errorf("a receiving loop of the tester failed: %w", err)
		default:
		}
	}
	return nil
}

// close ends all connections and loops.
func (f *fleet) close() error {
	var errs []error
	for _, l := range f.loops {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}

// dial connects from the i-th source address.
func (t target) dial(ctx context.Context, i int) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: -1, Timeout: t.timeout} // 15,000 keep-alive timers would be load of their own
	if t.sources > 0 {
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%t.sources))}
	}
	return dialer.DialContext(ctx, "tcp", t.addr)
}

// open connects from the i-th source address and upgrades. It returns the bytes
// that came behind the handshake as well.
func (t target) open(ctx context.Context, i int) (net.Conn, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	tcp, err := t.dial(ctx, i)
	if err != nil {
		return nil, nil, failure{causeConnect, fmt.Errorf("%w; is a server listening there? (--url)", err)}
	}
	if t.bare {
		return tcp, nil, nil
	}
	deadline, _ := ctx.Deadline()
	tcp.SetDeadline(deadline) // ignored: a socket that cannot have a deadline fails in what follows
	c := tcp
	if t.url.Scheme == "wss" || t.url.Scheme == "https" {
		if c, err = t.secured(tcp); err != nil {
			tcp.Close() // ignored: the error that matters is err
			return nil, nil, failure{causeTLS, err}
		}
	}
	introduce := t.upgrade
	if t.protocol == SSE {
		introduce = t.request
	}
	early, err := introduce(c)
	if err != nil {
		tcp.Close() // ignored: the error that matters is err
		return nil, nil, failure{causeUpgrade, err}
	}
	tcp.SetDeadline(time.Time{}) // ignored: as above
	return c, early, nil
}

// failure is an error and the step that it happened in.
type failure struct {
	cause cause
	error
}

func (f failure) Unwrap() error { return f.error }

// cause is a step of a connection, as figures call it.
type cause string

const (
	causeConnect cause = "connect"
	causeTLS     cause = "tls"
	causeUpgrade cause = "upgrade"
	causeMessage cause = "message" // sending it, and getting it back
	causeClose   cause = "close"
)

// offer asks for messages that are compressed by themselves, so that all connections get the same.
var offer = func() (o httphead.Option) {
	o.Name = []byte("permessage-deflate")
	o.Parameters.Set([]byte("server_no_context_takeover"), nil)
	o.Parameters.Set([]byte("client_no_context_takeover"), nil)
	return o
}()

func (t target) upgrade(c net.Conn) (early []byte, err error) {
	dialer := ws.Dialer{}
	if t.audience != nil && t.audience.dialect.subprotocol() != "" {
		dialer.Protocols = []string{t.audience.dialect.subprotocol()}
	}
	if t.compress {
		dialer.Extensions = []httphead.Option{offer}
	}
	br, hs, err := dialer.Upgrade(c, t.url)
	if t.once && errors.Is(err, ws.ErrHandshakeBadSecAccept) {
		return nil, nil // the fixed answer of the bare server: a 101, which is all that is asked of it
	}
	if err != nil {
		return nil, fmt.Errorf("upgrade %s: %w", t.url, explainUpgrade(err))
	}
	if len(dialer.Protocols) > 0 && hs.Protocol != dialer.Protocols[0] {
		return nil, fmt.Errorf("upgrade %s: the server does not speak the subprotocol %s; check --path", t.url, dialer.Protocols[0])
	}
	if t.compress && len(hs.Extensions) == 0 {
		return nil, fmt.Errorf("upgrade %s: the server did not agree to compress (permessage-deflate); turn it on there (sluice serve --compression shared)", t.url)
	}
	if br != nil {
		early, err = takeBuffered(br)
		ws.PutReader(br)
		if err != nil {
			return nil, err
		}
	}
	if t.hello != "" {
		if err := wsutil.WriteClientText(c, []byte(t.hello)); err != nil {
			return nil, fmt.Errorf("send --hello: %w", err)
		}
	}
	return early, nil
}

// takeBuffered returns what br has read already.
func takeBuffered(br *bufio.Reader) ([]byte, error) {
	p := make([]byte, br.Buffered())
	_, err := io.ReadFull(br, p)
	return p, err
}

// explainUpgrade says what a refused upgrade means.
func explainUpgrade(err error) error {
	var status ws.StatusError
	switch {
	case errors.As(err, &status):
		return fmt.Errorf("the server responded with status %d instead of 101; check --path", int(status))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the server closed the connection instead of responding; its log may say why")
	case errors.Is(err, ws.ErrMalformedResponse), errors.Is(err, ws.ErrHandshakeBadProtocol):
		return fmt.Errorf("the response is not HTTP/1.1 (%w); use a wss:// URL if the server speaks TLS, or check the port (--url)", err)
	}
	return err
}

// checkDescriptors reports whether this process may open n connections.
func checkDescriptors(n int) error {
	const reserve = 64 // files, pollers, publishers
	limit, err := poller.DescriptorLimit()
	if err != nil {
		return err
	}
	if n+reserve > limit {
		return fmt.Errorf("%d connections need %d file descriptors, and the limit is %d: raise it with ulimit -n, or open fewer connections",
			n, n+reserve, limit)
	}
	return nil
}
