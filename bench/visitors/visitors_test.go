package visitors

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/poller/leaktest"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/google/go-cmp/cmp"
)

const patience = 30 * time.Second

// quick is the usual pace, ten times as fast.
var quick = pace{stay: patience, backOff: usual.backOff / 10, lines: usual.lines / 10, ledger: usual.ledger / 10,
	settle: usual.settle / 10, overdue: patience, grace: usual.grace / 10, patience: patience}

func TestMain(m *testing.M) { leaktest.Main(m) }

// gateway speaks as much of the raw protocol as visitors need, and can be made to break its
// promises: to leave a record out, or to send it twice.
type gateway struct {
	t      *testing.T
	server *httptest.Server
	broken func(conn int, offset int, recalled bool) string // "", "skip" or "twice"

	mu       sync.Mutex
	head     int
	conns    []net.Conn // by the order in which they came; nil when closed
	queries  []string
	recalled int // records
	refusal  string
	held     chan struct{} // connections wait until it is closed; nil: they do not
}

func newGateway(t *testing.T) *gateway {
	g := &gateway{t: t, broken: func(int, int, bool) string { return "" }}
	g.server = httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(func() {
		g.mu.Lock()
		for _, c := range g.conns {
			if c != nil {
				c.Close()
			}
		}
		g.mu.Unlock()
		g.server.Close()
	})
	return g
}

func (g *gateway) serve(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	if held := g.held; held != nil {
		g.mu.Unlock()
		<-held
		g.mu.Lock()
	}
	if g.refusal != "" {
		g.mu.Unlock()
		http.Error(w, g.refusal, http.StatusForbidden)
		return
	}
	conn, _, _, err := ws.UpgradeHTTP(r, w)
	if err != nil { // the visitor may be gone
		g.mu.Unlock()
		return
	}
	index := len(g.conns)
	g.conns, g.queries = append(g.conns, conn), append(g.queries, r.URL.EscapedPath()+"?"+r.URL.RawQuery)
	if since := r.URL.Query().Get("since"); since == "now" {
		g.write(conn, fmt.Sprintf(`{"gap":false,"channel":"x","epoch":"e","offset":%d,"conn":"1"}`, g.head))
	} else {
		from, err := strconv.Atoi(strings.TrimPrefix(since, "e:"))
		if err != nil {
			g.t.Errorf("since=%s", since)
		}
		for offset := from + 1; offset <= g.head; offset++ {
			g.recalled++
			g.send(index, offset, true)
		}
	}
	g.mu.Unlock()
	io.Copy(io.Discard, conn) // until the visitor goes
	g.mu.Lock()
	g.conns[index] = nil
	g.mu.Unlock()
	conn.Close()
}

func (g *gateway) write(conn net.Conn, text string) {
	conn.SetWriteDeadline(time.Now().Add(patience))
	wsutil.WriteServerText(conn, []byte(text)) // ignored: the visitor may be gone
}

func (g *gateway) send(conn, offset int, recalled bool) {
	times := map[string]int{"": 1, "skip": 0, "twice": 2}[g.broken(conn, offset, recalled)]
	for range times {
		g.write(g.conns[conn], fmt.Sprintf(`{"channel":"x","epoch":"e","offset":%d,"prev":%d,"at":%d,"from":"api","data":"m"}`, offset, offset-1, time.Now().UnixMilli()))
	}
}

// publish sends a message to everybody who is there.
func (g *gateway) publish() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.head++
	for i, c := range g.conns {
		if c != nil {
			g.send(i, g.head, false)
		}
	}
}

// hold keeps connections from coming, until they may again.
func (g *gateway) hold(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if on {
		g.held = make(chan struct{})
		return
	}
	close(g.held)
	g.held = nil
}

// visit is a crowd that is visiting a gateway.
type visit struct {
	t     *testing.T
	in    *io.PipeWriter
	lines chan map[string]any
	ended chan error
}

func start(t *testing.T, g *gateway, req Request, pace pace) *visit {
	req.URL = "ws" + strings.TrimPrefix(g.server.URL, "http")
	first, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	in, commands := io.Pipe()
	out, written := io.Pipe()
	v := &visit{t: t, in: commands, lines: make(chan map[string]any, 1000), ended: make(chan error, 1)}
	go func() {
		err := run(t.Context(), in, written, pace)
		written.Close()
		in.Close()
		v.ended <- err
	}()
	go func() {
		defer close(v.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var line map[string]any
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				t.Errorf("%s: %v", lines.Bytes(), err)
			}
			v.lines <- line
		}
	}()
	v.command(string(first))
	return v
}

func (v *visit) command(line string) {
	v.t.Helper()
	if _, err := io.WriteString(v.in, line+"\n"); err != nil {
		v.t.Fatal(err)
	}
}

// want returns the first line that fits.
func (v *visit) want(why string, fits func(line map[string]any) bool) map[string]any {
	v.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-v.lines:
			if !ok {
				v.t.Fatalf("%s: the output has ended", why)
			}
			if fits(line) {
				return line
			}
		case <-timeout:
			v.t.Fatalf("%s: no such line", why)
		}
	}
}

// ledger waits for one that has received so much.
func (v *visit) ledger(received int) map[string]any {
	v.t.Helper()
	return v.want("a ledger", func(l map[string]any) bool { return l["type"] == "ledger" && l["received"] == float64(received) })
}

// end sends the visitors away.
func (v *visit) end(reason string) {
	v.t.Helper()
	v.in.Close()
	v.wantEnd(reason, nil)
}

func (v *visit) wantEnd(reason string, want error) {
	v.t.Helper()
	last := v.want("the end", func(l map[string]any) bool { return l["type"] == "end" })
	if last["reason"] != reason {
		v.t.Errorf("the reason is %q, want %q", last["reason"], reason)
	}
	for line := range v.lines {
		v.t.Errorf("after the end: %v", line)
	}
	if err := <-v.ended; !errors.Is(err, want) {
		v.t.Errorf("Run returned %v, want %v", err, want)
	}
}

func lit(line map[string]any) (n int) {
	b, err := base64.StdEncoding.DecodeString(line["dots"].(string))
	if err != nil {
		return -1
	}
	for _, x := range b {
		n += bits.OnesCount8(x)
	}
	return n
}

func TestEveryVisitorReceivesEverythingOnce(t *testing.T) {
	g := newGateway(t)
	g.publish() // before anybody comes: it is not theirs
	v := start(t, g, Request{Channel: "a/b", Token: "t&1", Count: 20}, quick)
	v.want("all to connect", func(l map[string]any) bool {
		return l["type"] == "connecting" && l["connected"] == 20.0 && l["of"] == 20.0
	})
	if l := v.want("all dots", func(l map[string]any) bool { return l["type"] == "open" }); lit(l) != 20 || l["dots"] != "//8P" {
		t.Errorf("open: %v, want the lowest 20 bits", l)
	}
	for range 10 {
		g.publish()
	}
	flashed := v.want("a flash", func(l map[string]any) bool { return l["type"] == "flash" })
	if n := lit(flashed); n < 1 || n > 20 {
		t.Errorf("%d have flashed", n)
	}
	l := v.ledger(200)
	if l["lost"] != 0.0 || l["repeated"] != 0.0 || l["p50"].(float64) <= 0 || l["p99"].(float64) < l["p50"].(float64) || l["p99"].(float64) > patience.Seconds() {
		t.Errorf("got %v", l)
	}
	v.end("They were sent away.")
	if want := "/ws/a%2Fb?format=json&mode=subscribe&token=t%261&since=now"; slices.ContainsFunc(g.queries, func(q string) bool { return q != want }) {
		t.Errorf("they asked for %q, want %s", g.queries, want)
	}
}

// A ledger that cannot see a fault would show no fault of the gateway's either.
func TestWhatIsLostOrRepeatedIsCounted(t *testing.T) {
	g := newGateway(t)
	g.broken = func(conn, offset int, _ bool) string {
		switch {
		case conn == 1 && (offset == 3 || offset == 4), conn == 2 && offset == 5:
			return "skip"
		case conn == 3 && offset == 6:
			return "twice"
		}
		return ""
	}
	v := start(t, g, Request{Count: 5}, quick)
	v.want("all to connect", func(l map[string]any) bool { return l["connected"] == 5.0 })
	for range 10 {
		g.publish()
	}
	l := v.want("the losses to be counted", func(l map[string]any) bool {
		return l["type"] == "ledger" && l["received"] == 48.0 && l["lost"].(float64) >= 3
	})
	if l["lost"] != 3.0 || l["repeated"] != 1.0 {
		t.Errorf("got %v, want 3 lost and 1 repeated", l)
	}
	v.end("They were sent away.")
}

func TestThoseWhoAreCutOffCatchUp(t *testing.T) {
	for _, test := range []struct {
		fault          string
		lost, repeated float64
	}{{"", 0, 0}, {"skip", 1, 0}, {"twice", 0, 1}} {
		t.Run("fault "+test.fault, func(t *testing.T) {
			g := newGateway(t)
			done := false
			g.broken = func(_, _ int, recalled bool) string { // once
				if !recalled || done {
					return ""
				}
				done = true
				return test.fault
			}
			v := start(t, g, Request{Count: 10}, quick)
			v.want("all to connect", func(l map[string]any) bool { return l["connected"] == 10.0 })
			g.publish()
			v.ledger(10)
			g.hold(true)
			v.command(`{"cut":4}`)
			v.want("4 to go dark", func(l map[string]any) bool { return l["type"] == "open" && lit(l) == 6 })
			for range 5 {
				g.publish()
			}
			g.hold(false)
			v.want("all to be there", func(l map[string]any) bool { return l["type"] == "open" && lit(l) == 10 })
			g.publish() // after a record that was left out, if it was the last one
			back := v.want("their report", func(l map[string]any) bool { return l["type"] == "back" })
			if after := back["after"].(float64); after < 0.04 || after > patience.Seconds() {
				t.Errorf("back after %v s, want the back-off", after)
			}
			delete(back, "after")
			g.mu.Lock()
			recalled := float64(g.recalled)
			g.mu.Unlock()
			caughtUp := recalled - test.lost
			if diff := cmp.Diff(map[string]any{"type": "back", "cut": 4.0, "caught_up": caughtUp, "lost": test.lost, "repeated": test.repeated}, back); diff != "" {
				t.Errorf("%q: %s", test.fault, diff)
			}
			if recalled != 20 {
				t.Errorf("%q: %v records were recalled, want 5 for each", test.fault, recalled)
			}
			v.command(`{"cut":0}`)
			if l := v.want("a report", func(l map[string]any) bool { return l["type"] == "back" }); l["cut"] != 0.0 {
				t.Errorf("nobody was to be cut off: %v", l)
			}
			v.end("They were sent away.")
		})
	}
}

func TestOneIsLeftToSeeWhatTheOthersMiss(t *testing.T) {
	g := newGateway(t)
	v := start(t, g, Request{Count: 3}, quick)
	v.want("all to connect", func(l map[string]any) bool { return l["connected"] == 3.0 })
	g.publish()
	v.ledger(3)
	v.command(`{"cut":1000}`)
	if l := v.want("their report", func(l map[string]any) bool { return l["type"] == "back" }); l["cut"] != 2.0 {
		t.Errorf("got %v, want 2 cut off", l)
	}
	v.end("They were sent away.")
}

func TestVisitorsLeave(t *testing.T) {
	t.Run("after their time", func(t *testing.T) {
		short := quick
		short.stay = 100 * time.Millisecond
		v := start(t, newGateway(t), Request{Count: 3}, short)
		v.wantEnd("Two minutes are over.", nil)
		v.in.Close()
	})
	t.Run("when they are refused", func(t *testing.T) {
		g := newGateway(t)
		g.refusal = "A token is needed."
		v := start(t, g, Request{Count: 3}, quick)
		v.wantEnd("The gateway refused them with 403: A token is needed.", nil)
		v.in.Close()
	})
	t.Run("when a command cannot be understood", func(t *testing.T) {
		v := start(t, newGateway(t), Request{Count: 3}, quick)
		v.command("cut")
		if l := v.want("the end", func(l map[string]any) bool { return l["type"] == "end" }); !strings.HasPrefix(l["reason"].(string), "a command: ") {
			t.Errorf("got %v", l)
		}
		if err := <-v.ended; err == nil {
			t.Error("no error")
		}
		v.in.Close()
	})
	t.Run("when nobody reads", func(t *testing.T) {
		g := newGateway(t)
		in, commands := io.Pipe()
		defer commands.Close()
		out, written := io.Pipe()
		out.Close()
		go fmt.Fprintf(commands, `{"url":%q,"count":3}`+"\n", "ws"+strings.TrimPrefix(g.server.URL, "http"))
		if err := Run(t.Context(), in, written); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("when the process is to end", func(t *testing.T) {
		g := newGateway(t)
		in, commands := io.Pipe()
		defer commands.Close()
		go fmt.Fprintf(commands, `{"url":%q,"count":3}`+"\n", "ws"+strings.TrimPrefix(g.server.URL, "http"))
		ctx, cancel := context.WithCancelCause(t.Context())
		out, written := io.Pipe()
		stop := errors.New("terminated")
		go func() {
			bufio.NewReader(out).ReadString('\n') // something is there
			cancel(stop)
			io.Copy(io.Discard, out)
		}()
		if err := Run(ctx, in, written); !errors.Is(err, stop) {
			t.Errorf("got %v", err)
		}
		written.Close()
	})
}

func TestRequestsAreChecked(t *testing.T) {
	for input, want := range map[string]string{
		"":                                       "the input has no request",
		"{\n":                                    "the request: unexpected end of JSON input",
		`{"url":"http://127.0.0.1:1","count":1}`: "the request: url: use ws://HOST:PORT or wss://HOST:PORT",
		`{"url":"ws:","count":1}`:                "the request: url: use ws://HOST:PORT or wss://HOST:PORT",
		`{"url":"ws://127.0.0.1:1","count":0}`:   "the request: count is 0: use 1 to 1000",
		`{"url":"ws://127.0.0.1:1","count":1001}`: "the request: count is 1001: use 1 to 1000",
	} {
		if err := Run(t.Context(), strings.NewReader(input), io.Discard); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", input, err, want)
		}
	}
}
