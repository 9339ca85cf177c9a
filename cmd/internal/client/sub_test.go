package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
)

func TestSubGoesOnAfterTheLastPublication(t *testing.T) {
	g := newFakeGateway(t,
		func(c *fakeConn) { // cut
			c.send(ws.OpText, `{"greeting":"welcome"}`)
			c.position(false, "e1", 7)
			c.publications("e1", 8, 9)
		},
		func(c *fakeConn) { // closed before any message
			c.close(ws.StatusGoingAway, "server is shutting down")
		},
		func(c *fakeConn) {
			c.publications("e1", 10, 12)
			c.wantBye()
		})
	sub := clitest.Start(t, commands(), nil, "sub", "news", "--url", g.url, "--count", "5")
	sub.WantExit(0, "connection lost: dropped without a Close frame; reconnecting", "reconnected after")
	if diff := cmp.Diff(clitest.Numbered(8, 12), sub.Stdout.String()); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	q := func(since string) string { return "format=json&mode=subscribe&since=" + since }
	g.wantQueries(q("now"), q("e1%3A9"), q("e1%3A9"))
}

func TestSubBeginsWhereItIsTold(t *testing.T) {
	for _, tc := range []struct {
		args  []string
		query string
	}{
		{nil, "format=json&mode=subscribe&since=now"},
		{[]string{"--since", "now"}, "format=json&mode=subscribe&since=now"},
		{[]string{"--since", ""}, "format=json&mode=subscribe&since=now"},
		{[]string{"--since", "e1:7"}, "format=json&mode=subscribe&since=e1%3A7"},
		{[]string{"--history", "3"}, "format=json&history=3&mode=subscribe"},
	} {
		g := newFakeGateway(t, func(c *fakeConn) {
			c.publications("e1", 8, 8)
			c.wantBye()
		})
		sub := clitest.Start(t, commands(), nil, append(tc.args, "sub", "news", "--url", g.url, "--count", "1")...)
		sub.WantExit(0)
		if sub.Stderr.String() != "" || sub.Stdout.String() != "line 8\n" {
			t.Errorf("%v: stdout %q, stderr %q", tc.args, sub.Stdout, sub.Stderr)
		}
		g.wantQueries(tc.query)
	}
}

func TestSubTellsWhatIsMissing(t *testing.T) {
	for _, tc := range []struct {
		name  string
		after func(c *fakeConn)
		want  string
	}{
		{"a gap of the same epoch", func(c *fakeConn) { c.position(true, "e1", 5); c.publications("e1", 6, 6) },
			"gap: publications after offset 2 and up to 5 of epoch e1 were lost"},
		{"a gap to an earlier offset", func(c *fakeConn) { c.position(true, "e1", 1); c.publications("e1", 2, 2) },
			"gap: publications may be lost: the gateway does not know offset 2 of epoch e1, and continues after offset 1"},
		{"a gap to another epoch", func(c *fakeConn) { c.position(true, "e2", 0); c.publications("e2", 1, 1) },
			"gap: publications after offset 2 of epoch e1 may be lost: the channel has a new epoch, e2, and continues after offset 0"},
		{"a hole", func(c *fakeConn) { c.publications("e1", 4, 4) },
			"gap: publications after offset 2 and up to 3 of epoch e1 are missing, and the gateway did not report a gap"},
		{"another epoch", func(c *fakeConn) { c.publications("e2", 9, 9) },
			"gap: publications after offset 2 of epoch e1 may be missing: epoch e2 follows at offset 9, and the gateway did not report a gap"},
	} {
		g := newFakeGateway(t, func(c *fakeConn) {
			c.publications("e1", 1, 2)
			tc.after(c)
			c.wantBye()
		})
		sub := clitest.Start(t, commands(), nil, "sub", "news", "--url", g.url, "--count", "3")
		sub.WantExit(0, tc.want)
		if n := strings.Count(sub.Stdout.String(), "\n"); n != 3 || strings.Count(sub.Stderr.String(), "\n") != 1 {
			t.Errorf("%s: %d lines of stdout; stderr:\n%s", tc.name, n, sub.Stderr)
		}
		sub = clitest.Start(t, commands(), nil, "sub", "news", "--url", g.url, "--fail-on-gap")
		sub.WantExit(1, tc.want, "--fail-on-gap")
	}
}

// Offsets may have holes where nothing was published.
func TestSubTakesHolesForNoLoss(t *testing.T) {
	g := newFakeGateway(t, func(c *fakeConn) {
		c.position(false, "e1", 3)
		c.publication("e1", 7, 3)
		c.publication("e1", 9, 7)
		c.position(true, "e1", 20)
		c.publication("e1", 25, 20)
		c.wantBye()
	})
	sub := clitest.Start(t, commands(), nil, "sub", "news", "--url", g.url, "--count", "3")
	sub.WantExit(0, "gap: publications after offset 9 and up to 20 of epoch e1 were lost")
	if n := strings.Count(sub.Stderr.String(), "\n"); n != 1 || sub.Stdout.String() != "line 7\nline 9\nline 25\n" {
		t.Errorf("stdout %q, stderr %q", sub.Stdout, sub.Stderr)
	}
}

// A publication with skip_history has no position.
func TestSubPrintsPublicationsWithoutPosition(t *testing.T) {
	g := newFakeGateway(t, func(c *fakeConn) {
		c.position(false, "e1", 0)
		c.publications("e1", 1, 1)
		c.send(ws.OpText, `{"channel":"news","at":1763712000123,"from":"api","data":"not kept"}`)
		c.publications("e1", 2, 2)
		c.wantBye()
	})
	sub := clitest.Start(t, commands(), nil, "sub", "news", "--url", g.url, "--count", "3", "--fail-on-gap")
	sub.WantExit(0)
	if sub.Stdout.String() != "line 1\nnot kept\nline 2\n" || sub.Stderr.String() != "" {
		t.Errorf("stdout %q, stderr %q", sub.Stdout, sub.Stderr)
	}
}

func TestSubLeavesOutWhatCameBefore(t *testing.T) {
	g := newFakeGateway(t, func(c *fakeConn) {
		c.publications("e1", 1, 3)
		c.publications("e1", 2, 4)
		c.wantBye()
	})
	sub := clitest.Start(t, commands(), nil, "sub", "news", "--url", g.url, "--count", "4", "--fail-on-gap")
	sub.WantExit(0, "skipped a duplicate: offset 2 of epoch e1 arrived after 3", "skipped a duplicate: offset 3 of epoch e1 arrived after 3")
	if diff := cmp.Diff(clitest.Numbered(1, 4), sub.Stdout.String()); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
}

func TestSubJSONPrintsEveryRecordAsItCame(t *testing.T) {
	records := []string{
		`{"greeting":"welcome"}`,
		`{"gap":true,"channel":"news","epoch":"e1","offset":4,"conn":"17"}`,
		`{"channel":"news","epoch":"e1","offset":5,"prev":4,"at":1,"from":"api","base64":"AAEC"}`,
		`{"channel":"news","epoch":"e1","offset":6,"prev":5,"at":1,"from":"17","data":"a\n\"b\"","new key":[1]}`,
	}
	script := func(c *fakeConn) {
		for _, r := range records {
			c.send(ws.OpText, r)
		}
		c.wantBye()
	}
	g := newFakeGateway(t, script)
	sub := clitest.Start(t, commands(), nil, "sub", "news", "--url", g.url, "--count", "2", "--json")
	sub.WantExit(0, "gap: ")
	if diff := cmp.Diff(strings.Join(records, "\n")+"\n", sub.Stdout.String()); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	sub = clitest.Start(t, commands(), nil, "sub", "news", "--url", g.url, "--count", "2")
	sub.WantExit(0)
	if got, want := sub.Stdout.String(), "\x00\x01\x02\na\n\"b\"\n"; got != want {
		t.Errorf("payloads %q, want %q", got, want)
	}
}

// A complete line is printed although the next one has arrived only in part.
func TestSubPrintsALineWithoutTheNext(t *testing.T) {
	release := make(chan struct{})
	end := sync.OnceFunc(func() { close(release) })
	defer end()
	g := newFakeGateway(t, func(c *fakeConn) {
		one := ws.MustCompileFrame(ws.NewTextFrame([]byte(`{"channel":"news","epoch":"e1","offset":1,"prev":0,"at":1,"from":"17","data":"line 1"}`)))
		c.conn.Write(append(one, 0x81, 0x7e, 0x01)) // ignored: then the client gets nothing
		<-release
	})
	sub := clitest.Start(t, commands(), nil, "sub", "news", "--url", g.url, "--retry", "0")
	sub.Stdout.Wait(t, "line 1\n")
	end()
	sub.WantExit(1, "lost: dropped without a Close frame")
}

func TestSubAnswersPingsAndEndsWithASignal(t *testing.T) {
	g := newFakeGateway(t, func(c *fakeConn) {
		c.position(false, "e1", 0)
		c.send(ws.OpPing, "are you there")
		c.want(ws.OpPong, "are you there")
		c.send(ws.OpPing, "")
		c.want(ws.OpPong, "")
		c.publications("e1", 1, 1)
		c.wantBye()
	})
	sub := clitest.Start(t, commands(), nil, "sub", "news", "--url", g.url)
	sub.Stdout.Wait(t, "line 1\n")
	sub.Stop(errors.New("terminated"))
	sub.WantExit(0)
	if sub.Stderr.String() != "" {
		t.Errorf("stderr %q", sub.Stderr)
	}
}

// A gateway that sends nothing, not even pongs, is gone.
func TestSubLeavesASilentGateway(t *testing.T) {
	g := newFakeGateway(t,
		func(c *fakeConn) {
			c.publications("e1", 1, 1)
			if op, _ := c.next(); op != ws.OpPing {
				t.Errorf("got %v, want a ping", op)
			}
			for op := ws.OpText; op != 0; { // until the client is gone
				op, _ = c.next()
			}
		},
		func(c *fakeConn) {
			c.publications("e1", 2, 2)
			c.wantBye()
		})
	flags := clientFlags{url: g.url, timeout: clitest.Patience}
	target, err := flags.target("news")
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := clitest.NewOutput(), clitest.NewOutput()
	s := subscriber{
		session: session{target: target, retry: retryForever, ping: 20 * time.Millisecond, silence: 100 * time.Millisecond, note: cli.Notes(stderr)},
		out:     bufio.NewWriter(stdout), count: 2,
	}
	if err := s.run(t.Context()); err != nil {
		t.Error(err)
	}
	if stdout.String() != clitest.Numbered(1, 2) || !strings.Contains(stderr.String(), "silent for too long") {
		t.Errorf("stdout %q, stderr %q", stdout, stderr)
	}
}

func TestSubEndsWithItsOutput(t *testing.T) {
	g := newFakeGateway(t, func(c *fakeConn) {
		c.publications("e1", 1, 1)
		for op := ws.OpText; op != 0; {
			op, _ = c.next()
		}
	})
	flags := clientFlags{url: g.url, timeout: clitest.Patience}
	target, err := flags.target("news")
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	r.CloseWithError(errors.New("disk full"))
	s := subscriber{
		session: session{target: target, retry: retryForever, ping: pingInterval, silence: silenceMax, note: cli.Notes(clitest.NewOutput())},
		out:     bufio.NewWriter(w),
	}
	if err := s.run(t.Context()); err == nil || err.Error() != "standard output: disk full" {
		t.Errorf("got %v", err)
	}
}

func TestSubIsRefused(t *testing.T) {
	notJSON := func(c *fakeConn) { c.send(ws.OpText, "hello"); c.wantBye() }
	for _, tc := range []struct {
		name    string
		gateway func(c *fakeConn)
		want    string
	}{
		{"no records", notJSON, "received something other than a format=json record"},
		{"policy", func(c *fakeConn) { c.close(ws.StatusPolicyViolation, "not yours") }, "closed with 1008 (not yours)"},
		{"compression that was not asked for", func(c *fakeConn) { c.conn.Write([]byte{0xc1, 0x01, 0x00}); c.next() }, "the server sent invalid WebSocket data"},
	} {
		g := newFakeGateway(t, tc.gateway)
		sub := clitest.Start(t, commands(), nil, "sub", "news", "--url", g.url)
		sub.WantExit(1, tc.want)
	}
}

// A client that did not answer a ping may have been asleep: it reconnects.
func TestSubComesBackAfterACut(t *testing.T) {
	for _, cut := range []struct {
		code ws.StatusCode
		text string
	}{
		{ws.StatusPolicyViolation, "no response to ping"}, // it may have been asleep
		{1013, "too slow: the channel's buffer ran out"},
		{1012, ""},
	} {
		g := newFakeGateway(t,
			func(c *fakeConn) {
				c.publications("e1", 1, 1)
				c.close(cut.code, cut.text)
			},
			func(c *fakeConn) {
				c.publications("e1", 2, 2)
				c.wantBye()
			})
		sub := clitest.Start(t, commands(), nil, "sub", "news", "--url", g.url, "--count", "2")
		text := ""
		if cut.text != "" {
			text = " (" + cut.text + ")"
		}
		sub.WantExit(0, fmt.Sprintf("closed with %d%s; reconnecting", cut.code, text))
	}
}

func TestClientGivesUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "ws://" + l.Addr().String()
	l.Close()
	for _, name := range []string{"pub", "sub"} {
		c := clitest.Start(t, commands(), strings.NewReader("a\n"), name, "news", "--url", nobody)
		c.WantExit(1, "sluice: connect to "+nobody+": connection refused; is sluice running there?", "--url")
	}

	var g *fakeGateway
	g = newFakeGateway(t, func(c *fakeConn) {
		g.l.Close()
		c.publications("e1", 1, 1)
	})
	sub := clitest.Start(t, commands(), nil, "sub", "news", "--url", g.url, "--retry", "200ms")
	sub.WantExit(1, "dropped without a Close frame; reconnecting for 200ms", "gave up after 200ms (--retry): connect to "+g.url+": connection refused")
}
