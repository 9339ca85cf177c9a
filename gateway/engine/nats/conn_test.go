package nats

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"
	"sluice/gateway/setting"

	natsgo "github.com/nats-io/nats.go"
)

// pretend is a server that says of itself what the test wants, and else answers pings.
func pretend(t *testing.T, info string) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { l.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				fmt.Fprintf(c, "INFO {%s}\r\n", info)
				for lines := bufio.NewScanner(c); lines.Scan(); {
					if lines.Text() == "PING" {
						fmt.Fprint(c, "PONG\r\n")
					}
				}
			})
		}
	})
	return "nats://" + l.Addr().String()
}

// dialTest connects as a gateway does, and returns the error as an operator reads it.
func dialTest(t *testing.T, o Servers, maxMessage int, log *slog.Logger) (*link, string) {
	t.Helper()
	l, err := dial(testContext(t), o, nil, maxMessage, linkEvents{}, log)
	if err != nil {
		return nil, setting.Names(func(field string) string { return "{" + field + "}" }).ErrorText(err)
	}
	t.Cleanup(l.close)
	return l, ""
}

func TestServersThatDoNotDo(t *testing.T) {
	t.Parallel()
	const most = `"max_payload":1048576`
	for name, test := range map[string]struct {
		info       string
		maxMessage int
		err        string // part of it; "": none
		warning    string // likewise
	}{
		"the newest":             {info: `"version":"2.15.3",` + most},
		"the oldest":             {info: `"version":"2.9.10",` + most, warning: "upgrade it to 2.12.12 or 2.14.3 or later"},
		"too old":                {info: `"version":"2.9.9",` + most, err: "nats-server 2.9.9 at {NATSURL} is too old: upgrade it to 2.9.10 or later"},
		"far too old":            {info: `"version":"1.4.1",` + most, err: "nats-server 1.4.1 at {NATSURL} is too old"},
		"fixed in its line":      {info: `"version":"2.12.12",` + most},
		"not fixed in its line":  {info: `"version":"2.12.11",` + most, warning: "GHSA-q59r-vq66-pxc2): upgrade it to 2.12.12 or 2.14.3 or later"},
		"2.9 in a cluster":       {info: `"version":"2.9.25","cluster":"c",` + most, warning: "nats-server 2.9.25 can lose acknowledged publications in a cluster when a server stands still for seconds, and has published vulnerabilities ("},
		"2.9 alone":              {info: `"version":"2.9.25",` + most, warning: "nats-server 2.9.25 has published vulnerabilities ("},
		"2.10 in a cluster":      {info: `"version":"2.10.0","cluster":"c",` + most, warning: "nats-server 2.10.0 has published vulnerabilities ("},
		"a line without a fix":   {info: `"version":"2.13.0",` + most, warning: "upgrade it to 2.14.3 or later"},
		"a preview":              {info: `"version":"2.16.0-RC.1",` + most},
		"no version":             {info: `"version":"mine",` + most},
		"messages that just fit": {info: `"version":"2.15.3","max_payload":81920`, maxMessage: 64 << 10},
		"messages do not fit":    {info: `"version":"2.15.3","max_payload":81919`, maxMessage: 64 << 10, err: "{MaxMessage} 64KiB does not fit NATS's max_payload of 81919B: lower it, or set max_payload of the servers to 80KiB or more"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logLines
			_, err := dialTest(t, Servers{URLs: []string{pretend(t, test.info)}}, test.maxMessage, log.logger())
			if err == "" != (test.err == "") || !strings.Contains(err, test.err) {
				t.Errorf("got %q, want %q", err, test.err)
			}
			warnings := strings.Count(log.String(), "level=WARN")
			if warnings != strings.Count(log.String(), "upgrade") || warnings > 1 || (warnings == 1) != (test.warning != "") || !strings.Contains(log.String(), test.warning) {
				t.Errorf("log %s, want %q", log.String(), test.warning)
			}
		})
	}
}

func TestTheInstalledServerIsOldEnoughForAWarning(t *testing.T) {
	t.Parallel()
	var log logLines
	l, err := dialTest(t, Servers{URLs: []string{natstest.StartChild(t).URL()}}, 64<<10, log.logger())
	if err != "" {
		t.Fatal(err)
	}
	if v, ok := parseVersion(l.main.ConnectedServerVersion()); !ok || (advice(v, false) != "") != strings.Contains(log.String(), advice(v, false)+`"`) {
		t.Errorf("version %v, log %s", v, log.String())
	}
}

// A server that is not there yet is waited for, and an end of waiting ends it.
func TestDialWaitsForServers(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.Options{})
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := dial(ctx, Servers{URLs: []string{s.URL()}}, nil, 0, linkEvents{}, testLog); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	var log logLines
	dialed := make(chan error, 1)
	go func() {
		l, err := dial(testContext(t), Servers{URLs: []string{s.URL()}}, nil, 0, linkEvents{}, log.logger())
		if err == nil {
			l.close()
		}
		dialed <- err
	}()
	clienttest.WaitFor(t, "the log says that it waits", func() bool { return strings.Contains(log.String(), "waiting for NATS") })
	s.Restart()
	if err := clienttest.Receive(t, "the connection", dialed); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"connection refused", "connected to NATS"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
}

func TestEventsOfTheConnection(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.Options{JetStream: true})
	events := make(chan string, 100)
	slow := make(chan *natsgo.Subscription, 1)
	var log logLines
	l, err := dial(testContext(t), Servers{}, s.InProcess(), 0, linkEvents{
		down:   func() { events <- "down" },
		up:     func() { events <- "up" },
		slow:   func(s *natsgo.Subscription) { slow <- s },
		closed: func(error) { events <- "closed" },
	}, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	full := make(chan *natsgo.Msg, 1)
	sub, err := l.main.ChanSubscribe("x", full)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := l.main.Publish("x", nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := clienttest.Receive(t, "the slow subscription", slow); got != sub {
		t.Errorf("got %v", got.Subject)
	}
	s.Server().DisconnectClientByID(clientID(t, l.main))
	for _, want := range []string{"down", "up"} {
		if got := clienttest.Receive(t, want, events); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if err := l.main.Publish("x", nil); err != nil {
		t.Errorf("publish after it came back: %v", err)
	}
	l.close()
	select {
	case got := <-events:
		t.Errorf("closing is no event, got %s", got)
	default:
	}
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("log %s", log.String())
	}
}

func clientID(t *testing.T, nc *natsgo.Conn) uint64 {
	id, err := nc.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// What is published while the connection is down fails at once, and nothing of it comes later.
func TestNothingIsBufferedWhileTheConnectionIsDown(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.Options{})
	down := make(chan struct{}, 10)
	l, err := dial(testContext(t), Servers{URLs: []string{s.URL()}}, nil, 0, linkEvents{down: func() { down <- struct{}{} }, up: func() {}}, testLog)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	s.Stop()
	clienttest.Receive(t, "that the connection is down", down)
	if err := l.main.Publish("x", []byte("late")); err == nil {
		t.Error("publishing does not fail")
	}
}
