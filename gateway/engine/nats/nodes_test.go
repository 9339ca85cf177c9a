package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/nats/natstest"
	"sluice/gateway/presence"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	natsserver "github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
)

func TestBeats(t *testing.T) {
	t.Parallel()
	full := beat{flags: beatFull | beatEnd, node: 1 << 60, begun: 1 << 61, seq: 300, conns: 2, described: described{"a", "SERVER", engine.NodeInfo{ID: "x", Clients: 3, Uptime: time.Hour, Away: true}}}
	for i := range full.counters {
		full.counters[i] = uint64(i) << (i % 57)
	}
	for _, b := range []beat{full, {node: 1}, {node: 7, begun: 9, seq: 1, conns: 1, flags: beatStarting}} {
		data := appendBeat(nil, &b)
		got, err := parseBeat(data[2:])
		if err != nil || *got != b {
			t.Errorf("got %+v, %v, want %+v", got, err, b)
		}
		for n := range data[2:] {
			if _, err := parseBeat(data[2:][:n]); err == nil {
				t.Errorf("%d bytes of %d are a beat", n, len(data)-2)
			}
		}
	}
}

func TestRunsOfMessages(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		came     []uint64
		from, to uint64
		lost     bool
	}{
		{nil, 0, 0, false},
		{nil, 5, 5, false},
		{nil, 5, 6, true},
		{[]uint64{1, 2, 3}, 0, 3, false},
		{[]uint64{1, 2, 3}, 0, 4, true},
		{[]uint64{1, 3}, 0, 3, true},
		{[]uint64{1, 3}, 2, 3, false},
		{[]uint64{9, 10, 11}, 10, 11, false},
		{[]uint64{9, 10, 11}, 8, 10, false},
		{[]uint64{9, 10, 11}, 7, 10, true},
		{[]uint64{9, 1, 2}, 0, 2, false}, // another node's with the same number
	} {
		var r run
		for _, c := range test.came {
			r.add(c)
		}
		if got := r.lost(test.from, test.to); got != test.lost {
			t.Errorf("%v came: lost after %d to %d is %v", test.came, test.from, test.to, got)
		}
	}
}

func FuzzWhatNodesSend(f *testing.F) {
	f.Add(appendBeat(nil, &beat{node: 2, seq: 1, flags: beatFull}))
	f.Add([]byte{beatVersion, kindQuestion, askList, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 'x'})
	f.Add([]byte{beatVersion, kindAnswer, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 'x'})
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newSim(t, 1, 1)
		w.step()
		w.nodes[0].n.handle(data)
		w.step()
	})
}

// testLanes is one lane, which has done everything it was asked for.
type testLanes struct{}

func (testLanes) behind(f func(lane, lanes int))     { f(0, 1) }
func (testLanes) interrupted(*[buckets]bool, string) {}
func (testLanes) checkPositions()                    {}

func connect(t *testing.T, url string) *natsgo.Conn {
	t.Helper()
	nc, err := natsgo.Connect(url, natsgo.Timeout(clienttest.Patience), natsgo.ReconnectBufSize(-1), natsgo.MaxReconnects(-1), natsgo.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func nodeConfig(id uint64) nodesConfig {
	return nodesConfig{id: id, prefix: "test", lanes: testLanes{}, present: presence.New(), logger: slog.New(slog.DiscardHandler), hello: 100 * time.Millisecond}
}

// startNodes starts nodes that know each other.
func startNodes(t *testing.T, url string, count int) (all []*nodes) {
	t.Helper()
	for i := range count {
		cfg := nodeConfig(uint64(i + 1))
		cfg.describe = func() engine.NodeInfo { return engine.NodeInfo{Version: "v", Clients: i} }
		n, err := natsNodes(t.Context(), connect(t, url), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.close)
		all = append(all, n)
	}
	for _, n := range all {
		clienttest.WaitFor(t, "all nodes to be known", func() bool { return n.live.Load() == int64(count) && !n.nodeList(t).Partial })
	}
	return all
}

func (n *nodes) nodeList(t *testing.T) engine.Nodes {
	t.Helper()
	got := make(chan engine.Nodes, 1)
	n.info(func(all engine.Nodes, _ error) { got <- all })
	return clienttest.Receive(t, "the nodes", got)
}

func TestNodesKnowEachOther(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Options{})
	all := startNodes(t, server.URL(), 3)
	for i, n := range all {
		got := n.nodeList(t)
		slices.SortFunc(got.List, func(a, b engine.NodeInfo) int { return a.Clients - b.Clients })
		var want []engine.NodeInfo
		for j := range all {
			if j != i {
				id := nodeText(uint64(j + 1))
				want = append(want, engine.NodeInfo{ID: id, Name: "node-" + id, Version: "v", Clients: j})
			}
		}
		if diff := cmp.Diff(want, got.List, cmpopts.IgnoreFields(engine.NodeInfo{}, "Silent")); diff != "" || got.Partial {
			t.Errorf("node %d: partial %v (-want +got):\n%s", i, got.Partial, diff)
		}
	}
	// One that ends says so, and is not missed.
	extra, err := natsNodes(t.Context(), connect(t, server.URL()), nodeConfig(9))
	if err != nil {
		t.Fatal(err)
	}
	clienttest.WaitFor(t, "one more", func() bool { return all[0].live.Load() == 4 })
	extra.close()
	clienttest.WaitFor(t, "one less", func() bool { return all[0].live.Load() == 3 })
	if list := all[0].nodeList(t).List; len(list) != 2 {
		t.Errorf("%d others are listed", len(list))
	}
	extra.info(func(got engine.Nodes, _ error) {
		if !got.Partial {
			t.Error("nodes that have ended know all others")
		}
	})
}

func TestNameOfALiveNodeIsRefused(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Options{})
	begin := func(id uint64, hello time.Duration) (*nodes, error) {
		cfg := nodeConfig(id)
		cfg.name, cfg.hello = "a", hello
		return natsNodes(t.Context(), connect(t, server.URL()), cfg)
	}
	first, err := begin(1, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := begin(2, time.Minute); !errors.Is(err, ErrNameTaken) {
		t.Errorf("the name of a live node: %v", err)
	}
	first.close()
	again, err := begin(3, time.Millisecond)
	if err != nil {
		t.Fatalf("the name of a node that has ended: %v", err)
	}
	again.close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := natsNodes(ctx, connect(t, server.URL()), nodeConfig(4)); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

func TestOneOfTwoNodesOfANameGoesOn(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Options{})
	const count = 4
	errs := make([]error, count)
	var starting sync.WaitGroup
	var ended atomic.Int64 // of those that have started, on a slow machine
	for i := range count {
		cfg := nodeConfig(uint64(i + 1))
		cfg.name, cfg.hello, cfg.nameTaken = "a", time.Second, func() { ended.Add(1) }
		nc := connect(t, server.URL())
		starting.Go(func() {
			var n *nodes
			if n, errs[i] = natsNodes(t.Context(), nc, cfg); n != nil {
				t.Cleanup(n.close)
			}
		})
	}
	starting.Wait()
	started := int64(0)
	for _, err := range errs {
		if err == nil {
			started++
		} else if !errors.Is(err, ErrNameTaken) {
			t.Error(err)
		}
	}
	clienttest.WaitFor(t, "one node of the name", func() bool { return started-ended.Load() == 1 })
}

func TestQuestions(t *testing.T) {
	t.Parallel()
	all := startNodes(t, natstest.Start(t, natstest.Options{Tune: func(o *natsserver.Options) { o.MaxPayload = 4 << 10 }}).URL(), 3)
	ask := func(request string) (answers []string, missing int) {
		done := make(chan struct{})
		all[0].askNodes([]byte(request), func(got [][]byte, m int) {
			for _, a := range got {
				answers = append(answers, string(a))
			}
			missing = m
			close(done)
		})
		clienttest.Receive(t, "the answers", done)
		slices.Sort(answers)
		return answers, missing
	}
	unanswered := 0
	want := func(why string, request string, answers []string, missing int) {
		t.Helper()
		var got []string
		var m int
		clienttest.WaitFor(t, why, func() bool { // a busy machine is late
			got, m = ask(request)
			unanswered += m
			return m <= missing
		})
		if !slices.Equal(got, answers) || m != missing {
			t.Errorf("%s: got %d answers and %d missing, want %d and %d", why, len(got), m, len(answers), missing)
		}
	}
	want("nothing to answer with", "x", nil, 0)
	for i, n := range all {
		n.setAnswer(func(request []byte, reply func([]byte)) { go reply(fmt.Append(nil, i, string(request))) })
	}
	want("both answer", "x", []string{"1x", "2x"}, 0)
	want("a question that is too large", strings.Repeat("x", 5<<10), nil, 2)
	large := strings.Repeat("0123456789", 10<<10)
	all[1].setAnswer(func(_ []byte, reply func([]byte)) { reply([]byte(large)) })
	want("a large answer", "x", []string{large, "2x"}, 0)
	all[1].setAnswer(func([]byte, func([]byte)) {})
	want("one does not answer", "x", []string{"2x"}, 1)
	if n := all[0].unanswered.Load(); n != uint64(unanswered) {
		t.Errorf("%d questions were not answered, want %d", n, unanswered)
	}
	all[0].close()
	want("the node has ended", "x", nil, 2)
}

func TestPresenceOfAllNodes(t *testing.T) {
	t.Parallel()
	all := startNodes(t, natstest.Start(t, natstest.Options{}).URL(), 2)
	var want []*channel.ClientInfo
	for i, n := range all {
		for j := range 2 + i {
			who := &channel.ClientInfo{User: fmt.Sprint("user ", j), Client: fmt.Sprint(i, j), ConnInfo: []byte(`{"a":1}`)}
			n.cfg.present.Add("x", uint64(j), who)
			want = append(want, who)
		}
	}
	ask := func(name string, most int) (p engine.Presence) {
		clienttest.WaitFor(t, "a presence of all nodes", func() bool { // a busy machine is late
			got := make(chan engine.Presence, 1)
			all[0].presence(name, most, func(p engine.Presence, _ error) { got <- p })
			p = clienttest.Receive(t, "the presence", got)
			return !p.Partial
		})
		return p
	}
	if got := ask("x", 0); got.Clients != 5 || got.Users != 3 {
		t.Errorf("counted %+v", got)
	}
	got := ask("x", 5)
	slices.SortFunc(got.List, func(a, b *channel.ClientInfo) int { return strings.Compare(a.Client, b.Client) })
	for _, who := range got.List {
		if len(who.ChanInfo) == 0 {
			who.ChanInfo = nil
		}
	}
	if diff := cmp.Diff(want, got.List, cmpopts.IgnoreFields(engine.NodeInfo{}, "Silent")); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	for most, name := range map[int]string{4: "more on both", 2: "more on one"} {
		if got := ask("x", most); got.List != nil {
			t.Errorf("%s than %d: got %d", name, most, len(got.List))
		}
	}
	if got := ask("y", 1); got.List == nil || len(got.List) != 0 {
		t.Errorf("nobody: %v", got.List)
	}
}

// The barrier is over when the other servers know what was subscribed to.
func TestBarrierOverOtherServers(t *testing.T) {
	t.Parallel()
	cluster := natstest.StartCluster(t, 2, natstest.Options{})
	var conns []*natsgo.Conn
	var all []*nodes
	for i, url := range cluster.URLs() {
		nc := connect(t, url)
		n, err := natsNodes(t.Context(), nc, nodeConfig(uint64(i+1)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.close)
		conns, all = append(conns, nc), append(all, n)
	}
	clienttest.WaitFor(t, "the nodes to know each other's server", func() bool {
		list := all[0].nodeList(t)
		return len(list.List) == 1 && !list.Partial
	})
	const channels = 2000
	got := make(chan *natsgo.Msg, channels)
	for i := range channels {
		if _, err := conns[0].ChanSubscribe(fmt.Sprint("x.", i), got); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{}, 2)
	clienttest.WaitFor(t, "a barrier that the other node answers in time", func() bool {
		begun := time.Now()
		for range 2 { // the second waits for the next one
			all[0].barrier(func() { done <- struct{}{} })
		}
		for range 2 {
			clienttest.Receive(t, "the barrier", done)
		}
		return time.Since(begun) < engine.AskPatience
	})
	for i := range channels {
		if err := conns[1].Publish(fmt.Sprint("x.", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	for range channels {
		clienttest.Receive(t, "each message", got)
	}
}

// gapLanes notes gaps.
type gapLanes struct {
	testLanes
	gaps chan gapOf
}

type gapOf struct {
	affected [buckets]bool
	cause    string
}

func (l gapLanes) interrupted(affected *[buckets]bool, cause string) {
	l.gaps <- gapOf{*affected, cause}
}

// After a restart of the server, the buckets in which something was sent meanwhile have a gap.
func TestReconnectedNodeKnowsWhatMoved(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Options{})
	lanes := gapLanes{gaps: make(chan gapOf, 100)}
	cfg := nodeConfig(1)
	cfg.lanes = lanes
	nc := connect(t, server.URL())
	n, err := natsNodes(t.Context(), nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	other, err := natsNodes(t.Context(), connect(t, server.URL()), nodeConfig(2))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.close)
	clienttest.WaitFor(t, "each other", func() bool { return n.live.Load() == 2 && other.live.Load() == 2 })
	n.received(2, 7, other.next(7)) // one that arrives
	server.Stop()
	other.next(9)
	server.Restart()
	for _, n := range []*nodes{n, other} {
		n.post(n.tick) // as when nats.go calls back
	}
	got := clienttest.Receive(t, "a gap", lanes.gaps)
	want := [buckets]bool{9: true}
	if diff := cmp.Diff(want, got.affected); diff != "" {
		t.Errorf("%s (-want +got):\n%s", got.cause, diff)
	}
}
