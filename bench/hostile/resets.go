package hostile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"

	"sluice/bench"
)

// Resets opens sessions in every protocol and cuts most of them off at a random byte
// of what they send: with a reset, a FIN, or bytes that violate the protocol. With TLS that
// is a byte of a record. Wrong answers are those that a server must never give, a Close
// frame or status of an internal error, and, for sessions that were not cut off, one that
// lacks what was asked for. The error says that an answer was wrong, or is as of [bench.Fanout].
func Resets(ctx context.Context, o Options) (*bench.Result, error) {
	spoken := tongues
	if i := slices.IndexFunc(tongues, func(t tongue) bool { return t.name == o.Speak }); i >= 0 {
		spoken = tongues[i : i+1]
	}
	return measure(ctx, "resets", o, func(k *attack, r *rand.Rand, n int) error {
		return k.cutSession(r, n, &spoken[n%len(spoken)])
	})
}

// tongue is a way to speak to a server.
type tongue struct {
	name   string
	target string // of the request; {n} is the case's number
	events bool   // an event stream: nothing is sent behind the request
	field  string // of the request
	// say returns messages, and what must be in the answer for each.
	say func(r *rand.Rand) (frames [][]byte, want []string)
}

var tongues = []tongue{
	{name: "raw", target: "/ws/cut{n}", say: sayTexts},
	{name: "json", target: "/ws/cut{n}?format=json", say: sayTexts},
	{name: "echo", target: "/echo", say: sayTexts},
	{name: "sse", target: "/sse/cut{n}", events: true},
	{name: "centrifugo", target: "/connection/websocket", say: func(r *rand.Rand) ([][]byte, []string) {
		return sayCommands(r, ws.OpText, protocol.NewJSONCommandEncoder())
	}},
	{name: "centrifugo-protobuf", target: "/connection/websocket", field: "Sec-WebSocket-Protocol: centrifuge-protobuf\r\n",
		say: func(r *rand.Rand) ([][]byte, []string) {
			return sayCommands(r, ws.OpBinary, protocol.NewProtobufCommandEncoder())
		}},
	{name: "uni", target: "/connection/uni_websocket", say: func(*rand.Rand) ([][]byte, []string) {
		return [][]byte{maskedFrame(ws.OpText, []byte("{}"))}, []string{`"connect"`}
	}},
	{name: "uni-sse", target: "/connection/uni_sse?cf_connect=%7B%7D", events: true},
}

// Tongues returns the values of Options.Speak, besides all.
func Tongues() (names []string) {
	for _, t := range tongues {
		names = append(names, t.name)
	}
	return names
}

func sayTexts(r *rand.Rand) (frames [][]byte, want []string) {
	for i := range 1 + r.IntN(6) {
		text := fmt.Sprintf("text %d %s", i, strings.Repeat("x", [...]int{0, 10, 100, 200, 2000}[r.IntN(5)]))
		frames, want = append(frames, maskedFrame(ws.OpText, []byte(text))), append(want, text)
		if r.IntN(3) == 0 {
			frames = append(frames, maskedFrame(ws.OpPing, []byte("p")))
		}
	}
	return frames, want
}

func sayCommands(r *rand.Rand, op ws.OpCode, e protocol.CommandEncoder) (frames [][]byte, want []string) {
	channel := fmt.Sprintf("cut%d", r.IntN(1000))
	cmds := []*protocol.Command{
		{Connect: &protocol.ConnectRequest{}},
		{Subscribe: &protocol.SubscribeRequest{Channel: channel, Recoverable: r.IntN(2) == 0, JoinLeave: r.IntN(2) == 0}},
	}
	for range r.IntN(6) {
		cmds = append(cmds, [...]*protocol.Command{
			{Publish: &protocol.PublishRequest{Channel: channel, Data: []byte(`"published"`)}},
			{Presence: &protocol.PresenceRequest{Channel: channel}},
			{History: &protocol.HistoryRequest{Channel: channel, Limit: 3}},
			{Unsubscribe: &protocol.UnsubscribeRequest{Channel: channel}},
		}[r.IntN(4)])
	}
	for i, cmd := range cmds {
		cmd.Id = uint32(i + 1)
		b, err := e.Encode(cmd)
		if err != nil {
			panic(err) // our own commands are plain
		}
		frames = append(frames, maskedFrame(op, b))
		if op == ws.OpText {
			want = append(want, fmt.Sprintf(`"id":%d`, cmd.Id))
		}
	}
	return frames, want
}

// maskedFrame returns a client's frame.
func maskedFrame(op ws.OpCode, payload []byte) []byte {
	return ws.MustCompileFrame(ws.MaskFrame(ws.NewFrame(op, true, payload)))
}

// cutter is a connection whose writes end at some byte.
type cutter struct {
	net.Conn
	r    *rand.Rand
	left int // bytes that may still be written
	cut  bool
}

var errCut = errors.New("cut")

// Write implements net.Conn, in pieces.
func (c *cutter) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	for done := 0; done < n; {
		piece := n - done
		if c.r.IntN(4) == 0 {
			piece = 1 + c.r.IntN(piece)
		}
		if _, err := c.Conn.Write(p[done : done+piece]); err != nil {
			return done, err
		}
		done += piece
	}
	if n < len(p) {
		c.cut = true
		return n, errCut
	}
	return n, nil
}

// cutSession plays a session that ends at some byte.
func (k *attack) cutSession(r *rand.Rand, n int, t *tongue) error {
	tcp, err := k.connect(n)
	if err != nil {
		return err
	}
	defer tcp.Close()
	cut := &cutter{Conn: tcp, r: r, left: 1 << 30}
	c := net.Conn(cut)
	if k.run.URL().Scheme == "wss" {
		if c, err = k.run.Secure(cut); err != nil {
			return err
		}
	}
	frames, want := [][]byte(nil), []string(nil)
	if t.say != nil {
		frames, want = t.say(r)
	}
	if r.IntN(8) > 0 {
		cut.left = r.IntN(1 << (4 + r.IntN(9)))
		if r.IntN(2) == 0 {
			cut.left += 150 // behind the request
		}
	}
	target, host := strings.ReplaceAll(t.target, "{n}", strconv.Itoa(n)), k.run.URL().Host
	head := upgradeHead(target, host, t.field)
	if t.events {
		head = "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	}
	pieces := append([][]byte{[]byte(head)}, frames...)
	if r.IntN(2) == 0 { // all at once
		pieces = [][]byte{bytes.Join(pieces, nil)}
	}
	for _, p := range pieces {
		if _, err := c.Write(p); err != nil { // cut, or the server has had enough
			break
		}
	}
	if cut.cut && r.IntN(3) == 0 {
		tcp.Write([][]byte{{0x15}, {0x17, 3, 3, 0x40, 0}, {0x88, 0x80, 0, 0, 0, 0}, []byte("\r\n\r\n")}[r.IntN(4)]) // ignored: it may have ended
	}
	return k.endSession(r, t, c, tcp, cut.cut, want)
}

// endSession ends a session one way or another, and judges what came.
func (k *attack) endSession(r *rand.Rand, t *tongue, c net.Conn, tcp *net.TCPConn, cut bool, want []string) error {
	how, whole := r.IntN(4), false
	var answer []byte
	switch how {
	case 0: // a reset, which deferred Close makes
	case 1: // a reset behind the first bytes
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) // ignored: a socket has one
		answer = make([]byte, 4<<10)
		k, _ := c.Read(answer) // ignored: then there are none
		answer = answer[:k]
	default:
		if how == 3 {
			c.(interface{ CloseWrite() error }).CloseWrite() // ignored: it may be cut as well
		}
		tcp.CloseWrite() // ignored: then the server has ended it
		var err error
		answer, err = io.ReadAll(c)
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			return wrongf("%s: the connection stays open after %s", t.name, quoted(answer))
		}
		whole = how == 3 && !cut && err == nil
	}
	k.count("spoke_" + t.name)
	if cut {
		k.count("sessions_cut")
	}
	if why := unanswerable(answer, t); why != "" {
		return wrongf("%s: %s: %s", t.name, why, quoted(answer))
	}
	if !whole {
		return nil
	}
	k.count("sessions_whole")
	for _, w := range append(want, "HTTP/1.1 ") {
		if !bytes.Contains(answer, []byte(w)) && !bytes.Contains(answer, []byte(strings.ReplaceAll(w, `"`, `\"`))) {
			return wrongf("%s: no %q in %s", t.name, w, quoted(answer))
		}
	}
	return nil
}

// unanswerable says why no server may answer so, "" where it may. The answer may end
// anywhere.
func unanswerable(answer []byte, t *tongue) string {
	const begin = "HTTP/1.1 "
	if n := min(len(answer), len(begin)); string(answer[:n]) != begin[:n] {
		return "the response is not HTTP"
	}
	head, rest, found := bytes.Cut(answer, []byte("\r\n\r\n"))
	if !found {
		return ""
	}
	if status := string(head[len(begin):min(len(head), len(begin)+3)]); status != "101" {
		if status[0] == '5' {
			return "an internal server error"
		}
		return ""
	}
	for closed := false; len(rest) > 0; {
		if closed {
			return "extra bytes after the Close frame"
		}
		r := bytes.NewReader(rest)
		h, err := ws.ReadHeader(r)
		if err != nil {
			return ""
		}
		if ws.CheckHeader(h, ws.StateClientSide) != nil || !h.Fin {
			return "a frame that a server must not send"
		}
		at := len(rest) - r.Len()
		if h.Length > int64(r.Len()) {
			return ""
		}
		if payload := rest[at : at+int(h.Length)]; h.OpCode == ws.OpClose {
			closed = true
			if code := closeCode(wsFrame{h.OpCode, string(payload)}); code == ws.StatusInternalServerError || code == 3004 {
				return "a Close frame with the code of an internal error"
			}
		}
		rest = rest[at+int(h.Length):]
	}
	return ""
}

// CloseWrite ends the connection's side in TCP.
func (c *cutter) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

func init() {
	spoken := [][2]string{{"sessions_cut", "cut off at a random byte"}, {"sessions_whole", "not cut off, with a complete response"}}
	for _, t := range tongues {
		spoken = append(spoken, [2]string{"spoke_" + t.name, t.name})
	}
	register("resets", "sessions cut off", "sessions", nil, bench.Table{Title: "sessions by protocol", Rows: spoken})
}
