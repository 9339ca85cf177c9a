package frame

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
)

// readServerFrame reads a server's frame with gobwas/ws.
func readServerFrame(t *testing.T, b []byte) (ws.Header, []byte) {
	t.Helper()
	r := bytes.NewReader(b)
	h, err := ws.ReadHeader(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.CheckHeader(h, ws.StateClientSide); err != nil {
		t.Fatal(err)
	}
	if int64(r.Len()) != h.Length {
		t.Fatalf("%d bytes of payload, %d declared", r.Len(), h.Length)
	}
	return h, b[len(b)-r.Len():]
}

func TestServerFramesAreWhatALibraryReads(t *testing.T) {
	for _, op := range []ws.OpCode{ws.OpText, ws.OpBinary, ws.OpPing, ws.OpPong} {
		for _, size := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, 65537} {
			if op.IsControl() && size > ws.MaxControlFramePayloadSize {
				continue
			}
			payload := []byte(stars(size))
			b := Append([]byte("before"), op, payload)
			if !bytes.HasPrefix(b, []byte("before")) {
				t.Fatal("what stood before is gone")
			}
			b = b[len("before"):]
			if want := ws.MustCompileFrame(ws.NewFrame(op, true, payload)); !bytes.Equal(b, want) {
				t.Errorf("opcode %d, %d bytes: %x..., want %x...", op, size, b[:min(12, len(b))], want[:min(12, len(want))])
			}
			if got, want := HeaderLen(size), len(b)-size; got != want {
				t.Errorf("HeaderLen(%d) = %d, want %d", size, got, want)
			}
			if h, got := readServerFrame(t, b); h.OpCode != op || !bytes.Equal(got, payload) {
				t.Errorf("opcode %d, %d bytes: read as %v", op, size, h)
			}
		}
	}
}

func TestCloseFrames(t *testing.T) {
	for _, c := range []struct {
		code   ws.StatusCode
		reason string
		want   string
	}{
		{1000, "", code(1000, "")},
		{1001, "going away", code(1001, "going away")},
		{0, "not sent", ""},
		{1005, "not sent", ""},
		{1006, "not sent", ""},
		{1015, "not sent", ""},
		{4999, stars(123), code(4999, stars(123))},
		{1008, stars(124), code(1008, stars(123))},
		{1008, stars(122) + "é", code(1008, stars(122))},
		{1008, stars(121) + "é", code(1008, stars(121)+"é")},
		{1008, stars(121) + "𠮷", code(1008, stars(121))},
		{1008, strings.Repeat("界", 100), code(1008, strings.Repeat("界", 41))},
		{1008, "a\xffb", code(1008, "a\ufffdb")},
		{1008, strings.Repeat("\x80", 200), code(1008, "\ufffd")},
	} {
		h, payload := readServerFrame(t, AppendClose(nil, c.code, c.reason))
		if diff := cmp.Diff(c.want, string(payload)); h.OpCode != ws.OpClose || diff != "" {
			t.Errorf("%d %q: payload (-want +got):\n%s", c.code, c.reason, diff)
		}
		if len(payload) >= 2 && (!utf8.Valid(payload[2:]) || checkClose(payload) != nil) {
			t.Errorf("%d %q: the peer would refuse %q", c.code, c.reason, payload)
		}
	}
}

func TestEveryFaultFitsACloseFrame(t *testing.T) {
	for _, e := range []*Error{
		ErrReservedBits, ErrReservedOpCode, ErrFragmentedControl, ErrNoMessage, ErrInsideMessage, ErrTooManyFragments,
		ErrUnmasked, ErrLongControl, ErrLengthSign, ErrLengthMinimal, ErrTooBig, ErrText, ErrCloseLength, ErrCloseCode, ErrCloseReason,
	} {
		_, payload := readServerFrame(t, AppendClose(nil, e.Code, e.Reason))
		if want := code(e.Code, e.Reason); string(payload) != want {
			t.Errorf("%v: %q, want %q", e, payload, want)
		}
		if checkClose(payload) != nil {
			t.Errorf("%v: its code %d may not be sent", e, e.Code)
		}
	}
}
