package nats

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"runtime/pprof"
	"strconv"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/nats/natstest"
)

// A channel has one subscription while it is read and for some time afterwards, and no goroutine.
func TestSubscriptions(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, natstest.Options{JetStream: true})
	pprof.SetGoroutineLabels(pprof.WithLabels(t.Context(), pprof.Labels("test", t.Name()))) // which goroutines inherit
	n := startClusterWith(t, 1, func(c *Config) { c.test.idle = time.Hour }, srv.URL()).nodes[0]
	e := n.Engine.(*Engine)
	before, others := e.link.main.NumSubscriptions(), goroutines(t)
	const count = 500
	all := func() (rs []*watcher) {
		for i := range count {
			rs = append(rs, watch(t, n, fmt.Sprint("none", i)))
		}
		return rs
	}
	rs := all()
	if got := e.link.main.NumSubscriptions() - before; got != count {
		t.Errorf("%d channels have %d subscriptions", count, got)
	}
	if got := goroutines(t) - others; got > count/10 {
		t.Errorf("%d channels have %d goroutines", count, got)
	}
	epoch := rs[0].Log().Channel().Epoch()
	for _, r := range rs {
		r.leave()
	}
	rs = all()
	if got := e.link.main.NumSubscriptions() - before; got != count {
		t.Errorf("channels that came back have %d subscriptions", got)
	}
	if got := rs[0].Log().Channel().Epoch(); got != epoch {
		t.Errorf("a channel that came back at once has the epoch %v, and had %v", got, epoch)
	}
	for _, r := range rs {
		r.leave()
	}
	for _, l := range e.lanes {
		l.post(func() { l.idleWait = 0; l.arm() })
	}
	clienttest.WaitFor(t, "the end of the subscriptions", func() bool { return e.link.main.NumSubscriptions() == before })
	if got := attached(n); len(got) > 0 {
		t.Errorf("%v are attached", got)
	}
}

// goroutines counts those that have the test's label.
func goroutines(t *testing.T) (all int) {
	t.Helper()
	var text bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&text, 1); err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^(\d+) @.*\n# labels: \{"test":"`+t.Name()+`"\}`).FindAllStringSubmatch(text.String(), -1) {
		n, _ := strconv.Atoi(m[1]) // ignored: it consists of digits
		all += n
	}
	if all == 0 {
		t.Fatal("not even this goroutine has the label")
	}
	return all
}

// Where the server has no room for a channel's subscription, the channel fails, and is not silent.
func TestFullOfSubscriptions(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, natstest.Options{JetStream: true, Tune: func(o *natsserver.Options) { o.MaxSubs = 16 }})
	n := startCluster(t, 1, srv.URL()).nodes[0]
	refused := 0
	for i := range 20 {
		for _, name := range []string{fmt.Sprint("none", i), fmt.Sprint("x", i)} {
			w := &watcher{t: t, n: n, prepared: make(chan error, 1), notified: make(chan struct{}, 1)}
			ask := channel.Ask{Kind: channel.AskNow}
			ready, err := n.Space.Prepare(name, &ask, w)
			if err == nil && !ready {
				err = clienttest.Receive(t, "the channel", w.prepared)
			}
			if err != nil {
				if refused++; !errors.Is(err, engine.ErrUnavailable) {
					t.Error(err)
				}
				continue
			}
			if err := n.Space.Join(name, lines{}, w, &w.Reader); err != nil {
				t.Fatal(err)
			}
			n.Space.Release(name, w)
			defer w.leave()
			newSender(t, n).publishes(name, "a")
			w.wants(name, "a")
		}
	}
	if refused == 0 || refused == 40 {
		t.Errorf("%d of 40 channels were refused", refused)
	}
}
