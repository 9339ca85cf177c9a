package peer

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestListsAreRead(t *testing.T) {
	list, err := ParseList([]string{
		"10.0.0.0/8", " 192.0.2.1 ", "::1", "2001:db8::/32", "0.0.0.0/0", "::ffff:192.0.2.7", "::ffff:10.1.0.0/112", "::/0",
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range list {
		got = append(got, p.String())
	}
	if diff := cmp.Diff([]string{
		"10.0.0.0/8", "192.0.2.1/32", "::1/128", "2001:db8::/32", "0.0.0.0/0", "192.0.2.7/32", "10.1.0.0/16", "::/0",
	}, got); diff != "" {
		t.Error(diff)
	}
}

func TestFaultsOfAListAreNamed(t *testing.T) {
	for word, mend := range map[string]string{
		"":                   "remove it",
		"proxy.internal":     "write, for example, 192.0.2.1",
		"10.0.0.1:80":        "write, for example, 192.0.2.1",
		"10.0.0.1/8":         `write "10.0.0.0/8" for the whole network, or "10.0.0.1" for the one address`,
		"2001:db8::1/32":     `write "2001:db8::/32"`,
		"10.0.0.0/33":        `"33" is not a prefix length from 0 to 32`,
		"::/129":             "from 0 to 128",
		"10.0.0.0/":          `"" is not a prefix length`,
		"10.0.0.0/08":        `"08" is not`,
		"10.0.0/8":           "does not begin with an IP address",
		"fe80::1%eth0":       `write "fe80::1"`,
		"fe80::%eth0/10":     "does not begin with an IP address",
		"10.0.0.0/255.0.0.0": "is not a prefix length",
		"::ffff:10.0.0.0/90": "has bits set after",
	} {
		_, err := ParseList([]string{"192.0.2.1", word})
		if err == nil || !strings.Contains(err.Error(), mend) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want something with %q", word, err, mend)
		}
	}
	_, err := ParseList([]string{"a", "::1", "b"})
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two faults: %v", err)
	}
}

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

func FuzzParseList(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "10.0.0.1/8", "::ffff:10.0.0.0/104", "fe80::%a/10", "::1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, word string) {
		list, err := ParseList([]string{word})
		if err != nil {
			return
		}
		p := list[0]
		if p != p.Masked() || p.Addr().Is4In6() && p.Bits() >= mappedBits || !NewSet(list).Has(p.Addr()) {
			t.Fatalf("%q: %s", word, p)
		}
		if again, err := ParseList([]string{p.String()}); err != nil || again[0] != p {
			t.Fatalf("%q: %s, and again %v, %v", word, p, again, err)
		}
	})
}
