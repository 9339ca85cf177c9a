package enginetest

import (
	"errors"
	"fmt"
	"os"
	"strings"
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

// startLate returns a rig of nodes with late engines.
func startLate(t *testing.T, nodes int, seed uint64, trouble Trouble) *Rig {
	store := NewStore(t, seed, trouble, Keep)
	rig := &Rig{Stall: store.Stall, Reset: store.Reset, Lose: store.Lose, Attached: store.Attached, Away: store.Away}
	for i := range nodes {
		n := &Node{Space: NewSpace(), Present: presence.New()}
		e := NewLate(store, n.Space, n.Present, engine.NodeInfo{ID: fmt.Sprint(i)})
		n.Engine = e
		n.Space.Remote(e)
		rig.Nodes = append(rig.Nodes, n)
	}
	return rig
}

func TestLate(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			t.Parallel()
			Run(t, func(t *testing.T) *Rig { return startLate(t, nodes, 1, Trouble{Delay: 3 * time.Millisecond}) })
		})
	}
}

// Whatever goes wrong, nothing is lost or repeated without notification.
func TestOrderOfLateEngines(t *testing.T) {
	t.Parallel()
	for seed := range uint64(clienttest.Scaled(20, 5)) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			Order(t, startLate(t, 2, seed, Trouble{Delay: 2 * time.Millisecond, Unstored: 20, Unacked: 20, Full: 50, Failed: 100, Lost: 30, Twice: 100, Reset: 5}))
		})
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
