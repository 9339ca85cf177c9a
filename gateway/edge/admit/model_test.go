package admit

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// The model forgets nobody, keeps what is in each bucket, and lets time pass a
// millisecond at a time.

type modelBucket struct{ level, rate, burst int }

func newModelBucket(rate, burst int) *modelBucket {
	return &modelBucket{level: burst * 1000, rate: rate, burst: burst}
}

func (b *modelBucket) pass()      { b.level = min(b.level+b.rate, b.burst*1000) }
func (b *modelBucket) has() bool  { return b.rate == 0 || b.level >= 1000 }
func (b *modelBucket) full() bool { return b.rate == 0 || b.level == b.burst*1000 }
func (b *modelBucket) take() bool {
	if !b.has() {
		return false
	}
	b.level -= 1000
	return true
}

type modelAddress struct {
	open           int
	rate, refusals *modelBucket
}

type model struct {
	limits         Limits
	now            int64
	total, refused *modelBucket
	addresses      map[int]*modelAddress
}

func newModel(l Limits) *model {
	return &model{
		limits: l, addresses: make(map[int]*modelAddress),
		total: newModelBucket(l.TotalRate, l.TotalRate), refused: newModelBucket(l.TotalRate, l.TotalRate),
	}
}

func (m *model) pass(now int64) {
	for ; m.now < now; m.now++ {
		m.total.pass()
		m.refused.pass()
		for _, a := range m.addresses {
			a.rate.pass()
			a.refusals.pass()
		}
	}
}

func (m *model) address(n int) *modelAddress {
	a := m.addresses[n]
	if a == nil {
		rate, burst := m.limits.Rate, m.limits.Burst
		a = &modelAddress{rate: newModelBucket(rate, burst)}
		if rate == 0 {
			rate, burst = 20, 100
		}
		a.refusals = newModelBucket(rate, burst)
		m.addresses[n] = a
	}
	return a
}

// matters counts the addresses that the table may not forget.
func (m *model) matters() (n int) {
	for _, a := range m.addresses {
		if a.open > 0 || !a.rate.full() || !a.refusals.full() {
			n++
		}
	}
	return n
}

func (m *model) enter(a *modelAddress) Verdict {
	or := func(b *modelBucket, v, drop Verdict) Verdict {
		if b.take() {
			return v
		}
		return drop
	}
	switch {
	case m.limits.Open > 0 && a.open == m.limits.Open:
		return or(a.refusals, AddressOpen, AddressOpenDrop)
	case !a.rate.has():
		return or(a.refusals, AddressRate, AddressRateDrop)
	case !m.total.take():
		return or(m.refused, TotalRate, TotalRateDrop)
	}
	a.rate.take()
	return Admitted
}

// drive compares the table with the model in what each byte says: who comes or
// goes, and how much time passes before.
func drive(t *testing.T, l Limits, ops []byte) {
	const addresses = 32
	table, m := New(l), newModel(l)
	var now int64
	var untracked uint64
	seats := make(map[int][]Seat)
	for i, op := range ops {
		n := int(op) % addresses
		switch op / addresses {
		case 0, 1, 2: // one goes
			if list := seats[n]; len(list) > 0 {
				table.Leave(list[0])
				seats[n] = list[1:]
				m.addresses[n].open--
			}
			continue
		case 3:
			now += int64(n) * 7
		}
		at := now
		if op/addresses == 4 {
			at -= int64(n) // callers overtake each other
		}
		m.pass(at)
		s, got := table.Enter(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), at)
		if got == Admitted && s == 0 {
			if table.Len() < l.Entries {
				t.Fatalf("step %d: address %d got no seat, %d entries", i, n, table.Len())
			}
			if a := m.addresses[n]; a != nil && (a.open > 0 || !a.rate.full() || !a.refusals.full()) {
				t.Fatalf("step %d: address %d was forgotten: %d open", i, n, a.open)
			}
			untracked++
			m.total.take()
			continue
		}
		a := m.address(n)
		if want := m.enter(a); got != want {
			t.Fatalf("step %d: address %d at %d: %s (%d), want %s (%d)", i, n, at, got, got, want, want)
		}
		if got == Admitted {
			a.open++
			seats[n] = append(seats[n], s)
		}
		if table.Len() < m.matters() || table.Len() > l.Entries || table.Untracked() != untracked {
			t.Fatalf("step %d: %d entries of %d, %d matter; %d untracked, want %d",
				i, table.Len(), l.Entries, m.matters(), table.Untracked(), untracked)
		}
	}
}

var driven = []Limits{
	{Open: 2, Entries: 32},
	{Rate: 3, Burst: 4, Entries: 32},
	{Open: 3, Rate: 7, Burst: 2, TotalRate: 90, Entries: 32},
	{Open: 2, Rate: 13, Burst: 3, Entries: 5},
	{Open: 1, TotalRate: 40, Entries: 1},
}

func TestTableDoesWhatTheModelDoes(t *testing.T) {
	for i, l := range driven {
		random := rand.New(rand.NewPCG(4, uint64(i)))
		ops := make([]byte, 8_000)
		for i := range ops {
			ops[i] = byte(random.Uint32())
		}
		drive(t, l, ops)
	}
}

func FuzzTable(f *testing.F) {
	f.Add([]byte{0xa0, 0xa0, 0xa0, 0x00, 0x7f, 0xa0}, uint8(3))
	f.Fuzz(func(t *testing.T, ops []byte, limits uint8) {
		drive(t, driven[int(limits)%len(driven)], ops[:min(len(ops), 500)])
	})
}
