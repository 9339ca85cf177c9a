package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/klauspost/compress/flate"
)

// squeezed compresses a message by itself, with the sync marker.
func squeezed(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 6)
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte(text)) // a buffer takes all
	w.Flush()             // likewise
	return b.String()
}

func TestContentIsValidAndShrinksAsSaid(t *testing.T) {
	for _, c := range []struct {
		content     Content
		least, most float64 // of its size, compressed
	}{{Dots, 0, 0.1}, {Objects, 0.2, 0.35}, {IDs, 0.35, 0.5}} {
		payloads, at := c.content.blanks(1024, true, 1)
		sum := 0
		for _, p := range payloads {
			stamp{1, 2, 3}.put(p[at:], newMark())
			if len(p) != 1024 || !json.Valid(p) {
				t.Fatalf("%s: %d bytes, not JSON: %s", c.content, len(p), p)
			}
			sum += len(squeezed(t, string(p)))
		}
		if ratio := float64(sum) / float64(1024*len(payloads)); ratio < c.least || ratio > c.most {
			t.Errorf("%s shrinks to %.3f, want %.2f to %.2f", c.content, ratio, c.least, c.most)
		}
	}
	if payloads, _ := IDs.blanks(contentMin, true, 1); !json.Valid(bytes.ReplaceAll(payloads[0], []byte("\x00"), []byte("x"))) {
		t.Errorf("the least of it is %q", payloads[0])
	}
}

// Each of many connections gets the same bytes, which are inflated once, and every other message is told from them.
func TestCompressedMessagesAreAllChecked(t *testing.T) {
	m := newMark().inPhase(1)
	r := newReceiver(Raw, 1, nil)
	r.compress = true
	r.tally = newTally(phase{mark: m, streams: 1, count: 3}, 50)
	var stream []byte
	for i := range 3 {
		payloads, at := Objects.blanks(1024, true, uint64(i))
		stamp{0, uint32(i), 5}.put(payloads[0][at:], m)
		f := ws.NewTextFrame([]byte(strings.TrimSuffix(squeezed(t, string(payloads[0])), syncMarker)))
		if i == 1 {
			f = ws.NewTextFrame(payloads[0]) // not compressed: that is legal
		} else {
			f.Header.Rsv = ws.Rsv(true, false, false)
		}
		stream = append(stream, ws.MustCompileFrame(f)...)
	}
	for index := range 50 {
		c := conn{index: index}
		for _, p := range [][]byte{stream[:index+1], stream[index+1 : index+300], stream[index+300:]} {
			p = append(bytes.Clone(c.partial), p...)
			c.partial = c.partial[:0]
			if err := r.feed(&c, p, 10); err != nil {
				t.Fatal(err)
			}
		}
	}
	if r.delivered != 150 || r.foreign+r.stale+r.repeated > 0 {
		t.Errorf("%d of 150 delivered, %+v", r.delivered, r.counts)
	}
	if r.inflater.inflated > 100 {
		t.Errorf("%d messages were inflated", r.inflater.inflated)
	}
	bad := ws.NewTextFrame([]byte("no deflate"))
	bad.Header.Rsv = ws.Rsv(true, false, false)
	if err := r.feed(&conn{}, ws.MustCompileFrame(bad), 10); !errors.Is(err, errProtocol) {
		t.Errorf("what cannot be inflated: %v", err)
	}
	plain := newReceiver(Raw, 1, nil)
	if err := plain.feed(&conn{}, stream, 10); !errors.Is(err, errProtocol) {
		t.Errorf("nobody has asked for it: %v", err)
	}
}

func TestCompressedStreamsAreAllChecked(t *testing.T) {
	m := newMark().inPhase(1)
	stored := func(text string) string {
		n := len(text)
		return string([]byte{0, byte(n), byte(n >> 8), ^byte(n), ^byte(n >> 8)}) + text + "\x00" + syncMarker
	}
	stream := "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + stored("retry: 1000\n") + stored("id: e:0\n\n")
	for i := range 3 {
		payloads, at := Objects.blanks(1024, true, uint64(i))
		stamp{0, uint32(i), 5}.put(payloads[0][at:], m)
		event := fmt.Sprintf("id: e:%d\ndata: %s\n\n", i+1, payloads[0])
		if i == 1 {
			stream += stored(event)
		} else {
			stream += squeezed(t, event)
		}
		stream += stored(":\n\n")
	}
	r := newReceiver(SSE, 1, nil)
	r.compress = true
	r.tally = newTally(phase{mark: m, streams: 1, count: 3}, len(stream))
	for cut := range len(stream) {
		if cut%7 != 0 {
			continue
		}
		c := conn{index: cut / 7}
		for _, p := range []string{stream[:cut], stream[cut:]} {
			if err := r.feed(&c, append(bytes.Clone(c.partial), p...), 10); err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
		if len(c.partial) > 0 {
			t.Fatalf("cut at %d: %d bytes are left", cut, len(c.partial))
		}
	}
	if want := int64((len(stream) + 6) / 7 * 3); r.delivered != want || r.holes+r.repeats > 0 {
		t.Errorf("%d of %d delivered, %+v", r.delivered, want, r.counts)
	}
	if err := r.feed(&conn{}, []byte("data: not gzip\n\n"), 10); !errors.Is(err, errProtocol) {
		t.Errorf("what is not gzip: %v", err)
	}
}
