package nats

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/nats/natstest"
)

// Of nodes on three servers that find streams missing at the same moment one creates them, and a node that comes
// meanwhile waits for that one.
func TestOneNodeChangesStreams(t *testing.T) {
	t.Parallel()
	servers := natstest.StartCluster(t, 3, natstest.Options{})
	links := make([]*link, 4)
	for i := range links {
		l, err := dial(t.Context(), Servers{URLs: []string{servers.Servers[i%3].URL()}}, nil, 1, linkEvents{}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.close)
		l.claims = 5 * time.Second
		links[i] = l
	}
	var claiming sync.WaitGroup
	var winner atomic.Pointer[claim]
	for _, l := range links[:3] {
		claiming.Go(func() {
			switch c, err := l.claim(t.Context(), "sluice"); {
			case err == nil:
				if winner.Swap(c) != nil {
					t.Error("two nodes are at work")
				}
			case !errors.Is(err, errClaimed) || !errors.Is(err, engine.ErrUnavailable):
				t.Error(err)
			}
		})
	}
	claiming.Wait()
	c := winner.Load()
	if c == nil {
		t.Fatal("no node is at work")
	}
	if late, err := links[3].claim(t.Context(), "sluice"); !errors.Is(err, errClaimed) {
		t.Errorf("one that comes later: %v, %v", late, err)
	}
	c.end()
	clienttest.WaitFor(t, "a claim when nobody is at work any more", func() bool {
		last, err := links[3].claim(t.Context(), "sluice")
		if err == nil {
			last.end()
		} else if !errors.Is(err, errClaimed) { // which what was said before may still say
			t.Fatal(err)
		}
		return err == nil
	})
}

// An update replaces a stream's configuration as a whole. Of nodes that start at once with different settings, while
// another one notes that a stream went back, none undoes what another one has written.
func TestChangesAreNotUndone(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, natstest.Options{JetStream: true})
	r := testStore(t, testConfig(histories(3, "")), srv.URL())
	trace, err := srv.Connect(t).SubscribeSync("$JS.API.STREAM.*.>")
	if err == nil {
		err = trace.SetPendingLimits(-1, -1)
	}
	if err != nil {
		t.Fatal(err)
	}
	sizes := []int{1, 5}
	var changing sync.WaitGroup
	for _, size := range sizes {
		c, l := testConfig(histories(size, "")), testLink(t, srv.URL())
		l.claims = 2 * time.Second
		changing.Go(func() {
			if _, err := openStreams(testContext(t), l, c); err != nil {
				t.Error(err)
			}
		})
	}
	st := r.of("a")
	r.claims = 2 * time.Second
	changing.Go(func() {
		if err := st.goBack(testContext(t), defaultPrefix, st.epoch()); err != nil {
			t.Error(err)
		}
	})
	changing.Wait()
	in, err := r.info(testContext(t), st.name)
	if err != nil {
		t.Fatal(err)
	}
	d, err := parseDescription(textIn(in.Config, "description"))
	if err != nil || d.back != 1 || d.raised == raising || !slices.Contains(sizes, int(numberIn(in.Config, "max_msgs_per_subject"))-1) {
		t.Errorf("%v, %v", in.Config, err)
	}
	// Nobody updates what somebody else has updated since it was read.
	reader, updates := make(map[string]string), 0 // by stream: which connections have read it since it was updated
	for n, _, _ := trace.Pending(); n > 0; n-- {  // ignored: it cannot fail
		m, err := trace.NextMsg(clienttest.Patience)
		if err != nil {
			t.Fatal(err)
		}
		from := strings.Split(m.Reply, ".")[1]
		switch what := strings.Split(m.Subject, "."); what[3] {
		case "INFO":
			reader[what[4]] += from + " "
		case "UPDATE":
			if updates++; !strings.Contains(reader[what[4]], from) {
				t.Errorf("%s is updated by %s, which has not read it since %q did", what[4], from, reader[what[4]])
			}
			reader[what[4]] = from
		}
	}
	if updates < shardsInCluster {
		t.Errorf("%d updates", updates)
	}
}
