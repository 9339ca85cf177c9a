package client

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
)

func TestPubEndsWhenAllIsConfirmed(t *testing.T) {
	release := make(chan struct{})
	seen := make(chan struct{})
	g := newFakeGateway(t, func(c *fakeConn) {
		c.want(ws.OpText, "one")
		c.want(ws.OpText, "")
		op, p := c.next()
		if op == ws.OpPing { // the input's end may not have been known yet
			op, p = c.next()
		}
		if op != ws.OpText || p != "last" {
			t.Errorf("got %v %q, want the last line", op, p)
		}
		_, ping := c.next()
		close(seen)
		<-release
		c.send(ws.OpPong, "")    // to no ping of this client
		c.send(ws.OpPong, "999") // nor this
		c.send(ws.OpPong, ping)
		c.wantBye()
	})
	pub := clitest.Start(t, commands(), strings.NewReader("one\n\nlast"), "pub", "news", "--url", g.url)
	<-seen
	select {
	case <-pub.Exited:
		t.Error("it ended before the gateway had confirmed anything")
	default:
	}
	close(release)
	pub.WantExit(0)
	if pub.Stderr.String() != "" || pub.Stdout.String() != "" {
		t.Errorf("stdout %q, stderr %q", pub.Stdout, pub.Stderr)
	}
	g.wantQueries("echo=off")
}

func TestPubSendsItsArgument(t *testing.T) {
	for _, tc := range []struct {
		args []string
		op   ws.OpCode
	}{
		{[]string{"two\nlines"}, ws.OpText},
		{[]string{""}, ws.OpText},
		{[]string{"\xff\x00", "--binary"}, ws.OpBinary},
	} {
		g := newFakeGateway(t, func(c *fakeConn) {
			c.want(tc.op, tc.args[0])
			c.confirm()
		})
		pub := clitest.Start(t, commands(), strings.NewReader("not this\n"), append([]string{"pub", "news", "--url", g.url}, tc.args...)...)
		pub.WantExit(0)
	}
}

func TestPubSendsALineWithoutTheNext(t *testing.T) {
	stdin, lines := io.Pipe()
	g := newFakeGateway(t, func(c *fakeConn) {
		c.want(ws.OpText, "one")
		_, ping := c.next()
		c.send(ws.OpPong, ping)
		io.WriteString(lines, "o\nthree") // fails only when the command is gone
		c.want(ws.OpText, "two")
		_, ping = c.next()
		c.send(ws.OpPong, ping)
		lines.Close()
		c.want(ws.OpText, "three")
		c.confirm()
	})
	pub := clitest.Start(t, commands(), stdin, "pub", "news", "--url", g.url)
	io.WriteString(lines, "one\ntw")
	pub.WantExit(0)
}

func TestPubSendsAgainWhatIsNotConfirmed(t *testing.T) {
	stdin, lines := io.Pipe()
	g := newFakeGateway(t,
		func(c *fakeConn) {
			c.want(ws.OpText, "confirmed")
			_, ping := c.next()
			c.send(ws.OpPong, ping)
			io.WriteString(lines, "a\nb\n")
			c.want(ws.OpText, "a")
			c.want(ws.OpText, "b")
		},
		func(c *fakeConn) { c.close(ws.StatusGoingAway, "server is shutting down") },
		func(c *fakeConn) {
			c.want(ws.OpText, "a")
			c.want(ws.OpText, "b")
			io.WriteString(lines, "c")
			lines.Close()
			if diff := cmp.Diff([]string{"c"}, c.confirm()); diff != "" {
				t.Errorf("after what was sent again (-want +got):\n%s", diff)
			}
		})
	pub := clitest.Start(t, commands(), stdin, "pub", "news", "--url", g.url)
	io.WriteString(lines, "confirmed\n")
	pub.WantExit(0, "connection lost: dropped without a Close frame; reconnecting for 30s", "reconnected",
		"resent what was not confirmed, 2 lines: some may have arrived twice")
}

// A gateway that confirms nothing stops the input at the window's end.
func TestPubReadsNoFurtherThanItsWindow(t *testing.T) {
	stdin, lines := io.Pipe()
	read := 0 // of the lines
	go func() {
		for range 3 * windowLinesMax {
			if _, err := io.WriteString(lines, "x\n"); err != nil {
				return
			}
			read++
		}
		lines.Close()
	}()
	var got int
	g := newFakeGateway(t, func(c *fakeConn) {
		// Every line that may be unconfirmed comes, then nothing, until a pong.
		var ping string
		for got < windowLinesMax {
			if op, payload := c.next(); op == ws.OpPing {
				ping = payload
			} else {
				got++
			}
		}
		for c.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); ; {
			op, payload := c.next()
			if op == 0 {
				break
			}
			if op == ws.OpPing {
				ping = payload
				continue
			}
			got++
		}
		if most := windowLinesMax + batchLinesMax; got > most {
			t.Errorf("%d lines came without a confirmation, at most %d may", got, most)
		}
		c.conn.SetReadDeadline(time.Now().Add(clitest.Patience))
		c.send(ws.OpPong, ping)
		got += len(c.confirm())
	})
	pub := clitest.Start(t, commands(), stdin, "pub", "news", "--url", g.url)
	pub.WantExit(0)
	g.l.Close()
	g.served.Wait()
	if got != 3*windowLinesMax {
		t.Errorf("%d lines came, want %d", got, 3*windowLinesMax)
	}
}

// A gateway that does not read for a while, such as one whose channel is full, can still
// send.
func TestPubReadsWhileItCannotWrite(t *testing.T) {
	const size, messages = 32 << 10, 1000 // more than any socket buffer holds
	g := newFakeGateway(t, func(c *fakeConn) {
		others := strings.Repeat("x", size)
		for range messages {
			c.send(ws.OpText, others)
			c.send(ws.OpPing, "alive")
		}
		for lines := 0; lines < 20_000; {
			switch op, payload := c.next(); op {
			case ws.OpText:
				lines++
			case ws.OpPing:
				c.send(ws.OpPong, payload)
			case 0:
				t.Errorf("the client is gone after %d lines", lines)
				return
			}
		}
		c.confirm()
	})
	pub := clitest.Start(t, commands(), strings.NewReader(strings.Repeat(strings.Repeat("y", 1000)+"\n", 20_000)), "pub", "news", "--url", g.url)
	pub.WantExit(0)
}

func TestPubStopsAtALineThatCannotBeSent(t *testing.T) {
	for _, tc := range []struct {
		input, want string
		args        []string
	}{
		{"a\nb\n\xff\nd\n", "sluice: line 3 is not UTF-8", nil},
		{"a\nb\n" + strings.Repeat("x", 1025) + "\nd\n", "sluice: line 3 is longer than 1KiB", []string{"--max-line", "1KiB"}},
	} {
		var got []string
		g := newFakeGateway(t, func(c *fakeConn) { got = c.confirm() })
		pub := clitest.Start(t, commands(), strings.NewReader(tc.input), append(tc.args, "pub", "news", "--url", g.url)...)
		pub.WantExit(1, tc.want)
		g.l.Close()
		g.served.Wait()
		if !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("%q was published before %q", got, tc.want)
		}
	}
	usage := clitest.Start(t, commands(), nil, "pub", "news", "\xff")
	usage.WantExit(2, "--binary")
}

func TestPubIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name    string
		gateway func(c *fakeConn)
		input   string
		want    []string
	}{
		{"publishing is not allowed", func(c *fakeConn) { c.close(ws.StatusPolicyViolation, "publishing is not allowed here") },
			"a\nbbbb\nc\n", []string{"closed with 1008 (publishing is not allowed here): pub publishes as a client",
				"--raw publish", "curl -d MESSAGE", "sluice: lines 1 to 3 are not published: rejected by the gateway\n"}},
		{"too big, one of several", func(c *fakeConn) { c.close(ws.StatusMessageTooBig, "message too big") },
			"a\nbbbb\nc\n", []string{"the longest unconfirmed message is line 2 with 4 bytes", "--max-message",
				"sluice: lines 1 to 3 are not confirmed: some or all of them may have arrived\n"}},
		{"too big, alone", func(c *fakeConn) { c.close(ws.StatusMessageTooBig, "message too big") },
			"bbbb\n", []string{"is line 1 with 4 bytes", "sluice: line 1 is not published: rejected by the gateway\n"}},
		{"for another reason", func(c *fakeConn) { c.close(ws.StatusPolicyViolation, "too many fragments") },
			"a\n", []string{"sluice: line 1 is not confirmed: it may have arrived\n"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newFakeGateway(t, func(c *fakeConn) {
				c.next() // else the refusal may be there before the first line is read
				tc.gateway(c)
			})
			pub := clitest.Start(t, commands(), strings.NewReader(tc.input), "pub", "news", "--url", g.url)
			pub.WantExit(1, tc.want...)
		})
	}
}

// What an earlier connection carried may have arrived, even if it is rejected now.
func TestPubIsRefusedWhatItSendsAgain(t *testing.T) {
	g := newFakeGateway(t,
		func(c *fakeConn) { c.want(ws.OpText, "a") },
		func(c *fakeConn) {
			c.want(ws.OpText, "a")
			c.close(ws.StatusPolicyViolation, "publishing is not allowed here")
		})
	pub := clitest.Start(t, commands(), strings.NewReader("a\n"), "pub", "news", "--url", g.url)
	pub.WantExit(1, "sluice: line 1 is not confirmed: rejected now, but it may have arrived over the previous connection\n")
}

func TestPubStopsWithASignal(t *testing.T) {
	stdin, lines := io.Pipe()
	defer lines.Close() // ends the reading of the input
	confirmed, hang := make(chan struct{}), make(chan struct{})
	g := newFakeGateway(t,
		func(c *fakeConn) {
			c.want(ws.OpText, "one")
			_, ping := c.next()
			close(confirmed)
			c.send(ws.OpPong, ping)
			c.wantBye()
		},
		func(c *fakeConn) {
			c.want(ws.OpText, "two")
			close(hang)
			for op := ws.OpText; op != 0; {
				op, _ = c.next()
			}
		})
	pub := clitest.Start(t, commands(), stdin, "pub", "news", "--url", g.url)
	io.WriteString(lines, "one\n")
	<-confirmed
	pub.Stop(errors.New("interrupt"))
	pub.WantExit(0, "stopped (interrupt): 1 line published and confirmed")

	stdin, more := io.Pipe()
	defer more.Close()
	pub = clitest.Start(t, commands(), stdin, "pub", "news", "--url", g.url, "--timeout", "200ms")
	io.WriteString(more, "two\n")
	<-hang
	pub.Stop(errors.New("interrupt"))
	pub.WantExit(1, "interrupted", "line 1 is not confirmed")
}

func TestPubGivesUp(t *testing.T) {
	var g *fakeGateway
	g = newFakeGateway(t, func(c *fakeConn) {
		g.l.Close()
		c.next()
	})
	pub := clitest.Start(t, commands(), strings.NewReader("a\n"), "pub", "news", "--url", g.url, "--retry", "0")
	pub.WantExit(1, "lost: dropped without a Close frame", "line 1 is not confirmed")
}

// A gateway whose store is away accepts connections, and closes them because of what is published.
func TestPubGivesUpWhereEveryConnectionIsClosed(t *testing.T) {
	g := newFakeGateway(t, func(c *fakeConn) {
		c.next()
		c.close(ws.StatusCode(1013), "unavailable: try again later")
	})
	pub := clitest.Start(t, commands(), strings.NewReader("a\n"), "pub", "news", "--url", g.url, "--retry", "300ms")
	pub.WantExit(1, "gave up after 300ms (--retry): closed with 1013 (unavailable: try again later)", "line 1 is not confirmed")
}

// A gateway that confirms nothing and sends nothing else is gone.
func TestPubLeavesASilentGateway(t *testing.T) {
	again := make(chan []string, 1)
	g := newFakeGateway(t,
		func(c *fakeConn) {
			for op := ws.OpText; op != 0; { // until the client is gone
				op, _ = c.next()
			}
		},
		func(c *fakeConn) { again <- c.confirm() })
	flags := clientFlags{url: g.url, timeout: clitest.Patience}
	target, err := flags.target("news")
	if err != nil {
		t.Fatal(err)
	}
	stderr := clitest.NewOutput()
	p := publisher{
		session: session{target: target, retry: retryForever, ping: 20 * time.Millisecond, silence: 100 * time.Millisecond, note: cli.Notes(stderr)},
		op:      ws.OpText, batches: make(chan *batch, batchesAhead),
	}
	if err := p.run(t.Context(), newLines(strings.NewReader("one\n"), 100, false).next); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"one"}, <-again); diff != "" || !strings.Contains(stderr.String(), "silent for too long") {
		t.Errorf("published again: %s, stderr %q", diff, stderr)
	}
}

func TestLinesAreTakenApart(t *testing.T) {
	long := strings.Repeat("x", batchBytesMax+1)
	many := strings.Repeat("y\n", 2*batchLinesMax+1)
	for _, input := range []string{"", "\n", "a", "a\n", "\n\na", "a\nb\r\nc", long, long + "\n" + long + "\nz", many, many + long} {
		for _, size := range []int{1, 7, batchBytesMax} {
			if len(input) > 10_000 && size == 1 {
				continue // takes long, and shows nothing more
			}
			in := newLines(&smallReads{strings.NewReader(input), size}, 1<<20, false)
			var got []string
			for {
				b, err := in.next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if b.first != len(got)+1 || len(b.ends) > batchLinesMax || len(b.ends) > 1 && len(b.data) > batchBytesMax {
					t.Errorf("a batch begins with line %d after %d lines, and has %d lines and %d bytes", b.first, len(got), len(b.ends), len(b.data))
				}
				b.messages(func(p []byte) error { got = append(got, string(p)); return nil }) // cannot fail
			}
			want := strings.Split(strings.TrimSuffix(input, "\n"), "\n")
			if input == "" {
				want = nil
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%.20q, read by %d bytes (-want +got):\n%.1000s", input, size, diff)
			}
		}
	}
}

// smallReads reads at most size bytes at a time.
type smallReads struct {
	r    io.Reader
	size int
}

func (s *smallReads) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), s.size)]) }

func TestLinesTellAReadError(t *testing.T) {
	in := newLines(io.MultiReader(strings.NewReader("a\nhalf"), failingReader{}), 100, false)
	b, err := in.next()
	if err != nil || string(b.data) != "a" {
		t.Errorf("got %v, %v", b, err)
	}
	if b, err = in.next(); err == nil || err.Error() != "standard input: no such device" {
		t.Errorf("got %v, %v", b, err)
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, fmt.Errorf("no such device") }

func BenchmarkLines(b *testing.B) {
	input := strings.Repeat("a line of a log, 200 OK in 12 ms, of some length\n", 10_000)
	b.SetBytes(int64(len(input)))
	for b.Loop() {
		in := newLines(strings.NewReader(input), 1<<20, false)
		for {
			if _, err := in.next(); err != nil {
				break
			}
		}
	}
}

func TestPubTakesNoConfirmationOfWhatItHasNotSent(t *testing.T) {
	p := publisher{window: []*batch{{first: 1, data: []byte("a"), ends: []int{1}}}, windowBytes: 1, windowLines: 1}
	for _, tc := range []struct {
		pong uint64
		left int
	}{{0, 1}, {2, 1}, {1 << 63, 1}, {1, 0}, {1, 0}} {
		if p.confirm(tc.pong); len(p.window) != tc.left || p.windowLines != tc.left || p.windowBytes != tc.left {
			t.Errorf("after pong %d: %d batches, %d lines, %d bytes, want %d of each", tc.pong, len(p.window), p.windowLines, p.windowBytes, tc.left)
		}
	}
}

// A gateway on another machine counts pings, and closes clients that send too many.
func TestPubAsksForConfirmationAtAPace(t *testing.T) {
	for host, want := range map[string]int{"push.example.com": 15 + 10*8, "localhost": 10_000, "127.0.0.2": 10_000, "::1": 10_000} {
		now, limit, asked := time.Now(), pings(host), 0
		for range 10_000 { // ten seconds, a look each millisecond
			if limit.AllowN(now, 1) {
				asked++
			}
			now = now.Add(time.Millisecond)
		}
		if asked < want-1 || asked > want+1 {
			t.Errorf("%s: %d pings in 10 s, want about %d", host, asked, want)
		}
	}
}
