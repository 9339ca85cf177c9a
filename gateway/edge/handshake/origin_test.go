package handshake

import (
	"net/url"
	"strings"
	"testing"
)

func TestOriginsThatMayConnect(t *testing.T) {
	// Every origin is tried by the default rule and by this list.
	list := []string{
		"https://app.example.com", "https://*.example.org", "http://*.example.net:8080", "HTTPS://Upper.Example",
		"https://[2001:DB8::1]:8443", "https://192.0.2.7", "https://xn--bcher-kva.example", "capacitor://localhost",
		"http://localhost",
	}
	const yes, no = true, false
	for _, test := range []struct {
		origin, host string
		bare, listed bool
	}{
		// The issue's own.
		{"http://localhost", "server.localhost", no, yes},
		{"http://localhost:3000", "127.0.0.1:1234", yes, yes},
		{"http://example.com", "server.example.com", no, no},
		{"https://localhost:3086", "localhost:8080", yes, yes},

		// The same host and port.
		{"http://example.com", "example.com", yes, yes},
		{"https://example.com", "example.com", yes, yes},
		{"http://example.com", "example.com:80", yes, yes},
		{"https://example.com", "example.com:443", yes, yes},
		{"http://example.com:80", "example.com", yes, yes},
		{"https://example.com:443", "example.com:443", yes, yes},
		{"http://example.com:8000", "example.com:8000", yes, yes},
		{"HTTP://EXAMPLE.com", "example.COM", yes, yes},
		{"https://xn--bcher-kva.at", "XN--bcher-kva.at", yes, yes},
		{"http://192.0.2.1:8000", "192.0.2.1:8000", yes, yes},
		{"http://[2001:db8::1]", "[2001:DB8:0:0::1]", yes, yes},
		{"http://[2001:db8::1]:8000", "[2001:db8::1]:8000", yes, yes},
		{"http://my_service:8000", "my_service:8000", yes, yes},
		{"http://example.com.", "example.com.", yes, yes},

		// Another port.
		{"http://example.com", "example.com:8000", no, no},
		{"http://example.com:8000", "example.com", no, no},
		{"http://example.com:8000", "example.com:8001", no, no},
		{"https://example.com", "example.com:80", no, no},
		{"http://example.com", "example.com:443", no, no},
		{"https://example.com:8443", "example.com", no, no},

		// Names that are only near.
		{"http://evilexample.com", "example.com", no, no},
		{"http://example.com.evil.org", "example.com", no, no},
		{"http://example.co", "example.com", no, no},
		{"http://sub.example.com", "example.com", no, no},
		{"http://example.com", "sub.example.com", no, no},
		{"http://example.com.", "example.com", no, no},
		{"http://example.com", "example.com.", no, no},
		{"http://exampl\u0435.com", "example.com", no, no}, // a Cyrillic letter
		{"http://EXAMPLE\u212a.com", "examplek.com", no, no},
		{"http://xn--exampl-cva.com", "example.com", no, no},
		{"http://bücher.at", "xn--bcher-kva.at", no, no},

		// Not an Origin.
		{"", "example.com", no, no},
		{"null", "example.com", no, no},
		{"null", "null", no, no},
		{"NULL", "example.com", no, no},
		{"*", "*", no, no},
		{"example.com", "example.com", no, no},
		{"//example.com", "example.com", no, no},
		{"http:example.com", "example.com", no, no},
		{"http:/example.com", "example.com", no, no},
		{"http:///example.com", "example.com", no, no},
		{"http://", "example.com", no, no},
		{"http://", "", no, no},
		{"http://example.com/", "example.com", no, no},
		{"http://example.com/path", "example.com", no, no},
		{"http://example.com?x", "example.com", no, no},
		{"http://example.com#x", "example.com", no, no},
		{"http://example.com\\x", "example.com", no, no},
		{"http://example.com:", "example.com", no, no},
		{"http://example.com:x", "example.com", no, no},
		{"http://example.com:80:80", "example.com", no, no},
		{"http://example.com:65616", "example.com", no, no}, // 80 and 2^16
		{"http://example.com@evil.org", "example.com", no, no},
		{"http://evil.org@example.com", "example.com", no, no},
		{"http://user:pw@example.com", "example.com", no, no},
		{"http://example.com http://evil.org", "example.com", no, no},
		{"http://evil.org, http://example.com", "example.com", no, no},
		{" http://example.com", "example.com", no, no},
		{"http://example.com\x00.evil.org", "example.com", no, no},
		{"http://%65xample.com", "example.com", no, no},
		{"1http://example.com", "example.com", no, no},
		{"://example.com", "example.com", no, no},

		// Another scheme.
		{"ftp://example.com", "example.com", no, no},
		{"ws://example.com", "example.com", no, no},
		{"file://", "example.com", no, no},
		{"chrome-extension://example.com", "example.com", no, no},
		{"capacitor://localhost", "localhost", no, yes},
		{"capacitor://localhost", "example.com", no, yes},
		{"ionic://localhost", "localhost", no, no},

		// Loopback.
		{"http://localhost", "localhost", yes, yes},
		{"http://LOCALHOST:5173", "LocalHost:8000", yes, yes},
		{"http://127.0.0.1:3000", "[::1]:8000", yes, yes},
		{"http://[::1]:3000", "127.9.8.7:8000", yes, yes},
		{"http://[0:0::0:1]", "localhost", yes, yes},
		{"http://localhost:3000", "example.com", no, no},
		{"http://localhost", "example.com", no, yes}, // the list has it
		{"http://example.com", "localhost:8000", no, no},
		{"http://example.com", "127.0.0.1:8000", no, no},
		{"http://app.localhost:3000", "localhost:3000", no, no},
		{"http://app.localhost:3000", "app.localhost:3000", yes, yes},
		{"http://localhost.:3000", "localhost:8000", no, no},
		{"http://localhost.evil.org", "localhost", no, no},
		{"http://evillocalhost", "localhost", no, no},
		{"http://127.0.0.1.evil.org", "127.0.0.1", no, no},
		{"http://127.1", "127.0.0.1", no, no},
		{"http://2130706433", "127.0.0.1", no, no},
		{"http://0x7f000001", "127.0.0.1", no, no},
		{"http://0.0.0.0:8000", "127.0.0.1:8000", no, no},
		{"http://128.0.0.1", "127.0.0.1", no, no},
		{"http://192.168.0.1", "127.0.0.1", no, no},
		{"http://[::2]", "[::1]", no, no},
		{"http://[fe80::1%25lo]", "[fe80::1%25lo]", no, no},
		{"http://[::1", "[::1", no, no},

		// The list.
		{"https://app.example.com", "push.example.com", no, yes},
		{"https://app.example.com:443", "push.example.com", no, yes},
		{"HTTPS://APP.example.COM", "push.example.com", no, yes},
		{"http://app.example.com", "push.example.com", no, no},
		{"https://app.example.com:8443", "push.example.com", no, no},
		{"https://app.example.com.", "push.example.com", no, no},
		{"https://evilapp.example.com", "push.example.com", no, no},
		{"https://app.example.com.evil.org", "push.example.com", no, no},
		{"https://app.example.com@evil.org", "push.example.com", no, no},
		{"https://a.example.org", "push.example.com", no, yes},
		{"https://xn--bcher-kva.example.org", "push.example.com", no, yes},
		{"https://a.example.org:443", "push.example.com", no, yes},
		{"https://example.org", "push.example.com", no, no},
		{"https://.example.org", "push.example.com", no, no},
		{"https://a.b.example.org", "push.example.com", no, no},
		{"https://*.example.org", "push.example.com", no, no},
		{"https://evilexample.org", "push.example.com", no, no},
		{"https://a.example.org.evil.org", "push.example.com", no, no},
		{"https://a.example.org:8443", "push.example.com", no, no},
		{"http://a.example.org", "push.example.com", no, no},
		{"http://a.example.net:8080", "push.example.com", no, yes},
		{"http://a.example.net", "push.example.com", no, no},
		{"https://upper.example", "push.example.com", no, yes},
		{"https://[2001:db8:0::1]:8443", "push.example.com", no, yes},
		{"https://[2001:db8::1]", "push.example.com", no, no},
		{"https://192.0.2.7", "push.example.com", no, yes},
		{"https://xn--bcher-kva.example", "push.example.com", no, yes},
		{"https://bücher.example", "push.example.com", no, no},
	} {
		for _, try := range []struct {
			name string
			list []string
			want bool
		}{
			{"without a list", nil, test.bare},
			{"with a list", list, test.listed},
			{"with *", []string{"*"}, true},
			{"with null", []string{"null"}, test.bare || test.origin == "null"},
		} {
			o, _, err := CompileOrigins(try.list)
			if err != nil {
				t.Fatal(err)
			}
			if got := o.Allow(test.origin, true, test.host); got != try.want {
				t.Errorf("Origin %q to Host %q %s: got %v", test.origin, test.host, try.name, got)
			}
			if !o.Allow("", false, test.host) {
				t.Errorf("no Origin to Host %q %s: refused", test.host, try.name)
			}
		}
	}
}

func TestZeroOriginsIsTheDefaultRule(t *testing.T) {
	var o Origins
	if !o.Allow("http://a", true, "a") || o.Allow("http://b", true, "a") {
		t.Error("not the default rule")
	}
}

func TestOriginFaultsSayHowToMendThem(t *testing.T) {
	for _, test := range []struct{ entry, want string }{
		{"https://example.com/", `ends in a slash, which a browser never sends; write "https://example.com"`},
		{"https://example.com/app", `has a path, query or fragment, which a browser never sends; write "https://example.com"`},
		{"https://example.com?x=1", `has a path, query or fragment, which a browser never sends; write "https://example.com"`},
		{"https://example.com#x", `has a path, query or fragment, which a browser never sends; write "https://example.com"`},
		{"https://*.example.com/", `ends in a slash, which a browser never sends; write "https://*.example.com"`},
		{"https://me:pw@example.com", `has a user name, which a browser never sends; write "https://example.com"`},
		{"example.com", `has no scheme, and http and https are different origins; write, for example, "https://example.com"`},
		{"//example.com", `has no scheme, and http and https are different origins; write, for example, "https://example.com"`},
		{"://example.com", `has no scheme, and http and https are different origins; write, for example, "https://example.com"`},
		{"*.example.com", `has no scheme`},
		{"localhost:3000", `has no scheme`},
		{"", `is empty`},
		{" ", `is empty`},
		{"https://a.*.example.com", `has a * that is not a whole label`},
		{"https://app*.example.com", `has a * that is not a whole label`},
		{"https://*.*.example.com", `has a * that is not a whole label`},
		{"https://*", `has a * that is not a whole label`},
		{"https://*.", `has a * that is not a whole label`},
		{"*://example.com", `has a * that is not a whole label`},
		{"https://example.com:*", `has a * that is not a whole label`},
		{"https://*.192.0.2.1", `has a * that is not a whole label`},
		{"https://*.[::1]", `has a * that is not a whole label`},
		{"https://bücher.example", `write the xn-- form`},
		{"https://example.com:", `is not an origin`},
		{"https://example.com:https", `is not an origin`},
		{"https://example.com:70000", `is not an origin`},
		{"https://", `is not an origin`},
		{"https://exa mple.com", `is not an origin`},
		{"https://127.1", `is not an origin`},
		{"NULL", `has no scheme`},
	} {
		o, _, err := CompileOrigins([]string{"https://fine.example", test.entry})
		if err == nil || o != nil {
			t.Errorf("%q: accepted", test.entry)
		} else if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %v", test.entry, err)
		}
	}
	_, _, err := CompileOrigins([]string{"a", "https://b", "c"})
	if err == nil || strings.Count(err.Error(), "no scheme") != 2 {
		t.Errorf("not every fault is reported: %v", err)
	}
}

func TestOriginWarnings(t *testing.T) {
	for _, test := range []struct {
		entry string
		want  string // "": no warning
	}{
		{"https://example.com", ""},
		{"https://*.example.com", ""},
		{"http://*.localhost:3000", ""},
		{" https://example.com ", ""},
		{"*", "every web page"},
		{"null", "any web page can create one"},
		{"https://*.com", "name your own domain"},
	} {
		_, warnings, err := CompileOrigins([]string{test.entry})
		if err != nil {
			t.Errorf("%q: %v", test.entry, err)
		} else if got := strings.Join(warnings, "\n"); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%q: got %q", test.entry, warnings)
		}
	}
}

func TestAllowAllocatesNothing(t *testing.T) {
	o, _, err := CompileOrigins([]string{"https://app.example.com", "https://*.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	for _, origin := range []string{
		"https://app.example.com", "https://a.example.org", "https://push.example.com", "https://evil.example", "http://[::1]:3000", "null",
	} {
		if n := testing.AllocsPerRun(100, func() { o.Allow(origin, true, "push.example.com:443") }); n != 0 {
			t.Errorf("%s: got %v allocations", origin, n)
		}
	}
}

// By the default rule nothing gets in but http or https pages from the very host
// that net/url reads out of both fields, or from loopback to loopback.
func FuzzOrigin(f *testing.F) {
	for _, s := range []string{"http://example.com", "https://a.b:443", "http://[::1]:1", "http://u@h", "null", "http://localhost:3000"} {
		f.Add(s, "example.com")
		f.Add(s, "a.b:443")
		f.Add(s, "127.0.0.1:8000")
		f.Add(s, strings.TrimPrefix(s, "http://"))
	}
	f.Fuzz(func(t *testing.T, origin, host string) {
		var o Origins
		if !o.Allow(origin, true, host) {
			return
		}
		page, err := url.Parse(origin)
		if err != nil || page.User != nil || page.Path != "" || page.Scheme != "http" && page.Scheme != "https" {
			t.Fatalf("%q to %q: %v", origin, host, err)
		}
		here, err := url.Parse(page.Scheme + "://" + host)
		if err != nil || here.User != nil || here.Path != "" {
			t.Fatalf("%q to %q: %v", origin, host, err)
		}
		if strings.EqualFold(page.Hostname(), here.Hostname()) && samePort(page, here) {
			return
		}
		a, ok1 := parseAuthority(page.Host)
		b, ok2 := parseAuthority(here.Host)
		if !ok1 || !ok2 || !(a.isLoopback() && b.isLoopback() || a.addr.IsValid() && a.addr == b.addr && samePort(page, here)) {
			t.Fatalf("%q to %q", origin, host)
		}
	})
}

func samePort(a, b *url.URL) bool {
	port := func(u *url.URL) string {
		switch p := strings.TrimLeft(u.Port(), "0"); {
		case u.Port() != "":
			return p
		case u.Scheme == "https":
			return "443"
		default:
			return "80"
		}
	}
	return port(a) == port(b)
}

func BenchmarkAllow(b *testing.B) {
	o, _, err := CompileOrigins([]string{"https://app.example.com", "https://*.example.org"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !o.Allow("https://push.example.com", true, "push.example.com") {
			b.Fatal("refused")
		}
	}
}

// Cookies are for pages of origins that were named: with any origin, every page could read what the user may.
func TestCredentialsOnlyForKnownOrigins(t *testing.T) {
	for _, test := range []struct {
		allowed []string
		origin  string
		want    bool
	}{
		{[]string{"https://app.example.com"}, "https://app.example.com", true},
		{[]string{"*"}, "https://app.example.com", false},
		{[]string{"*", "https://app.example.com"}, "https://app.example.com", false},
		{[]string{"null"}, "null", false},
	} {
		o, _, err := CompileOrigins(test.allowed)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.Allow(test.origin, true, "gateway.example"); !got {
			t.Errorf("%q: %s is not allowed", test.allowed, test.origin)
		}
		if got := o.Credentials(test.origin); got != test.want {
			t.Errorf("%q: credentials for %s: %v", test.allowed, test.origin, got)
		}
	}
}
