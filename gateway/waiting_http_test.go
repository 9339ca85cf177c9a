package gateway

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"
)

// A publication that takes long to encode keeps nobody waiting but publishers of its
// channel: clients join it, leave it and recover from it, and loops whose clients publish
// into it go on. Who publishes over HTTP waits for longer than for room, and gets in.
func TestNobodyWaitsForAnEncoding(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1})
	reader := clienttest.Dial(t, s, "/ws/x")
	f := clienttest.JoinStuck(t, s.space, "x")
	at, receipts := s.internal("").URL, make(chan string, 2)
	publish := func(text string) {
		r, err := http.Post(at+"/publish/x", "text/plain", strings.NewReader(text))
		if err != nil {
			receipts <- err.Error()
			return
		}
		defer r.Body.Close()
		io.Copy(io.Discard, r.Body) // ignored: only the status is looked at
		receipts <- r.Status
	}
	go publish("first")
	clienttest.Receive(t, "the encoding to begin", f.Entered)
	writer := clienttest.Dial(t, s, "/ws/x?echo=off")
	writer.Send(clienttest.Text("second"))
	clienttest.WaitFor(t, "the second to wait", func() bool { return s.space.Find("x").Waiting() == 1 })
	second := clienttest.Dial(t, s, "/ws/x?format=json&since=now")
	second.WantPosition("it begins before all of them", false, 0)
	second.Vanish()
	echo := clienttest.Dial(t, s, "/echo")
	echo.Send(clienttest.Text("there"))
	echo.WantText("its loop does not stand still", "there")
	go publish("third") // as late as can be: its patience is of seconds
	clienttest.WaitFor(t, "the third to wait", func() bool { return s.space.Find("x").Waiting() == 2 })
	if n := s.PushBacks() + s.publisher.PushedBack.Load(); n != 0 {
		t.Errorf("%d push-backs are counted: the log is not full", n)
	}
	begun := time.Now()
	clienttest.WaitFor(t, "HTTP to have waited for longer than for room", func() bool { return time.Since(begun) > 2*250*time.Millisecond })
	go func() {
		for range 2 {
			f.Release <- struct{}{}
			<-f.Entered
		}
		f.Release <- struct{}{}
	}()
	for range 2 {
		if got := clienttest.Receive(t, "the publications", receipts); got != "200 OK" {
			t.Errorf("HTTP: %s", got)
		}
	}
	reader.WantText("it had the turn", "first")
	var others []string // both were called
	for range 2 {
		_, p, err := reader.Next()
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, p)
	}
	if slices.Sort(others); !slices.Equal(others, []string{"second", "third"}) {
		t.Errorf("behind it came %q", others)
	}
	s.space.Leave(&f.Reader)
}
