package bench

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
)

// heard is what a receiver makes of a byte stream.
type heard struct {
	Delivered, Lost, Repeated, Reordered, Stale, Foreign int64
	Holes, Repeats, Gaps                                 int64
	Pongs                                                []string
	Closes                                               map[ws.StatusCode]int64
	Err                                                  string
}

// hear feeds a stream in pieces as a loop does; cut gives the size of the next.
func hear(protocol Protocol, p phase, stream []byte, cut func() int) heard {
	var h heard
	r := newReceiver(protocol, 1, func(_ *conn, frame []byte) error {
		//lint:ignore SA1019 the length is our own tester's
		f, err := ws.ReadFrame(bytes.NewReader(frame))
		if err != nil || !f.Header.Masked {
			panic(fmt.Sprintf("not a client's frame: %x", frame))
		}
		f = ws.UnmaskFrameInPlace(f)
		if f.Header.OpCode == ws.OpPong || protocol.dialect() != nil {
			h.Pongs = append(h.Pongs, string(f.Payload))
		}
		return nil
	})
	r.tally = newTally(p, 1)
	var (
		c       = subscriberOf(protocol)
		err     error
		scratch []byte
	)
	for len(stream) > 0 && err == nil {
		n := min(cut(), len(stream))
		scratch = append(append(scratch[:0], c.partial...), stream[:n]...)
		err = r.feed(c, scratch, 0)
		for i := range scratch { // what feed keeps must not lie in here
			scratch[i] = 0xee
		}
		stream = stream[n:]
	}
	if err != nil {
		h.Err = err.Error()
	}
	h.Delivered, h.Lost = r.delivered, r.lost(0, []uint32{uint32(p.count)})
	h.Repeated, h.Reordered, h.Stale, h.Foreign = r.repeated, r.reordered, r.stale, r.foreign
	h.Holes, h.Repeats, h.Gaps = r.holes, r.repeats, r.gaps
	h.Closes = r.closes
	return h
}

// transcript has a bit of everything that a server may send; one message is long.
func transcript(p phase, long int) []byte {
	var b bytes.Buffer
	data := func(seq uint32, m mark, size int) []byte {
		payload := bytes.Repeat([]byte{'.'}, size)
		stamp{seq: seq}.put(payload, m)
		return payload
	}
	frame := func(f ws.Frame) { ws.WriteFrame(&b, f) }
	frame(ws.NewTextFrame(data(0, p.mark, SizeMin)))
	frame(ws.NewPingFrame([]byte("are you there?")))
	frame(ws.NewTextFrame(data(1, p.mark, 64)))
	frame(ws.NewTextFrame(data(2, p.mark, 64)))
	frame(ws.NewTextFrame([]byte(`{"pub":{"data":"` + string(data(3, p.mark, 64)) + `"}}`)))
	frame(ws.NewTextFrame([]byte("hello, world")))
	frame(ws.NewTextFrame(nil))
	frame(ws.NewBinaryFrame(data(4, p.mark, 300)))
	frame(ws.NewBinaryFrame(data(5, p.mark, 600))) // beyond envelopeMax
	frame(ws.NewFrame(ws.OpText, false, data(6, p.mark, 40)))
	frame(ws.NewPingFrame(nil))
	frame(ws.NewFrame(ws.OpContinuation, false, bytes.Repeat([]byte{'.'}, 700)))
	frame(ws.NewFrame(ws.OpContinuation, true, nil))
	frame(ws.NewTextFrame(data(0, p.mark.inPhase(2), 64)))
	frame(ws.NewTextFrame(data(7, p.mark, long)))
	frame(ws.NewPongFrame([]byte("unasked")))
	frame(ws.NewTextFrame(data(9, p.mark, 64))) // 8 is lost
	frame(ws.NewTextFrame(data(9, p.mark, 64)))
	frame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusGoingAway, "bye")))
	return b.Bytes()
}

func transcriptHeard() heard {
	return heard{
		Delivered: 9, Lost: 1, Repeated: 1, Stale: 1, Foreign: 2,
		Pongs: []string{"are you there?", ""}, Closes: map[ws.StatusCode]int64{ws.StatusGoingAway: 1}, Err: errClosed.Error() + `: 1001, "bye"`,
	}
}

func testPhase() phase { return phase{mark: newMark().inPhase(1), streams: 1, count: 10} }

func TestFramesAreReadHoweverTheyAreCut(t *testing.T) {
	p := testPhase()
	testCuts(t, Raw, p, transcript(p, 70_000), transcriptHeard())
}

// testCuts feeds a stream in pieces of every size, and cut in two at most places.
func testCuts(t *testing.T, protocol Protocol, p phase, stream []byte, want heard) {
	t.Helper()
	for size := 1; size < 200; size++ {
		if diff := cmp.Diff(want, hear(protocol, p, stream, func() int { return size })); diff != "" {
			t.Fatalf("in pieces of %d: want -, got +:\n%s", size, diff)
		}
	}
	for at := range len(stream) {
		if at > 3000 && at < len(stream)-500 && at%97 != 0 {
			continue // the inside of the long message, for the most part
		}
		sizes := []int{at, len(stream)}
		cut := func() int { n := sizes[0]; sizes = sizes[1:]; return n }
		if at == 0 {
			sizes = sizes[1:]
		}
		if diff := cmp.Diff(want, hear(protocol, p, stream, cut)); diff != "" {
			t.Fatalf("cut at %d: want -, got +:\n%s", at, diff)
		}
	}
}

func TestBrokenProtocolEndsTheConnection(t *testing.T) {
	for name, frame := range map[string][]byte{
		"masked by a server":       ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte("x")))),
		"reserved bit":             {0xc1, 0x01, 'x'},
		"reserved opcode":          {0x83, 0x01, 'x'},
		"continuation of nothing":  {0x80, 0x01, 'x'},
		"fragmented ping":          {0x09, 0x00},
		"ping of 126 bytes":        {0x89, 126, 0, 126},
		"length with the high bit": {0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(Raw, 1, nil)
			if err := r.feed(new(conn), frame, 0); !errors.Is(err, errProtocol) {
				t.Errorf("got %v, want %v", err, errProtocol)
			}
		})
	}
}

func TestMessageIsDeliveredWithItsLastFragment(t *testing.T) {
	p := testPhase()
	r := newReceiver(Raw, 1, nil)
	r.tally = newTally(p, 1)
	var c conn
	for i, f := range []ws.Frame{
		ws.NewFrame(ws.OpText, false, frames(p, 1, 64)[2:]), ws.NewFrame(ws.OpContinuation, false, nil), ws.NewFrame(ws.OpContinuation, true, nil),
	} {
		if r.delivered != 0 {
			t.Errorf("delivered after %d of 3 fragments", i)
		}
		if err := r.feed(&c, ws.MustCompileFrame(f), 0); err != nil {
			t.Fatal(err)
		}
	}
	if r.delivered != 1 {
		t.Errorf("%d delivered, want 1", r.delivered)
	}
}

func TestNewMessageInsideAnotherIsRefusedThoughItsHeaderIsKnown(t *testing.T) {
	p := testPhase()
	whole := frames(p, 1, 64)
	r := newReceiver(Raw, 1, nil)
	r.tally = newTally(p, 1)
	var c conn
	if err := r.feed(&c, whole, 0); err != nil {
		t.Fatal(err)
	}
	stream := append(ws.MustCompileFrame(ws.NewFrame(ws.OpText, false, nil)), whole...)
	if err := r.feed(&c, stream, 0); !errors.Is(err, errProtocol) {
		t.Errorf("got %v, want %v", err, errProtocol)
	}
}

func TestReceivingAllocatesNothing(t *testing.T) {
	for _, protocol := range Protocols {
		p := phase{mark: newMark().inPhase(1), streams: 1, count: 100}
		stream := messagesOf(protocol, p, 100, 64)
		r := newReceiver(protocol, 1, nil)
		r.tally = newTally(p, 1)
		c := subscriberOf(protocol)
		c.partial = make([]byte, 0, envelopeMax)
		scratch := make([]byte, len(stream)+envelopeMax)
		if n := testing.AllocsPerRun(100, func() {
			r.next[0], c.stands = 0, standing{}
			for rest := stream; len(rest) > 0; {
				kept := copy(scratch, c.partial)
				n := copy(scratch[kept:kept+min(len(rest), 333)], rest)
				rest = rest[n:]
				if err := r.feed(c, scratch[:kept+n], int64(len(rest))); err != nil {
					t.Fatal(err)
				}
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations for 100 messages", protocol, n)
		}
		if r.foreign+r.repeated+r.reordered+r.holes+r.repeats != 0 || r.delivered%100 != 0 {
			t.Errorf("%s: the messages were not accounted for: %+v", protocol, r.tally)
		}
	}
}

// FuzzFeed checks that the way a stream is cut makes no difference.
func FuzzFeed(f *testing.F) {
	p := phase{mark: mark(0x61_62_63_64_65_66_40_41), streams: 1, count: 10}
	f.Add(transcript(p, 64), uint8(1), uint8(7), uint8(0))
	f.Add([]byte{0x81, 127, 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 'x'}, uint8(3), uint8(9), uint8(0))
	f.Add(recordTranscript(p, 64), uint8(1), uint8(7), uint8(1))
	f.Add(eventTranscript(p, 600), uint8(1), uint8(7), uint8(2))
	f.Add(clientTranscript(Centrifugo, p, 600), uint8(1), uint8(7), uint8(3))
	f.Add(clientTranscript(CentrifugoProtobuf, p, 600), uint8(1), uint8(7), uint8(4))
	f.Fuzz(func(t *testing.T, stream []byte, a, b, which uint8) {
		protocol := Protocols[int(which)%len(Protocols)]
		whole := hear(protocol, p, stream, func() int { return len(stream) })
		sizes := [2]int{int(a) + 1, int(b) + 1}
		turn := 0
		pieces := hear(protocol, p, stream, func() int { turn++; return sizes[turn%2] })
		if diff := cmp.Diff(whole, pieces); diff != "" {
			t.Errorf("%s: whole -, pieces of %v +:\n%s", protocol, sizes, diff)
		}
	})
}
