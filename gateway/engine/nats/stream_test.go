package nats

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"
	"sluice/gateway/setting"

	"github.com/google/go-cmp/cmp"
	natsserver "github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
)

// reopen opens the streams again, with other settings.
func (r *rig) reopen(c streamsConfig) {
	r.t.Helper()
	s, err := openStreams(testContext(r.t), r.link, c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.streams = s
}

// updates counts the changes of streams' configurations.
func (r *rig) updates() (count func() int) {
	sub, err := r.main.SubscribeSync("$JS.EVENT.ADVISORY.STREAM.UPDATED.>")
	if err != nil {
		r.t.Fatal(err)
	}
	return func() int {
		if err := r.main.Flush(); err != nil {
			r.t.Fatal(err)
		}
		n, _, _ := sub.Pending() // ignored: it cannot fail
		return n
	}
}

func TestLimitsAreChangedInPlace(t *testing.T) {
	t.Parallel()
	url := natstest.Start(t, natstest.Options{JetStream: true}).URL()
	r := testStore(t, testConfig(histories(3, "")), url)
	updates := r.updates()
	for i := range 6 {
		r.store("a", fmt.Sprint(i))
	}
	st := r.of("a")
	before := st.epoch()
	want := func(why string, limit int, raised uint64, texts string, floor uint64) {
		t.Helper()
		s, err := r.of("a").state(testContext(t))
		if err != nil || s.epoch != before || s.limit != limit || s.raised != raised {
			t.Errorf("%s: %+v, %v; want epoch %v, limit %d, raised %d", why, s, err, before, limit, raised)
		}
		if got := r.read("a", 0); got.texts() != texts || got.floor != floor || got.epoch != before {
			t.Errorf("%s: %s, floor %d, want %s, %d", why, got.texts(), got.floor, texts, floor)
		}
	}
	want("at first", 4, 0, "[4:3 5:4 6:5]", 3)
	r.reopen(testConfig(histories(3, "")))
	if n := updates(); n != 0 {
		t.Errorf("%d updates without a change", n)
	}
	r.reopen(testConfig(histories(5, "")))
	// What the lower limit dropped is still known to be missing, and what is there is complete.
	want("raised", 6, 6, "[3:2 4:3 5:4 6:5]", 2)
	for i := 6; i < 9; i++ {
		r.store("a", fmt.Sprint(i))
	}
	want("full again", 6, 6, "[5:4 6:5 7:6 8:7 9:8]", 4)
	r.store("b", "of another channel") // above what was raised
	if got := r.read("b", 0); got.texts() != "[10:of another channel]" || got.floor != 3 {
		t.Errorf("of a channel that the lower limit never met: %s, floor %d", got.texts(), got.floor)
	}
	r.reopen(testConfig(histories(1, "")))
	want("lowered", 2, 6, "[9:8]", 8)
	r.reopen(testConfig(histories(4, "")))
	want("raised again", 5, 10, "[8:7 9:8]", 7)
	if n := updates(); n != 5*shardsInCluster {
		t.Errorf("%d updates, want 2 for each raise and 1 for lowering", n)
	}
}

// A node that ended while it raised the limit leaves a note that holds nothing for complete.
func TestAnUnfinishedRaiseIsFinished(t *testing.T) {
	t.Parallel()
	url := natstest.Start(t, natstest.Options{JetStream: true}).URL()
	r := testStore(t, testConfig(histories(3, "")), url)
	r.store("a", "0")
	in, err := r.info(testContext(t), r.of("a").name)
	if err != nil {
		t.Fatal(err)
	}
	in.Config["description"] = description{raised: raising}.String()
	if err := r.api(testContext(t), "STREAM.UPDATE."+r.of("a").name, in.Config, nil); err != nil {
		t.Fatal(err)
	}
	r.store("b", "1")
	if got := r.read("b", 0); got.floor != 1 {
		t.Errorf("meanwhile: floor %d, want 1, the place before the only message", got.floor)
	}
	r.reopen(testConfig(histories(3, "")))
	r.store("c", "2")
	if got := r.read("c", 0); got.floor != 0 {
		t.Errorf("afterwards: floor %d, want 0", got.floor)
	}
}

func TestWhatAnOperatorHasSetStays(t *testing.T) {
	t.Parallel()
	url := natstest.Start(t, natstest.Options{JetStream: true}).URL()
	r := testStore(t, testConfig(histories(3, "")), url)
	name := r.of("a").name
	in, err := r.info(testContext(t), name)
	if err != nil {
		t.Fatal(err)
	}
	in.Config["compression"] = "s2"
	if err := r.api(testContext(t), "STREAM.UPDATE."+name, in.Config, nil); err != nil {
		t.Fatal(err)
	}
	r.reopen(testConfig(histories(9, "")))
	in, err = r.info(testContext(t), name)
	if err != nil || textIn(in.Config, "compression") != "s2" || numberIn(in.Config, "max_msgs_per_subject") != 10 {
		t.Errorf("got %v, %v", in.Config, err)
	}
}

// One more namespace makes every stream's share smaller, and the store has exactly as much as they reserve.
func TestStreamsShareTheRoom(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.Options{JetStream: true, Tune: func(o *natsserver.Options) { o.JetStreamMaxStore = 1 << 30 }})
	c := testConfig(histories(3, "aa", "bb"))
	c.embedded = true
	c.namespaceOf = func(channel string) string { name, _, _ := strings.Cut(channel, ":"); return name }
	r := testStore(t, c, s.URL())
	r.store("aa:x", "kept")
	epoch, unused := r.of("aa:x").epoch(), false
	for _, names := range [][]string{{"cc", "aa", "bb"}, {"cc", "dd"}, {"aa"}, {}, {"aa", "cc"}, {"cc"}, {"aa", "bb", "cc", "dd", "ee", "ff"}} {
		c.histories = histories(3, names...)
		r.reopen(c)
		all, err := r.names(testContext(t), "sluice.in.>")
		if err != nil {
			t.Fatal(err)
		}
		want := len(names)
		if !slices.Contains(names, "aa") {
			want++ // it has a message, and stays
		}
		st := r.of("aa:x")
		if st == nil {
			unused = true
		} else if (st.epoch() == epoch) == unused {
			t.Errorf("%v: the epoch is %d, after %d", names, st.epoch(), epoch) // what was published meanwhile is not in it
		} else {
			epoch, unused = st.epoch(), false
		}
		reserved := int64(0)
		for _, name := range all {
			in, err := r.info(testContext(t), name)
			if err != nil {
				t.Fatal(err)
			}
			reserved += numberIn(in.Config, "max_bytes")
		}
		if len(all) != want || reserved > 1<<30 || reserved < 1<<30*9/10 && len(names) > 0 {
			t.Errorf("%v: streams %v reserve %d", names, all, reserved)
		}
	}
	if got := r.read("aa:x", 0); got.texts() != "[1:kept]" {
		t.Errorf("kept is %s", got.texts())
	}
	if r.of("zz:x") != nil || (*streams)(nil).of("aa:x") != nil {
		t.Error("a channel without a history has a stream")
	}
}

func TestNoHistoryMakesNoStream(t *testing.T) {
	t.Parallel()
	for name, hs := range map[string][]HistoryOf{"none": nil, "not durable": {{Size: 3}}, "empty": {{Durable: true}}} {
		if s, err := openStreams(testContext(t), nil, testConfig(hs)); s != nil || err != nil {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
}

func TestStreamsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	url := natstest.Start(t, natstest.Options{JetStream: true}).URL()
	l := testLink(t, url)
	js, err := l.main.JetStream(natsgo.MaxWait(clienttest.Patience))
	if err != nil {
		t.Fatal(err)
	}
	ours := description{}.String()
	for name, test := range map[string]struct {
		make   natsgo.StreamConfig
		change func(*streamsConfig)
		want   string
	}{
		"another's":         {make: natsgo.StreamConfig{Name: "SLUICE_=_0", Subjects: []string{"sluice.in.=_0.*"}}, want: "sluice's"},
		"newer":             {make: natsgo.StreamConfig{Name: "SLUICE_=_0", Description: "sluice: format=2 more=7"}, want: "newer version"},
		"other subjects":    {make: natsgo.StreamConfig{Name: "SLUICE_=_0", Description: ours, Subjects: []string{"other.>"}}, want: "its subjects are [other.>]"},
		"in memory":         {make: natsgo.StreamConfig{Name: "SLUICE_=_0", Description: ours, Subjects: []string{"sluice.in.=_0.*"}, Storage: natsgo.MemoryStorage}, want: "not in files"},
		"a queue":           {make: natsgo.StreamConfig{Name: "SLUICE_=_0", Description: ours, Subjects: []string{"sluice.in.=_0.*"}, Retention: natsgo.WorkQueuePolicy}, want: "retention"},
		"cannot be purged":  {make: natsgo.StreamConfig{Name: "SLUICE_=_0", Description: ours, Subjects: []string{"sluice.in.=_0.*"}, DenyPurge: true}, want: "purge"},
		"subjects taken":    {make: natsgo.StreamConfig{Name: "OTHER", Subjects: []string{"sluice.>"}}, want: "another stream has its subjects"},
		"prefix":            {change: func(c *streamsConfig) { c.prefix = "a.b" }, want: "{NATSPrefix} \"a.b\" must consist"},
		"too little room":   {change: func(c *streamsConfig) { c.dataMax = 1 << 20 }, want: "{DataMax} 1MiB is too small for 8 streams"},
		"too much room":     {change: func(c *streamsConfig) { c.dataMax = 1 << 40 }, want: "lower {DataMax}"},
		"message too large": {change: func(c *streamsConfig) { c.maxMessage = 64 << 20 }, want: "{MaxMessage} 64MiB is too large"},
		"replicas":          {change: func(c *streamsConfig) { c.replicas = 3 }, want: "cannot be made or changed: "},
	} {
		t.Run(name, func(t *testing.T) {
			if test.make.Name != "" {
				if _, err := js.AddStream(&test.make); err != nil {
					t.Fatal(err)
				}
			}
			c := testConfig(histories(3, ""))
			if test.change != nil {
				test.change(&c)
			}
			_, err := openStreams(testContext(t), l, c)
			var named []string
			names := setting.Names(func(field string) string { named = append(named, field); return "{" + field + "}" })
			if err == nil || !strings.Contains(names.ErrorText(err), test.want) || len(named) == 0 {
				t.Errorf("got %v, want %q and a setting's name", err, test.want)
			}
			for name := range js.StreamNames() {
				if err := js.DeleteStream(name); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestServersWithoutJetStream(t *testing.T) {
	t.Parallel()
	l := testLink(t, natstest.Start(t, natstest.Options{}).URL())
	_, err := openStreams(testContext(t), l, testConfig(histories(3, "")))
	if err == nil || !strings.Contains(err.Error(), "have no JetStream") {
		t.Errorf("got %v", err)
	}
}

// Several nodes that start at once make the same streams; with other settings the last one's hold.
func TestNodesOpenStreamsTogether(t *testing.T) {
	t.Parallel()
	cluster := natstest.StartCluster(t, 3, natstest.Options{JetStream: true})
	var links []*link
	for i := range 3 {
		links = append(links, testLink(t, cluster.Servers[i].URL()))
	}
	for round, size := range []int{3, 7} {
		var opening sync.WaitGroup
		for _, l := range links {
			opening.Go(func() {
				if _, err := openStreams(testContext(t), l, testConfig(histories(size, "", "chat"))); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		opening.Wait()
	}
	// All servers agree on when a stream was made, which is its epoch: it outlives its leader.
	created := make(map[string]map[time.Time]bool)
	for _, server := range cluster.Servers {
		jsz, err := server.Server().Jsz(&natsserver.JSzOptions{Accounts: true, Streams: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, account := range jsz.AccountDetails {
			for _, stream := range account.Streams {
				if created[stream.Name] == nil {
					created[stream.Name] = make(map[time.Time]bool)
				}
				created[stream.Name][stream.Created.UTC()] = true
			}
		}
	}
	for name, times := range created {
		if len(times) != 1 {
			t.Errorf("stream %s was made at %v", name, times)
		}
	}
	names, err := links[0].names(testContext(t), "sluice.in.>")
	if err != nil || len(names) != 2*shardsInCluster {
		t.Fatalf("streams %v, %v", names, err)
	}
	in, err := links[0].info(testContext(t), names[0])
	if err != nil || numberIn(in.Config, "num_replicas") != 3 || numberIn(in.Config, "max_msgs_per_subject") != 8 || in.Cluster.Leader == "" {
		t.Errorf("got %+v, %v", in, err)
	}
}

// The number of replicas is the servers', unless somebody has set it.
func TestReplicas(t *testing.T) {
	t.Parallel()
	cluster := natstest.StartCluster(t, 3, natstest.Options{JetStream: true})
	c := testConfig(histories(3, ""))
	var log logLines
	c.log = log.logger()
	var got []int64
	var r *rig
	for _, replicas := range []int{1, 0, 3, 0} {
		if c.replicas = replicas; r == nil {
			r = testStore(t, c, cluster.URL())
			r.store("a", "kept")
		} else {
			r.reopen(c)
		}
		in, err := r.info(testContext(t), r.of("a").name)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, numberIn(in.Config, "num_replicas"))
	}
	if diff := cmp.Diff([]int64{1, 1, 3, 3}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, want := range []string{"streams have fewer copies than the cluster can keep", "num_replicas from 1 to 3"} {
		if n := strings.Count(log.String(), want); n != 1 {
			t.Errorf("%d lines with %q:\n%s", n, want, log.String())
		}
	}
	for _, st := range r.all { // a server that is stopped while it copies a stream leaves goroutines behind
		cluster.Leader(st.name)
		cluster.Current(st.name)
	}
	if got := r.read("a", 0); got.texts() != "[1:kept]" {
		t.Errorf("kept is %s", got.texts())
	}
}

// The front of a stream goes when its bytes are used up: channels whose messages were there learn it.
func TestAFullStreamDropsItsFront(t *testing.T) {
	t.Parallel()
	url := natstest.Start(t, natstest.Options{JetStream: true}).URL()
	c := testConfig(histories(3, ""))
	c.embedded, c.dataMax, c.maxMessage = true, sharesLeast*(payloadOverhead+1024), 1024
	r := testStore(t, c, url)
	r.store("old", "0")
	last := r.store("old", "1")
	r.store("quiet", "x")
	text := strings.Repeat("x", 1000)
	for i := range 200 {
		r.store(fmt.Sprint("c", i), text)
	}
	s, err := r.of("a").state(testContext(t))
	if err != nil || s.first <= last+1 || s.last != 203 {
		t.Fatalf("state %+v, %v", s, err)
	}
	for _, above := range []uint64{0, 1, last} {
		if got := r.read("old", above); !got.none || got.floor != s.first-1 || got.head != s.last {
			t.Errorf("above %d: %+v, want the floor %d", above, got, s.first-1)
		}
	}
	if got := r.read("c199", 0); got.texts() != "[203:"+text+"]" || got.floor != s.first-1 {
		t.Errorf("the newest: floor %d", got.floor)
	}
}

func TestStreamsOfNamespacesAreDifferent(t *testing.T) {
	t.Parallel()
	seen := make(map[string]string)
	for _, ns := range []string{"", "chat", "Chat", "a.b", "a_b", "a-b", "=", strings.Repeat("x", 300), strings.Repeat("x", 301), strings.Repeat(".", 200), "a_0", "0", "_"} {
		for shard := range 2 {
			name, id := streamName("sluice", ns, shard)
			if other, ok := seen[name]; ok || len(name) > 200 || strings.ContainsAny(name+id, ". *>/\\") {
				t.Errorf("%q and %q have the stream %s", ns, other, name)
			}
			seen[name] = ns
		}
	}
}

// A question that waits shares the answer of one that begins later, never of one that began before.
func TestQuestionsAreCoalesced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c coalesced
		var asked atomic.Uint64
		ask := make(chan struct{})
		get := func() uint64 {
			s, err := c.get(t.Context(), func(context.Context) (state, error) {
				n := asked.Add(1)
				<-ask
				return state{last: n}, nil
			})
			if err != nil {
				t.Error(err)
			}
			return s.last
		}
		first, answers := make(chan uint64, 1), make(chan uint64, 10)
		go func() { first <- get() }()
		synctest.Wait() // until it is asked
		for range 10 {
			go func() { answers <- get() }()
		}
		synctest.Wait() // until they wait
		close(ask)
		if n := <-first; n != 1 {
			t.Errorf("the first question has answer %d", n)
		}
		for range 10 {
			if n := <-answers; n != 2 {
				t.Errorf("a question that began while the first one was asked has answer %d", n)
			}
		}
	})
}
