package gateway

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/enginetest"
	"sluice/gateway/presence"

	"github.com/gobwas/ws"
)

var (
	lateConnections = flag.Int("late-connections", 0, "connections in the test of late engines; 0: a few")
	lateFor         = flag.Duration("late-for", 0, "how long the test of late engines lasts; 0: a few seconds")
	lateSeed        = flag.Uint64("late-seed", 1, "of what goes wrong in the test of late engines")
)

// startLate starts servers whose engines share a store. With passes the loops' seconds pass.
func startLate(t testing.TB, n int, cfg Config, seed uint64, trouble enginetest.Trouble, passes bool) (*enginetest.Store, []*server) {
	t.Helper()
	keep := channel.Keep{Count: cmp.Or(cfg.History, defaults.History), TTL: defaults.HistoryTTL.Milliseconds()}
	store := enginetest.NewStore(t, seed, trouble, func(string) channel.Keep { return keep })
	var servers []*server
	for i := range n {
		var seconds <-chan time.Time
		if passes {
			seconds = time.Tick(time.Second)
		}
		servers = append(servers, startWith(t, cfg, parts{
			seconds: seconds,
			engine: func(space *channel.Space, present *presence.Table) engine.Engine {
				e := enginetest.NewLate(store, space, present, engine.NodeInfo{ID: fmt.Sprint(i)})
				space.Remote(e, nil)
				return e
			},
		}))
	}
	return store, servers
}

// A late run is clients of all protocols on two nodes, whose engines answer late and in an order of
// their own, fail, lose and begin anew. Each client's ledger has what it was sent and where it was
// notified that something is missing; in the end they are held against what the store has ever had.
type lateRun struct {
	*testing.T
	store   *enginetest.Store
	servers []*server

	numbers atomic.Int64 // of publications: each is the text of one
	last    atomic.Int64 // publications from this number on end the clients; 0 for none
	stop    chan struct{}

	mu sync.Mutex
	// Guarded by mu.
	ledgers  []*lateLedger
	acked    map[int64]channel.Position // by number; the zero Position where only the success is known
	inOrder  map[string][]int64         // by publisher, as far as its order is kept
	inFile   map[string][][]int64       // histories, by channel
	outcomes map[string]int             // close codes and the like
}

// lateLedger has what one client gets.
type lateLedger struct {
	who, channel string
	got          []int64 // numbers, and missed
}

// missed stands in a ledger where the client was notified that something may be missing.
const missed = -1

func (r *lateRun) note(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes[what]++
}

// watcher is a client that reads a channel.
type watcher struct {
	*lateRun
	*lateLedger
	at       func() clienttest.Endpoint
	rand     *rand.Rand
	position channel.Position // of the newest, if known
	known    bool
	conn     clienttest.Link
	in       *bufio.Reader
	done     bool
}

// publication notes a publication.
func (w *watcher) publication(text string) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		w.Errorf("%s: got %q", w.who, text)
		return
	}
	w.got = append(w.got, n)
	if last := w.last.Load(); last > 0 && n >= last {
		w.done = true
	}
}

func (w *watcher) miss() { w.got = append(w.got, missed) }

// dial connects; false: the server refuses.
func (w *watcher) dial(head string) bool {
	at := w.at()
	tcp, err := net.Dial("tcp", at.Addr)
	if err != nil {
		w.Errorf("%s: %v", w.who, err)
		return false
	}
	conn := clienttest.Link(tcp.(*net.TCPConn))
	if at.Secured {
		conn = clienttest.SecureLink(tcp.(*net.TCPConn), nil)
	}
	w.conn, w.in = conn, bufio.NewReader(conn)
	conn.SetDeadline(time.Now().Add(clienttest.Patience)) // ignored: then reading fails; so below
	io.WriteString(conn, head)                            // ignored: likewise
	answer, err := http.ReadResponse(w.in, nil)
	if err != nil {
		w.note("no answer to a request")
		return false
	}
	if answer.StatusCode != http.StatusSwitchingProtocols && answer.StatusCode != http.StatusOK {
		if w.note(fmt.Sprint("status ", answer.StatusCode)); answer.StatusCode != http.StatusServiceUnavailable {
			w.Errorf("%s: got status %d", w.who, answer.StatusCode)
		}
		return false
	}
	return true
}

// frame reads a WebSocket message; false: the connection has ended.
func (w *watcher) frame() (text string, ok bool) {
	c := clienttest.Client{T: w.T, Conn: w.conn, In: w.in}
	op, text, err := c.Next()
	switch {
	case err != nil:
		w.note("the connection ended: " + err.Error()[max(len(err.Error())-20, 0):])
		return "", false
	case op == ws.OpClose:
		code := 0
		if len(text) >= 2 {
			code = int(binary.BigEndian.Uint16([]byte(text)))
			text = text[2:]
		}
		w.note(fmt.Sprint("close ", code, " ", text))
		return "", false
	}
	return text, true
}

// follows notes the position of a publication, which has to be behind the one before it.
func (w *watcher) follows(at channel.Position, prev uint64) {
	if w.known && len(w.got) > 0 && w.got[len(w.got)-1] != missed && (at.Epoch != w.position.Epoch || prev != w.position.Offset) {
		w.Errorf("%s: %v with prev %d comes after %v", w.who, at, prev, w.position)
	}
	w.position, w.known = at, true
}

// The kinds of watchers: each reads one connection until it ends, or until it is done.
var watching = map[string]func(*watcher){
	"raw": func(w *watcher) {
		w.miss()
		if !w.dial(clienttest.UpgradeTo("/ws/" + w.channel)) {
			return
		}
		for !w.done {
			text, ok := w.frame()
			if !ok {
				return
			}
			w.publication(text)
		}
	},
	"record": func(w *watcher) {
		since := "now"
		if w.known {
			since = w.position.Epoch.String() + ":" + fmt.Sprint(w.position.Offset)
		}
		if !w.dial(clienttest.UpgradeTo("/ws/" + w.channel + "?format=json&since=" + since)) {
			return
		}
		for !w.done {
			text, ok := w.frame()
			if !ok {
				return
			}
			w.record(text)
		}
	},
	"event":        func(w *watcher) { w.events("/sse/" + w.channel) },
	"event record": func(w *watcher) { w.events("/sse/" + w.channel + "?format=json") },
	"centrifugo":   (*watcher).session,
}

// record notes a record.
func (w *watcher) record(text string) {
	var rec clienttest.Record
	if err := json.Unmarshal([]byte(text), &rec); err != nil {
		w.Errorf("%s: got %q: %v", w.who, text, err)
		return
	}
	epoch, _ := channel.ParseEpoch(rec.Epoch)
	at := channel.Position{Epoch: epoch, Offset: rec.Offset}
	switch {
	case rec.Gap != nil:
		if *rec.Gap || !w.known {
			w.miss()
		}
		w.position, w.known = at, true
	case rec.Data != nil:
		w.follows(at, rec.Prev)
		w.publication(*rec.Data)
	}
}

// events reads an event stream.
func (w *watcher) events(target string) {
	head := "GET " + target + " HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
	if w.known {
		head += fmt.Sprintf("Last-Event-ID: %s:%d\r\n", w.position.Epoch, w.position.Offset)
	}
	if !w.dial(head + "\r\n") {
		return
	}
	if !w.known {
		w.miss()
	}
	var name, data string
	var id channel.Position
	hasData := false
	for !w.done {
		w.conn.SetDeadline(time.Now().Add(clienttest.Patience)) // ignored: then reading fails
		line, err := w.in.ReadString('\n')
		if err != nil {
			w.note("a stream ended")
			return
		}
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch key {
		case "id":
			epoch, offset, _ := strings.Cut(value, ":")
			id.Epoch, _ = channel.ParseEpoch(epoch)          // ignored: then it is of no epoch; so below
			id.Offset, _ = strconv.ParseUint(offset, 10, 64) // ignored: 0 is no position of a publication
		case "event":
			name = value
		case "data":
			data, hasData = value, true
		case "":
			switch {
			case name == "gap":
				w.miss()
			case name == "close":
				w.note("event close " + data)
			case name != "":
				w.Errorf("%s: got an event %q", w.who, name)
			case hasData && strings.HasSuffix(w.who, "record"):
				w.record(data)
			case hasData:
				w.publication(data)
			}
			if id.Epoch != 0 {
				w.position, w.known = id, true
			}
			name, data, hasData = "", "", false
		}
	}
}

// session speaks Centrifugo's protocol.
func (w *watcher) session() {
	if !w.dial(clienttest.UpgradeTo(pathClient)) {
		return
	}
	send := func(text string) { io.WriteString(w.conn, clienttest.Text(text)) } // ignored: then reading fails
	send(`{"id":1,"connect":{}}`)
	ask := fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q`, w.channel)
	if w.known {
		ask += fmt.Sprintf(`,"recover":true,"epoch":%q,"offset":%d`, w.position.Epoch, w.position.Offset)
	}
	send(ask + "}}")
	for !w.done {
		text, ok := w.frame()
		if !ok {
			return
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line == "{}" {
				send("{}")
				continue
			}
			var r clienttest.Subscribed
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				w.Errorf("%s: got %q: %v", w.who, line, err)
				return
			}
			switch {
			case r.Error != nil:
				if w.note(fmt.Sprint("error ", r.Error.Code)); r.Error.Code != 100 {
					w.Errorf("%s: got %s", w.who, line)
				}
				return
			case r.Subscribe != nil:
				if !r.Subscribe.Recovered {
					w.miss()
				}
				w.position.Epoch, _ = channel.ParseEpoch(r.Subscribe.Epoch)
				w.position.Offset, w.known = r.Subscribe.Offset, true
				for _, p := range r.Subscribe.Publications {
					w.position.Offset = p.Offset
					w.publication(string(p.Data))
				}
			case r.Push != nil && r.Push.Pub != nil:
				if p := r.Push.Pub; p.Offset > 0 {
					w.position.Offset = p.Offset
					w.publication(string(p.Data))
				}
			case r.Push != nil && r.Push.Unsubscribe != nil:
				if w.note(fmt.Sprint("unsubscribed ", r.Push.Unsubscribe.Code)); r.Push.Unsubscribe.Code < 2500 {
					w.Errorf("%s: got %s", w.who, line)
				}
				return
			}
		}
	}
}

// watch reads a channel until the run has ended, with one connection after the other.
func (r *lateRun) watch(kind string, i int, name string) {
	s := r.servers[i%len(r.servers)]
	w := &watcher{lateRun: r, lateLedger: &lateLedger{who: fmt.Sprintf("%s, client %d, %s", name, i, kind), channel: name}, at: s.Endpoint,
		rand: rand.New(rand.NewPCG(uint64(i), *lateSeed))}
	r.mu.Lock()
	r.ledgers = append(r.ledgers, w.lateLedger)
	r.mu.Unlock()
	for !w.done && !r.Failed() {
		if w.conn != nil { // it has ended: a client comes back a little later
			r.stopped(time.Duration(w.rand.IntN(20)) * time.Millisecond)
		}
		watching[kind](w)
		if w.conn != nil {
			w.conn.Close() // ignored: it may have ended
		}
	}
}

// send numbers a publication.
func (r *lateRun) send(publisher string) (n int64) {
	n = r.numbers.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inOrder[publisher] = append(r.inOrder[publisher], n)
	return n
}

func (r *lateRun) ack(n int64, at channel.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acked[n] = at
}

// stopped reports whether publishers are to end, after a moment.
func (r *lateRun) stopped(moment time.Duration) bool {
	select {
	case <-r.stop:
		return true
	case <-time.After(moment):
		return false
	}
}

// ask calls a method of a server's API.
func (r *lateRun) ask(s *server, method, body string, result any) bool {
	req := httptest.NewRequest("POST", "http://127.0.0.1/api/"+method, strings.NewReader(body))
	req.Header.Set("X-Centrifugo-Error-Mode", "transport")
	answer := httptest.NewRecorder()
	s.InternalHandler(Internal{}).ServeHTTP(answer, req)
	switch answer.Code {
	case http.StatusOK:
		if err := json.Unmarshal(answer.Body.Bytes(), result); err != nil {
			r.Errorf("%s: %s: %v", method, answer.Body, err)
		}
		return true
	case http.StatusServiceUnavailable:
		r.note("API: 503")
	default:
		r.Errorf("%s: got %d %s", method, answer.Code, answer.Body)
	}
	return false
}

// position is a position as the API has it.
type apiPosition struct {
	Epoch  channel.Epoch `json:"epoch"`
	Offset uint64        `json:"offset"`
}

// publishByAPI publishes over HTTP, one after the other. What has failed it publishes again, on
// another node, until it knows the result.
func (r *lateRun) publishByAPI(i int, who, name string) {
	for {
		n := r.send(who)
		var result struct{ Result apiPosition }
		for published := false; !published; i++ {
			if r.stopped(2 * time.Millisecond) {
				return
			}
			s := r.servers[i%len(r.servers)]
			published = r.ask(s, "publish", fmt.Sprintf(`{"channel":%q,"data":%d,"idempotency_key":"%d"}`, name, n, n), &result)
		}
		r.ack(n, channel.Position(result.Result))
	}
}

// look asks for a channel's history and presence.
func (r *lateRun) look(s *server, name string) {
	for !r.stopped(20 * time.Millisecond) {
		var result struct {
			Result struct {
				apiPosition
				Publications []struct {
					Offset, Prev uint64
					Data         int64
				}
			}
		}
		if r.ask(s, "history", fmt.Sprintf(`{"channel":%q,"limit":-1}`, name), &result) {
			var numbers []int64
			for i, p := range result.Result.Publications {
				if numbers = append(numbers, p.Data); i > 0 && p.Prev != result.Result.Publications[i-1].Offset {
					r.Errorf("%s: in a history, %+v comes after %+v", name, p, result.Result.Publications[i-1])
				}
			}
			r.mu.Lock()
			r.inFile[name] = append(r.inFile[name], numbers)
			r.mu.Unlock()
		}
		r.ask(s, "info", `{}`, new(any))
	}
}

// publishRaw publishes from raw clients, which are not told what became of it: in bursts, whose order
// is kept as long as a connection lasts.
func (r *lateRun) publishRaw(s *server, who, name string) {
	for life := 0; ; life++ {
		if r.stopped(time.Millisecond) {
			return
		}
		w := &watcher{lateRun: r, lateLedger: &lateLedger{who: who}, at: s.Endpoint}
		if !w.dial(clienttest.UpgradeTo("/ws/" + name)) {
			continue
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				if _, ok := w.frame(); !ok {
					return
				}
			}
		}()
		connection := fmt.Sprint(who, ", ", life)
		for alive := true; alive && !r.stopped(5*time.Millisecond); {
			var burst string
			for range 3 {
				burst += clienttest.Text(fmt.Sprint(r.send(connection)))
			}
			io.WriteString(w.conn, burst) // ignored: then reading fails
			select {
			case <-ended:
				alive = false
			default:
			}
		}
		w.conn.Close() // ignored: it may have ended
		<-ended
	}
}

// publishCentrifugo publishes from clients of Centrifugo's protocol, which wait for the answers.
func (r *lateRun) publishCentrifugo(s *server, who, name string) {
	for failed := 0; ; failed++ {
		if r.stopped(time.Millisecond) {
			return
		}
		w := &watcher{lateRun: r, lateLedger: &lateLedger{who: who}, at: s.Endpoint}
		if !w.dial(clienttest.UpgradeTo(pathClient)) {
			continue
		}
		io.WriteString(w.conn, clienttest.Text(`{"id":1,"connect":{}}`)) // ignored: then reading fails; so below
		_, ok := w.frame()
		for ok && !r.stopped(2*time.Millisecond) {
			n := r.send(fmt.Sprint(who, ", ", failed))
			io.WriteString(w.conn, clienttest.Text(fmt.Sprintf(`{"id":%d,"publish":{"channel":%q,"data":%d}}`, n+1, name, n)))
			var text string
			if text, ok = w.frame(); !ok {
				break
			}
			var reply struct {
				Error *struct{ Code int }
			}
			if err := json.Unmarshal([]byte(text), &reply); err != nil {
				r.Errorf("%s: got %q: %v", who, text, err)
			}
			if reply.Error == nil {
				r.ack(n, channel.Position{})
				continue
			}
			if failed++; reply.Error.Code != 100 { // else it may be stored later, behind others
				r.Errorf("%s: got %s", who, text)
			}
		}
		w.conn.Close() // ignored: it may have ended
	}
}

// disturb makes the store stand still, fail, lose and begin anew.
func (r *lateRun) disturb(names []string, longest time.Duration) {
	random := rand.New(rand.NewPCG(*lateSeed, 3))
	for !r.stopped(time.Duration(random.Int64N(int64(300 * time.Millisecond)))) {
		name := names[random.IntN(len(names))]
		var end func()
		switch random.IntN(4) {
		case 0:
			end = r.store.Stall()
		case 1:
			end = r.store.Away()
		case 2:
			r.store.Reset(name)
		default:
			r.store.Lose(random.IntN(len(r.servers)), name, 1+random.IntN(3))
		}
		if end != nil {
			r.stopped(time.Duration(random.Int64N(int64(longest))))
			end()
		}
	}
}

// judge holds what clients have got against what the store has ever had.
func (r *lateRun) judge(names []string) {
	index, positions := make(map[int64]int), make(map[int64]channel.Position)
	for _, name := range names {
		for i, stored := range r.store.Ever(name) {
			n, err := strconv.ParseInt(stored.Payload, 10, 64)
			if _, twice := index[n]; err != nil || twice {
				r.Errorf("%s: the store has %q twice, %v", name, stored.Payload, err)
			}
			index[n], positions[n] = i, stored.At
		}
	}
	for n, at := range r.acked {
		if stored, ok := positions[n]; !ok || at != (channel.Position{}) && at != stored {
			r.Errorf("number %d was acknowledged at %v, and is at %v", n, at, stored)
		}
	}
	for who, numbers := range r.inOrder {
		last := int64(-1)
		newest := -1
		for _, n := range numbers {
			if i, ok := index[n]; ok && i <= newest {
				r.Errorf("%s: number %d was stored before %d", who, n, last)
			} else if ok {
				newest, last = i, n
			}
		}
	}
	check := func(who string, numbers []int64) (gaps int) {
		at, notified := -1, true
		for _, n := range numbers {
			i, ok := index[n]
			switch {
			case n == missed:
				notified = true
				continue
			case !ok:
				r.Errorf("%s: got number %d, which was not stored", who, n)
				continue
			case i <= at:
				r.Errorf("%s: number %d, which is at index %d, comes after index %d", who, n, i, at)
			case i > at+1 && !notified:
				r.Errorf("%s: %d publications are missing before number %d without notification", who, i-at-1, n)
			case i > at+1 && at >= 0:
				gaps++
			}
			at, notified = i, false
		}
		return gaps
	}
	got, gaps := 0, 0
	for _, l := range r.ledgers {
		got += len(l.got)
		gaps += check(l.who, l.got)
	}
	for name, histories := range r.inFile {
		for _, numbers := range histories {
			check("the history of "+name, numbers)
		}
	}
	r.Logf("%d publications, %d acknowledged, %d received, %d gaps", r.numbers.Load(), len(r.acked), got, gaps)
	for _, what := range slices.Sorted(maps.Keys(r.outcomes)) {
		r.Logf("%6d x %s", r.outcomes[what], what)
	}
	if len(r.acked) == 0 || got < len(r.acked) {
		r.Error("hardly anything has come: the test shows nothing")
	}
}

// Whatever an engine does, no client of any protocol loses, repeats or reorders publications without
// being notified.
func TestLateEnginesLoseNothingWithoutNotification(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]enginetest.Trouble{
		"calm":    {Delay: 3 * time.Millisecond},
		"trouble": {Delay: 5 * time.Millisecond, Unstored: 10, Unacked: 10, Full: 20, Failed: 30, Lost: 5, Twice: 20, Reset: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &lateRun{T: t, stop: make(chan struct{}), acked: make(map[int64]channel.Position), inOrder: make(map[string][]int64),
				inFile: make(map[string][][]int64), outcomes: make(map[string]int)}
			r.store, r.servers = startLate(t, 2, Config{PingInterval: -1, History: 200}, *lateSeed, trouble, true)
			connections := cmp.Or(*lateConnections, 30)
			channels := []string{"a", "b", "c"}
			for i := range connections / 50 {
				channels = append(channels, fmt.Sprint("d", i))
			}
			kinds := slices.Sorted(maps.Keys(watching))
			var watchers, others sync.WaitGroup
			for i := range connections {
				watchers.Go(func() { r.watch(kinds[i%len(kinds)], i/len(kinds), channels[i/len(kinds)/2%len(channels)]) })
			}
			for i, name := range channels {
				for j, s := range r.servers {
					who := fmt.Sprint(name, ", node ", j)
					others.Go(func() { r.publishByAPI(j, "API, "+who, name) })
					if i < 3 {
						others.Go(func() { r.look(s, name) })
						others.Go(func() { r.publishRaw(s, "raw publisher, "+who, name) })
						others.Go(func() { r.publishCentrifugo(s, "Centrifugo publisher, "+who, name) })
					}
				}
			}
			if trouble.Lost > 0 {
				longest := 300 * time.Millisecond
				if *lateFor > 0 {
					longest = 7 * time.Second
				}
				others.Go(func() { r.disturb(channels, longest) })
			}
			r.stopped(cmp.Or(*lateFor, 3*time.Second))
			close(r.stop)
			others.Wait()
			r.store.Calm()
			r.last.Store(r.numbers.Load() + 1)
			ended := make(chan struct{})
			go func() { watchers.Wait(); close(ended) }()
			for end := time.Now().Add(clienttest.Patience); ; {
				for _, name := range channels { // again and again, for those that come in between
					r.ask(r.servers[0], "publish", fmt.Sprintf(`{"channel":%q,"data":%d}`, name, r.send("the end, "+name)), new(any))
				}
				select {
				case <-ended:
				case <-time.After(50 * time.Millisecond):
					if time.Now().Before(end) {
						continue
					}
					t.Fatal("clients do not come to the end")
				}
				break
			}
			r.judge(channels)
		})
	}
}
