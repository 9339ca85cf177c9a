package peer

import (
	"net/netip"
	"strings"
	"testing"
)

func set(t testing.TB, words ...string) *Set {
	t.Helper()
	var list []netip.Prefix
	for _, word := range words {
		p, err := netip.ParsePrefix(word)
		if a, notAddress := netip.ParseAddr(word); notAddress == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return NewSet(list)
}

func TestWhoIsForwarded(t *testing.T) {
	trusted := set(t, "10.0.0.0/8", "2001:db8:f::/48", "127.0.0.1", "::1", "fe80::/10")
	const proxy, stranger = "10.0.0.1", "203.0.113.9"
	lines := func(s ...string) []string { return s }
	chain := func(n int) string { return strings.Repeat("10.0.0.2,", n-1) + "10.0.0.2" }
	for _, test := range []struct {
		why    string
		peer   string
		values []string
		want   string // empty: the peer, by itself
	}{
		// Who may not speak for others.
		{"no field", proxy, nil, ""},
		{"no field, and a stranger", stranger, nil, ""},
		{"a stranger invents one", stranger, lines("192.0.2.1"), ""},
		{"a stranger names a proxy", stranger, lines("10.0.0.1"), ""},
		{"a stranger names itself", stranger, lines(stranger), ""},
		{"a neighbour of the list", "11.0.0.1", lines("192.0.2.1"), ""},
		{"another loopback address", "127.0.0.2", lines("192.0.2.1"), ""},
		{"an IPv6 stranger", "2001:db8:10::1", lines("192.0.2.1"), ""},
		{"a stranger, IPv4 as IPv6", "::ffff:203.0.113.9", lines("192.0.2.1"), ""},

		// One proxy.
		{"a client", proxy, lines("192.0.2.1"), "192.0.2.1"},
		{"an IPv6 client", proxy, lines("2001:db8::1"), "2001:db8::1"},
		{"the proxy, IPv4 as IPv6", "::ffff:10.0.0.1", lines("192.0.2.1"), "192.0.2.1"},
		{"an IPv6 proxy", "2001:db8:f::1", lines("192.0.2.1"), "192.0.2.1"},
		{"a proxy with a zone", "fe80::1%eth0", lines("192.0.2.1"), "192.0.2.1"},
		{"on this machine", "::1", lines("192.0.2.1"), "192.0.2.1"},
		{"the client on this machine too", "127.0.0.1", lines("127.0.0.1"), "127.0.0.1"},
		{"client, IPv4 as IPv6", proxy, lines("::ffff:192.0.2.1"), "192.0.2.1"},
		{"spaces", proxy, lines(" \t192.0.2.1 \t"), "192.0.2.1"},

		// A client that writes the field itself.
		{"another's address before its own", proxy, lines("198.51.100.1, 192.0.2.1"), "192.0.2.1"},
		{"a proxy's address before its own", proxy, lines("10.9.9.9, 192.0.2.1"), "192.0.2.1"},
		{"this machine's before its own", proxy, lines("127.0.0.1, ::1, 192.0.2.1"), "192.0.2.1"},
		{"rubbish before its own", proxy, lines("' OR 1=1; --\x00\r\n, 192.0.2.1"), "192.0.2.1"},
		{"commas before its own", proxy, lines(",,,,192.0.2.1"), "192.0.2.1"},
		{"in a line of its own", proxy, lines("198.51.100.1", "192.0.2.1"), "192.0.2.1"},
		{"in many lines", proxy, lines("198.51.100.1, 198.51.100.2", "10.0.0.9", "192.0.2.1"), "192.0.2.1"},
		{"an endless entry before its own", proxy, lines(strings.Repeat("1", 1<<20) + ",192.0.2.1"), "192.0.2.1"},
		{"a thousand lines before its own", proxy, append(make([]string, 1000), "192.0.2.1"), "192.0.2.1"},

		// More proxies.
		{"two", proxy, lines("192.0.2.1, 10.0.0.2"), "192.0.2.1"},
		{"two, and an invention", proxy, lines("198.51.100.1, 192.0.2.1, 10.0.0.2"), "192.0.2.1"},
		{"two, a line each", proxy, lines("198.51.100.1, 192.0.2.1", "10.0.0.2"), "192.0.2.1"},
		{"both families", proxy, lines("192.0.2.1,2001:db8:f::2,10.0.0.2"), "192.0.2.1"},
		{"all trusted: the leftmost", proxy, lines("10.0.0.3, 10.0.0.2"), "10.0.0.3"},
		{"one that is not listed is the client", proxy, lines("192.0.2.1, 198.51.100.7, 10.0.0.2"), "198.51.100.7"},

		// What ends the walk.
		{"empty", proxy, lines(""), ""},
		{"blank", proxy, lines("  "), ""},
		{"unknown", proxy, lines("unknown"), ""},
		{"unknown behind a proxy", proxy, lines("192.0.2.1, unknown, 10.0.0.2"), "10.0.0.2"},
		{"a name", proxy, lines("localhost"), ""},
		{"a comma at the end", proxy, lines("192.0.2.1,"), ""},
		{"an empty line at the end", proxy, lines("192.0.2.1", ""), ""},
		{"empty between proxies", proxy, lines("192.0.2.1,,10.0.0.2"), "10.0.0.2"},
		{"a hidden identifier", proxy, lines("_hidden"), ""},
		{"as in Forwarded", proxy, lines("for=192.0.2.1"), ""},
		{"quoted", proxy, lines(`"192.0.2.1"`), ""},
		{"semicolons", proxy, lines("192.0.2.1;10.0.0.2"), ""},
		{"a prefix", proxy, lines("192.0.2.0/24"), ""},
		{"octal", proxy, lines("0300.0.2.1"), ""},
		{"leading zeros", proxy, lines("192.000.002.001"), ""},
		{"a number", proxy, lines("3221225985"), ""},
		{"too few bytes", proxy, lines("192.0.2"), ""},
		{"too large a byte", proxy, lines("192.0.2.256"), ""},
		{"a NUL", proxy, lines("192.0.2.1\x00"), ""},
		{"a line feed", proxy, lines("192.0.2.1\n"), ""},
		{"another kind of space", proxy, lines("192.0.2.1\u00a0"), ""},
		{"other digits", proxy, lines("١٩٢.0.2.1"), ""},
		{"a zone", proxy, lines("fe80::1%eth0"), ""},
		{"a zone in brackets", proxy, lines("[fe80::1%eth0]:80"), ""},

		// Ports and brackets.
		{"a port", proxy, lines("192.0.2.1:1234"), "192.0.2.1"},
		{"an IPv6 port", proxy, lines("[2001:db8::1]:1234"), "2001:db8::1"},
		{"brackets alone", proxy, lines("[2001:db8::1]"), "2001:db8::1"},
		{"a trusted one with a port", proxy, lines("192.0.2.1:9, 10.0.0.2:80, [2001:db8:f::2]:1"), "192.0.2.1"},
		{"a port that is none", proxy, lines("192.0.2.1:http"), ""},
		{"a port too large", proxy, lines("192.0.2.1:65536"), ""},
		{"no port", proxy, lines("192.0.2.1:"), ""},
		{"IPv4 in brackets", proxy, lines("[192.0.2.1]"), ""},
		{"half a bracket", proxy, lines("[2001:db8::1"), ""},
		{"two brackets", proxy, lines("[[2001:db8::1]]"), ""},

		// Bounds: 64 entries and 4 KiB are looked at.
		{"the 64th entry", proxy, lines("192.0.2.1," + chain(63)), "192.0.2.1"},
		{"the 65th entry", proxy, lines("192.0.2.1," + chain(64)), "10.0.0.2"},
		{"the 65th line", proxy, append(lines("192.0.2.1"), strings.Split(chain(64), ",")...), "10.0.0.2"},
		{"within 4 KiB", proxy, lines("192.0.2.1," + strings.Repeat(" ", 4<<10-20) + "10.0.0.2"), "192.0.2.1"},
		{"cut by 4 KiB", proxy, lines("192.0.2.1," + strings.Repeat(" ", 4<<10-14) + "10.0.0.2"), "10.0.0.2"},
		{"at 4 KiB", proxy, lines("192.0.2.1", strings.Repeat(" ", 4<<10-9)+"10.0.0.2"), "10.0.0.2"},
		{"a line of 4 KiB", proxy, lines("192.0.2.1", strings.Repeat(" ", 4<<10-8)+"10.0.0.2"), "10.0.0.2"},
		{"an entry of more than 4 KiB", proxy, lines("192.0.2.1", strings.Repeat(" ", 4<<10)+"10.0.0.2"), ""},
	} {
		want, wantFound := test.want, test.want != ""
		if !wantFound {
			want = netip.MustParseAddr(test.peer).Unmap().String()
		}
		got, found := Forwarded(test.values, netip.MustParseAddr(test.peer), trusted)
		if got.String() != want || found != wantFound {
			t.Errorf("%s: %.80q from %s: got %s, %v; want %s, %v", test.why, test.values, test.peer, got, found, want, wantFound)
		}
	}
	if got, found := Forwarded(lines("192.0.2.1"), netip.MustParseAddr(proxy), nil); got.String() != proxy || found {
		t.Errorf("nobody is trusted, but %s, %v", got, found)
	}
	if got, found := Forwarded(lines("192.0.2.1"), netip.Addr{}, trusted); got.IsValid() || found {
		t.Errorf("a peer without an address: %s, %v", got, found)
	}
}

func BenchmarkForwarded(b *testing.B) {
	trusted := set(b, "10.0.0.0/8", "2001:db8::/32")
	proxy := netip.MustParseAddr("10.0.0.1")
	for name, values := range map[string][]string{
		"usual":   {"198.51.100.1, 192.0.2.1, 10.0.0.2"},
		"hostile": {strings.Repeat(strings.Repeat(" ", 54)+"10.0.0.2,", 10_000) + "10.0.0.2"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Forwarded(values, proxy, trusted)
			}
		})
	}
}

// What a client writes to the left of what the proxy adds changes nothing, and
// who is found is not a trusted proxy unless everything before it was.
func FuzzForwarded(f *testing.F) {
	f.Add("198.51.100.1, 10.0.0.2", "192.0.2.1")
	f.Add("unknown", "[2001:db8::1]:80, 10.0.0.9")
	f.Add(",", "10.0.0.2,10.0.0.3:99999")
	trusted := set(f, "10.0.0.0/8")
	proxy := netip.MustParseAddr("10.0.0.1")
	f.Fuzz(func(t *testing.T, invented, field string) {
		alone, found := Forwarded([]string{field}, proxy, trusted)
		if alone.Is4In6() || alone.Zone() != "" || !found && alone != proxy {
			t.Fatalf("%q: %s, %v", field, alone, found)
		}
		for _, values := range [][]string{{invented, field}, {invented + "," + field}} {
			got, _ := Forwarded(values, proxy, trusted)
			if found && !trusted.Has(alone) && got != alone {
				t.Fatalf("%q: %s, but %s with %q before it", field, alone, got, invented)
			}
		}
	})
}
