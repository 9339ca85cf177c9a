package gateway

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/clienttest"
	"sluice/gateway/loop"
)

// recoverMost is how many missed publications a reply holds.
const recoverMost = 300

func TestRecoveredMeansCompleteAndInOrder(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: 400})
	c := member(t, s, "")
	c.Does(`{"id":2,"subscribe":{"channel":"x"}}`)
	epoch := c.Reads("subscribe").Subscribe.Epoch
	for i := range 350 {
		s.publish("x", strconv.Itoa(i+1))
	}
	for _, test := range []struct {
		why       string
		epoch     string
		offset    uint64
		recovered bool
		n         int
	}{
		{"nothing was missed", epoch, 350, true, 0},
		{"the last one", epoch, 349, true, 1},
		{"as many as a reply holds", epoch, 50, true, recoverMost},
		{"one more", epoch, 49, false, 0},
		{"another order", "other", 349, false, 0},
		{"any order, more than a reply holds", "", 0, false, 0},
		{"any order", "", 340, true, 10},
		{"any order, and a position that is not there yet", "", 351, false, 0},
		{"a position that is not there yet", epoch, 351, false, 0},
	} {
		c := member(t, s, "")
		r := c.Recovers("x", test.epoch, test.offset).Subscribe
		position := uint64(350)
		if test.recovered {
			position = test.offset // its own, from which it moves on with each publication
		}
		if !r.Recovering || r.Recovered != test.recovered || len(r.Publications) != test.n || r.Offset != position || r.Epoch != epoch {
			t.Errorf("%s: recovered %t with %d publications up to %d", test.why, r.Recovered, len(r.Publications), r.Offset)
		}
		for i, p := range r.Publications {
			if want := test.offset + uint64(i) + 1; p.Offset != want || string(p.Data) != strconv.FormatUint(want, 10) {
				t.Fatalf("%s: publication %d is %d, %s", test.why, i, p.Offset, p.Data)
			}
		}
	}
	if err := s.historyForget("x"); err != nil {
		t.Fatal(err)
	}
	if r := member(t, s, "").Recovers("x", epoch, 349).Subscribe; r.Recovered {
		t.Error("what was removed is recovered")
	}
	if r := member(t, s, "").Recovers("x", epoch, 350).Subscribe; !r.Recovered || len(r.Publications) != 0 {
		t.Error("nothing was missed, although nothing is kept")
	}
}

func (s *server) historyForget(name string) error {
	return s.node.HistoryRemove(s.T.Context(), name)
}

// A client that has no position yet names offset 0 and no epoch, and means everything.
func TestNoEpochMeansTheChannelsOwn(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: 3})
	c := member(t, s, "")
	s.publish("x", "1")
	s.publish("x", "2")
	both := `"publications":[{"data":1,"offset":1},{"data":2,"offset":2}]`
	c.Does(`{"id":2,"subscribe":{"channel":"x","recover":true}}`)
	c.WantTold("all that there ever was", `{"id":2,"subscribe":{"recoverable":true,"epoch":"E",`+both+`,"recovered":true,"positioned":true,"was_recovering":true}}`)
	for since, want := range map[string]string{
		`"since":{}`:           both,
		`"since":{"offset":1}`: `"publications":[{"data":2,"offset":2}]`,
		`"since":{"offset":2,"epoch":""},"reverse":true`: `"publications":[{"data":1,"offset":1}]`,
	} {
		c.Does(`{"id":3,"history":{"channel":"x","limit":10,` + since + `}}`)
		c.WantTold(since, `{"id":3,"history":{`+want+`,"epoch":"E","offset":2}}`)
	}
	listed := func(publications string) string {
		return `{"result":{"publications":[` + publications + `],"epoch":"E","offset":2}}`
	}
	s.wantAPI("history", `{"channel":"x","limit":10,"since":{"offset":0,"epoch":""}}`, listed(`{"offset":1,"prev":0,"data":1},{"offset":2,"prev":1,"data":2}`))
	s.wantAPI("history", `{"channel":"x","limit":10,"since":{"offset":1}}`, listed(`{"offset":2,"prev":1,"data":2}`))
	for i := range 3 { // the first ones are not kept any more
		s.publish("x", strconv.Itoa(i+3))
	}
	if r := member(t, s, "").Recovers("x", "", 0).Subscribe; r.Recovered || len(r.Publications) > 0 {
		t.Errorf("a hole at the beginning counts as recovered: %+v", *r)
	}
}

// An application that keeps its own state wants all that it missed, or to be refused, so that it
// loads its state again. The flag's first bit asks for something else, which is not there.
func TestSubscribeThatRejectsAHole(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: 3})
	c := member(t, s, "")
	for i := range 5 {
		s.publish("x", strconv.Itoa(i+1))
	}
	gap := `{"id":2,"error":{"code":112,"message":"unrecoverable position"}}`
	for _, position := range []string{`"offset":0,"epoch":"zzz"`, `"offset":0`, `"offset":1`, `"offset":6`} {
		c.Does(`{"id":2,"subscribe":{"channel":"x","recoverable":true,"recover":true,` + position + `,"flag":3}}`)
		c.WantTold(position, gap)
	}
	s.wantAPI("channels", `{}`, `{"result":{"channels":{}}}`) // it is not subscribed
	c.Does(`{"id":3,"subscribe":{"channel":"x","recoverable":true,"recover":true,"offset":2,"flag":3}}`)
	c.WantTold("all is there", `{"id":3,"subscribe":{"recoverable":true,"epoch":"E","publications":[{"data":3,"offset":3},{"data":4,"offset":4},{"data":5,"offset":5}],"recovered":true,"offset":2,"positioned":true,"was_recovering":true}}`)
	c.Does(`{"id":4,"subscribe":{"channel":"y","recoverable":true,"flag":3}}`)
	c.WantTold("nothing is to be recovered", `{"id":4,"subscribe":{"recoverable":true,"epoch":"E","positioned":true}}`)
	s.wantAPI("channels", `{}`, `{"result":{"channels":{"x":{"num_clients":1},"y":{"num_clients":1}}}}`)
}

func TestCacheModeGivesTheNewest(t *testing.T) {
	t.Parallel()
	set, err := namespace.Parse([]byte(`{"without_namespace": {"allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true,
		"history_size": 1, "history_ttl": "60s", "force_recovery": true, "force_recovery_mode": "cache"}}`))
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Config{Namespaces: set})
	c := member(t, s, "")
	c.Does(`{"id":2,"subscribe":{"channel":"x"}}`)
	first := c.Reads("nothing was published").Subscribe
	if len(first.Publications) != 0 || first.Recovered {
		t.Errorf("got %+v", first)
	}
	for i := range 3 {
		s.publish("x", strconv.Itoa(i+1))
	}
	newest := func(why string, r clienttest.Subscribed, recovered bool, n int) {
		t.Helper()
		if got := r.Subscribe; got.Recovered != recovered || len(got.Publications) != n || n > 0 && string(got.Publications[0].Data) != "3" {
			t.Errorf("%s: got %+v", why, *got)
		}
	}
	c = member(t, s, "")
	c.Does(`{"id":2,"subscribe":{"channel":"x"}}`)
	newest("on the first subscribe", c.Reads("subscribe"), false, 1)
	newest("it missed more than is kept", member(t, s, "").Recovers("x", first.Epoch, 0), true, 1)
	newest("it has missed nothing", member(t, s, "").Recovers("x", first.Epoch, 3), true, 0)
	newest("another order", member(t, s, "").Recovers("x", "other", 3), true, 1)
}

// Clients come and go in a busy channel, and recover from where they were: none sees a hole
// or a publication twice, in whatever encoding the loops meet them.
func TestJoinsWithHistorySeeNoHoleAndNoRepeat(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: 20_000, HistoryBytes: 8 << 20, MessageRate: -1})
	var stop atomic.Bool
	var publishing sync.WaitGroup
	publishing.Go(func() {
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for n := 1; !stop.Load(); n++ {
			s.publish("x", strconv.Itoa(n))
			if n%4 == 0 {
				<-pace.C
			}
		}
	})
	var clients sync.WaitGroup
	for range 8 {
		c := member(t, s, "")
		clients.Go(func() {
			c.Does(`{"id":7,"subscribe":{"channel":"x"}}`)
			r := c.Reads("the first").Subscribe
			epoch, at := r.Epoch, r.Offset
			for range clienttest.Scaled(120, 8) {
				at = c.ReadsOn(at, 1+rand.IntN(4))
				c.Does(`{"id":8,"unsubscribe":{"channel":"x"}}`)
				for { // what was on its way still comes
					r := c.Reads("until it is unsubscribed")
					if r.ID == 8 {
						break
					}
					at = c.Follows(at, *r.Push.Pub)
				}
				r := c.Recovers("x", epoch, at).Subscribe
				if r.Recovered && r.Offset != at {
					c.T.Errorf("recovered from %d, the reply says %d", at, r.Offset)
				}
				if !r.Recovered && r.Offset-at > recoverMost { // more than a reply holds, and it was told so
					at = r.Offset
					continue
				}
				if !r.Recovered {
					c.T.Errorf("not recovered from %d at %d", at, r.Offset)
					return
				}
				for _, p := range r.Publications {
					at = c.Follows(at, p)
				}
			}
		})
	}
	clients.Wait()
	stop.Store(true)
	publishing.Wait()
}

// A publication of any publisher reaches every format, whole and in order, with those who
// come and go in many channels on the same connection.
func TestManyChannelsOnOneConnectionKeepTheirOrders(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MessageRate: -1})
	const channels = 12
	var stop atomic.Bool
	var publishing sync.WaitGroup
	publishing.Go(func() {
		var n [channels]int
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for i := 0; !stop.Load(); i++ {
			k := rand.IntN(channels)
			n[k]++
			s.publish(fmt.Sprint("c", k), strconv.Itoa(n[k]))
			if i%4 == 0 {
				<-pace.C
			}
		}
	})
	var clients sync.WaitGroup
	for range 8 {
		c := member(t, s, "")
		clients.Go(func() {
			at := map[string]uint64{} // of the channels that it is subscribed to
			asked, ids := map[int]string{}, 10
			for range clienttest.Scaled(400, 8) {
				name := fmt.Sprint("c", rand.IntN(channels))
				ids++
				asked[ids] = name
				if _, in := at[name]; in && !slices.Contains(pendingNames(asked, ids), name) {
					c.Does(fmt.Sprintf(`{"id":%d,"unsubscribe":{"channel":%q}}`, ids, name))
				} else {
					c.Does(fmt.Sprintf(`{"id":%d,"subscribe":{"channel":%q}}`, ids, name))
				}
				for len(asked) > 3 {
					if !oneMessage(c, at, asked) {
						return
					}
				}
			}
			for len(asked) > 0 {
				if !oneMessage(c, at, asked) {
					return
				}
			}
		})
	}
	clients.Wait()
	stop.Store(true)
	publishing.Wait()
}

// pendingNames are the channels of commands before the last that are not answered.
func pendingNames(asked map[int]string, last int) (names []string) {
	for id, name := range asked {
		if id != last {
			names = append(names, name)
		}
	}
	return names
}

// oneMessage reads a message and holds it against what the client knows.
func oneMessage(c *clienttest.Client, at map[string]uint64, asked map[int]string) bool {
	r := c.Reads("a message")
	switch {
	case r.Push != nil:
		position, in := at[r.Push.Channel]
		if !in {
			c.T.Errorf("a publication of %s, which is not subscribed to", r.Push.Channel)
			return false
		}
		at[r.Push.Channel] = c.Follows(position, *r.Push.Pub)
	case r.Subscribe != nil:
		at[asked[r.ID]] = r.Subscribe.Offset
		delete(asked, r.ID)
	case r.Error != nil && r.Error.Code == 105: // it was asked for twice
		delete(asked, r.ID)
	case r.Error == nil:
		delete(at, asked[r.ID])
		delete(asked, r.ID)
	default:
		c.T.Errorf("got %+v", r)
		return false
	}
	return true
}

// A full channel parks the command that publishes into it with everything behind, and
// nothing is done twice or lost when there is room again.
func TestFullChannelParksCommands(t *testing.T) {
	clienttest.UncompressedOnly(t)
	t.Parallel()
	s := start(t, Config{ChannelBuffer: 16 << 10, MaxMessage: 4 << 10, SendBuffer: 4 << 10, PingInterval: -1, Loops: 1, History: -1})
	s.Clock.Slow() // the reader reads in the end
	reader := clienttest.ConnectWith(t, s, 4<<10)
	reader.Upgrade("/ws/x")
	c := member(t, s, "")
	const n = 64
	var frames []string
	for i := range n {
		data := fmt.Sprintf(`"%d %s"`, i, strings.Repeat("x", 1000))
		frames = append(frames, clienttest.Text(fmt.Sprintf(`{"id":%d,"publish":{"channel":"x","data":%s}}`+"\n"+`{"id":%d,"ping":{}}`, 2*i+10, data, 2*i+11)))
	}
	c.Send(frames...)
	clienttest.WaitFor(t, "the channel to push back", func() bool { return s.PushBacks() > 0 })
	var reading sync.WaitGroup
	reading.Go(func() {
		for i := range n {
			reader.WantText("each once, in order", fmt.Sprintf(`"%d %s"`, i, strings.Repeat("x", 1000)))
		}
	})
	for i := range n {
		c.WantTold("published", fmt.Sprintf(`{"id":%d,"publish":{}}`, 2*i+10))
		c.WantTold("and the command behind it", fmt.Sprintf(`{"id":%d,"ping":{}}`, 2*i+11))
	}
	reading.Wait()
}

// A client that is too slow for a channel with the policy skip is told that its state is
// not sufficient any more, and learns by its next subscribe what it has missed.
func TestSlowClientIsToldToSubscribeAgain(t *testing.T) {
	clienttest.UncompressedOnly(t)
	t.Parallel()
	s := start(t, Config{ChannelBuffer: 16 << 10, MaxMessage: 4 << 10, SendBuffer: 4 << 10, PingInterval: -1, Loops: 1, History: 5, WriteTimeout: 30 * time.Second,
		SlowPolicy: []SlowRule{{Pattern: "x", Skip: true}}})
	c := clienttest.ConnectWith(t, s, 4<<10)
	c.Upgrade(pathClient)
	c.Connects("")
	c.Does(`{"id":2,"subscribe":{"channel":"x"}}`)
	epoch := c.Reads("subscribe").Subscribe.Epoch
	for i := range 80 {
		s.publish("x", fmt.Sprintf(`"%d %s"`, i+1, strings.Repeat("x", 1000)))
	}
	clienttest.WaitFor(t, "it to be skipped", func() bool { return s.Sum(func(st *loop.Stats) uint64 { return st.Skips.Load() }) == 1 })
	var last uint64
	for {
		r := c.Reads("what was on its way, and then the end of the subscription")
		if r.Push.Unsubscribe != nil {
			if r.Push.Unsubscribe.Code != 2500 {
				t.Errorf("code %d", r.Push.Unsubscribe.Code)
			}
			break
		}
		if r.Push.Pub.Offset != last+1 {
			t.Fatalf("publication %d follows %d", r.Push.Pub.Offset, last)
		}
		last = r.Push.Pub.Offset
	}
	if r := c.Recovers("x", epoch, last).Subscribe; r.Recovered || r.Offset != 80 {
		t.Errorf("it is told that it has missed nothing: %+v", r)
	}
	dropped := s.Sum(func(st *loop.Stats) uint64 { return st.Dropped[loop.DroppedBySkip].Load() })
	if n := s.Deliveries(); n != last || dropped == 0 { // what comes after it was skipped is not due to it
		t.Errorf("%d deliveries are counted of %d, and %d dropped publications", n, last, dropped)
	}
}

// A newest publication that does not fit a reply costs the other channels of the same
// connect nothing.
func TestWhatDoesNotFitTakesNoRoom(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, `{"without_namespace": {"allow_subscribe_for_client": true, "history_size": 1, "history_ttl": "60s",
		"force_recovery": true, "force_recovery_mode": "cache"}}`)
	s := start(t, cfg)
	s.publish("large", strings.Repeat("\x01", 60_000)) // six times that in JSON
	s.publish("small", "2")
	c := clienttest.Dial(t, s, pathClient)
	c.Does(`{"id":1,"connect":{"token":"` + tokens(t, auth.Claims{User: "42", Channels: []string{"large", "small"}}) + `"}}`)
	if got := c.Told("connect"); !strings.Contains(got, `"small":{"recoverable":true`) || !strings.Contains(got, `"publications":[{"data":2,"offset":1}]`) {
		t.Errorf("got %s", got)
	}
}
