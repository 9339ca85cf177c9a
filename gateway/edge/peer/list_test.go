package peer

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// A Set answers what looking at each prefix answers.
func TestSetHasWhatItsPrefixesContain(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 4))
	address := func() netip.Addr { // few, and near each other, so that prefixes overlap
		if random.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{byte(random.IntN(3)), 0, byte(random.IntN(3)), byte(random.IntN(256))})
		}
		var a [16]byte
		a[0], a[7], a[15] = byte(random.IntN(3)), byte(random.IntN(4)), byte(random.IntN(256))
		return netip.AddrFrom16(a)
	}
	yes := 0
	for range 500 {
		list := make([]netip.Prefix, random.IntN(12))
		for i := range list {
			a := address()
			list[i] = netip.PrefixFrom(a, a.BitLen()-random.IntN(a.BitLen()+1)/(1+random.IntN(8))) // host bits stay
		}
		s := NewSet(list)
		for range 50 {
			a, want := address(), false
			for _, p := range list {
				want = want || p.Contains(a)
			}
			mapped := netip.AddrFrom16(a.As16())
			if got := s.Has(a); got != want || a.Is4() && s.Has(mapped) != want {
				t.Fatalf("%s in %v: %v", a, list, got)
			}
			if want {
				yes++
			}
		}
	}
	if yes < 1_000 {
		t.Errorf("only %d were in a set: the test asks nothing", yes)
	}
	for _, s := range []*Set{nil, {}, NewSet(nil), NewSet([]netip.Prefix{{}})} {
		if s.Has(netip.Addr{}) || s.Has(netip.IPv6Unspecified()) {
			t.Error("something is in an empty set")
		}
	}
	if set(t, "0.0.0.0/0", "::/0").Has(netip.Addr{}) {
		t.Error("no address is in the set of all")
	}
}
