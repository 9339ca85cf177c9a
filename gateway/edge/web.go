package edge

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/edge/admit"
	"sluice/gateway/loop"
	"sluice/gateway/route"
)

// web is the net/http server inside the process that answers whatever is no
// upgrade. It gets connections from the handshake stage with the bytes that were
// read already, and answers one request on each: an upgrade is always a
// connection's first request.
type web struct {
	server *Server
	http   *http.Server
	places *places
	queue  chan net.Conn
	coming atomic.Int64 // requests that may be for a loop, and are not at the passage
	ended  chan struct{}
	once   sync.Once
	served sync.WaitGroup
	kept   kept
}

// webTimeout bounds the reading of a request and the writing of its answer.
const webTimeout = 10 * time.Second

func newWeb(s *Server) *web {
	w := &web{
		server: s,
		places: newPlaces(s, s.cfg.MaxHandshakes),
		queue:  make(chan net.Conn, s.cfg.MaxHandshakes),
		ended:  make(chan struct{}),
		kept:   kept{server: s, conns: make(map[*webConn]struct{}), addresses: make(map[admit.Key]int)},
	}
	evened := evenly(s.publicHandler())
	w.http = &http.Server{
		Handler:        http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.contained(evened, rw, r) }),
		ReadTimeout:    webTimeout,
		WriteTimeout:   webTimeout,
		IdleTimeout:    keptIdle,
		ConnState:      w.state,
		MaxHeaderBytes: headBytes,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, webConnKey{}, c)
		},
		ErrorLog: slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
	w.served.Add(1)
	go func() {
		defer w.served.Done()
		w.http.Serve((*webListener)(w)) // ignored: it ends when the listener does
	}()
	return w
}

// evenly makes good for two things in which net/http differs from what is promised here.
// An absolute target without a path means "/" (RFC 9110 section 4.2.3). And a client that
// holds its body back until it is asked for it, and is answered without, is not waited for
// until webTimeout.
func evenly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "" {
			r.URL.Path = "/"
		}
		next.ServeHTTP(w, r)
		if r.Header.Get("Expect") != "" {
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(answerTimeout)) // ignored: it was taken from net/http
		}
	})
}

// contained serves a request. A panic is counted, logged and blamed as in a handshake;
// net/http ends the connection.
func (w *web) contained(next http.Handler, rw http.ResponseWriter, r *http.Request) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p != http.ErrAbortHandler {
			c := r.Context().Value(webConnKey{}).(*webConn)
			w.server.survive(p, c.client)
			w.server.stats.panics.Add(1)
			w.server.admission.Blame(c.seat, time.Now().UnixMilli())
		}
		panic(http.ErrAbortHandler)
	}()
	rw.Header().Set("Connection", "close") // unless the connection is kept
	if c := r.Context().Value(webConnKey{}).(*webConn); !w.kept.again(c, rw) {
		return
	}
	next.ServeHTTP(rw, r)
}

var rejectBusy = route.NewReject(http.StatusServiceUnavailable, "http_busy",
	"Too many concurrent requests.").WithRetry(1)

// webWait is how long a request waits for its turn: a browser whose event stream
// is refused gives up for good, and when everybody comes back at once a place is
// free within milliseconds. Half of the handshakes' places may wait so, because
// slow readers of answers can keep net/http busy for longer.
const webWait = time.Second

// take hands a connection of which n bytes were read to net/http, at once or on a
// goroutine that waits for a place.
func (w *web) take(g *greeting, n int) *route.Reject {
	if g.link() != nil {
		return rejectDescriptors
	}
	x := newWebPlace(g)
	if !w.places.take(x) {
		return rejectBusy
	}
	g.requesting = x
	loop.PlantGreeting("take")
	select {
	case <-x.ready:
		w.hand(g, x, n)
		return nil
	default:
	}
	go g.contained(func() {
		t := time.NewTimer(webWait)
		defer t.Stop()
		select {
		case <-x.ready:
		case <-t.C:
		case <-w.server.ending:
		}
		if w.places.giveUp(x) {
			g.requesting = nil
			g.refuse(rejectBusy)
			return
		}
		w.hand(g, x, n)
	})
	return nil
}

// hand gives net/http a connection that has a place.
func (w *web) hand(g *greeting, x *webPlace, n int) {
	w.server.stats.outcome(outcomeHTTP)
	if g.until.IsZero() {
		g.until = time.Now().Add(g.door.deadline(n))
	}
	c := &webConn{Conn: g.conn, web: w, door: g.door, keeping: keeping{place: x}, shared: g.proxied == byForwarded, inherits: g.door.inherits, here: g.door.loopback && g.client.Addr().IsLoopback(), early: append([]byte(nil), g.buf[:n]...),
		until: g.until, introduced: g.introduced, client: g.client, told: g.told, seat: g.seat, refusal: g.refusal}
	c.sent, c.read = c.early, len(c.early)
	g.conn.SetDeadline(time.Time{}) // ignored: then reading fails
	loop.PlantGreeting("hand")
	g.seat, g.requesting = 0, nil
	c.coming()
	w.queue <- c // has room for as many as there are places
	g.Leave()
}

// close ends the server. The handshake stage must be empty.
func (w *web) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if w.http.Shutdown(ctx) != nil {
		w.http.Close() // ignored: what is left is cut off
	}
	w.served.Wait()
	for len(w.queue) > 0 { // nobody adds any more: the stage is empty
		(<-w.queue).Close() // ignored: there is nobody to tell
	}
}

// webListener feeds the http.Server from the queue.
type webListener web

func (l *webListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

func (l *webListener) Close() error {
	l.once.Do(func() { close(l.ended) })
	return nil
}

func (l *webListener) Addr() net.Addr { return &net.TCPAddr{} }

// webConn is a connection whose first bytes were read already.
type webConn struct {
	net.Conn
	web      *web
	door     *door
	keeping  keeping
	arriving loop.Arrival
	until    time.Time // all of a request has to be there by then; zero while none is expected
	once     sync.Once

	shared     bool        // a proxy sends the requests of several clients
	inherits   bool        // it has the listener's options
	here       bool        // it is from this machine, and the listener is for nobody else
	counts     atomic.Bool // it is among web.coming
	lasts      bool        // its answer goes on for minutes: it has no place, and no deadline
	client     netip.AddrPort
	told       bool // a proxy has passed on the client's address
	introduced bool // see greeting
	refusal    *route.Reject
	seat       admit.Seat // 0 once it is given on

	sentMu sync.Mutex // net/http reads ahead while a request is answered
	early  []byte     // guarded by sentMu: what is to be read first
	sent   []byte     // guarded by sentMu: what was read of a request, and after it, as far as it fits into a head's buffer
	read   int        // guarded by sentMu: how many bytes that was
}

// headEnd ends the head of a request (RFC 9112 section 2.1). One with bare line feeds has none: its connection is not kept.
var headEnd = []byte("\r\n\r\n")

// webConnKey finds a request's webConn in its context.
type webConnKey struct{}

func (c *webConn) Read(p []byte) (int, error) {
	if n := c.readEarly(p); n > 0 {
		return n, nil
	}
	n, err := c.Conn.Read(p)
	c.sentMu.Lock()
	defer c.sentMu.Unlock()
	if len(c.sent) <= headBytes {
		c.sent = append(c.sent, p[:n]...)
	}
	c.read += n
	return n, err
}

// readEarly reads what was there before net/http was.
func (c *webConn) readEarly(p []byte) (n int) {
	c.sentMu.Lock()
	defer c.sentMu.Unlock()
	if n = copy(p, c.early); n > 0 {
		c.early = c.early[n:]
	}
	return n
}

// forget forgets a request that was served, before its answer, except what has come after it: that is the next one's. It
// returns false if it does not know where that begins.
func (c *webConn) forget(body int) bool {
	c.sentMu.Lock()
	defer c.sentMu.Unlock()
	head := bytes.Index(c.sent, headEnd)
	n := head + len(headEnd) + body
	if head < 0 || c.read != max(n, len(c.sent)) {
		return false
	}
	n = min(n, len(c.sent))
	c.read = len(c.sent) - n
	if c.early == nil {
		c.sent = append(c.sent[:0], c.sent[n:]...)
		return true
	}
	if c.sent = slices.Clone(c.sent[n:]); len(c.early) == 0 { // it lay in the same bytes
		c.early = nil
	}
	return true
}

// SetReadDeadline never goes beyond the end of the handshake, unless the answer lasts.
func (c *webConn) SetReadDeadline(t time.Time) error {
	if c.lasts {
		return c.Conn.SetReadDeadline(t)
	}
	if !c.until.IsZero() && (t.IsZero() || t.After(c.until)) {
		t = c.until
	}
	return c.web.kept.setReadDeadline(c, t)
}

// Write passes over what net/http says to half a request that moves.
func (c *webConn) Write(p []byte) (int, error) {
	if c.web.kept.leaves(c) {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// CloseWrite lets net/http end an answer without a reset.
func (c *webConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c *webConn) Close() error {
	if c.web.kept.closes(c) {
		c.pass()
		return nil
	}
	err := c.Conn.Close()
	c.Leave()
	return err
}

// Leave gives the place back. Later calls do nothing.
func (c *webConn) Leave() {
	c.once.Do(func() {
		c.arrived()
		c.web.server.admission.Leave(c.seat)
		c.web.places.leave(c.web.kept.end(c))
	})
}

// coming notes that a request is there, which may be for a loop.
func (c *webConn) coming() {
	if !c.counts.Swap(true) {
		c.web.coming.Add(1)
	}
}

// arrived notes that the request is not on its way to the passage any more.
func (c *webConn) arrived() {
	if c.counts.Swap(false) {
		c.web.coming.Add(-1)
	}
}

// publicHandler serves what is no upgrade on the public listeners.
func (s *Server) publicHandler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.cfg.Routes {
		for _, st := range r.Streams {
			mux.HandleFunc(st.Path, s.serveStream(st))
		}
	}
	for _, r := range s.cfg.Routes {
		for _, p := range r.Posts {
			mux.HandleFunc(p.Path, s.servePost(p))
		}
	}
	mux.HandleFunc(pathHealth, func(w http.ResponseWriter, r *http.Request) { // of a connection that was kept: the stage answers others
		r.Context().Value(webConnKey{}).(*webConn).arrived()
		status, text := s.cfg.Health()
		http.Error(w, text, status)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		conn := r.Context().Value(webConnKey{}).(*webConn)
		conn.arrived()
		if conn.refusal != nil { // not a stream after all
			s.refuseHTTP(w, conn, conn.refusal)
			return
		}
		upgrades, _ := s.routeTo(r.URL.EscapedPath())
		switch {
		case s.demo(w, r, conn):
		case s.cfg.Page != nil && (r.URL.Path == "/" || upgrades == nil && (r.Method == http.MethodGet || r.Method == http.MethodHead)):
			s.cfg.Page.ServeHTTP(w, r)
		case upgrades != nil:
			w.Header().Set("Upgrade", "websocket")
			w.Header()["Connection"] = []string{"close", "Upgrade"}
			http.Error(w, "This is a WebSocket endpoint: connect to it with a WebSocket client.", http.StatusUpgradeRequired)
		case strings.HasPrefix(r.URL.Path, "/publish/"):
			http.Error(w, s.cfg.Names.Text("Not found: POST /publish is on the internal listener ({ServeInternal})."), http.StatusNotFound)
		default:
			http.NotFound(w, r)
		}
	})
	return mux
}

// NotArrived implements origin.
func (c *webConn) NotArrived(err error) { c.web.server.refused(notArrivedOutcome(err), c.client) }
