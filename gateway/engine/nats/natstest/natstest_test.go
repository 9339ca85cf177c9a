package natstest

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"

	natsgo "github.com/nats-io/nats.go"
)

func TestMain(m *testing.M) { os.Exit(clienttest.RunTests(m, Leaks...)) }

// store stores a message in a stream with that many replicas, which it creates.
func store(t *testing.T, nc *natsgo.Conn, replicas int) {
	t.Helper()
	js, err := nc.JetStream(natsgo.MaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.AddStream(&natsgo.StreamConfig{Name: "s", Subjects: []string{"s.>"}, Replicas: replicas}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish("s.x", []byte("kept")); err != nil {
		t.Fatal(err)
	}
}

// kept returns the message that is stored.
func kept(t *testing.T, nc *natsgo.Conn) string {
	t.Helper()
	js, err := nc.JetStream(natsgo.MaxWait(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var m *natsgo.RawStreamMsg
	clienttest.WaitFor(t, "the message can be read", func() bool {
		m, err = js.GetLastMsg("s", "s.x")
		return err == nil
	})
	return string(m.Data)
}

func TestServerKeepsItsDataAndAddress(t *testing.T) {
	s := Start(t, Options{JetStream: true})
	nc := s.Connect(t)
	store(t, nc, 1)
	s.Stop()
	s.Restart()
	if got := kept(t, nc); got != "kept" {
		t.Errorf("got %q after a restart", got)
	}
}

func TestServerWaitsForItsPort(t *testing.T) {
	s := Start(t, Options{JetStream: true})
	s.Stop()
	l, err := net.Listen("tcp", strings.TrimPrefix(s.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, func() { l.Close() }) // error ignored: it was open
	s.Restart()
}

func TestClusterSurvivesOneOfThree(t *testing.T) {
	c := StartCluster(t, 3, Options{JetStream: true})
	nc := Connect(t, c.URL())
	store(t, nc, 3)
	leader := c.Leader("s")
	leader.Stop()
	if got := kept(t, nc); got != "kept" {
		t.Errorf("got %q without the leader", got)
	}
	leader.Restart()
	c.Settle()
	c.Current("s")
}

func TestChildSurvivesSIGKILLAndSIGSTOP(t *testing.T) {
	c := StartChild(t)
	nc := Connect(t, c.URL())
	store(t, nc, 1)
	c.Suspend()
	if err := nc.FlushTimeout(50 * time.Millisecond); err == nil {
		t.Error("a suspended server answers")
	}
	c.Resume()
	c.Kill()
	c.Restart()
	if got := kept(t, nc); got != "kept" {
		t.Errorf("got %q after SIGKILL", got)
	}
}

// received reports whether a message from one connection comes to another one.
func received(t *testing.T, from, to *natsgo.Conn) bool {
	t.Helper()
	sub, err := to.SubscribeSync("x")
	if err == nil {
		err = to.Flush()
	}
	if err == nil {
		err = errors.Join(from.Publish("x", nil), from.Flush())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe() // error ignored: it is connected
	_, err = sub.NextMsg(20 * time.Millisecond)
	return err == nil
}

func TestServerIsCutOff(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 3, Options{Cuttable: true})
	var conns []*natsgo.Conn
	for _, s := range c.Servers {
		conns = append(conns, s.Connect(t))
	}
	for i := range conns {
		c.Cut(i)
		for j := range conns {
			if j != i {
				clienttest.WaitFor(t, "nothing to pass", func() bool { return !received(t, conns[i], conns[j]) && !received(t, conns[j], conns[i]) })
			}
		}
		clienttest.WaitFor(t, "something to pass between the others", func() bool { return received(t, conns[(i+1)%3], conns[(i+2)%3]) })
		c.Rejoin(i)
		c.Settle()
		for j := range conns {
			clienttest.WaitFor(t, "all to pass again", func() bool { return received(t, conns[i], conns[j]) })
		}
	}
}
