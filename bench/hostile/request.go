package hostile

import (
	"encoding/base64"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// requests makes handshakes: good ones by a grammar, and bad ones out of good ones.
type requests struct {
	*rand.Rand
	host, path string
}

func (g requests) pick(from ...string) string { return from[g.IntN(len(from))] }

// good returns the lines of a handshake that any server takes, as different as the
// RFCs allow them to be.
func (g requests) good() []string {
	key := make([]byte, 16)
	for i := range key {
		key[i] = byte(g.Uint32())
	}
	fields := []string{
		"Host: " + g.host,
		"Upgrade: " + g.pick("websocket", "websocket", "WebSocket", "WEBSOCKET"),
		"Connection: " + g.pick("Upgrade", "Upgrade", "upgrade", "keep-alive, Upgrade", "Upgrade,keep-alive", ", keep-alive , UPGRADE,"),
		"Sec-WebSocket-Key: " + base64.StdEncoding.EncodeToString(key),
		"Sec-WebSocket-Version: 13",
	}
	for _, more := range []string{
		"Origin: http://" + g.host, "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101",
		"Cookie: a=" + strings.Repeat("x", g.IntN(600)), "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
		"Sec-WebSocket-Protocol: chat, superchat", "Accept-Language: en-GB,en;q=0.9", "X-Empty:", "Content-Length: 0", "X-Obs: \x80\xff\t!",
	} {
		if g.IntN(4) == 0 {
			fields = append(fields, more)
		}
	}
	for i, line := range fields {
		name, value, _ := strings.Cut(line, ":")
		switch g.IntN(6) {
		case 0:
			name = strings.ToLower(name)
		case 1:
			name = strings.ToUpper(name)
		}
		fields[i] = name + g.pick(": ", ": ", ": ", ":", ":\t", ":  ") + strings.TrimSpace(value) + g.pick("", "", "", "", " ", "\t ")
	}
	g.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	return append([]string{"GET " + g.path + g.pick("", "", "?", "?x="+strconv.Itoa(g.IntN(1000))) + " HTTP/1.1"}, fields...)
}

func joinLines(lines []string) []byte { return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n") }

// Lines and pieces that parsers have stumbled over.
var (
	badRequestLines = []string{
		"GET / HTTP/1.0", "GET /ws HTTP/0.9", "GET /ws HTTP/1.2", "GET /ws HTTP/2.0", "GET /ws HTTP/1.10", "GET /ws http/1.1", "GET /ws", "GET  /ws HTTP/1.1",
		"GET /ws  HTTP/1.1", "GET /ws HTTP/1.1 ", " GET /ws HTTP/1.1", "GET\t/ws\tHTTP/1.1", "POST /ws HTTP/1.1", "HEAD /ws HTTP/1.1", "get /ws HTTP/1.1", "G(T /ws HTTP/1.1",
		"OPTIONS * HTTP/1.1", "CONNECT h:1 HTTP/1.1", "GET http://h/ws HTTP/1.1", "GET ws HTTP/1.1", "GET * HTTP/1.1", "GET /ws#x HTTP/1.1", "GET /w\x00s HTTP/1.1", "GET /w\rs HTTP/1.1",
		"GET /w\ns HTTP/1.1", "GET /ws%zz HTTP/1.1", "GET /\xff HTTP/1.1", "PRI * HTTP/2.0", "", "GET /ws HTTP/1.1\r", "GET /ws HTTP/1.1\nA: b", "GET /ws?a b HTTP/1.1",
	}
	badFields = []string{
		"Host: evil.example", "Host:", "Host: a b", "Host: u@h", "Host: h:x", "Host: h,i", "Host : h", "Host\t: h", " Host: h", ": x", "X", "X y: z", "X: a\rb", "X: a\nb", "X: a\x00b", "X: \x1b[m", "X\x7f: y",
		"X: a\r\n b", "X: a\r\n\tb", "\u212aost: h", "Content-Length: 5", "Content-Length: -1", "Content-Length: +0", "Content-Length: 0x0", "Content-Length: 0, 5", "Content-Length: 5\r\nContent-Length: 6",
		"Content-Length:", "Content-Length: 99999999999999999999", "Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Transfer-Encoding: xchunked", "Transfer-Encoding: chunked\r\nContent-Length: 5",
		"Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding : chunked", "Transfer-Encoding: \vchunked", "Transfer-Encoding: chunked, identity", "Transfer-Encoding:\r\n chunked", "Expect: 100-continue",
		"Upgrade: websocket", "Upgrade: h2c", "Upgrade: websocket, h2c", "Upgrade: websocket/13", "Upgrade:", "Connection: close", "Connection: Upgrade", "Connection: keep-alive", "Connection: \"Upgrade\"", "Connection:", "Connection: keep-alive,\tUpgrade", "Connection: keep-alive\t,Upgrade",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ", "Sec-WebSocket-Key: AAAA", "Sec-WebSocket-Key:", "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 12", "Sec-WebSocket-Version: 13, 8", "Sec-WebSocket-Version: 013", "Sec-WebSocket-Version: 13.0", "Sec-WebSocket-Version:",
		"Origin: null", "Origin: http://evil.example", "Origin:", "Origin: http://127.0.0.1.evil.example", "Origin: http://u@127.0.0.1", "Origin: file://", "Origin: http://127.0.0.1:1/x",
		"Sec-WebSocket-Protocol:", "Sec-WebSocket-Protocol: a b", "Sec-WebSocket-Protocol: (", "Trailer: Host",
	}
	badBytes = []string{"\r", "\n", "\r\n", "\r\n\r\n", "\x00", " ", "\t", ":", ",", "\x7f", "\xff", "%", "\r\n ", "=", "\u2028", "HTTP/1.1", "websocket"}
)

// bad returns a request that is most probably at fault. Some that come out are right
// after all: the judge finds out.
func (g requests) bad() []byte {
	lines := g.good()
	for range 1 + g.IntN(2) {
		switch i := 1 + g.IntN(len(lines)-1); g.IntN(7) {
		case 0:
			lines[0] = g.pick(badRequestLines...)
		case 1: // in the place of a good one of the same name, if there is one
			field := g.pick(badFields...)
			name, _, _ := strings.Cut(field, ":")
			at := slices.IndexFunc(lines[1:], func(l string) bool { return len(l) > len(name) && strings.EqualFold(l[:len(name)], name) })
			lines[max(at, 0)+1] = field
		case 2:
			lines = slices.Insert(lines, i, g.pick(badFields...))
		case 3:
			if len(lines) > 2 {
				lines = slices.Delete(lines, i, i+1)
			}
		case 4:
			lines = slices.Insert(lines, 1+g.IntN(len(lines)), lines[i])
		case 5:
			lines[i], lines[0] = lines[0], lines[i]
		case 6:
			lines = slices.Insert(lines, i, slices.Repeat([]string{"X: y"}, g.IntN(100))...)
		}
	}
	b := joinLines(lines)
	for range g.IntN(3) {
		b = g.mutate(b)
	}
	return b
}

// mutate changes bytes without knowing what they mean.
func (g requests) mutate(b []byte) []byte {
	if len(b) < 2 {
		return b
	}
	i := g.IntN(len(b))
	j := min(i+1+g.IntN(40), len(b))
	switch g.IntN(8) {
	case 0:
		b[i] ^= 1 << g.IntN(8)
	case 1:
		b[i] = byte(g.Uint32())
	case 2:
		b = slices.Delete(b, i, min(i+1+g.IntN(3), len(b)))
	case 3:
		b = slices.Insert(b, i, []byte(g.pick(badBytes...))...)
	case 4: // a piece twice
		b = slices.Insert(b, j, slices.Clone(b[i:j])...)
	case 5: // the beginning of this, the end of another
		other := joinLines(g.good())
		b = append(b[:i:i], other[g.IntN(len(other)):]...)
	case 6: // cut off
		b = b[:max(i, 1)]
	case 7: // another one behind it
		b = append(b, joinLines(g.good())...)
	}
	if len(b) == 0 {
		b = []byte("G")
	}
	return b
}
