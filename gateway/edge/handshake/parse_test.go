package handshake

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/gateway/route"
)

// chrome is what a browser sends, cookies and all.
const chrome = "GET /ws/scores?mode=subscribe HTTP/1.1\r\n" +
	"Host: push.example.com\r\n" +
	"Connection: Upgrade\r\n" +
	"Pragma: no-cache\r\n" +
	"Cache-Control: no-cache\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n" +
	"Upgrade: websocket\r\n" +
	"Origin: https://www.example.com\r\n" +
	"Sec-WebSocket-Version: 13\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Accept-Language: en-GB,en;q=0.9\r\n" +
	"Cookie: session=4b1d9bd3b0a14c5e8f; consent=yes\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
	"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" +
	"\r\n"

const firefox = "GET /ws HTTP/1.1\r\n" +
	"Host: localhost:8000\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0\r\n" +
	"Accept: */*\r\n" +
	"Sec-WebSocket-Version: 13\r\n" +
	"Origin: null\r\n" +
	"Sec-WebSocket-Protocol: chat, superchat\r\n" +
	"Sec-WebSocket-Extensions: permessage-deflate\r\n" +
	"Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n" +
	"Connection: keep-alive, Upgrade\r\n" +
	"Upgrade: websocket\r\n" +
	"\r\n"

// verdict runs End and Parse as the gateway does.
func verdict(head string) (route.Request, *route.Reject) {
	n, reject := End([]byte(head), 0)
	if reject != nil {
		return route.Request{}, reject
	}
	if n == 0 {
		return route.Request{}, rejectIncomplete
	}
	return Parse([]byte(head[EmptyLine([]byte(head)):n]))
}

func TestParseReadsWhatClientsSend(t *testing.T) {
	for _, test := range []struct {
		name, head string
		want       route.Request
	}{
		{"good", good, route.Request{Method: "GET", Path: "/ws", RawPath: "/ws", Host: "example.com", Upgrade: true}},
		{"Chrome", chrome, route.Request{
			Method: "GET", Path: "/ws/scores", RawPath: "/ws/scores", RawQuery: "mode=subscribe",
			Host: "push.example.com", Origin: "https://www.example.com", HasOrigin: true, Upgrade: true,
		}},
		{"Firefox", firefox, route.Request{
			Method: "GET", Path: "/ws", RawPath: "/ws", Host: "localhost:8000", Origin: "null", HasOrigin: true,
			Protocols: []string{"chat", "superchat"}, Upgrade: true,
		}},
		{
			"names and values in any case, no space, tabs, lists with holes",
			"GET /ws HTTP/1.1\r\nHOST:h\r\nUPGRADE:WebSocket\r\nconnection:\t,keep-alive ,\t uPGRADE, \t\r\n" +
				"sec-websocket-KEY: dGhlIHNhbXBsZSBub25jZQ==\t\r\nsec-websocket-version:13\r\n" +
				"sec-websocket-protocol: ,a,, b\r\nSEC-WEBSOCKET-PROTOCOL:c\r\n\r\n",
			route.Request{
				Method: "GET", Path: "/ws", RawPath: "/ws", Host: "h",
				Protocols: []string{"a", "b", "c"}, Upgrade: true,
			},
		},
		{"escapes", swap(t, good, "/ws", "/ws/a%2Fb%e4%BD%A0?x=%zz"), route.Request{
			Method: "GET", Path: "/ws/a/b你", RawPath: "/ws/a%2Fb%e4%BD%A0", RawQuery: "x=%zz",
			Host: "example.com", Upgrade: true,
		}},
		{"two slashes, marks that browsers leave alone", swap(t, good, "/ws", "//ws|[]?q=a?b/{}"), route.Request{
			Method: "GET", Path: "//ws|[]", RawPath: "//ws|[]", RawQuery: "q=a?b/{}", Host: "example.com", Upgrade: true,
		}},
		{"an absolute target: its host counts, not the field's", swap(t, good, "/ws", "http://Other.example:81/ws/a%2Fb?x=http://y"), route.Request{
			Method: "GET", Path: "/ws/a/b", RawPath: "/ws/a%2Fb", RawQuery: "x=http://y", Host: "Other.example:81", Upgrade: true,
		}},
		{"an absolute target without a path, HTTP/1.0", "GET HTTPS://h?x HTTP/1.0\r\n\r\n", route.Request{
			Method: "GET", Path: "/", RawPath: "/", RawQuery: "x", Host: "h",
		}},
		{"empty protocols", withFields(good, "Sec-WebSocket-Protocol:\r\n"), route.Request{
			Method: "GET", Path: "/ws", RawPath: "/ws", Host: "example.com", Upgrade: true,
		}},
		{"several protocols to upgrade to", swap(t, good, ": websocket", ": h2c, TLS/1.0,WebSocket"), route.Request{
			Method: "GET", Path: "/ws", RawPath: "/ws", Host: "example.com", Upgrade: true,
		}},
		{"a body of no bytes", withFields(good, "Content-Length: 0\r\n"), route.Request{
			Method: "GET", Path: "/ws", RawPath: "/ws", Host: "example.com", Upgrade: true,
		}},
		{"empty Origin", withFields(good, "Origin:\r\n"), route.Request{
			Method: "GET", Path: "/ws", RawPath: "/ws", Host: "example.com", HasOrigin: true, Upgrade: true,
		}},
		{"extensions that nobody parses", withFields(good, "Sec-WebSocket-Extensions: ;;=\"\r\n"), route.Request{
			Method: "GET", Path: "/ws", RawPath: "/ws", Host: "example.com", Upgrade: true,
		}},
		{"plain", plain, route.Request{Method: "GET", Path: "/healthz", RawPath: "/healthz", Host: "example.com"}},
		{"plain HTTP/1.0", "HEAD /healthz HTTP/1.0\r\n\r\n", route.Request{
			Method: "HEAD", Path: "/healthz", RawPath: "/healthz",
		}},
		{
			"plain with a body",
			"POST /publish/a HTTP/1.1\r\nHost: [::1]:9000\r\nOrigin: http://[::1]\r\nContent-Length: 12\r\n\r\n",
			route.Request{
				Method: "POST", Path: "/publish/a", RawPath: "/publish/a", Host: "[::1]:9000",
				Origin: "http://[::1]", HasOrigin: true,
			},
		},
		{
			"plain in chunks", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n",
			route.Request{Method: "POST", Path: "/", RawPath: "/", Host: "h"},
		},
		{
			"another upgrade", "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
			route.Request{Method: "GET", Path: "/", RawPath: "/", Host: "h"},
		},
		{
			"what only an upgrade may not do", "get / HTTP/1.1\r\nHost: h\r\nConnection: a\r\nConnection: b\r\n" +
				"Sec-WebSocket-Key: x\r\nSec-WebSocket-Key: y\r\nSec-WebSocket-Protocol: (\r\n\r\n",
			route.Request{Method: "get", Path: "/", RawPath: "/", Host: "h"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, reject := verdict(test.head)
			if reject != nil {
				t.Fatalf("refused: %v", reject)
			}
			_, lines, _ := strings.Cut(test.head, "\r\n")
			test.want.Fields = strings.TrimSuffix(lines, "\r\n")
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The fields of a header are those that net/http finds.
func TestHeader(t *testing.T) {
	for _, head := range []string{good, chrome, firefox, plain, withFields(good, "X-A:1\r\nx-a: \t2 \r\nX-Empty:\r\nCookie: a=b; c=d:e\r\n")} {
		got, reject := verdict(head)
		if reject != nil {
			t.Fatal(reject)
		}
		want, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
		if err != nil {
			t.Fatal(err)
		}
		header := make(http.Header)
		for name, value := range got.Header() {
			header.Add(name, value)
		}
		header.Del("Host") // net/http has it elsewhere
		if diff := cmp.Diff(want.Header, header); diff != "" {
			t.Error(diff)
		}
	}
}

func TestRequestOutlivesItsBuffer(t *testing.T) {
	b := []byte(firefox)
	req, reject := Parse(b)
	if reject != nil {
		t.Fatal(reject)
	}
	clear(b)
	if req.Host != "localhost:8000" || req.Protocols[1] != "superchat" {
		t.Errorf("got %+v", req)
	}
}

func TestParseRefusesMoreThanOneHead(t *testing.T) {
	for _, head := range []string{"", "\r\n", "GET / HTTP/1.1\r\n", strings.TrimSuffix(good, "\n"), good + "x", good + "\r\n"} {
		if _, reject := Parse([]byte(head)); reject == nil {
			t.Errorf("%q: accepted", head)
		}
	}
	large := withFields(good, "X: "+strings.Repeat("x", HeadBytesMax)+"\r\n")
	if _, reject := Parse([]byte(large)); reject != rejectHeadBytes {
		t.Errorf("large head: got %v", reject)
	}
	long := withFields(good, strings.Repeat("X: x\r\n", HeadLinesMax))
	if _, reject := Parse([]byte(long)); reject != rejectHeadLines {
		t.Errorf("long head: got %v", reject)
	}
}

func TestParseAllocatesOneCopy(t *testing.T) {
	for _, test := range []struct {
		name, head string
		want       float64
	}{
		{"upgrade", good, 1},
		{"Chrome", chrome, 1},
		{"with subprotocols", firefox, 2},
		{"refused", swap(t, good, "13\r\n", "12\r\n"), 1},
	} {
		head := []byte(test.head)
		if got := testing.AllocsPerRun(100, func() { Parse(head) }); got > test.want {
			t.Errorf("%s: got %v allocations, want %v", test.name, got, test.want)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, head := range []struct{ name, head string }{{"good", good}, {"Chrome", chrome}, {"Firefox", firefox}} {
		b.Run(head.name, func(b *testing.B) {
			head := []byte(head.head)
			b.SetBytes(int64(len(head)))
			b.ReportAllocs()
			for b.Loop() {
				if _, reject := Parse(head); reject != nil {
					b.Fatal(reject)
				}
			}
		})
	}
}
