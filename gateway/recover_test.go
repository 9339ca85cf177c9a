package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/channel"

	"github.com/google/go-cmp/cmp"
)

// record is what a client of format=json gets.
type record struct {
	Gap      *bool   `json:"gap"`
	Channel  string  `json:"channel"`
	Epoch    string  `json:"epoch"`
	Offset   uint64  `json:"offset"`
	At       int64   `json:"at"`
	From     string  `json:"from"`
	Conn     string  `json:"conn"`
	Data     *string `json:"data"`
	Base64   []byte  `json:"base64"`
	Greeting string  `json:"greeting"`
}

// record reads one.
func (c *client) record(why string) (r record) {
	c.t.Helper()
	_, p, err := c.next()
	if err == nil {
		d := json.NewDecoder(strings.NewReader(p))
		d.DisallowUnknownFields()
		err = d.Decode(&r)
	}
	if err != nil {
		c.t.Fatalf("%s: want a record, got %q, %v", why, brief(p), err)
	}
	return r
}

// wantData reads the record of a publication.
func (c *client) wantData(why string, offset uint64, text string) record {
	c.t.Helper()
	r := c.record(why)
	if r.Gap != nil || r.Offset != offset || r.Data == nil || *r.Data != text {
		c.t.Fatalf("%s: got %+v, want %q at offset %d", why, r, brief(text), offset)
	}
	return r
}

// wantPlace reads the record that tells where the client begins.
func (c *client) wantPlace(why string, gap bool, offset uint64) record {
	c.t.Helper()
	r := c.record(why)
	if r.Gap == nil || *r.Gap != gap || r.Offset != offset || r.Epoch == "" || r.Conn == "" {
		c.t.Fatalf("%s: got %+v, want gap %t and offset %d", why, r, gap, offset)
	}
	return r
}

func TestRecordsOfJSONClients(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	raw, a, b := dial(t, s, "/ws/a%22b"), dial(t, s, "/ws/a%22b?format=json&since=now"), dial(t, s, "/ws/a%22b?format=json")
	place := a.wantPlace("it asked where it begins", false, 0)
	before := time.Now().UnixMilli()
	raw.send(text("plain"), text("\"q\" \\ \n\r\t\x00\x1f\u2028<é漢🙂"), bin("\x00\xff"), text(""))
	waitFor(t, "what was sent to be published", func() bool { return s.received() == 4 })
	s.quiet()
	receipt := s.publish(`a"b`, "from outside")
	for _, c := range []*client{a, b} {
		var got []record
		for range 5 {
			r := c.record("everything comes in order")
			if r.At < before || r.At > time.Now().UnixMilli() {
				t.Errorf("it was published at %d, between %d and now", r.At, before)
			}
			r.At = 0
			got = append(got, r)
		}
		sender := got[0].From
		want := []record{}
		for i, p := range []string{"plain", "\"q\" \\ \n\r\t\x00\x1f\u2028<é漢🙂", "", "", "from outside"} {
			r := record{Channel: `a"b`, Epoch: receipt.Epoch.String(), Offset: uint64(i + 1), From: sender, Data: &p}
			if i == 2 {
				r.Data, r.Base64 = nil, []byte("\x00\xff")
			}
			if i == 4 {
				r.From = "api"
			}
			want = append(want, r)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if sender == "" || sender == place.Conn {
			t.Errorf("the sender is %q, and the reader %q", sender, place.Conn)
		}
	}
	a.send(text("what is sent is bare"))
	if r := b.wantData("the id is the one it was told", 6, "what is sent is bare"); r.From != place.Conn {
		t.Errorf("it comes from %q, want %q", r.From, place.Conn)
	}
	if r := receipt; r.Offset != 5 || place.Epoch != r.Epoch.String() {
		t.Errorf("receipt %+v, place %+v", r, place)
	}
}

// The bytes of a record, as PROTOCOL.md prints them.
func TestRecordsBytes(t *testing.T) {
	p := channel.Publication{Payload: []byte("a\"b"), Channel: "news", Epoch: 36, Offset: 12, At: 1763712000123, From: 17}
	if got, want := string(appendRecord(nil, &p)), `{"channel":"news","epoch":"10","offset":12,"at":1763712000123,"from":"17","data":"a\"b"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	p.Binary, p.From = true, 0
	if got, want := string(appendRecord(nil, &p)), `{"channel":"news","epoch":"10","offset":12,"at":1763712000123,"from":"api","base64":"YSJi"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	at := place{channel: "news", at: channel.Place{Epoch: 36, Offset: 7}, gap: true, conn: 3}
	if got, want := string(appendPlaceRecord(nil, &at)), `{"gap":true,"channel":"news","epoch":"10","offset":7,"conn":"3"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSinceGivesWhatWasMissed(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: 10})
	a := dial(t, s, "/ws/x?format=json&since=now")
	epoch := a.wantPlace("a new channel", false, 0).Epoch
	for i := 1; i <= 5; i++ {
		s.publish("x", fmt.Sprint(i))
		a.wantData("live", uint64(i), fmt.Sprint(i))
	}
	a.vanish()
	s.wantConnections(0)
	s.publish("x", "6")
	s.publish("x", "7")
	b := dial(t, s, fmt.Sprintf("/ws/x?format=json&since=%s:5", epoch))
	b.wantData("what it missed comes at once", 6, "6")
	b.wantData("all of it", 7, "7")
	s.publish("x", "8")
	b.wantData("and then what is live", 8, "8")
	c := dial(t, s, fmt.Sprintf("/ws/x?format=json&since=%s:8", epoch))
	c.wantIdle(s, "it missed nothing")
	d := dial(t, s, fmt.Sprintf("/ws/x?format=json&since=%s:0", epoch))
	for i := uint64(1); i <= 8; i++ {
		d.wantData("from the beginning", i, fmt.Sprint(i))
	}
	s.publish("x", "9")
	for _, k := range []*client{b, c, d} {
		k.wantData("live is the same for all", 9, "9")
	}
	if got := s.sum(func(st *loopStats) uint64 { return st.gaps.Load() }); got != 0 {
		t.Errorf("%d gaps are counted", got)
	}
}

func TestGapIsToldAndWhatIsKeptFollows(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: 3})
	var epoch string
	for i := range 5 {
		epoch = s.publish("x", fmt.Sprint(i+1)).Epoch.String()
	}
	for why, since := range map[string]string{
		"it is pushed out":       epoch + ":1",
		"another life":           "abc:4",
		"nobody was there yet":   epoch + ":6",
		"it never had a number":  "1:0",
		"the largest of numbers": epoch + ":18446744073709551615",
	} {
		c := dial(t, s, "/ws/x?format=json&since="+since)
		if r := c.wantPlace(why, true, 2); r.Epoch != epoch {
			t.Errorf("%s: got epoch %q, want %q", why, r.Epoch, epoch)
		}
		for i := uint64(3); i <= 5; i++ {
			c.wantData(why, i, fmt.Sprint(i))
		}
		c.wantIdle(s, why)
	}
	c := dial(t, s, "/ws/x?format=json&since="+epoch+":2")
	c.wantData("that is just kept", 3, "3")
	if got := s.sum(func(st *loopStats) uint64 { return st.gaps.Load() }); got != 5 {
		t.Errorf("%d gaps are counted, want 5", got)
	}
	fresh := dial(t, s, "/ws/new?format=json&since="+epoch+":2")
	fresh.wantPlace("a channel that nobody had", true, 0)
}

func TestNewestOfTheHistory(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: 4})
	for i := range 6 {
		s.publish("x", fmt.Sprint(i+1))
	}
	for n, first := range map[string]int{"0": 7, "1": 6, "3": 4, "4": 3, "99": 3} {
		asJSON, raw := dial(t, s, "/ws/x?format=json&history="+n), dial(t, s, "/ws/x?history="+n)
		for i := first; i <= 6; i++ {
			asJSON.wantData("history="+n, uint64(i), fmt.Sprint(i))
			raw.wantText("history="+n, fmt.Sprint(i))
		}
		if first > 6 {
			asJSON.wantPlace("none was asked for", false, 6)
		}
		asJSON.wantIdle(s, "no more")
		raw.wantIdle(s, "no more")
	}
	none, placed := dial(t, s, "/ws/other?history=5"), dial(t, s, "/ws/other?history=5&format=json")
	placed.wantPlace("nothing is kept, and it has to know where to come back to", false, 0)
	s.publish("other", "live")
	none.wantText("nothing was kept", "live")
	placed.wantData("live", 1, "live")
}

func TestWithoutHistoryNothingIsKept(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: -1})
	c := dial(t, s, "/ws/x?format=json&since=now")
	epoch := c.wantPlace("live", false, 0).Epoch
	s.publish("x", "one")
	d := dial(t, s, "/ws/x?format=json&since="+epoch+":0")
	d.wantPlace("it is not kept", true, 1)
	e := dial(t, s, "/ws/x?format=json&since="+epoch+":1")
	e.wantIdle(s, "it has everything")
}

// What a client missed goes out in pieces, however much it is: memory for it does
// not grow with it, publishers do not wait for it, and it may send meanwhile.
func TestRecoveryInPieces(t *testing.T) {
	t.Parallel()
	total := scaled(4000, 1000)
	s := start(t, Config{History: total, HistoryBytes: 8 << 20, MaxBuffered: 128 << 20, PingInterval: -1, WriteTimeout: -1})
	texts := numbered(total, 1000)
	var epoch string
	for _, p := range texts[:total/2] {
		epoch = s.publish("x", p).Epoch.String()
	}
	live := dial(t, s, "/ws/x?format=json")
	c := dialSmall(t, s, "/ws/x?format=json&since="+epoch+":0")
	c.send(text("sent while it catches up"))
	waitFor(t, "its socket to be full", func() bool { return s.blocked() == 1 })
	if held := s.held(); held > 256<<10 {
		t.Errorf("%d bytes are held for %d kB of history", held, total/2)
	}
	for i, p := range texts[total/2:] {
		s.publish("x", p)
		live.wantData("others are served meanwhile", uint64(total/2+1+i), p)
	}
	for i, p := range texts {
		c.wantData("everything in order", uint64(1+i), p)
	}
	c.wantData("and its own message behind it", uint64(total+1), "sent while it catches up")
	live.wantData("likewise", uint64(total+1), "sent while it catches up")
	c.settle(s)
	if held := s.held(); held > 4<<10 {
		t.Errorf("%d bytes are held when everything is sent", held)
	}
}

// Whoever reads more slowly than the history moves on is told, or closed where it
// cannot be told.
func TestRecoveryThatIsOvertaken(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: 400, HistoryBytes: 8 << 20, MaxBuffered: 128 << 20, PingInterval: -1, WriteTimeout: -1})
	texts := numbered(2000, 1000)
	var epoch string
	for _, p := range texts[:400] {
		epoch = s.publish("x", p).Epoch.String()
	}
	told, closed := dialSmall(t, s, "/ws/x?format=json&since="+epoch+":0"), dialSmall(t, s, "/ws/x?history=400")
	waitFor(t, "their sockets to be full", func() bool { return s.blocked() == 2 })
	for _, p := range texts[400:] {
		s.publish("x", p)
	}
	next, gaps := uint64(1), 0
	for next <= 2000 {
		r := told.record("in order")
		if r.Gap != nil {
			if gaps++; !*r.Gap || r.Offset < next {
				t.Fatalf("got %+v where %d is next", r, next)
			}
			next = r.Offset + 1
			continue
		}
		if r.Offset != next || *r.Data != texts[next-1] {
			t.Fatalf("got %d, want %d", r.Offset, next)
		}
		next++
	}
	if gaps == 0 {
		t.Error("it was not told")
	}
	got, code, err := closed.texts()
	if err != nil || code != statusTryAgainLater || len(got) == 0 || len(got) >= 400 {
		t.Errorf("got %d messages, code %d, %v; want some, and 1013", len(got), code, err)
	}
	for i := range got {
		if got[i] != texts[i] {
			t.Fatalf("message %d is %s", i, brief(got[i]))
		}
	}
}

func TestGreetingComesFirst(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Greeting: `wel"come`})
	dial(t, s, "/ws").wantText("raw", `wel"come`)
	e := dial(t, s, "/echo")
	e.wantText("echo", `wel"come`)
	e.send(text("x"))
	e.wantText("then echo", "x")
	c := dial(t, s, "/ws?format=json&since=abc:1")
	if r := c.record("JSON"); r.Greeting != `wel"come` {
		t.Errorf("got %+v", r)
	}
	c.wantPlace("then where it begins", true, 0)
}

func TestQueriesThatAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	for query, want := range map[string]string{
		"format=xml":                           "bad_format",
		"format=json&since=5":                  "bad_since",
		"format=json&since=abc:":               "bad_since",
		"format=json&since=abc:-1":             "bad_since",
		"format=json&since=:1":                 "bad_since",
		"format=json&since=0:1":                "bad_since",
		"format=json&since=now&since=now":      "repeated_parameter",
		"echo=no":                              "bad_echo",
		"mode=x":                               "bad_mode",
		"%zz":                                  "bad_query",
		"format=json&since=abc:1&history=1":    "since_and_history",
		"since=now":                            "since_without_format",
		"format=raw&since=abc:1":               "since_without_format",
		"history=-1":                           "bad_history",
		"history=x":                            "bad_history",
		"format=json&history=9999999999999999": "bad_history",
	} {
		c := connect(t, s)
		c.write(upgradeTo("/ws?" + query))
		c.wantStatus(query, http.StatusBadRequest)
		if got := s.counted(want); got == 0 {
			t.Errorf("%s is not counted as %s", query, want)
		}
	}
	for _, query := range []string{"format=json", "since=now", "history=1"} {
		c := connect(t, s)
		c.write(upgradeTo("/echo?" + query))
		c.wantStatus("nothing of an echo is kept", http.StatusBadRequest)
	}
}

// Very many join with since while others publish: whatever falls between the
// history and the log, or into both, shows here.
func TestJoinsWithSinceSeeNoHoleAndNoRepeat(t *testing.T) {
	plainOnly(t)
	t.Parallel()
	s := start(t, Config{History: 500_000, HistoryBytes: 48 << 20}) // however far a busy machine lets the joiners fall behind
	epoch := s.publish("x", "1").Epoch
	stop := make(chan struct{})
	var publishing, joining sync.WaitGroup
	publishing.Go(func() {
		rate := time.NewTicker(200 * time.Microsecond) // so that recoveries keep up
		defer rate.Stop()
		for i := 2; ; i++ {
			select {
			case <-stop:
				return
			case <-rate.C:
				if s.publish("x", fmt.Sprint(i)).Offset == 0 {
					t.Error("a publication was not kept")
				}
			}
		}
	})
	for range 4 {
		joining.Go(func() {
			at := uint64(0)
			for range scaled(250, 50) {
				c := dial(t, s, fmt.Sprintf("/ws/x?format=json&since=%s:%d", epoch, at))
				for range 12 {
					at++
					c.wantData("one after the other", at, fmt.Sprint(at))
				}
				c.vanish()
			}
		})
	}
	joining.Wait()
	close(stop)
	publishing.Wait()
}

// A format may need many bytes for one: what is within the publisher's limit
// reaches everybody, whatever they read, and costs the sender nothing.
func TestLargestMessagesReachEveryFormat(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1})
	raw, asJSON, events := dial(t, s, "/ws/x"), dial(t, s, "/ws/x?format=json"), stream(t, s, "/sse/x")
	events.wantBegin("it is there", 0)
	for i, p := range []string{strings.Repeat("\x01", DefaultMaxMessage), strings.Repeat("\n", DefaultMaxMessage), "small"} {
		raw.send(text(p))
		raw.wantText("raw", p)
		asJSON.wantData("JSON", uint64(i+1), p)
		if got := events.event(); strings.Count(got, "\n")-2 != strings.Count(p, "\n") || len(got) < len(p) {
			t.Fatalf("message %d: an event of %d bytes and %d lines", i, len(got), strings.Count(got, "\n"))
		}
	}
}
