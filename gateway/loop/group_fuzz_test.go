package loop

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"sluice/gateway/clienttest"
)

// groupModel is the dumb side of a loop's groups: for each channel the set of its
// subscribers, and how often each was looked at in the sweep that is under way.
type groupModel struct {
	*testing.T
	loop   *Loop
	conns  []*Conn
	names  []string
	subs   map[*Conn][]string       // in the order of joining
	looked map[*Group]map[*Conn]int // nil: no sweep
}

func newGroupModel(t *testing.T, l *Loop, conns int) *groupModel {
	m := &groupModel{T: t, loop: l, names: []string{"a", "b", "c"}, subs: make(map[*Conn][]string), looked: make(map[*Group]map[*Conn]int)}
	for range conns {
		m.conns = append(m.conns, loopConn(l))
	}
	return m
}

func (m *groupModel) join(c *Conn, name string) {
	if slices.Contains(m.subs[c], name) {
		return
	}
	loopJoin(m, c, name)
	m.subs[c] = append(m.subs[c], name)
	if looked := m.looked[loopGroup(m.loop, name)]; looked != nil {
		looked[c] = 0 // the sweep comes to it as well
	}
}

func (m *groupModel) leave(c *Conn) {
	groups := make([]*Group, 0, 3)
	for _, name := range m.subs[c] {
		groups = append(groups, loopGroup(m.loop, name))
	}
	m.loop.leaveAll(c)
	delete(m.subs, c)
	for _, g := range groups {
		delete(m.looked[g], c)
		if len(g.subs) == 0 {
			delete(m.looked, g) // that ends the sweep as well
		}
	}
}

// sweep goes on with a channel's sweep, or begins one, for so many subscribers.
func (m *groupModel) sweep(name string, n int) {
	g := loopGroup(m.loop, name)
	if g == nil {
		return
	}
	if !g.sweeping {
		g.begin()
		m.looked[g] = make(map[*Conn]int)
		for c, names := range m.subs {
			if slices.Contains(names, name) {
				m.looked[g][c] = 0
			}
		}
	}
	for ; n > 0 && g.next < len(g.subs); g.next++ {
		if c := g.subs[g.next].c; c != nil {
			m.looked[g][c]++
			g.low = min(g.low, g.subs[g.next].cursor)
			n--
		}
	}
	if g.next < len(g.subs) {
		return
	}
	g.end()
	for c, times := range m.looked[g] {
		if times != 1 {
			m.Errorf("connection %d was looked at %d times in a sweep", c.id, times)
		}
	}
	delete(m.looked, g)
}

func (m *groupModel) check() {
	want := make(map[string]int)
	for _, c := range m.conns {
		var got []string
		for i := range c.Refs() {
			r := c.Ref(i)
			got = append(got, r.group.key.channel)
			if r.group.subs[r.index].c != c {
				m.Errorf("connection %d believes itself at place %d of %q, which is another's", c.id, r.index, r.group.key.channel)
			}
			want[r.group.key.channel]++
		}
		if !slices.Equal(got, m.subs[c]) {
			m.Errorf("connection %d subscribes to %q, want %q", c.id, got, m.subs[c])
		}
	}
	for _, name := range m.names {
		g := loopGroup(m.loop, name)
		if g == nil {
			if want[name] != 0 || m.loop.space.Find(name) != nil {
				m.Errorf("channel %q has %d subscribers and no group", name, want[name])
			}
			continue
		}
		loopCheckGroup(m, g)
		if got := len(g.subs) - g.holes; got != want[name] || g.Log().Channel().Subscribers() != got {
			m.Errorf("channel %q has %d subscribers and counts %d, want %d", name, got, g.Log().Channel().Subscribers(), want[name])
		}
		if n := len(g.subs); !g.sweeping && m.looked[g] != nil || n == 0 {
			m.Errorf("channel %q: sweeping %v with %d places", name, g.sweeping, n)
		}
	}
	if m.Failed() {
		m.FailNow()
	}
}

// end takes everybody out again.
func (m *groupModel) end() {
	for _, c := range m.conns {
		m.leave(c)
		m.loop.remove(c)
	}
	m.check()
	if n := m.loop.space.Channels(); n != 0 {
		m.Errorf("%d channels are left", n)
	}
	m.loop.inbox.take()
	m.loop.inbox.take() // lets go of what the first gave
	m.loop.sweeps = nil
}

// run takes two bytes of the script for each operation.
func (m *groupModel) run(script []byte) {
	for ; len(script) >= 2; script = script[2:] {
		op, arg := script[0], int(script[1])
		name := m.names[op>>4%3]
		switch op & 15 {
		case 0, 1, 2:
			m.join(m.conns[arg%len(m.conns)], name)
		case 3: // many at once
			for i := range arg {
				m.join(m.conns[(i*7+arg)%len(m.conns)], name)
			}
		case 4, 5, 6, 7:
			m.leave(m.conns[arg%len(m.conns)])
		case 8: // many at once
			for i := range arg {
				m.leave(m.conns[(i*11+arg)%len(m.conns)])
			}
		case 9: // the last of a group, whom others' leaving moves
			if g := loopGroup(m.loop, name); g != nil {
				if c := g.subs[len(g.subs)-1].c; c != nil {
					m.leave(c)
				}
			}
		case 10: // the one that was looked at last
			if g := loopGroup(m.loop, name); g != nil && g.sweeping && g.next > 0 {
				if c := g.subs[g.next-1].c; c != nil {
					m.leave(c)
				}
			}
		case 11:
			m.sweep(name, len(m.conns)+1)
		default:
			m.sweep(name, arg%8)
		}
		m.check()
	}
	m.end()
}

func groupScript(seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 3))
	p := make([]byte, 50+rnd.IntN(400))
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
	return p
}

// Subscribers join and leave several channels while their sweeps are under way,
// paused anywhere: every place has one owner who knows it, and every sweep
// comes to everybody once.
func FuzzGroupAgainstModel(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(groupScript(seed), byte(seed*29))
	}
	l := loopBare(f, loopsConfig{})
	f.Fuzz(func(t *testing.T, script []byte, conns byte) {
		newGroupModel(t, l, 2+int(conns)%120).run(script)
	})
}

func TestGroupAgainstModel(t *testing.T) {
	l := loopBare(t, loopsConfig{})
	for seed := range uint64(clienttest.Scaled(300, 100)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			newGroupModel(t, l, 2+int(seed)%120).run(groupScript(100 + seed))
		})
	}
}
