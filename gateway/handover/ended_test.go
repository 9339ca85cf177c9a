package handover

import (
	"context"
	"net"
	"testing"
	"time"

	"sluice/gateway/saved"
	"sluice/poller"
)

// orphan is a new process whose old one has died.
type orphan struct {
	*toy
	restored chan struct{} // Restore waits for it
	fresh    bool
}

func (o *orphan) Restore(piece []byte) error {
	<-o.restored
	return o.toy.Restore(piece)
}

func (o *orphan) Fresh() { o.fresh = true }

// TestOldProcessDiesWhileTheNewOneIsBusy has the old process die while the new one takes a piece, which finds that
// when it answers: it serves with the listeners that it has.
func TestOldProcessDiesWhileTheNewOneIsBusy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ours, theirs, err := poller.MessagePair()
	if err != nil {
		t.Fatal(err)
	}
	old, err := newConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	n := &orphan{toy: newToy(), restored: make(chan struct{})}
	taken := make(chan error)
	go func() { taken <- (&taking{n: n, parent: -1, at: func(string) {}}).take(theirs, Hello{}) }()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	g := &giving{conn: old}
	expect := func(k kind) {
		t.Helper()
		if _, err := old.expect(k, time.Now().Add(30*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	send := func(b []byte, fds ...int) {
		t.Helper()
		if err := old.send(ctx, b, fds...); err != nil {
			t.Fatal(err)
		}
	}
	expect(kindHello)
	send((&Welcome{Version: "old", Format: 1}).append())
	expect(kindAgreed)
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	send(saved.AppendBytes(append(begin(kindListeners), 1), "toy"), int(f.Fd()))
	if err := g.sendFile(ctx, kindPiece, []byte("piece 1"), nil); err != nil {
		t.Fatal(err)
	}
	old.close()
	close(n.restored)
	if err := <-taken; err != nil || !n.fresh {
		t.Errorf("it serves: %v (%v), want true", n.fresh, err)
	}
	n.listener.Close()
}

// TestOldProcessDiesBeforeTheListenersArePassed leaves a new process that has nothing to serve with.
func TestOldProcessDiesBeforeTheListenersArePassed(t *testing.T) {
	t.Parallel()
	r := newRig(t, "old:agreed:kill")
	r.give()
	if l := r.line("error"); l != `error the other process has ended (before "final"); its log says why` {
		t.Error(l)
	}
}
