package enginetest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/local"
	"sluice/gateway/presence"
)

func TestMain(m *testing.M) { os.Exit(clienttest.RunTests(m)) }

func TestLocal(t *testing.T) {
	t.Parallel()
	Run(t, func(*testing.T) *Rig {
		n := &Node{Space: NewSpace(), Present: presence.New()}
		n.Engine = local.Engine{Space: n.Space, Present: n.Present}
		return &Rig{Nodes: []*Node{n}}
	})
}

// perNode is the channels of a NewSpace without history.
func perNode(name string) bool { return Keep(name).Count == 0 }

// startLate returns a rig of nodes with late engines, and their store. With own, the order of channels
// without history is each node's own.
func startLate(t *testing.T, nodes int, seed uint64, trouble Trouble, own bool) (*Rig, *Store) {
	store := NewStore(t, seed, trouble, Keep)
	rig := &Rig{Stall: store.Stall, Reset: store.Reset, Lose: store.Lose, Attached: store.Attached, Away: store.Away}
	if own {
		rig.PerNode = perNode
		store.PerNode(perNode)
	}
	for i := range nodes {
		n := &Node{Space: NewSpace(), Present: presence.New()}
		e := NewLate(store, n.Space, n.Present, engine.NodeInfo{ID: fmt.Sprint(i)})
		n.Engine = e
		n.Space.Remote(e, nil)
		rig.Nodes = append(rig.Nodes, n)
	}
	return rig, store
}

func TestLate(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{1, 3} {
		for _, own := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d nodes, own order: %t", nodes, own), func(t *testing.T) {
				t.Parallel()
				Run(t, func(t *testing.T) *Rig {
					rig, _ := startLate(t, nodes, 1, Trouble{Delay: 3 * time.Millisecond}, own)
					return rig
				})
			})
		}
	}
}

// Whatever goes wrong, nothing is lost or repeated without notification.
func TestOrderOfLateEngines(t *testing.T) {
	t.Parallel()
	for seed := range uint64(clienttest.Scaled(20, 6)) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			rig, _ := startLate(t, 2, seed, Trouble{Delay: 2 * time.Millisecond, Unstored: 20, Unacked: 20, Full: 50, Failed: 100, Lost: 30, Twice: 100, Reset: 5}, seed%2 == 1)
			Order(t, rig)
		})
	}
}

// found is a test that fails.
type found struct {
	testing.TB
	mu     sync.Mutex
	faults []string // guarded by mu
}

func (f *found) Helper()           {}
func (f *found) Error(args ...any) { f.Errorf("%s", fmt.Sprint(args...)) }
func (f *found) Fatal(args ...any) { f.Fatalf("%s", fmt.Sprint(args...)) }
func (f *found) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

func (f *found) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, fmt.Sprintf(format, args...))
}

// orderFaults returns what Order finds on a rig.
func orderFaults(t *testing.T, rig *Rig) []string {
	f := &found{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		Order(f, rig)
	}()
	<-done // it waits for nothing without a bound
	return f.faults
}

// What an engine must not do in channels that have one order, and in those whose order is each node's
// own, Order finds.
func TestOrderFindsPlantedFaults(t *testing.T) {
	t.Parallel()
	for what, plant := range map[string]struct {
		planted func(name string) func(int, channel.Publication) []channel.Publication
		want    string
	}{
		"nothing": {func(string) func(int, channel.Publication) []channel.Publication { return nil }, ""},
		"two publications of a publisher are swapped": {func(name string) func(int, channel.Publication) []channel.Publication {
			return func(node int, p channel.Publication) []channel.Publication {
				switch {
				case node == 1 && string(p.Payload) == name+"-2-7":
					p.Payload = []byte(name + "-2-8")
				case node == 1 && string(p.Payload) == name+"-2-8":
					p.Payload = []byte(name + "-2-7")
				}
				return []channel.Publication{p}
			}
		}, "-2-7 comes after number 8 of its publisher"},
		"one is dropped silently": {func(name string) func(int, channel.Publication) []channel.Publication {
			dropped := channel.Publication{}
			return func(node int, p channel.Publication) []channel.Publication {
				if node == 1 && string(p.Payload) == name+"-2-7" {
					dropped = p
					return nil
				}
				if node == 1 && p.Channel == name && p.Prev == dropped.Offset && p.Offset > 0 {
					p.Prev = dropped.Prev
				}
				return []channel.Publication{p}
			}
		}, "-2-7 was acknowledged and is missing, and nothing tells it"},
		"one is delivered twice": {func(name string) func(int, channel.Publication) []channel.Publication {
			return func(node int, p channel.Publication) []channel.Publication {
				all := []channel.Publication{p}
				if node == 1 && string(p.Payload) == name+"-2-7" {
					p.Prev, p.Offset = p.Offset, p.Offset+1
					all = append(all, p)
				}
				return all
			}
		}, "-2-7 comes after number 7 of its publisher"},
	} {
		for _, name := range []string{"a", "none"} {
			t.Run(what+" in "+name, func(t *testing.T) {
				t.Parallel()
				rig, store := startLate(t, 2, 1, Trouble{Delay: time.Millisecond}, true)
				rig.notice = 50 * time.Millisecond
				store.Do(func() { store.plant = plant.planted(name) })
				faults := orderFaults(t, rig)
				if plant.want == "" && len(faults) == 0 {
					return
				}
				if plant.want == "" || !strings.Contains(strings.Join(faults, "\n"), name+plant.want) {
					t.Errorf("it found %q, want %q", faults, plant.want)
				}
			})
		}
	}
}

// mixed is an engine whose publishers wait in the channel, and are answered later once they were called.
type mixed struct {
	local.Engine
	forgets bool
	refused bool
}

func (e *mixed) Publish(name string, ch *channel.Channel, p *channel.Publication, s *channel.Scratch, c engine.Caller) (channel.Receipt, error) {
	if !e.refused {
		r, err := e.Engine.Publish(name, ch, p, s, c)
		e.refused = errors.Is(err, channel.ErrFull)
		return r, err
	}
	if e.forgets {
		ch.Forget(c)
	}
	c.Published(channel.Receipt{}, nil)
	return channel.Receipt{}, engine.ErrPending
}

// A publisher that was answered and still waits in its channel would hold up those behind it.
func TestPublishersThatStillWaitAreFound(t *testing.T) {
	t.Parallel()
	for _, forgets := range []bool{true, false} {
		n := &Node{Engine: &mixed{forgets: forgets}, Space: NewSpace(), Present: presence.New()}
		s, c := n.subscribe(t, "x", now), newCaller(t)
		publish := func() error {
			p := channel.Publication{Payload: []byte(strings.Repeat("x", 10<<10))}
			_, _, err := engine.Publish(n.Engine, n.Space, "x", nil, &p, new(channel.Scratch), c)
			return err
		}
		var err error
		for err == nil {
			err = publish()
		}
		s.Served(s.Log().Head())
		clienttest.Receive(t, "room", c.released)
		if again := publish(); !errors.Is(err, channel.ErrFull) || again != engine.ErrPending {
			t.Errorf("%v, and then %v; want ErrFull and ErrPending", err, again)
		}
		s.leave()
		if faults := n.leftOver(); forgets != (len(faults) == 0) {
			t.Errorf("the engine forgets: %v; found %q", forgets, faults)
		}
	}
}

// Scripts have the same outcome with every engine.
func TestModelOfLateAndLocalEngines(t *testing.T) {
	t.Parallel()
	n := &Node{Space: NewSpace(), Present: presence.New()}
	n.Engine = local.Engine{Space: n.Space, Present: n.Present}
	rigs := map[string]*Rig{"local": {Nodes: []*Node{n}}}
	rigs["late"], _ = startLate(t, 2, 1, Trouble{Delay: time.Millisecond / 4}, false)
	rigs["late, own order"], _ = startLate(t, 2, 1, Trouble{Delay: time.Millisecond / 4}, true)
	for name, rig := range rigs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(clienttest.Scaled(15, 5)) {
				Model(t, rig, fmt.Sprint("-", seed), RandomScript(seed, 60))
			}
		})
	}
}
