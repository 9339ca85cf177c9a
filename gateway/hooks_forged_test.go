package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/hooktest"

	"github.com/centrifugal/protocol"
)

// What a client writes into its connect command never becomes a header that only the request that opened the connection
// can have, of the connect hook or of a later one (CVE-2026-71485), and never another one of the call.
func TestHeadersCannotBeForged(t *testing.T) {
	t.Parallel()
	const said = `"headers":{"X-User-Id":"forged","x-user-id":"forged","Cookie":"session=forged","X-Token":"said","X-Both":"said","X-Unwanted":"said",` +
		`"Host":"forged","Content-Type":"forged","Content-Length":"1","Authorization":"forged","Transfer-Encoding":"chunked","X-Forwarded-For":"forged"}`
	uni := "{" + said + "}"
	command := `{"id":1,"connect":{` + said + `}}`
	for way, open := range map[string]func(t *testing.T, s *server, fields ...string) *clienttest.Client{
		"JSON": func(t *testing.T, s *server, fields ...string) *clienttest.Client {
			c := clienttest.Dial(t, s, pathClient, fields...)
			c.Does(command, `{"id":2,"subscribe":{"channel":"x"}}`)
			return c
		},
		"Protobuf": func(t *testing.T, s *server, fields ...string) *clienttest.Client {
			c := clienttest.Dial(t, s, pathClient+"?format=protobuf", fields...)
			c.Send(clienttest.Bin(inProtobuf(t, command)), clienttest.Bin(inProtobuf(t, `{"id":2,"subscribe":{"channel":"x"}}`)))
			return c
		},
		"unidirectional WebSocket": func(t *testing.T, s *server, fields ...string) *clienttest.Client {
			c := clienttest.Dial(t, s, "/connection/uni_websocket", fields...)
			c.Does(uni)
			return c
		},
		"unidirectional WebSocket, in the request": func(t *testing.T, s *server, fields ...string) *clienttest.Client {
			return clienttest.Dial(t, s, "/connection/uni_websocket?cf_connect="+url.QueryEscape(uni), fields...)
		},
		"unidirectional SSE": func(t *testing.T, s *server, fields ...string) *clienttest.Client {
			return clienttest.Stream(t, s, "/connection/uni_sse?cf_connect="+url.QueryEscape(uni), fields...)
		},
		"unidirectional HTTP": func(t *testing.T, s *server, fields ...string) *clienttest.Client {
			return clienttest.Lines(t, s, pathUniHTTP, uni, fields...)
		},
		"emulated HTTP": func(t *testing.T, s *server, fields ...string) *clienttest.Client {
			return clienttest.Lines(t, s, pathHTTP, command+"\n"+`{"id":2,"subscribe":{"channel":"x"}}`, fields...)
		},
		"emulated SSE": func(t *testing.T, s *server, fields ...string) *clienttest.Client {
			return clienttest.Stream(t, s, pathSSE+"?cf_connect="+url.QueryEscape(command), fields...)
		},
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			b := hooktest.Start(t)
			s := start(t, Config{Hooks: hooksOf(t, strings.ReplaceAll(fmt.Sprintf(`{
				"client": {"proxy": {"connect": {"enabled": true, "endpoint": "%[1]s/connect", LISTS}}},
				"channel": {"proxy": {"subscribe": {"endpoint": "%[1]s/subscribe", LISTS}}}}`, b.URL), "LISTS",
				`"timeout": "30s", "http_headers": ["Cookie", "X-User-Id", "X-Both"], "emulated_headers": ["X-Token", "X-Both"], "http": {"static_headers": {"X-Static": "s", "X-Token": "static"}}`))})
			for _, own := range [][]string{nil, {"X-User-Id: 7", "X-Both: proxy", "Cookie: session=ann", "X-Unwanted: own"}} {
				want := http.Header{"X-Token": {"said"}, "X-Both": {"said"}, "X-Static": {"s"}, "Content-Type": {"application/json"}}
				if own != nil {
					want["X-User-Id"], want["X-Both"], want["Cookie"] = []string{"7"}, []string{"proxy"}, []string{"session=ann"}
				}
				before, calls := len(b.Calls()), 1
				if way == "JSON" || way == "Protobuf" || way == "emulated HTTP" {
					calls = 2
				}
				c := open(t, s, own...)
				clienttest.WaitFor(t, "the hooks to be asked", func() bool { return len(b.Calls()) == before+calls })
				for _, call := range b.Calls()[before:] {
					for _, name := range []string{"X-User-Id", "X-Both", "X-Token", "X-Static", "X-Unwanted", "Cookie", "Content-Type", "Authorization", "X-Forwarded-For", "Host"} {
						if !slices.Equal(call.Header[name], want[name]) {
							t.Errorf("%s, with %q: %s is %q, want %q", call.Event, own, name, call.Header[name], want[name])
						}
					}
					if strings.Contains(call.Body, "forged") {
						t.Errorf("%s: %s", call.Event, call.Body)
					}
				}
				c.Vanish()
			}
		})
	}
}

// A header that no header may be is a failure for its client alone: it does not reach the backend, and others go on.
func TestHeaderThatSplitsTheRequestIsRefused(t *testing.T) {
	t.Parallel()
	b := hooktest.Start(t)
	s := start(t, Config{Hooks: hooksOf(t, fmt.Sprintf(`{"client": {"proxy": {"connect": {"enabled": true, "endpoint": "%s/connect", "timeout": "30s", "emulated_headers": ["X-Token"]}}}}`, b.URL))})
	for _, value := range []string{"a\r\nX-User-Id: 1", "a\nb", "a\x00", "\x7f"} {
		c := clienttest.Dial(t, s, pathClient+"?format=protobuf")
		c.SendsProtobuf(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{Headers: map[string]string{"X-Token": value}}})
		if r := c.ReadsProtobuf(t); r.Error == nil || r.Error.Code != 100 {
			t.Errorf("%q: %+v", value, r)
		}
	}
	if got := b.Calls(); len(got) != 0 {
		t.Errorf("it reached the backend: %+v", got)
	}
	member(t, s, "")
}
