package handshake

import (
	"strings"
	"testing"

	"sluice/gateway/route"
)

// good is a handshake that RFC 6455 section 1.2 could have as its example.
const good = "GET /ws HTTP/1.1\r\n" +
	"Host: example.com\r\n" +
	"Upgrade: websocket\r\n" +
	"Connection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
	"Sec-WebSocket-Version: 13\r\n" +
	"\r\n"

// plain asks for no upgrade.
const plain = "GET /healthz HTTP/1.1\r\nHost: example.com\r\n\r\n"

// swap returns s with old, which must be there, replaced once by new.
func swap(t testing.TB, s, old, new string) string {
	t.Helper()
	if !strings.Contains(s, old) {
		t.Fatalf("%q is not in the head", old)
	}
	return strings.Replace(s, old, new, 1)
}

// withFields adds lines to a head.
func withFields(head, lines string) string {
	return strings.TrimSuffix(head, "\r\n") + lines + "\r\n"
}

// feed gives b to End as reads of step bytes would and returns the first verdict.
func feed(b []byte, step int) (n int, reject *route.Reject) {
	for from := 0; from < len(b); {
		to := min(from+step, len(b))
		if n, reject = End(b[:to:to], from); n > 0 || reject != nil {
			return n, reject
		}
		from = to
	}
	return 0, nil
}

func TestHeadEndsWhereItsEmptyLineEnds(t *testing.T) {
	exactBytes := withFields(good, "X: \r\n")
	exactBytes = swap(t, exactBytes, "X: ", "X: "+strings.Repeat("x", HeadBytesMax-len(exactBytes)))
	exactLines := withFields(good, strings.Repeat("X: x\r\n", HeadLinesMax-strings.Count(good, "\n")+1))
	longTarget := swap(t, good, "/ws", "/"+strings.Repeat("x", URIBytesMax-1))

	for _, test := range []struct {
		name, in string
		behind   string
		reject   *route.Reject
	}{
		{name: "upgrade", in: good},
		{name: "plain", in: plain},
		{name: "no field", in: "GET / HTTP/1.0\r\n\r\n"},
		{name: "empty line first", in: "\r\n" + good, behind: "x"},
		{name: "empty line first, as large as it may be", in: "\r\n" + exactBytes},
		{name: "empty line first, as many lines as there may be", in: "\r\n" + exactLines},
		{name: "empty line first, as long a target as there may be", in: "\r\n" + longTarget},
		{name: "bytes behind it", in: good, behind: "\x81\x85\x00\n\x00\r\r\n\r\n"},
		{name: "as large as it may be", in: exactBytes, behind: "x"},
		{name: "as many lines as there may be", in: exactLines},
		{name: "as long a target as there may be", in: longTarget},
		{name: "obs-text", in: withFields(good, "X: \x80\xff\t\r\n")},

		{name: "a byte too large", in: swap(t, exactBytes, "X: ", "X:  "), reject: rejectHeadBytes},
		{name: "a line too many", in: withFields(exactLines, "X: x\r\n"), reject: rejectHeadLines},
		{name: "a line without end", in: strings.TrimSuffix(good, "\r\n") + "X: " + strings.Repeat("x", 1<<20), reject: rejectHeadBytes},
		{name: "20,000 fields", in: "GET / HTTP/1.1\r\n" + strings.Repeat("a:b\r\n", 20_000), reject: rejectHeadLines},
		{name: "a target without end", in: "GET /" + strings.Repeat("x", 1<<20), reject: rejectURILength},
		{name: "a method without end", in: strings.Repeat("x", 1<<20), reject: rejectURILength},
		{name: "bare LF", in: "GET / HTTP/1.1\n", reject: rejectLineFeed},
		{name: "bare LF at the end", in: strings.TrimSuffix(good, "\r\n") + "\n", reject: rejectLineFeed},
		{name: "LF first", in: "\nGET / HTTP/1.1\r\n", reject: rejectLineFeed},
		{name: "two empty lines first", in: "\r\n\r\nGET / HTTP/1.1\r\n", reject: rejectRequestLine},
		{name: "empty line, then CR", in: "\r\n\rGET / HTTP/1.1\r\n", reject: rejectCR},
		{name: "a proxy's second version", in: "\r\n\r\n\x00\r\nQUIT\n", reject: rejectRequestLine},
		{name: "CR in a line", in: "GET /\r HTTP/1.1\r\n", reject: rejectCR},
		{name: "CR CR LF", in: "GET / HTTP/1.1\r\r\n", reject: rejectCR},
		{name: "NUL", in: "GET / HTTP/1.1\r\nX: a\x00b", reject: rejectControl},
		{name: "DEL", in: "GET / HTTP/1.1\r\nX: a\x7fb", reject: rejectControl},
		{name: "TLS to a plain port", in: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", reject: rejectControl},
		// Which of two defects is named does not depend on how the bytes come.
		{name: "long target, then NUL", in: "GET /" + strings.Repeat("x", 6000) + "\x00", reject: rejectURILength},
		{name: "NUL, then long target", in: "GET /\x00" + strings.Repeat("x", 6000), reject: rejectControl},
		{name: "CR where the request line must have ended", in: "GET /" + strings.Repeat("x", requestLineBytesMax-6) + "\rx", reject: rejectURILength},
	} {
		t.Run(test.name, func(t *testing.T) {
			whole := []byte(test.in + test.behind)
			want := len(test.in)
			if test.reject != nil {
				want = 0
			} else if _, reject := Parse([]byte(test.in[EmptyLine([]byte(test.in)):])); reject != nil {
				t.Errorf("Parse refuses it: %v", reject)
			}
			for _, step := range []int{1, 2, 3, 7, 64, 4096, len(whole)} {
				if n, reject := feed(whole, step); n != want || reject != test.reject {
					t.Errorf("%d bytes at a time: got %d, %v; want %d, %v", step, n, reject, want, test.reject)
				}
			}
			if len(whole) > 1<<14 {
				return
			}
			for cut := range whole {
				n, reject := End(whole[:cut:cut], 0)
				if n == 0 && reject == nil {
					n, reject = End(whole, cut)
				}
				if n != want || reject != test.reject {
					t.Fatalf("cut at %d: got %d, %v; want %d, %v", cut, n, reject, want, test.reject)
				}
			}
		})
	}
}

func TestDefectIsFoundAtItsByte(t *testing.T) {
	for _, in := range []string{
		"GET / HTTP/1.1\n",
		"GET / HTTP/1.1\r\nHost: a\x00",
		"GET / HTTP/1.1\r\nHost: a\rb",
		"GET /" + strings.Repeat("x", requestLineBytesMax-4),
		"GET / HTTP/1.1\r\n" + strings.Repeat("a:b\r\n", HeadLinesMax),
		"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", HeadBytesMax-19),
	} {
		before := []byte(in[:len(in)-1])
		if n, reject := feed(before, 1); n != 0 || reject != nil {
			t.Errorf("%.40q: got %d, %v a byte early", in, n, reject)
		}
		if n, reject := feed([]byte(in), 1); n != 0 || reject == nil {
			t.Errorf("%.40q: got %d and no refusal", in, n)
		}
	}
}

func TestEndOfNothing(t *testing.T) {
	if n, reject := End(nil, 0); n != 0 || reject != nil {
		t.Errorf("got %d, %v", n, reject)
	}
}

func TestEndAllocatesNothing(t *testing.T) {
	head := []byte(good)
	if n := testing.AllocsPerRun(100, func() { End(head, 0) }); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}

func BenchmarkEnd(b *testing.B) {
	head := []byte(chrome)
	b.Run("whole", func(b *testing.B) {
		b.SetBytes(int64(len(head)))
		b.ReportAllocs()
		for b.Loop() {
			End(head, 0)
		}
	})
	b.Run("8KiB byte by byte", func(b *testing.B) {
		head := []byte(withFields(plain, strings.Repeat("X: "+strings.Repeat("x", 120)+"\r\n", 60)))
		b.SetBytes(int64(len(head)))
		for b.Loop() {
			if n, reject := feed(head, 1); n != len(head) {
				b.Fatal(n, reject)
			}
		}
	})
}
