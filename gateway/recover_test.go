package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"

	"github.com/google/go-cmp/cmp"
)

// Each record names the one before it, live and from the history, where messages without a
// position are left out.
func TestRecordsNameTheOneBefore(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	type link struct{ Offset, Prev uint64 }
	read := func(c *clienttest.Client, n int) (got []link) {
		for range n {
			r := c.Record("it comes in order")
			got = append(got, link{r.Offset, r.Prev})
		}
		return got
	}
	live := clienttest.Dial(t, s, "/ws/x?format=json")
	for i := range 4 {
		s.wantAPI("publish", fmt.Sprintf(`{"channel":"x","data":%d}`, i), fmt.Sprintf(`{"result":{"offset":%d,"epoch":"E","subscribers":1}}`, i+1))
		s.wantAPI("publish", `{"channel":"x","data":"it has no position","skip_history":true}`, `{"result":{"offset":0,"epoch":"E","subscribers":1}}`)
	}
	if diff := cmp.Diff([]link{{1, 0}, {}, {2, 1}, {}, {3, 2}, {}, {4, 3}, {}}, read(live, 8)); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]link{{3, 2}, {4, 3}}, read(clienttest.Dial(t, s, "/ws/x?format=json&history=2"), 2)); diff != "" {
		t.Errorf("from the history (-want +got):\n%s", diff)
	}
	s.wantAPI("history", `{"channel":"x","limit":2,"reverse":true}`,
		`{"result":{"publications":[{"offset":4,"prev":3,"data":3},{"offset":3,"prev":2,"data":2}],"epoch":"E","offset":4}}`)
}

func TestRecordsOfJSONClients(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	raw, a, b := clienttest.Dial(t, s, "/ws/a%22b"), clienttest.Dial(t, s, "/ws/a%22b?format=json&since=now"), clienttest.Dial(t, s, "/ws/a%22b?format=json")
	position := a.WantPosition("it asked where it begins", false, 0)
	before := time.Now().UnixMilli()
	raw.Send(clienttest.Text("plain"), clienttest.Text("\"q\" \\ \n\r\t\x00\x1f\u2028<é漢🙂"), clienttest.Bin("\x00\xff"), clienttest.Text(""))
	clienttest.WaitFor(t, "what was sent to be published", func() bool { return s.Received() == 4 })
	s.Quiet()
	receipt := s.publish(`a"b`, "from outside")
	for _, c := range []*clienttest.Client{a, b} {
		var got []clienttest.Record
		for range 5 {
			r := c.Record("everything comes in order")
			if r.At < before || r.At > time.Now().UnixMilli() {
				t.Errorf("it was published at %d, between %d and now", r.At, before)
			}
			r.At = 0
			got = append(got, r)
		}
		sender := got[0].From
		want := []clienttest.Record{}
		for i, p := range []string{"plain", "\"q\" \\ \n\r\t\x00\x1f\u2028<é漢🙂", "", "", "from outside"} {
			r := clienttest.Record{Channel: `a"b`, Epoch: receipt.Epoch.String(), Offset: uint64(i + 1), Prev: uint64(i), From: sender, Data: &p}
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
		if sender == "" || sender == position.Conn {
			t.Errorf("the sender is %q, and the reader %q", sender, position.Conn)
		}
	}
	a.Send(clienttest.Text("what is sent is bare"))
	if r := b.WantData("the id is the one it was told", 6, "what is sent is bare"); r.From != position.Conn {
		t.Errorf("it comes from %q, want %q", r.From, position.Conn)
	}
	if r := receipt; r.Offset != 5 || position.Epoch != r.Epoch.String() {
		t.Errorf("receipt %+v, position %+v", r, position)
	}
}

func TestSinceGivesWhatWasMissed(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: 10})
	a := clienttest.Dial(t, s, "/ws/x?format=json&since=now")
	epoch := a.WantPosition("a new channel", false, 0).Epoch
	for i := 1; i <= 5; i++ {
		s.publish("x", fmt.Sprint(i))
		a.WantData("live", uint64(i), fmt.Sprint(i))
	}
	a.Vanish()
	s.wantConnections(0)
	s.publish("x", "6")
	s.publish("x", "7")
	b := clienttest.Dial(t, s, fmt.Sprintf("/ws/x?format=json&since=%s:5", epoch))
	b.WantData("what it missed comes at once", 6, "6")
	b.WantData("all of it", 7, "7")
	s.publish("x", "8")
	b.WantData("and then what is live", 8, "8")
	c := clienttest.Dial(t, s, fmt.Sprintf("/ws/x?format=json&since=%s:8", epoch))
	c.WantIdle(s, "it missed nothing")
	d := clienttest.Dial(t, s, fmt.Sprintf("/ws/x?format=json&since=%s:0", epoch))
	for i := uint64(1); i <= 8; i++ {
		d.WantData("from the beginning", i, fmt.Sprint(i))
	}
	s.publish("x", "9")
	for _, k := range []*clienttest.Client{b, c, d} {
		k.WantData("live is the same for all", 9, "9")
	}
	if got := s.Sum(func(st *loop.Stats) uint64 { return st.Gaps.Load() }); got != 0 {
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
		c := clienttest.Dial(t, s, "/ws/x?format=json&since="+since)
		if r := c.WantPosition(why, true, 2); r.Epoch != epoch {
			t.Errorf("%s: got epoch %q, want %q", why, r.Epoch, epoch)
		}
		for i := uint64(3); i <= 5; i++ {
			c.WantData(why, i, fmt.Sprint(i))
		}
		c.WantIdle(s, why)
	}
	c := clienttest.Dial(t, s, "/ws/x?format=json&since="+epoch+":2")
	c.WantData("that is just kept", 3, "3")
	if got := s.Sum(func(st *loop.Stats) uint64 { return st.Gaps.Load() }); got != 5 {
		t.Errorf("%d gaps are counted, want 5", got)
	}
	if got := s.Sum(func(st *loop.Stats) uint64 { return st.Recoveries.Load() }); got != 1 {
		t.Errorf("%d recoveries are counted, want the one without a gap", got)
	}
	fresh := clienttest.Dial(t, s, "/ws/new?format=json&since="+epoch+":2")
	fresh.WantPosition("a channel that nobody had", true, 0)
}

func TestNewestOfTheHistory(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: 4})
	for i := range 6 {
		s.publish("x", fmt.Sprint(i+1))
	}
	for n, first := range map[string]int{"0": 7, "1": 6, "3": 4, "4": 3, "99": 3} {
		asJSON, raw := clienttest.Dial(t, s, "/ws/x?format=json&history="+n), clienttest.Dial(t, s, "/ws/x?history="+n)
		for i := first; i <= 6; i++ {
			asJSON.WantData("history="+n, uint64(i), fmt.Sprint(i))
			raw.WantText("history="+n, fmt.Sprint(i))
		}
		if first > 6 {
			asJSON.WantPosition("none was asked for", false, 6)
		}
		asJSON.WantIdle(s, "no more")
		raw.WantIdle(s, "no more")
	}
	none, positioned := clienttest.Dial(t, s, "/ws/other?history=5"), clienttest.Dial(t, s, "/ws/other?history=5&format=json")
	positioned.WantPosition("nothing is kept, and it has to know where to come back to", false, 0)
	s.publish("other", "live")
	none.WantText("nothing was kept", "live")
	positioned.WantData("live", 1, "live")
}

func TestWithoutHistoryNothingIsKept(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: -1})
	c := clienttest.Dial(t, s, "/ws/x?format=json&since=now")
	epoch := c.WantPosition("live", false, 0).Epoch
	s.publish("x", "one")
	d := clienttest.Dial(t, s, "/ws/x?format=json&since="+epoch+":0")
	d.WantPosition("it is not kept", true, 1)
	e := clienttest.Dial(t, s, "/ws/x?format=json&since="+epoch+":1")
	e.WantIdle(s, "it has everything")
}

// What a client missed goes out in pieces, however much it is: memory for it does
// not grow with it, publishers do not wait for it, and it may send meanwhile.
func TestRecoveryInPieces(t *testing.T) {
	t.Parallel()
	total := clienttest.Scaled(4000, 1000)
	s := start(t, Config{History: total, HistoryBytes: 8 << 20, MaxBuffered: 128 << 20, PingInterval: -1, WriteTimeout: -1})
	texts := clienttest.Numbered(total, 1000)
	var epoch string
	for _, p := range texts[:total/2] {
		epoch = s.publish("x", p).Epoch.String()
	}
	live := clienttest.Dial(t, s, "/ws/x?format=json")
	c := clienttest.DialSmall(t, s, "/ws/x?format=json&since="+epoch+":0")
	c.Send(clienttest.Text("sent while it catches up"))
	clienttest.WaitFor(t, "its socket to be full", func() bool { return s.Blocked() == 1 })
	if held := s.Held(); held > 256<<10 {
		t.Errorf("%d bytes are held for %d kB of history", held, total/2)
	}
	for i, p := range texts[total/2:] {
		s.publish("x", p)
		live.WantData("others are served meanwhile", uint64(total/2+1+i), p)
	}
	for i, p := range texts {
		c.WantData("everything in order", uint64(1+i), p)
	}
	c.WantData("and its own message behind it", uint64(total+1), "sent while it catches up")
	live.WantData("likewise", uint64(total+1), "sent while it catches up")
	c.Settle(s)
	if held := s.Held(); held > 4<<10 {
		t.Errorf("%d bytes are held when everything is sent", held)
	}
}

// Whoever reads more slowly than the history moves on is told, or closed where it
// cannot be told.
func TestRecoveryThatIsOvertaken(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: 400, HistoryBytes: 8 << 20, MaxBuffered: 128 << 20, PingInterval: -1, WriteTimeout: -1})
	texts := clienttest.Numbered(2000, 1000)
	var epoch string
	for _, p := range texts[:400] {
		epoch = s.publish("x", p).Epoch.String()
	}
	told, closed := clienttest.DialSmall(t, s, "/ws/x?format=json&since="+epoch+":0"), clienttest.DialSmall(t, s, "/ws/x?history=400")
	clienttest.WaitFor(t, "their sockets to be full", func() bool { return s.Blocked() == 2 })
	for _, p := range texts[400:] {
		s.publish("x", p)
	}
	next, gaps := uint64(1), 0
	for next <= 2000 {
		r := told.Record("in order")
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
	got, code, err := closed.Texts()
	if err != nil || code != 1013 || len(got) == 0 || len(got) >= 400 {
		t.Errorf("got %d messages, code %d, %v; want some, and 1013", len(got), code, err)
	}
	for i := range got {
		if got[i] != texts[i] {
			t.Fatalf("message %d is %s", i, clienttest.Brief(got[i]))
		}
	}
}

func TestGreetingComesFirst(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Greeting: `wel"come`})
	clienttest.Dial(t, s, "/ws").WantText("raw", `wel"come`)
	e := clienttest.Dial(t, s, "/echo")
	e.WantText("echo", `wel"come`)
	e.Send(clienttest.Text("x"))
	e.WantText("then echo", "x")
	c := clienttest.Dial(t, s, "/ws?format=json&since=abc:1")
	if r := c.Record("JSON"); r.Greeting != `wel"come` {
		t.Errorf("got %+v", r)
	}
	c.WantPosition("then where it begins", true, 0)
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
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo("/ws?" + query))
		c.WantStatus(query, http.StatusBadRequest)
		if got := s.counted(want); got == 0 {
			t.Errorf("%s is not counted as %s", query, want)
		}
	}
	for _, query := range []string{"format=json", "since=now", "history=1"} {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo("/echo?" + query))
		c.WantStatus("nothing of an echo is kept", http.StatusBadRequest)
	}
}

// Very many join with since while others publish: whatever falls between the
// history and the log, or into both, shows here.
func TestJoinsWithSinceSeeNoHoleAndNoRepeat(t *testing.T) {
	clienttest.PlainOnly(t)
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
			for range clienttest.Scaled(250, 50) {
				c := clienttest.Dial(t, s, fmt.Sprintf("/ws/x?format=json&since=%s:%d", epoch, at))
				for range 12 {
					at++
					c.WantData("one after the other", at, fmt.Sprint(at))
				}
				c.Vanish()
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
	raw, asJSON, events := clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x?format=json"), clienttest.Stream(t, s, "/sse/x")
	events.WantBegin("it is there", 0)
	for i, p := range []string{strings.Repeat("\x01", defaults.MaxMessage), strings.Repeat("\n", defaults.MaxMessage), "small"} {
		raw.Send(clienttest.Text(p))
		raw.WantText("raw", p)
		asJSON.WantData("JSON", uint64(i+1), p)
		if got := events.Event(); strings.Count(got, "\n")-2 != strings.Count(p, "\n") || len(got) < len(p) {
			t.Fatalf("message %d: an event of %d bytes and %d lines", i, len(got), strings.Count(got, "\n"))
		}
	}
}
