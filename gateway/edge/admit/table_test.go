package admit

import (
	"encoding/binary"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/gateway/rate"
)

var (
	alice = netip.MustParseAddr("192.0.2.1")
	bob   = netip.MustParseAddr("192.0.2.2")
)

// enter asks n times at once and counts the verdicts.
func enter(t *Table, addr netip.Addr, now int64, n int) (seats []Seat, verdicts map[Verdict]int) {
	verdicts = make(map[Verdict]int)
	for range n {
		s, v := t.Enter(addr, now)
		verdicts[v]++
		if s != 0 {
			seats = append(seats, s)
		}
	}
	return seats, verdicts
}

func want(t *testing.T, why string, got, want map[Verdict]int) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", why, diff)
	}
}

func TestAnAddressMayOpenSoMany(t *testing.T) {
	table := New(Limits{Open: 3})
	seats, got := enter(table, alice, 0, 5)
	want(t, "five of alice", got, map[Verdict]int{Admitted: 3, AddressOpen: 2})
	_, got = enter(table, bob, 0, 1)
	want(t, "bob is somebody else", got, map[Verdict]int{Admitted: 1})
	table.Leave(seats[0])
	table.Leave(0)
	_, got = enter(table, alice, 0, 2)
	want(t, "one has left", got, map[Verdict]int{Admitted: 1, AddressOpen: 1})
}

func TestAnAddressIsFreeAgainAsItsRateSays(t *testing.T) {
	table := New(Limits{Rate: 20, Burst: 100})
	for _, step := range []struct {
		why  string
		now  int64
		n    int
		want map[Verdict]int
	}{
		{"the burst, refusals, and drops", 0, 250, map[Verdict]int{Admitted: 100, AddressRate: 100, AddressRateDrop: 50}},
		{"a token takes 50 ms", 49, 1, map[Verdict]int{AddressRateDrop: 1}},
		{"one each", 50, 3, map[Verdict]int{Admitted: 1, AddressRate: 1, AddressRateDrop: 1}},
		{"20 in a second", 1_050, 50, map[Verdict]int{Admitted: 20, AddressRate: 20, AddressRateDrop: 10}},
		{"never more than the burst", math.MaxInt64, 101, map[Verdict]int{Admitted: 100, AddressRate: 1}},
	} {
		_, got := enter(table, alice, step.now, step.n)
		want(t, step.why, got, step.want)
	}
}

// A rate that does not divide a second must come out even all the same.
func TestRatesDoNotDrift(t *testing.T) {
	table := New(Limits{Rate: 7, Burst: 1})
	admitted := 0
	for now := range int64(100_000) {
		s, v := table.Enter(alice, now)
		if v == Admitted {
			admitted++
			table.Leave(s)
		}
	}
	if admitted != 700 {
		t.Errorf("%d admitted in 100 s at 7 a second", admitted)
	}
}

func TestAllTogetherMayComeSoFast(t *testing.T) {
	table := New(Limits{Open: 5, TotalRate: 10})
	_, got := enter(table, alice, 0, 8)
	want(t, "alice alone", got, map[Verdict]int{Admitted: 5, AddressOpen: 3})
	_, got = enter(table, bob, 0, 5)
	want(t, "alice's refusals took nothing from bob", got, map[Verdict]int{Admitted: 5})
	_, got = enter(table, netip.MustParseAddr("127.0.0.1"), 0, 12)
	want(t, "loopback counts too", got, map[Verdict]int{TotalRate: 10, TotalRateDrop: 2})
	before := table.Len()
	_, got = enter(table, netip.MustParseAddr("192.0.2.3"), 100, 2)
	want(t, "a tenth of a second", got, map[Verdict]int{Admitted: 1, TotalRate: 1})
	enter(table, netip.MustParseAddr("192.0.2.4"), 100, 1)
	if table.Len() != before+1 {
		t.Errorf("%d entries, want %d: whoever never came in needs none", table.Len(), before+1)
	}
}

func TestWhoIsOneAddress(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
		{"192.0.2.1", "0:0:c000:201::", false}, // the same 64 bits
		{"192.0.2.1", "::c000:201", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
	} {
		table := New(Limits{Open: 1})
		table.Enter(netip.MustParseAddr(test.a), 0)
		_, v := table.Enter(netip.MustParseAddr(test.b), 0)
		if (v == AddressOpen) != test.same {
			t.Errorf("%s, then %s: %s", test.a, test.b, v)
		}
	}
}

func TestWhoIsFreeOfAnAddressesLimits(t *testing.T) {
	for _, test := range []struct {
		addr     netip.Addr
		loopback bool
		free     bool
	}{
		{netip.MustParseAddr("127.0.0.1"), false, true},
		{netip.MustParseAddr("::1"), false, true},
		{netip.MustParseAddr("::ffff:127.9.9.9"), false, true},
		{netip.MustParseAddr("127.0.0.1"), true, false},
		{netip.MustParseAddr("::1"), true, false},
		{netip.Addr{}, true, true},
		{alice, false, false},
	} {
		table := New(Limits{Open: 1, Rate: 1, Burst: 1, LoopbackOpen: test.loopback, LoopbackRate: test.loopback})
		seats, got := enter(table, test.addr, 0, 2)
		if free := got[Admitted] == 2 && (len(seats) == 2) == test.addr.IsValid(); free != test.free {
			t.Errorf("%s, limits for loopback %v: %v, seats %v", test.addr, test.loopback, got, seats)
		}
	}
	_, got := enter(New(Limits{}), alice, 0, 1000)
	want(t, "no limits", got, map[Verdict]int{Admitted: 1000})
}

func TestAnAddressHasTheMajorityOrNot(t *testing.T) {
	table := New(Limits{})
	a, _ := enter(table, alice, 0, 2)
	b, _ := enter(table, bob, 0, 2)
	if table.Majority(a[0]) || table.Majority(b[0]) || table.Majority(0) {
		t.Error("half is no majority")
	}
	table.Leave(b[1])
	if !table.Majority(a[0]) || table.Majority(b[0]) {
		t.Error("alice has two of three")
	}
	here, _ := enter(table, netip.MustParseAddr("127.0.0.1"), 0, 4)
	if table.Majority(a[0]) || !table.Majority(here[0]) {
		t.Error("this machine has four of seven, though it has no limits")
	}
}

func TestTheTableStaysSmall(t *testing.T) {
	const entries, addresses = 1_000, 200_000
	table := New(Limits{Open: 1, Rate: 20, Burst: 20, Entries: entries})
	numbered := func(i int) netip.Addr {
		var a [16]byte
		a[0] = 0x20
		binary.BigEndian.PutUint32(a[4:], uint32(i))
		return netip.AddrFrom16(a)
	}
	largest := 0
	for i := range addresses {
		s, v := table.Enter(numbered(i), int64(i)) // one each millisecond: 50 until a token is back
		if v != Admitted || s == 0 {
			t.Fatalf("address %d: seat %d, %s", i, s, v)
		}
		table.Leave(s)
		largest = max(largest, table.Len())
	}
	if largest > 60 {
		t.Errorf("%d entries, where 50 still matter", largest)
	}

	now := int64(addresses)
	var seats []Seat
	for i := range addresses {
		s, v := table.Enter(numbered(i), now)
		if v != Admitted {
			t.Fatalf("address %d: %s", i, v)
		}
		if s != 0 {
			seats = append(seats, s)
		}
	}
	if got := table.Untracked(); len(seats) < entries-60 || table.Len() > entries || got != uint64(addresses-len(seats)) {
		t.Errorf("%d seats, %d entries, %d untracked of %d", len(seats), table.Len(), got, addresses)
	}
	for _, s := range seats {
		table.Leave(s)
	}
	if s, v := table.Enter(numbered(addresses), now+1_000); s == 0 || v != Admitted {
		t.Errorf("after all have left: seat %d, %s", s, v)
	}
}

func TestAClockThatIsSetDoesNoHarm(t *testing.T) {
	const hour = 3_600_000
	table := New(Limits{Rate: 10, Burst: 10})
	_, got := enter(table, alice, hour, 10)
	want(t, "the burst", got, map[Verdict]int{Admitted: 10})
	for range 100 {
		enter(table, alice, hour-1, 1)
		enter(table, alice, hour, 1)
	}
	_, got = enter(table, alice, hour, 1)
	want(t, "callers that overtake each other win nothing", got, map[Verdict]int{AddressRateDrop: 1})
	_, got = enter(table, alice, 0, 1)
	want(t, "set back", got, map[Verdict]int{AddressRateDrop: 1})
	_, got = enter(table, alice, 100, 2)
	want(t, "and the rate holds from there", got, map[Verdict]int{Admitted: 1, AddressRate: 1})
	for _, now := range []int64{math.MinInt64, math.MaxInt64, math.MinInt64, 0, -1} {
		enter(table, alice, now, 1)
	}
}

func TestASeatGivenBackTwicePanics(t *testing.T) {
	table := New(Limits{Open: 1})
	s, _ := table.Enter(alice, 0)
	table.Leave(s)
	defer func() {
		if recover() == nil {
			t.Error("nothing happened")
		}
	}()
	table.Leave(s)
}

func TestLabels(t *testing.T) {
	for v, label := range []string{"admitted", "accept_rate", "address_rate", "address_connections", "address_blamed",
		"accept_rate", "address_rate", "address_connections", "address_blamed"} {
		if got := Verdict(v); got.String() != label || got.Drop() != (v > 4) {
			t.Errorf("%d: %s, drop %v", v, got, got.Drop())
		}
	}
}

func TestTheCapHoldsForManyAtOnce(t *testing.T) {
	const callers, rounds, limit = 8, 2_000, 3
	addrs := []netip.Addr{alice, bob, netip.MustParseAddr("2001:db8::1")}
	table := New(Limits{Open: limit, Entries: 2}) // eviction takes part
	open := make([]atomic.Int32, len(addrs))
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range rounds {
				n := (c + i) % len(addrs)
				s, v := table.Enter(addrs[n], int64(i))
				if v != Admitted || s == 0 {
					continue
				}
				if now := open[n].Add(1); now > limit {
					t.Errorf("%d connections of %s", now, addrs[n])
				}
				if table.Len() > 2 {
					t.Error("more entries than allowed")
				}
				open[n].Add(-1)
				table.Leave(s)
			}
		})
	}
	wg.Wait()
	_, got := enter(table, alice, math.MaxInt64, limit+1)
	want(t, "nothing is left open", got, map[Verdict]int{Admitted: limit, AddressOpen: 1})
}

// BenchmarkEnterLeave: the same address again; ever new ones in a table that turns over.
func BenchmarkEnterLeave(b *testing.B) {
	b.Run("known", func(b *testing.B) {
		table := New(Limits{Open: 200, Rate: rate.Max, TotalRate: rate.Max})
		b.ReportAllocs()
		now := int64(0)
		for b.Loop() {
			now++
			s, v := table.Enter(alice, now)
			if v != Admitted {
				b.Fatal(v)
			}
			table.Leave(s)
		}
	})
	b.Run("new", func(b *testing.B) {
		table := New(Limits{Open: 200, Rate: 20})
		b.ReportAllocs()
		now := int64(0)
		var a [4]byte
		for b.Loop() {
			now++
			binary.BigEndian.PutUint32(a[:], uint32(now))
			s, v := table.Enter(netip.AddrFrom4(a), now)
			if v != Admitted {
				b.Fatal(v)
			}
			table.Leave(s)
		}
	})
	b.Run("refused", func(b *testing.B) {
		table := New(Limits{Open: 1})
		table.Enter(alice, 0)
		b.ReportAllocs()
		for b.Loop() {
			table.Enter(alice, 0)
		}
	})
}

func TestEnteringAllocatesNothingOnceKnown(t *testing.T) {
	table := New(Limits{Open: 2, Rate: 10, TotalRate: 10})
	now := int64(0)
	if n := testing.AllocsPerRun(1000, func() {
		now += 1000
		a, _ := table.Enter(alice, now)
		b, _ := table.Enter(alice, now)
		table.Enter(alice, now)
		table.Leave(a)
		table.Leave(b)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
