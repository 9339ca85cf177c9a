package nats

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/enginetest"
	"sluice/gateway/engine/nats/natstest"

	natsgo "github.com/nats-io/nats.go"
)

// oddName returns a channel's name, of which each is another one: with all that subjects give a meaning,
// and as long as names may be.
func oddName(i int) string {
	name := fmt.Sprint(i)
	switch i % 8 {
	case 0:
		name = "a.b.*.>" + name
	case 1:
		name = "$JS.API." + name + ".>"
	case 2:
		name = "зал-会議室-🎺-" + name
	case 3:
		name = strings.Repeat("*", 251-len(name)) + name + "####"[:4*(i%2)]
	case 4:
		name = name + strings.Repeat("ж", (251-len(name))/2)
	case 5:
		name = "=" + name + "%2E\\\"'|"
	case 6:
		name = "plain:name_" + name
	case 7:
		name = name + "." + strings.Repeat(".", 250-len(name))
	}
	if i%2 == 0 {
		return "none" + name
	}
	return name
}

// receiver gets the publications of one channel, as bytes.
type receiver struct {
	channel.Reader
	name     string
	prepared *atomic.Int64 // of all
	failed   atomic.Pointer[error]
}

func (r *receiver) Prepared(err error) {
	if err != nil {
		r.failed.Store(&err)
	}
	r.prepared.Add(1)
}

func (r *receiver) Notify() {}

// bytesOf is the format of payloads alone.
type bytesOf struct{}

func (bytesOf) Append(dst []byte, p *channel.Publication) []byte { return append(dst, p.Payload...) }

// outstanding is a publication that is not answered.
type outstanding struct {
	of *publisherOf
	i  int
}

// publisherOf has up to so many publications outstanding.
type publisherOf struct {
	released chan struct{}
	places   chan struct{}
	again    chan int // those without a receipt, which a busy machine is too late for
}

func (p outstanding) Released() {
	select {
	case p.of.released <- struct{}{}:
	default:
	}
}

func (p outstanding) Published(_ channel.Receipt, err error) {
	if err != nil {
		p.of.again <- p.i
	}
	<-p.of.places
}

// publish publishes the names of channels to them.
func (p *publisherOf) publish(t *testing.T, node *enginetest.Node, names []string, i int) {
	pub := channel.Publication{Payload: []byte(names[i]), At: time.Now().UnixMilli()}
	for {
		clienttest.Send(t, "an answer", p.places, struct{}{})
		_, _, err := engine.Publish(node.Engine, node.Space, names[i], nil, &pub, new(channel.Scratch), outstanding{p, i})
		if err == engine.ErrPending {
			return
		}
		<-p.places
		if !errors.Is(err, channel.ErrFull) && !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("%q: %v", names[i], err)
			return
		}
		select {
		case <-p.released:
		case <-time.After(10 * time.Millisecond): // it is away for a moment
		}
	}
}

// A publication arrives in the channel that it was published to, and in no other, whatever their names
// are.
func TestOddNames(t *testing.T) {
	t.Parallel()
	n := many(t, "SLUICE_TEST_NAMES", clienttest.Scaled(10_000, 5_000)) // .ci/run has 100,000
	s := natstest.Start(t, natstest.Options{JetStream: true})
	c := startCluster(t, 2, s.URL())
	space := channel.NewSpace(64<<10, n, channel.NewBudget(1<<40)) // with room for all
	space.KeepHistory(channel.History{Of: enginetest.Keep, Bytes: 1 << 20, Budget: channel.NewBudget(1 << 40)}, time.Now().UnixMilli())
	far := newNodeIn(t, space, func(cfg *Config) { cfg.Servers, cfg.NodeID = Servers{URLs: c.urls, Prefix: c.prefix}, 9 })
	ready(t, far)

	var prepared atomic.Int64
	names := make([]string, n)
	receivers := make([]*receiver, n)
	now := channel.Ask{Kind: channel.AskNow}
	for i := range receivers {
		r := &receiver{name: oddName(i), prepared: &prepared}
		names[i] = r.name
		if len(r.name) > 255 || !channel.ValidName(r.name) {
			t.Fatalf("%q is no name", r.name)
		}
		receivers[i] = r
		if ok, err := space.Prepare(r.name, &now, r); ok || err != nil {
			t.Fatalf("%q: %v, %v", r.name, ok, err)
		}
	}
	clienttest.WaitFor(t, "all channels", func() bool { return prepared.Load() == int64(n) })
	for _, r := range receivers {
		if err := r.failed.Load(); err != nil {
			t.Fatalf("%q: %v", r.name, *err)
		}
		if err := space.Join(r.name, bytesOf{}, r, &r.Reader); err != nil {
			t.Fatalf("%q: %v", r.name, err)
		}
		space.Release(r.name, r)
	}
	var publishing sync.WaitGroup
	for half := range 2 { // a node publishes one half of them
		publishing.Go(func() {
			p := &publisherOf{released: make(chan struct{}, 1), places: make(chan struct{}, 1000), again: make(chan int, n)}
			for i := half; i < n; i += 2 {
				p.publish(t, c.nodes[half], names, i)
			}
			clienttest.WaitFor(t, "all receipts", func() bool {
				for range len(p.again) {
					p.publish(t, c.nodes[half], names, <-p.again)
				}
				return len(p.places) == 0 && len(p.again) == 0
			})
		})
	}
	publishing.Wait()
	for _, r := range receivers {
		clienttest.WaitFor(t, fmt.Sprintf("the publication to %q", r.name), func() bool { return r.Log().Head() > 0 })
		head := r.Log().Head()
		v, ok := r.View(0)
		if !ok {
			t.Fatalf("%q: what it has not read is gone", r.name)
		}
		if a, b := v.Bytes(0, head); strings.Trim(strings.ReplaceAll(string(a)+string(b), r.name, ""), "\x00") != "" { // a gap, on a machine that is very slow, is a byte
			t.Errorf("%q has got %q", r.name, string(a)+string(b))
		}
		r.Served(r.Log().Head())
		space.Leave(&r.Reader)
	}
}

// Names of every kind are stored and read, as they are and in one piece.
func TestOddNamesAreStoredAndRead(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) string{
		"in process": func(t *testing.T) string { return natstest.Start(t, natstest.Options{JetStream: true}).URL() },
		"Debian's":   func(t *testing.T) string { return natstest.StartChild(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			names := oddNames(100_000)
			r := testStore(t, testConfig(histories(3, "")), start(t))
			live := make(chan *natsgo.Msg, 1<<14)
			if _, err := r.main.ChanSubscribe("sluice.ch.>", live); err != nil {
				t.Fatal(err)
			}
			if err := r.main.Flush(); err != nil {
				t.Fatal(err)
			}
			stride := clienttest.Scaled(50, 500)
			of := make(map[*stream][]string)
			var pending []natsgo.PubAckFuture
			for i := 0; i < len(names); i += stride {
				st := r.of(names[i])
				of[st] = append(of[st], names[i])
				ack, err := r.js.PublishAsync(st.subject(names[i]), []byte(names[i]))
				if err != nil {
					t.Fatal(err)
				}
				pending = append(pending, ack)
			}
			for _, ack := range pending {
				select {
				case <-ack.Ok():
				case err := <-ack.Err():
					t.Fatal(err)
				}
			}
			for st, stored := range of {
				heads, err := st.heads(testContext(t), stored)
				if err != nil {
					t.Fatal(err)
				}
				for i, h := range heads {
					if !h.found || string(h.msg) != stored[i] {
						t.Fatalf("the newest of %q is %+v", stored[i], h)
					}
				}
				for i := 0; i < len(stored); i += 20 {
					if got := r.read(stored[i], 0); len(got.msgs) != 1 || string(got.msgs[0].data) != stored[i] {
						t.Fatalf("%q: read %s", stored[i], got.texts())
					}
				}
			}
			for range pending {
				m := clienttest.Receive(t, "a message that was stored", live)
				if name, ok := channelOf(strings.TrimPrefix(m.Subject, "sluice.ch.")); !ok || name != string(m.Data) || m.Header.Get("Nats-Last-Sequence") != "0" {
					t.Fatalf("republished as %s: %q", m.Subject, m.Data)
				}
			}
		})
	}
}
