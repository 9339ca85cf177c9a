package wire

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/google/go-cmp/cmp"
)

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\\b\f\n\r\t\x00\x7f", "é漢🙂\u2028", "cut \xe6\xbc", "\xff\ufffd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		encoded := AppendString([]byte("x"), s)[1:]
		if again := AppendBytes(nil, []byte(s)); !bytes.Equal(again, encoded) {
			t.Errorf("%q: %s from a string, %s from bytes", s, encoded, again)
		}
		var got string
		if err := json.Unmarshal(encoded, &got); err != nil || got != valid(s) {
			t.Errorf("%q became %s, which is %q, %v", s, encoded, got, err)
		}
		if n := len(encoded); n > 6*len(s)+2 {
			t.Errorf("%d bytes became %d", len(s), n)
		}
	})
}

// valid is s with U+FFFD for each byte that is not UTF-8.
func valid(s string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteRune(r)
	}
	return b.String()
}

// An event of an event stream, as a reader has it.
type event struct{ name, id, data string }

// readEvents is the HTML standard's interpretation of an event stream, section 9.2.6.
func readEvents(stream []byte) (events []event) {
	var e event
	lines := bufio.NewScanner(bytes.NewReader(stream))
	lines.Buffer(nil, 1<<20)
	lines.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		i := bytes.IndexAny(data, "\r\n")
		switch {
		case i < 0:
			return 0, nil, nil
		case data[i] == '\r' && i+1 < len(data) && data[i+1] == '\n':
			return i + 2, data[:i], nil
		}
		return i + 1, data[:i], nil
	})
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if e.data != "" {
				e.data = strings.TrimSuffix(e.data, "\n")
				events = append(events, e)
			}
			e = event{id: e.id}
		case field == "event":
			e.name = value
		case field == "id":
			e.id = value
		case field == "data":
			e.data += value + "\n"
		}
	}
	return events
}

// What is framed is what a reader has, whatever the payload is and whatever came before it.
func FuzzFraming(f *testing.F) {
	f.Add([]byte("one\ntwo\r\nthree\rfour\n"), false)
	f.Add([]byte(""), true)
	f.Add([]byte{0, 255, '\n'}, true)
	f.Fuzz(func(t *testing.T, payload []byte, binary bool) {
		if !binary && !utf8.Valid(payload) {
			return
		}
		before := []byte("before")
		framed := WebSocket.Append(before, payload, binary)
		messages, err := wsutil.ReadServerMessage(bytes.NewReader(framed[len(before):]), nil)
		if err != nil || len(messages) != 1 {
			t.Fatalf("%q: %d messages, %v", framed, len(messages), err)
		}
		op := ws.OpText
		if binary {
			op = ws.OpBinary
		}
		if m := messages[0]; m.OpCode != op || !bytes.Equal(m.Payload, payload) {
			t.Errorf("got %v %q, want %q", m.OpCode, m.Payload, payload)
		}

		want := event{data: strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(payload))}
		if binary {
			want = event{name: "binary", data: base64.StdEncoding.EncodeToString(payload)}
		}
		if diff := cmp.Diff([]event{want}, readEvents(SSE.Append(nil, payload, binary)), cmp.AllowUnexported(event{})); diff != "" && want.data != "" {
			t.Error(diff)
		}

		text := AppendBytes(nil, payload)
		framed = WebSocket.End(append(WebSocket.Begin(before), text...), len(before))
		messages, err = wsutil.ReadServerMessage(bytes.NewReader(framed[len(before):]), nil)
		if err != nil || len(messages) != 1 || messages[0].OpCode != ws.OpText || !bytes.Equal(messages[0].Payload, text) {
			t.Errorf("%q became %q: %v", text, framed, err)
		}
		events := readEvents(SSE.End(append(SSE.Begin(nil), text...), 0))
		if len(events) != 1 || events[0].data != string(text) {
			t.Errorf("%q became %v", text, events)
		}
	})
}

// All lengths of a header.
func TestTextsOfEveryLengthMoveToTheirHeader(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, 100_000} {
		text := strings.Repeat("x", n)
		want := WebSocket.Append([]byte("before"), []byte(text), false)
		got := WebSocket.End(append(WebSocket.Begin([]byte("before")), text...), len("before"))
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d, want %d: %q", n, len(got), len(want), got[:20])
		}
	}
}

func TestBytesOfFramings(t *testing.T) {
	for _, tt := range []struct{ name, got, want string }{
		{"event", string(SSE.Append(AppendEventID(AppendEventName(nil, "greeting"), 36, 12), []byte("a\nb"), false)), "event: greeting\nid: 10:12\ndata: a\ndata: b\n\n"},
		{"event's ping", string(SSE.AppendPing(nil)), ":\n\n"},
		{"event's close", string(SSE.AppendClose(nil, 1013, "too slow")), "event: close\ndata: {\"code\":1013,\"reason\":\"too slow\"}\n\n"},
		{"ping", string(WebSocket.AppendPing(nil)), "\x89\x00"},
		{"close", string(WebSocket.AppendClose(nil, 1013, "too slow")), "\x88\x0a\x03\xf5too slow"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, tt.got, tt.want)
		}
	}
	if !WebSocket.ReadsInput() || SSE.ReadsInput() {
		t.Error("clients send over WebSocket, and not in an event stream")
	}
}

func TestFramingAllocatesNothing(t *testing.T) {
	buf, payload := make([]byte, 0, 4096), []byte(strings.Repeat("é\n", 100))
	for name, f := range map[string]func(){
		"WebSocket": func() { WebSocket.End(AppendBytes(WebSocket.Begin(buf), payload), 0) },
		"SSE":       func() { SSE.Append(AppendEventID(buf, 36, 12), payload, false) },
		"binary":    func() { SSE.Append(buf, payload, true) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkAppendString(b *testing.B) {
	for name, text := range map[string]string{
		"ascii": strings.Repeat("0123456789abcdef", 64), "json": strings.Repeat(`{"a":"b","c":1},`, 64), "cyrillic": strings.Repeat("жизнь ", 94),
	} {
		b.Run(name, func(b *testing.B) {
			buf := make([]byte, 0, 8192)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				AppendString(buf, text)
			}
		})
	}
}
