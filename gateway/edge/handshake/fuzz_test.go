package handshake

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"sluice/gateway/route"
)

func seeds(f *testing.F) []string {
	all := []string{good, plain, chrome, firefox, "GET / HTTP/1.0\r\n\r\n",
		"HEAD https://h:1?a HTTP/1.0\r\n\r\n", "POST http://[::1]/%2f HTTP/1.1\r\nHost: h\r\n\r\n"}
	for _, d := range defects(f) {
		if len(d.head) <= HeadBytesMax {
			all = append(all, d.head)
		}
	}
	return all
}

// What Parse accepts, net/http accepts and reads in the same way, and End finds
// to be one head; what it accepts as an upgrade, ws.Upgrader accepts.
func FuzzParse(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add([]byte(s))
	}
	upgrader, deflating := NewUpgrader([]string{"chat", "mqtt"}, false), NewUpgrader([]string{"chat", "mqtt"}, true)
	f.Fuzz(func(t *testing.T, head []byte) {
		before := string(head)
		req, reject := Parse(head)
		if string(head) != before {
			t.Fatal("Parse changed the head")
		}
		if reject != nil {
			if reject.Status < 400 || reject.Reason == 0 || reject.Text == "" {
				t.Fatalf("refusal %+v", reject)
			}
			return
		}
		if n, reject := End(head, 0); n != len(head) || reject != nil {
			t.Fatalf("%q: Parse accepts it, End says %d of %d, %v", head, n, len(head), reject)
		}
		compareWithNetHTTP(t, head, req)
		if !req.Upgrade {
			return
		}

		var w countingWriter
		agreed, err := upgrader.Upgrade(head, &w)
		if err != nil {
			t.Fatalf("%q: Parse accepts it, the upgrader says %v", head, err)
		}
		resp := readAnswer(t, []byte(w.String()))
		if resp.StatusCode != 101 || w.writes != 1 || resp.Header.Get("Sec-WebSocket-Extensions") != "" {
			t.Fatalf("%q: answered %q", head, w.String())
		}
		want := ""
		for _, p := range req.Protocols {
			if p == "chat" || p == "mqtt" {
				want = p
				break
			}
		}
		if agreed != (Agreed{Protocol: want}) || resp.Header.Get("Sec-WebSocket-Protocol") != want {
			t.Fatalf("%q: chose %q of %q", head, agreed.Protocol, req.Protocols)
		}
		w = countingWriter{}
		agreed, err = deflating.Upgrade(head, &w)
		if err != nil {
			t.Fatalf("%q: Parse accepts it, the upgrader with an extension says %v", head, err)
		}
		resp = readAnswer(t, []byte(w.String()))
		if resp.StatusCode != 101 || w.writes != 1 || agreed.Protocol != want || !slices.Contains([]string{
			"", "permessage-deflate;server_no_context_takeover;client_no_context_takeover",
			"permessage-deflate;server_no_context_takeover;client_no_context_takeover;server_max_window_bits=15",
		}, resp.Header.Get("Sec-WebSocket-Extensions")) || agreed.Deflate != (resp.Header.Get("Sec-WebSocket-Extensions") != "") {
			t.Fatalf("%q: answered %q, agreed to %+v", head, w.String(), agreed)
		}
	})
}

func compareWithNetHTTP(t *testing.T, head []byte, req route.Request) {
	t.Helper()
	r := bufio.NewReaderSize(bytes.NewReader(head), HeadBytesMax)
	want, err := http.ReadRequest(r)
	if err != nil {
		t.Fatalf("%q: Parse accepts it, net/http says %v", head, err)
	}
	if r.Buffered() > 0 {
		t.Fatalf("%q: net/http leaves %d bytes", head, r.Buffered())
	}
	uri := want.RequestURI
	if want.URL.Host != "" { // an absolute target
		_, uri, _ = strings.Cut(uri, want.URL.Host)
		if !strings.HasPrefix(uri, "/") {
			uri, want.URL.Path = "/"+uri, "/"
		}
	}
	target := req.RawPath
	if strings.Contains(uri, "?") {
		target += "?" + req.RawQuery
	}
	if req.Method != want.Method || target != uri || req.Path != want.URL.Path ||
		req.RawQuery != want.URL.RawQuery || req.Host != want.Host || req.Origin != want.Header.Get("Origin") {
		t.Fatalf("%q: read as %+v, net/http has %+v", head, req, want)
	}
	if _, has := want.Header["Origin"]; has != req.HasOrigin {
		t.Fatalf("%q: HasOrigin is %v", head, req.HasOrigin)
	}
	if !want.ProtoAtLeast(1, 0) || want.ProtoAtLeast(1, 2) || want.Host == "" && want.ProtoAtLeast(1, 1) {
		t.Fatalf("%q: accepted as %s with Host %q", head, want.Proto, want.Host)
	}
	if !req.Upgrade {
		return
	}
	if n, err := io.Copy(io.Discard, want.Body); n > 0 || err != nil || want.ContentLength != 0 {
		t.Fatalf("%q: an upgrade with a body", head)
	}
	for _, name := range []string{"Upgrade", "Connection", "Sec-Websocket-Key", "Sec-Websocket-Version"} {
		if len(want.Header[name]) != 1 {
			t.Fatalf("%q: %s appears %d times", head, name, len(want.Header[name]))
		}
	}
	if want.Method != "GET" || len(want.TransferEncoding) > 0 || want.Header.Get("Sec-WebSocket-Version") != "13" {
		t.Fatalf("%q: accepted", head)
	}
}

// However the bytes are cut into reads, the verdict is the same; and what is
// refused early would have been refused whole.
func FuzzEnd(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add([]byte(s), uint16(7), uint16(100))
		f.Add([]byte(s+"\x81\x80\r\n\r\n"), uint16(1), uint16(len(s)-1))
	}
	f.Fuzz(func(t *testing.T, b []byte, cut1, cut2 uint16) {
		n, reject := End(b, 0)
		if n > 0 && reject != nil || n > len(b) || n > HeadBytesMax+EmptyLine(b) {
			t.Fatalf("%q: %d, %v", b, n, reject)
		}
		if n > 0 && (!bytes.HasSuffix(b[:n], []byte("\r\n\r\n")) || bytes.Index(b, []byte("\r\n\r\n")) != n-4) {
			t.Fatalf("%q: ends at %d", b, n)
		}
		if n == 0 && reject == nil {
			if bytes.Contains(b, []byte("\r\n\r\n")) || len(b) >= HeadBytesMax+EmptyLine(b) {
				t.Fatalf("%q: no verdict", b)
			}
		}
		if reject != nil {
			if _, ok := Parse(b); ok == nil {
				t.Fatalf("%q: End says %v, Parse accepts it", b, reject)
			}
		}

		cuts := []int{int(cut1), int(cut2), len(b)}
		var n2, from int
		var reject2 *route.Reject
		for _, to := range cuts {
			if to = min(to, len(b)); to < from {
				continue
			}
			if n2, reject2 = End(b[:to:to], from); n2 > 0 || reject2 != nil {
				break
			}
			from = to
		}
		if n2 != n || reject2 != reject {
			t.Fatalf("%q: whole %d, %v; cut at %v: %d, %v", b, n, reject, cuts, n2, reject2)
		}
		if n1, reject1 := feed(b, 1); n1 != n || reject1 != reject {
			t.Fatalf("%q: whole %d, %v; byte by byte: %d, %v", b, n, reject, n1, reject1)
		}
	})
}

// Escapes are decoded as net/url decodes them, and a path without any costs nothing.
func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/", "/a+b": "/a+b", "/%41": "/A", "/%61%2f%2F": "/a//", "/%00": "/\x00", "/%e4%BD%A0": "/你", "%25": "%",
	} {
		if got, ok := unescape(in); got != want || !ok {
			t.Errorf("%q: got %q, %v", in, got, ok)
		}
	}
	if got, _ := unescape("/%ff"); utf8.ValidString(got) {
		t.Error("a byte that is no UTF-8 was lost")
	}
}
