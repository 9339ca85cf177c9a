//go:build faults

package gateway

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/gateway/clienttest"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// actor is a client of a faulted session. Unlike a client it never fails the test by
// itself: its connection may end at any moment, and the checks at the end decide
// whether it was allowed to.
type actor struct {
	s       *faultRun
	name    string
	format  string // of what it gets: "raw", "json", "stream", "echo", "client" and "protobuf" of the Centrifugo protocol; "" for nothing
	channel string
	noEcho  bool
	stalls  bool // it does not read what comes after the answer until reads is closed; by the Unix socket, whose buffer is small and has no timers
	conn    net.Conn
	bare    net.Conn // below TLS
	in      *bufio.Reader
	reads   chan struct{}
	joined  bool // it is in its channel, in the Centrifugo protocol

	// Set by the script before the connection can end by itself.
	leaves    bool          // the script ends the connection, in whatever way
	wantClose ws.StatusCode // what it is told at the end; 0 for nothing
	done      int           // publications of its channel that it must have got

	// Guarded by faultRun.mu.
	status int
	from   [2]int // publications of its channel before it came, and when it knew that it was in
	asked  bool   // it came with since: the first publication is the one at from[1]
	news   []news
	sent   []string // messages, in order
	pongs  int
	code   ws.StatusCode
	end    error // why its connection ended; nil while it lives
}

// news is what a subscriber got: a publication, or a gap.
type news struct {
	offset uint64 // 0 in the raw format
	data   string
	gap    bool
}

// open connects and waits for the answer.
func (s *faultRun) open(a *actor, target string) *actor {
	a.s, a.reads = s, make(chan struct{})
	d, network, address := net.Dialer{Timeout: clienttest.Patience}, "tcp", s.server.addr
	if a.stalls {
		network, address = "unix", s.socket
		d.LocalAddr = &net.UnixAddr{Net: "unix", Name: s.socket + a.name} // the fault tells by it whom it hit
	} else {
		close(a.reads)
	}
	var err error
	if a.conn, err = d.Dial(network, address); err != nil {
		s.t.Fatalf("%s: dial: %v", a.name, err)
	}
	s.t.Cleanup(func() { a.bare.Close() }) // ignored: it may be closed already
	if a.bare = a.conn; s.inject.secured {
		a.conn = tls.Client(a.bare, &tls.Config{InsecureSkipVerify: true})
	}
	s.actors = append(s.actors, a)
	a.conn.SetDeadline(time.Now().Add(clienttest.Patience)) // ignored: then reading fails
	a.in = bufio.NewReader(a.conn)
	a.from[0] = s.published(a.channel)
	var fields []string
	if a.format == "protobuf" {
		fields = []string{"Sec-WebSocket-Protocol: " + "centrifuge-protobuf"}
	}
	request := clienttest.UpgradeTo(target, fields...)
	if a.format == "stream" || a.format == "" {
		request = "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n"
	}
	io.WriteString(a.conn, request) // ignored: then there is no answer
	resp, err := http.ReadResponse(a.in, nil)
	want := http.StatusSwitchingProtocols
	if a.format == "stream" || a.format == "" {
		want = http.StatusOK
	}
	switch {
	case err != nil:
	case resp.StatusCode != want:
		err = fmt.Errorf("status %d", resp.StatusCode)
	case a.format == "":
		var body []byte
		if body, err = io.ReadAll(resp.Body); err == nil && string(body) != "ok\n" {
			err = fmt.Errorf("got %q", body)
		}
	}
	if a.centrifugo() && err == nil {
		err = a.subscribe()
	}
	known := s.published(a.channel)
	s.mu.Lock()
	if !a.asked {
		a.from[1] = known
	}
	if resp != nil {
		a.status = resp.StatusCode
	}
	s.mu.Unlock()
	if err != nil || a.format == "" {
		a.finish(err)
		return a
	}
	go a.read()
	return a
}

// centrifugo reports whether the actor speaks that protocol.
func (a *actor) centrifugo() bool { return a.format == "client" || a.format == "protobuf" }

// subscribe connects in the Centrifugo protocol, and waits until it is in its channel.
func (a *actor) subscribe() error {
	for _, cmd := range []*protocol.Command{{Id: 1, Connect: &protocol.ConnectRequest{}}, {Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: a.channel}}} {
		frame := clienttest.Text
		encode := protocol.NewJSONCommandEncoder().Encode
		if a.format == "protobuf" {
			frame, encode = clienttest.Bin, protocol.NewProtobufCommandEncoder().Encode
		}
		p, err := encode(cmd)
		if err != nil {
			return err
		}
		a.raw(frame(string(p)))
	}
	for !a.joined {
		if err := a.readFrame(); err != nil {
			return err
		}
	}
	return nil
}

// replies takes the replies of a frame.
func (a *actor) replies(p []byte) error {
	d := protocol.ReplyDecoder(protocol.NewJSONReplyDecoder(p))
	if a.format == "protobuf" {
		d = protocol.NewProtobufReplyDecoder(p)
	}
	for {
		r, err := d.Decode()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("replies %q: %w", p, err)
		}
		a.joined = a.joined || r.Subscribe != nil
		if pub := r.Push.GetPub(); pub != nil {
			data := string(pub.Data)
			if a.format == "client" {
				json.Unmarshal(pub.Data, &data) // ignored: then it is not what was published
			}
			a.s.note(func() { a.news = append(a.news, news{offset: pub.Offset, data: data}) })
		}
	}
}

// finish notes the end.
func (a *actor) finish(err error) {
	if err == nil {
		err = io.EOF
	}
	a.bare.Close() // ignored: there is nobody to tell
	a.s.note(func() { a.end = err })
}

// read is the actor's reader, until its connection ends.
func (a *actor) read() {
	<-a.reads
	for {
		var err error
		if a.format == "stream" {
			err = a.readEvent()
		} else {
			err = a.readFrame()
		}
		if err != nil {
			a.finish(err)
			return
		}
	}
}

func (a *actor) readFrame() error {
	h, err := ws.ReadHeader(a.in)
	if err != nil {
		return err
	}
	p := make([]byte, h.Length)
	if _, err = io.ReadFull(a.in, p); err != nil {
		return fmt.Errorf("within a frame: %w", err)
	}
	switch {
	case !h.Fin || h.Masked || h.Rsv != 0 || h.OpCode != ws.OpText && h.OpCode != ws.OpPong && h.OpCode != ws.OpClose && a.format != "protobuf":
		return fmt.Errorf("a frame with the header %+v", h)
	case h.OpCode == ws.OpPong:
		a.s.note(func() { a.pongs++ })
	case h.OpCode == ws.OpClose:
		if len(p) >= 2 {
			a.s.note(func() { a.code = ws.StatusCode(binary.BigEndian.Uint16(p)) })
		}
		io.WriteString(a.conn, clienttest.Closing(1000, "")) // ignored: the server may have ended its side
		if half, ok := a.conn.(interface{ CloseWrite() error }); ok {
			half.CloseWrite() // ignored: likewise
		}
	case a.centrifugo():
		return a.replies(p)
	case a.format == "json":
		var r clienttest.Record
		if err := json.Unmarshal(p, &r); err != nil {
			return err
		}
		n := news{offset: r.Offset, gap: r.Gap != nil && *r.Gap}
		if r.Data == nil && r.Gap == nil {
			return fmt.Errorf("a record %s", p)
		}
		if r.Data != nil {
			n.data = *r.Data
		}
		a.s.note(func() {
			a.s.epoch = r.Epoch
			if r.Gap == nil || *r.Gap {
				a.news = append(a.news, n)
			}
		})
	default:
		a.s.note(func() { a.news = append(a.news, news{data: string(p)}) })
	}
	return nil
}

func (a *actor) readEvent() error {
	fields := make(map[string]string)
	for {
		line, err := a.in.ReadString('\n')
		if err != nil {
			if len(fields) > 0 || line != "" {
				return fmt.Errorf("within an event: %w", err)
			}
			return err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if line == "\n" {
			break
		}
		fields[name] = value
	}
	_, offset, _ := strings.Cut(fields["id"], ":")
	at, _ := strconv.ParseUint(offset, 10, 64) // ignored: 0 is none
	data, published := fields["data"]
	a.s.note(func() {
		switch fields["event"] {
		case "close":
			var end struct{ Code ws.StatusCode }
			json.Unmarshal([]byte(data), &end) // ignored: then there is no code
			a.code = end.Code
		case "gap":
			a.news = append(a.news, news{offset: at, gap: true})
		default:
			if published {
				a.news = append(a.news, news{offset: at, data: data})
			}
		}
	})
	return nil
}

// raw sends bytes. That it fails is seen by the reader as well.
func (a *actor) raw(p string) {
	io.WriteString(a.conn, p) // ignored: as said
}

// say sends a message in frames, and waits until it was dealt with.
func (a *actor) say(message string, frames ...string) {
	if len(frames) == 0 {
		frames = []string{clienttest.Text(message)}
	}
	a.s.note(func() { a.sent = append(a.sent, message) })
	a.raw(strings.Join(frames, ""))
	a.s.await(a.name+"'s message to be dealt with", func() bool {
		switch {
		case a.end != nil:
			return true
		case a.format == "echo":
			return len(a.news) == len(a.sent)
		}
		return len(a.s.by(a)) == len(a.sent)
	})
}

// by gives what of a's messages was published, in order.
func (s *faultRun) by(a *actor) (all []string) {
	for _, data := range s.truth[a.channel] {
		if name, _, _ := strings.Cut(data, "-"); name == a.name {
			all = append(all, data)
		}
	}
	return all
}

// faults gives what is wrong with what the actor saw. harmed: the fault was its own,
// so its connection may have ended early, and in any way.
func (a *actor) faults(harmed bool) error {
	var wrong []error
	say := func(format string, v ...any) {
		wrong = append(wrong, fmt.Errorf("%s: "+format, append([]any{a.name}, v...)...))
	}
	switch {
	case a.end == nil:
		say("its connection is still there")
	case harmed || a.leaves && a.wantClose == 0 && errors.Is(a.end, net.ErrClosed):
	case a.end != io.EOF && !(a.s.inject.secured && a.end == io.ErrUnexpectedEOF): // a FIN as well: what the socket does not take of TLS's own close is not waited for
		say("ended by %v, want a FIN", a.end)
	case a.code != a.wantClose:
		say("was told %d, want %d", a.code, a.wantClose)
	}
	accepted := a.s.by(a)
	if a.format == "echo" {
		accepted = nil
		for _, n := range a.news {
			accepted = append(accepted, n.data)
		}
	}
	if len(accepted) > len(a.sent) || !slices.Equal(accepted, a.sent[:len(accepted)]) || !harmed && len(accepted) != len(a.sent) {
		say("sent %q, of which %q was taken", a.sent, accepted)
	}
	if a.format == "echo" || a.format == "" {
		return errors.Join(wrong...)
	}
	truth := a.s.truth[a.channel]
	others := func(i int) int { // the first publication from i on that it gets
		for a.noEcho && i < len(truth) && strings.HasPrefix(truth[i], a.name+"-") {
			i++
		}
		return i
	}
	latest := others(a.from[1])
	next := -1 // index of the publication that is due; -1: any from a.from[0] to latest
	if a.asked {
		next = latest
	}
	for _, n := range a.news {
		at := slices.Index(truth, n.data)
		if n.gap {
			if next >= 0 && int(n.offset) < next {
				say("a gap up to %d behind %d", n.offset, next)
			}
			next = int(n.offset)
			continue
		}
		if next >= 0 {
			next = others(next)
		}
		switch {
		case at < 0:
			say("got %q, which nobody published", clienttest.Brief(n.data))
			continue
		case n.offset != 0 && int(n.offset) != at+1:
			say("got %q at %d, want %d", clienttest.Brief(n.data), n.offset, at+1)
		case next >= 0 && at != next:
			say("got publication %d, want %d", at+1, next+1)
		case next < 0 && at > latest:
			say("began at publication %d, after it was in at %d", at+1, a.from[1])
		case next < 0 && at < a.from[0]:
			say("began at publication %d, before it came at %d", at+1, a.from[0])
		}
		next = at + 1
	}
	if !harmed {
		if next = others(max(next, latest)); next < a.done {
			say("got no more than %d of %d publications", next, a.done)
		}
	}
	return errors.Join(wrong...)
}
