package loop

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestHighestAgainstSorting(t *testing.T) {
	l := loopBare(t, loopsConfig{})
	for range 300 {
		loopConn(l)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		keys := make(map[*Conn]uint64)
		for _, c := range l.conns {
			keys[c] = rnd.Uint64N(1 + rnd.Uint64N(200))
		}
		n, zero := 1+rnd.IntN(400), rnd.IntN(2) == 0
		var want []ranked
		for c, key := range keys {
			if zero || key > 0 {
				want = append(want, ranked{key, c})
			}
		}
		slices.SortFunc(want, func(a, b ranked) int { return cmp.Or(cmp.Compare(b.key, a.key), cmp.Compare(a.c.id, b.c.id)) })
		want = want[:min(n, len(want))]
		if got := l.highest(n, func(c *Conn) uint64 { return keys[c] }, zero); !slices.Equal(got, want) {
			t.Fatalf("%d of %d: got %v, want %v", n, len(keys), got, want)
		}
	}
}

// The worst go first, and one look at all connections is enough for many of them: else each byte
// over the budget would cost one.
func TestMemoryIsTakenFromTheWorst(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1})
	var conns []*Conn
	for range 2 * shedMost {
		_, c := loopPair(t, s, "x", 0)
		conns = append(conns, c)
	}
	s.do(func(l *Loop) {
		sum := 0
		for i, c := range conns {
			c.putOff(make([]byte, 1000+10*i))
			c.recount()
			sum += int(c.Counted)
		}
		l.heldMax = sum - 1
		l.shedWorst()
		if n := len(l.worst); n != shedMost-1 {
			t.Errorf("%d are known to be the next after one was closed, want %d", n, shedMost-1)
		}
		l.heldMax = sum / 4
		l.shedWorst()
		if l.held > l.heldMax {
			t.Errorf("%d bytes are held, of %d", l.held, l.heldMax)
		}
		least := len(conns)
		for i, c := range conns {
			if c.Phase != phaseOpen {
				least = min(least, i)
			} else if i > least {
				t.Errorf("connection %d is spared, and %d was closed, which held less", i, least)
			}
		}
		l.heldMax = sum
	})
	s.wantClosedOrClosing(ReasonBudget)
}

// Tables that a storm has made grow are made smaller when it is over, with everybody in them.
func TestTablesShrinkAfterAStorm(t *testing.T) {
	l := loopBare(t, loopsConfig{})
	for range 10_000 {
		loopConn(l)
	}
	for len(l.conns) > 100 {
		l.remove(l.conns[0])
	}
	l.conns[7].slot, l.due[7] = 7, 77
	shrink{}.Deliver(l)
	if len(l.conns) != 100 || cap(l.conns) > 1000 || len(l.due) != 100 || cap(l.due) > 1000 || l.due[7] != 77 {
		t.Errorf("%d connections in a table of %d, %d deadlines in one of %d", len(l.conns), cap(l.conns), len(l.due), cap(l.due))
	}
	for i, c := range l.conns {
		if int(c.slot) != i {
			t.Errorf("slot %d belongs to another", i)
		}
	}
}
