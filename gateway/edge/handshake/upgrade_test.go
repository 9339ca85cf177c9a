package handshake

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"sluice/gateway/route"
)

func TestUpgradeAnswersWithTheKeysAccept(t *testing.T) {
	for _, test := range []struct {
		name, key, offer string
		configured       []string
		accept, protocol string
	}{
		{name: "RFC 6455 section 1.3", key: "dGhlIHNhbXBsZSBub25jZQ==", accept: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
		{name: "second", key: "L7XSkAaV9mTTJbtCOhsZkg==", accept: "nk/xVRZ0rn2kjrM6nr8O/elGToQ="},
		{name: "third", key: "f7cb4ezEAl6C3wRaU6JORA==", accept: "rE91AJhfC+6JdVcVXOGJEADEJdQ="},
		{
			name: "fourth, with protocols", key: "x3JJHMbDL1EzLkh9GBhXDw==", accept: "HSmrc0sMlYUkAGmm5OPpG2HaGWk=",
			offer: "chat, superchat", configured: []string{"superchat", "chat"}, protocol: "chat",
		},
		{
			name: "the client's second", key: "x3JJHMbDL1EzLkh9GBhXDw==", accept: "HSmrc0sMlYUkAGmm5OPpG2HaGWk=",
			offer: "chat, superchat", configured: []string{"superchat"}, protocol: "superchat",
		},
		{
			name: "none that is known", key: "x3JJHMbDL1EzLkh9GBhXDw==", accept: "HSmrc0sMlYUkAGmm5OPpG2HaGWk=",
			offer: "Chat, superchat2", configured: []string{"superchat", "chat"},
		},
		{
			name: "none configured", key: "x3JJHMbDL1EzLkh9GBhXDw==", accept: "HSmrc0sMlYUkAGmm5OPpG2HaGWk=",
			offer: "chat, superchat",
		},
		{
			name: "two fields with holes", key: "x3JJHMbDL1EzLkh9GBhXDw==", accept: "HSmrc0sMlYUkAGmm5OPpG2HaGWk=",
			offer: ",a,,b\r\nSec-WebSocket-Protocol: ,\tc , d", configured: []string{"d", "c"}, protocol: "c",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			head := swap(t, good, "dGhlIHNhbXBsZSBub25jZQ==", test.key)
			head = withFields(head, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n")
			if test.offer != "" {
				head = withFields(head, "Sec-WebSocket-Protocol: "+test.offer+"\r\n")
			}
			want := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
				"Sec-WebSocket-Accept: " + test.accept + "\r\n"
			if test.protocol != "" {
				want += "Sec-WebSocket-Protocol: " + test.protocol + "\r\n"
			}
			want += "\r\n"

			if _, reject := verdict(head); reject != nil {
				t.Fatal(reject)
			}
			b := []byte(head)
			var w countingWriter
			agreed, err := NewUpgrader(test.configured, false).Upgrade(b, &w)
			if err != nil || agreed != (Agreed{Protocol: test.protocol}) {
				t.Errorf("got %+v, %v; want %q", agreed, err, test.protocol)
			}
			if got := w.String(); got != want || w.writes != 1 {
				t.Errorf("got %d writes of %q; want %q", w.writes, got, want)
			}
			if string(b) != head {
				t.Error("the head was changed")
			}
		})
	}
}

func TestUpgradeOfLargeHead(t *testing.T) {
	head := withFields(good, "Cookie: "+strings.Repeat("x", 6000)+"\r\n")
	protocol := strings.Repeat("p", 1000)
	head = withFields(head, "Sec-WebSocket-Protocol: "+protocol+"\r\n")
	var w countingWriter
	got, err := NewUpgrader([]string{protocol}, false).Upgrade([]byte(head), &w)
	if err != nil || got.Protocol != protocol || w.writes != 1 || !strings.Contains(w.String(), protocol) {
		t.Errorf("got %q, %v, %d writes of %q", got.Protocol, err, w.writes, w.String())
	}
}

// The upgrader's own words never reach the client.
func TestUpgradeThatFailsWritesNothing(t *testing.T) {
	for _, head := range []string{
		"", "GET", "secret\r\n\r\n", swap(t, good, "13\r\n", "12\r\n"), swap(t, good, "GET", "PUT"),
		swap(t, good, "Host", "H"), strings.TrimSuffix(good, "\r\n"),
	} {
		var w countingWriter
		_, err := NewUpgrader(nil, false).Upgrade([]byte(head), &w)
		if reject, ok := errors.AsType[*route.Reject](err); !ok || reject.Status != 500 || w.writes != 0 {
			t.Errorf("%q: got %v and %d writes", head, err, w.writes)
		}
	}
}

func TestUpgradeReportsWhatTheWriterSays(t *testing.T) {
	broken := errors.New("broken")
	_, err := NewUpgrader(nil, false).Upgrade([]byte(good), writerFunc(func([]byte) (int, error) { return 3, broken }))
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, ok := errors.AsType[*route.Reject](err); ok {
		t.Error("a writer's failure is no refusal")
	}
}

// A guard against another version of the library: what Parse is for is still
// needed, or this fails and something can be deleted.
func TestUpgraderAloneIsNotStrict(t *testing.T) {
	var through int
	for _, d := range defects(t) {
		x := exchange{rest: []byte(d.head)}
		if _, err := (ws.Upgrader{}).Upgrade(&x); err == nil {
			through++
		}
	}
	t.Logf("%d defects get a 101 without Parse", through)
	if through == 0 {
		t.Error("the upgrader finds every defect by itself")
	}
}

func TestUpgradeAllocates(t *testing.T) {
	u := NewUpgrader([]string{"chat"}, false)
	head := []byte(firefox)
	discard := writerFunc(func(p []byte) (int, error) { return len(p), nil })
	// ws.Upgrader's own: the nonce, the accept key and what it is hashed from, and the
	// answer's header list; ours: the exchange.
	if got := testing.AllocsPerRun(100, func() { u.Upgrade(head, discard) }); got > 6 {
		t.Errorf("got %v allocations", got)
	}
}

func BenchmarkUpgrade(b *testing.B) {
	u := NewUpgrader([]string{"chat"}, false)
	discard := writerFunc(func(p []byte) (int, error) { return len(p), nil })
	for _, head := range []struct{ name, head string }{{"Chrome", chrome}, {"Firefox", firefox}} {
		b.Run(head.name, func(b *testing.B) {
			head := []byte(head.head)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := u.Upgrade(head, discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	// All that a storm costs in this package for each connection.
	b.Run("End, Parse, Allow and Upgrade", func(b *testing.B) {
		origins, _, err := CompileOrigins([]string{"https://www.example.com"})
		if err != nil {
			b.Fatal(err)
		}
		in := []byte(chrome)
		b.ReportAllocs()
		for b.Loop() {
			n, _ := End(in, 0)
			req, reject := Parse(in[:n])
			if reject != nil || !origins.Allow(req.Origin, req.HasOrigin, req.Host) {
				b.Fatal(reject)
			}
			if _, err := u.Upgrade(in[:n], discard); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// readAnswer is what a client makes of a 101.
func readAnswer(t testing.TB, b []byte) *http.Response {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(b))
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	if _, err := r.Peek(1); err == nil {
		t.Fatalf("%q: bytes behind the answer", b)
	}
	return resp
}

type countingWriter struct {
	strings.Builder
	writes int
}

func (w *countingWriter) Write(p []byte) (int, error) {
	w.writes++
	return w.Builder.Write(p)
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
