package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/enginetest"
	"sluice/gateway/engine/nats/natstest"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// subscribed reports whether the servers refuse no subscription, as operators see it.
func subscribed(n *enginetest.Node) bool {
	s := n.Engine.(engine.Reporter).Stats()
	return s.Parts[2] == engine.Part{Name: "subscriptions", Up: true}
}

// Where a server accepts fewer subscriptions than before, channels that lose theirs have a gap or, with a history, come
// late, until it accepts them again.
func TestSubscriptionsRefusedOnReconnect(t *testing.T) {
	t.Parallel()
	var o *natsserver.Options
	srv := natstest.Start(t, natstest.Options{JetStream: true, Tune: func(opts *natsserver.Options) { o = opts }})
	var log logLines
	n := startClusterWith(t, 1, func(c *Config) {
		c.test.again, c.test.patience, c.Logger = 50*time.Millisecond, 5*time.Second, log.logger() // the lanes' own subscriptions may be refused, too
	}, srv.URL()).nodes[0]
	e := n.Engine.(*Engine)
	restart := func(most int) {
		before := e.connection.Load()
		srv.Stop()
		o.MaxSubs = most
		srv.Restart()
		clienttest.WaitFor(t, "the engine", func() bool { return e.connection.Load() > before && e.Stats().Parts[0].Up && e.Stats().Parts[1].Up })
	}
	var all []*watcher
	var names []string
	for i := range 40 {
		for _, kind := range []string{"none", "x"} {
			names = append(names, fmt.Sprint(kind, i))
			all = append(all, watch(t, n, names[len(names)-1]))
			defer all[len(all)-1].leave()
		}
	}
	s := newSender(t, n)
	publish := func(payload string) { // the engine's own subscriptions can be among those that are refused: then it connects anew
		for _, name := range names {
			clienttest.WaitFor(t, name, func() bool {
				return errors.Is(s.sends(name, payload), engine.ErrPending) && clienttest.Receive(t, "the answer", s.answers).err == nil
			})
		}
	}
	publish("a")
	restart(60)
	clienttest.WaitFor(t, "what is refused is noticed", func() bool { return !subscribed(n) })
	clienttest.WaitFor(t, "all of it", func() bool { return e.refusals.Load() >= int64(len(names)-60) })
	publish("b")
	for i, w := range all {
		if strings.HasPrefix(names[i], "x") {
			w.has("b")
		}
	}
	restart(0)
	clienttest.WaitFor(t, "all are subscribed again", func() bool { return subscribed(n) })
	publish("c")
	gaps := 0
	for i, w := range all {
		w.has("c")
		got, want := strings.Join(w.lines(), " "), "^a( b| gap)+( c| gap)+$"
		if strings.HasPrefix(names[i], "x") {
			want = "^a( b)+( c)+$"
		} else if strings.Contains(got, "gap") {
			gaps++
		}
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %s", names[i], got)
		}
	}
	if gaps == 0 || e.Stats().Gaps[engine.GapRefused] == 0 {
		t.Errorf("%d channels had a gap", gaps)
	}
	if n := strings.Count(log.String(), "NATS refuses subscriptions"); n == 0 || n > 2 {
		t.Errorf("%d lines in the log:\n%s", n, log.String())
	}
}

// While workers cannot keep up, what is refused does not add to what they have to do: readings would come later and later.
func TestRefusedChannelsWaitForWorkers(t *testing.T) {
	t.Parallel()
	var o *natsserver.Options
	srv := natstest.Start(t, natstest.Options{JetStream: true, Tune: func(opts *natsserver.Options) { o = opts }})
	n := startClusterWith(t, 1, func(c *Config) {
		c.test.again, c.test.patience, c.Logger = time.Hour, 2*time.Second, slog.New(slog.DiscardHandler) // the lanes' own subscriptions may be refused, too
	}, srv.URL()).nodes[0]
	e := n.Engine.(*Engine)
	for i := range 40 {
		defer watch(t, n, fmt.Sprint("x", i)).leave()
	}
	before := e.connection.Load()
	srv.Stop()
	o.MaxSubs = 30
	srv.Restart()
	clienttest.WaitFor(t, "what is refused is noticed", func() bool { return e.connection.Load() > before && !subscribed(n) })
	end := make(chan struct{})
	for range workerCount {
		e.readers.do(func(context.Context) { <-end })
	}
	jobsAfter := func(attempts int) int {
		for attempts > 0 {
			for _, l := range e.lanes {
				tried := make(chan bool, 1)
				l.post(func() {
					tried <- len(l.refused) > 0
					l.refusedNext = time.Time{}
					l.subscribeAgain(time.Now())
				})
				if clienttest.Receive(t, "an attempt", tried) {
					attempts--
				}
			}
		}
		e.readers.mu.Lock()
		defer e.readers.mu.Unlock()
		return len(e.readers.jobs)
	}
	few, many := jobsAfter(50), jobsAfter(100)
	close(end)
	if many > few+50 {
		t.Errorf("%d jobs wait, and %d after more attempts", few, many)
	}
}

// A channel for which the servers give no permission fails, and is subscribed again if it had subscribers. Others
// go on.
func TestPermissionsThatChange(t *testing.T) {
	t.Parallel()
	var o *natsserver.Options
	srv := natstest.Start(t, natstest.Options{JetStream: true, Tune: func(opts *natsserver.Options) {
		opts.Users = []*natsserver.User{{Username: "u", Password: "p"}}
		o = opts
	}})
	n := startClusterWith(t, 1, func(c *Config) { c.test.again, c.Logger = 50*time.Millisecond, slog.New(slog.DiscardHandler) },
		strings.Replace(srv.URL(), "nats://", "nats://u:p@", 1)).nodes[0]
	deny := func(subjects ...string) {
		t.Helper()
		changed := o.Clone()
		changed.Users = []*natsserver.User{{Username: "u", Password: "p",
			Permissions: &natsserver.Permissions{Subscribe: &natsserver.SubjectPermission{Deny: subjects}}}}
		if err := srv.Server().ReloadOptions(changed); err != nil {
			t.Fatal(err)
		}
	}
	s := newSender(t, n)
	none, x, other := watch(t, n, "none"), watch(t, n, "x"), watch(t, n, "none2")
	defer none.leave()
	defer x.leave()
	defer other.leave()
	publish := func(payload string) {
		for _, name := range []string{"none", "x", "none2"} {
			s.publishes(name, payload)
		}
	}
	publish("a")
	deny("*.ch.none", "*.ch.x", "*.ch.none3")
	clienttest.WaitFor(t, "what is denied is noticed", func() bool { return !subscribed(n) })
	none.wants("what is denied has a gap", "a", "gap")
	publish("b")
	x.wants("with a history, meanwhile", "a", "b")
	ask := channel.Ask{Kind: channel.AskNow}
	w := &watcher{t: t, n: n, prepared: make(chan error, 1)}
	if ready, err := n.Space.Prepare("none3", &ask, w); err != nil || ready {
		t.Errorf("a new one: %v, %v", ready, err)
	} else if err := clienttest.Receive(t, "a new one", w.prepared); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("a new one: %v", err)
	}
	deny("nothing")
	clienttest.WaitFor(t, "all is allowed again", func() bool { return subscribed(n) })
	none.wants("allowed again", "a", "gap", "gap")
	publish("c")
	none.wants("afterwards", "a", "gap", "gap", "c")
	x.wants("afterwards", "a", "b", "c")
	other.wants("what was never denied", "a", "b", "c")
	ready(t, n)
}
