package peer

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
)

// v2 makes a header: the command, the family, and what follows.
func v2(command, family byte, follows string) string {
	head := append([]byte(nil), proxyproto.SIGV2...)
	head = append(head, command, family)
	head = binary.BigEndian.AppendUint16(head, uint16(len(follows)))
	return string(head) + follows
}

const (
	v4Block  = "\xc0\x00\x02\x01\x0a\x00\x00\x01\x04\xd2\x00\x50"
	v6Block  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x04\xd2\x00\x50"
	v6Mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x01" + "\x04\xd2\x00\x50"
)

// headers are whole ones, each with who the client is, and bad ones, with a
// piece of the error.
var headers = []struct{ why, header, src, fault string }{
	{"v1", "PROXY TCP4 192.0.2.1 10.0.0.1 1234 80\r\n", "192.0.2.1:1234", ""},
	{"v1 with IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 1234 80\r\n", "[2001:db8::1]:1234", ""},
	{"v1 with IPv4 as IPv6", "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:10.0.0.1 1234 80\r\n", "192.0.2.1:1234", ""},
	{"v1 unknown", "PROXY UNKNOWN\r\n", "", ""},
	{"v1 unknown, as long as can be", "PROXY UNKNOWN " + strings.Repeat("f", 91) + "\r\n", "", ""},
	{"v2", v2(0x21, 0x11, v4Block), "192.0.2.1:1234", ""},
	{"v2 with IPv6", v2(0x21, 0x21, v6Block), "[2001:db8::1]:1234", ""},
	{"v2 with IPv4 as IPv6", v2(0x21, 0x21, v6Mapped), "192.0.2.1:1234", ""},
	{"v2 with extensions", v2(0x21, 0x11, v4Block+"\x04\x00\x03abc"), "192.0.2.1:1234", ""},
	{"v2 with extensions that are none", v2(0x21, 0x11, v4Block+"\x04\xff"), "192.0.2.1:1234", ""},
	{"v2, as long as can be", v2(0x21, 0x11, v4Block+strings.Repeat("x", v2FollowMax-12)), "192.0.2.1:1234", ""},
	{"v2 local", v2(0x20, 0x00, ""), "", ""},
	{"v2 local with an address", v2(0x20, 0x11, v4Block), "", ""},
	{"v2 local with something", v2(0x20, 0x11, "abc"), "", ""},
	{"v2 local, as long as can be", v2(0x20, 0x00, strings.Repeat("x", v2FollowMax)), "", ""},
	{"v2 of a Unix socket", v2(0x21, 0x31, strings.Repeat("\x00", 216)), "", ""},

	{"a request", "GET / HTTP/1.1\r\n\r\n", "", "does not begin with a PROXY header"},
	{"a TLS hello", "\x16\x03\x01\x02\x00", "", "does not begin with a PROXY header"},
	{"lower case", "proxy TCP4 192.0.2.1 10.0.0.1 1234 80\r\n", "", "does not begin with a PROXY header"},
	{"no space", "PROXYTCP4 192.0.2.1 10.0.0.1 1234 80\r\n", "", "does not begin with a PROXY header"},
	{"nearly v2", "\r\n\r\n\x00\r\nQUIX\n", "", "does not begin with a PROXY header"},
	{"v1 without an end", "PROXY UNKNOWN " + strings.Repeat("f", 93), "", "longer than 107 bytes"},
	{"v1 too long by one", "PROXY UNKNOWN " + strings.Repeat("f", 92) + "\r\n", "", "longer than 107 bytes"},
	{"v1 with a bare line feed", "PROXY TCP4 192.0.2.1 10.0.0.1 1234 80\n", "", "invalid PROXY header"},
	{"v1 without anything", "PROXY \r\n", "", "invalid PROXY header"},
	{"v1 with another family", "PROXY TCP5 192.0.2.1 10.0.0.1 1234 80\r\n", "", "invalid PROXY header"},
	{"v1 with the other family's address", "PROXY TCP4 2001:db8::1 10.0.0.1 1234 80\r\n", "", "invalid PROXY header"},
	{"v1 with a zone", "PROXY TCP6 fe80::1%eth0 fe80::2 1234 80\r\n", "", "invalid PROXY header"},
	{"v1 with a name", "PROXY TCP4 localhost 10.0.0.1 1234 80\r\n", "", "invalid PROXY header"},
	{"v1 with a port too large", "PROXY TCP4 192.0.2.1 10.0.0.1 65536 80\r\n", "", "invalid PROXY header"},
	{"v1 with a field too few", "PROXY TCP4 192.0.2.1 10.0.0.1 1234\r\n", "", "invalid PROXY header"},
	{"v1 with a field too many", "PROXY TCP4 192.0.2.1 10.0.0.1 1234 80 1\r\n", "", "invalid PROXY header"},
	{"v1 with two spaces", "PROXY TCP4  192.0.2.1 10.0.0.1 1234 80\r\n", "", "invalid PROXY header"},
	{"v2 too long", v2(0x21, 0x11, v4Block+strings.Repeat("x", v2FollowMax-11)), "", "longer than 2064 bytes"},
	{"v2 of version 3", v2(0x31, 0x11, v4Block), "", "invalid PROXY header"},
	{"v2 with another command", v2(0x22, 0x11, v4Block), "", "invalid PROXY header"},
	{"v2 with another family", v2(0x21, 0x41, v4Block), "", "invalid PROXY header"},
	{"v2 without a family", v2(0x21, 0x00, ""), "", "invalid PROXY header"},
	{"v2 with too short an address", v2(0x21, 0x11, v4Block[1:]), "", "invalid PROXY header"},
	{"v2 with half an IPv6 address", v2(0x21, 0x21, v4Block), "", "invalid PROXY header"},
	{"v2 of datagrams", v2(0x21, 0x12, v4Block), "", "datagram transport"},
}

func TestProxyHeadersAreTakenOff(t *testing.T) {
	for _, test := range headers {
		for _, behind := range []string{"", "GET / HTTP/1.1\r\n\r\n", test.header} {
			src, n, done, err := ReadProxyHeader([]byte(test.header + behind))
			if test.fault != "" {
				if err == nil || !strings.Contains(err.Error(), test.fault) || strings.ContainsAny(err.Error(), "\r\n") || n != 0 || !done {
					t.Errorf("%s: %d, %v, %v; want %q", test.why, n, done, err, test.fault)
				}
				continue
			}
			var want netip.AddrPort
			if test.src != "" {
				want = netip.MustParseAddrPort(test.src)
			}
			if src != want || n != len(test.header) || !done || err != nil {
				t.Errorf("%s: %s, %d of %d, %v, %v; want %s", test.why, src, n, len(test.header), done, err, test.src)
			}
		}
		comeOneByOne(t, []byte(test.header))
	}
}

// comeOneByOne checks that the verdict on all of p is the first one that p's
// beginnings get: nothing is decided from how the bytes were cut.
func comeOneByOne(t *testing.T, p []byte) {
	t.Helper()
	src, n, done, err := ReadProxyHeader(p)
	for i := range len(p) + 1 {
		src1, n1, done1, err1 := ReadProxyHeader(p[:i:i])
		if !done1 && (n1 != 0 || err1 != nil || src1.IsValid()) {
			t.Fatalf("%q: not done, but %s, %d, %v", p[:i], src1, n1, err1)
		}
		if !done1 && i < len(p) {
			continue
		}
		if src1 != src || n1 != n || done1 != done || (err1 == nil) != (err == nil) || err != nil && err1.Error() != err.Error() {
			t.Fatalf("%q: %s, %d, %v, %v; its first %d bytes: %s, %d, %v, %v", p, src, n, done, err, i, src1, n1, done1, err1)
		}
		if err == nil && n1 > 0 && n1 != i {
			t.Fatalf("%q: the header has %d bytes, but was only done at %d", p, n1, i)
		}
		return
	}
}

func FuzzProxyHeader(f *testing.F) {
	for _, test := range headers {
		f.Add([]byte(test.header))
		f.Add([]byte(test.header + "\x81\x80"))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		before := string(p)
		src, n, done, err := ReadProxyHeader(p)
		switch {
		case string(p) != before:
			t.Fatal("the bytes were changed")
		case n < 0 || n > min(len(p), ProxyHeaderBytesMax):
			t.Fatalf("%q: %d of %d bytes", p, n, len(p))
		case (n > 0) != (done && err == nil), err != nil && (!done || src.IsValid()):
			t.Fatalf("%q: %s, %d, %v, %v", p, src, n, done, err)
		case !done && len(p) >= ProxyHeaderBytesMax:
			t.Fatalf("%q: still not done", p)
		case src.Addr().Is4In6() || src.Addr().Zone() != "":
			t.Fatalf("%q: %s", p, src)
		}
		if n > 0 {
			if again, n1, _, err := ReadProxyHeader(p[:n:n]); again != src || n1 != n || err != nil {
				t.Fatalf("%q: %s, %d; without what follows: %s, %d, %v", p, src, n, again, n1, err)
			}
		}
		comeOneByOne(t, p)
	})
}

func BenchmarkReadProxyHeader(b *testing.B) {
	for name, header := range map[string]string{
		"v1": "PROXY TCP4 192.0.2.1 10.0.0.1 1234 80\r\n", "v2": v2(0x21, 0x11, v4Block),
	} {
		b.Run(name, func(b *testing.B) {
			p := []byte(header)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, _, err := ReadProxyHeader(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
