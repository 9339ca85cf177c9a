package wsclient

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sluice/poller/leaktest"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/google/go-cmp/cmp"
)

const patience = time.Minute

func TestMain(m *testing.M) { leaktest.Main(m) }

// serve upgrades one connection, and what talk does is the server.
func serve(t *testing.T, talk func(conn net.Conn)) (url string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, _, err := ws.UpgradeHTTP(r, w)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		talk(conn)
	}))
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http")
}

// readFrame returns a client's frame without its mask.
func readFrame(t *testing.T, conn net.Conn) ws.Frame {
	t.Helper()
	h, err := ws.ReadHeader(conn)
	f := ws.Frame{Header: h, Payload: make([]byte, h.Length)}
	if err == nil {
		_, err = io.ReadFull(conn, f.Payload)
	}
	if err != nil || !h.Masked {
		t.Errorf("the server read %+v, %v", h, err)
	}
	ws.Cipher(f.Payload, h.Mask, 0)
	f.Header.Mask, f.Header.Masked = [4]byte{}, false
	return f
}

func dial(t *testing.T, url string) *Conn {
	t.Helper()
	c, err := Dialer{Timeout: patience}.Dial(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestReadingReplies(t *testing.T) {
	for _, keep := range []bool{false, true} {
		got := make(chan string, 3)
		url := serve(t, func(conn net.Conn) {
			ws.WriteFrame(conn, ws.NewPingFrame([]byte("beat")))
			ws.WriteFrame(conn, ws.NewFrame(ws.OpText, false, []byte("hel")))
			got <- string(readFrame(t, conn).Payload)
			ws.WriteFrame(conn, ws.NewFrame(ws.OpContinuation, true, []byte("lo")))
			ws.WriteFrame(conn, ws.NewCloseFrame(ws.NewCloseFrameBody(1013, "later")))
			f := readFrame(t, conn)
			code, reason := ws.ParseCloseFrameData(f.Payload)
			got <- string(rune('0'+f.Header.OpCode)) + " " + reason
			if code != 1013 {
				t.Errorf("keep: %t: the answer to a Close has the code %d", keep, code)
			}
		})
		c := dial(t, url)
		if keep {
			c.Keep(patience)
		}
		op, p, err := c.Next()
		if op != ws.OpText || string(p) != "hello" || err != nil {
			t.Errorf("keep: %t: %v %q %v", keep, op, p, err)
		}
		var closed wsutil.ClosedError
		if err := c.Drain(); !errors.As(err, &closed) || closed.Code != 1013 || closed.Reason != "later" {
			t.Errorf("keep: %t: it ended with %v", keep, err)
		}
		if diff := cmp.Diff([]string{"beat", "8 "}, []string{<-got, <-got}); diff != "" {
			t.Errorf("keep: %t: %s", keep, diff)
		}
	}
}

func TestWritesArePutIntoFewFrames(t *testing.T) {
	got := make(chan []ws.Frame, 1)
	c := dial(t, serve(t, func(conn net.Conn) {
		var frames []ws.Frame
		for range 4 {
			frames = append(frames, readFrame(t, conn))
		}
		got <- frames
	}))
	long := strings.Repeat("x", 100<<10)
	err := c.Write(func() error {
		return errors.Join(c.Put(ws.OpText, []byte("a")), c.Put(ws.OpBinary, []byte(long)), c.Put(ws.OpPing, []byte("1")))
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Leave(patience)
	want := []ws.Frame{ws.NewTextFrame([]byte("a")), ws.NewBinaryFrame([]byte(long)), ws.NewPingFrame([]byte("1")), ws.NewCloseFrame(ws.NewCloseFrameBody(1000, ""))}
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Error(diff)
	}
}

func TestRefusalsAndHeadersOfRequests(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, r.Host+" "+r.Header.Get("K"), http.StatusTeapot)
	}))
	defer server.Close()
	d := Dialer{Header: http.Header{"Host": {"other.example"}, "K": {"v"}}}
	for range 2 { // the header is the caller's, and stays as it is
		_, err := d.Dial(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http"))
		var refused *Refusal
		if !errors.As(err, &refused) || refused.Status != http.StatusTeapot || string(refused.Body) != "other.example v\n" {
			t.Errorf("got %v, %+v", err, refused)
		}
	}
}

func TestHowAConnectionEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		bytes   string
		invalid bool
		want    error
	}{
		"dropped":        {"", false, io.EOF},
		"in a frame":     {"\x81\x05he", false, io.ErrUnexpectedEOF},
		"masked":         {"\x81\x85abcdhello", true, nil},
		"reserved":       {"\xf1\x00", true, nil},
		"length of sign": {"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", true, nil},
	} {
		c := dial(t, serve(t, func(conn net.Conn) { io.WriteString(conn, tc.bytes) }))
		_, _, err := c.Next()
		if IsInvalid(err) != tc.invalid || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIdleConnectionsAreNoticed(t *testing.T) {
	idle := errors.New("enough")
	url := serve(t, func(conn net.Conn) { conn.Read(make([]byte, 1)) })
	c := dial(t, url)
	c.OnIdle = func() error { return idle }
	if err := c.Drain(); !errors.Is(err, idle) {
		t.Errorf("OnIdle: %v", err)
	}
	c = dial(t, url)
	c.Silence = time.Millisecond
	if err, timeout := c.Drain(), net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("Silence: %v", err)
	}
}
