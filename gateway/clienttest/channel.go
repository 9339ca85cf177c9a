package clienttest

import (
	"errors"
	"testing"

	"sluice/gateway/channel"
	"sluice/gateway/wire"
)

// stuck is a wire format that encodes when it is let, and a subscriber that reads it.
type stuck struct {
	channel.Reader
	Entered, Release chan struct{}
}

func (f *stuck) Append(dst []byte, p *channel.Publication) []byte {
	f.Entered <- struct{}{}
	<-f.Release
	return append(dst, p.Payload...)
}

func (f *stuck) Notify() {}

// JoinStuck makes a stuck reader of a channel.
func JoinStuck(t *testing.T, space *channel.Space, name string) *stuck {
	t.Helper()
	f := &stuck{Entered: make(chan struct{}), Release: make(chan struct{})}
	if err := space.Join(name, f, f, &f.Reader); err != nil {
		t.Fatal(err)
	}
	return f
}

// logHolder reads a channel's log of raw clients, and releases it only while Serve runs.
type logHolder struct {
	channel.Reader
	wire.Raw
	notified chan struct{}
}

func (h *logHolder) Notify() {
	select {
	case h.notified <- struct{}{}:
	default:
	}
}

// Serve lets go of everything until stop is called, which waits for the end of that.
func (h *logHolder) Serve() (stop func()) {
	stopped, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			h.Clear()
			h.Served(h.Log().Head())
			select {
			case <-h.notified:
			case <-stopped:
				return
			}
		}
	}()
	return func() {
		close(stopped)
		<-ended
	}
}

// HoldFull makes a log full, with messages of so many bytes.
func HoldFull(t testing.TB, space *channel.Space, name string, size int) *logHolder {
	t.Helper()
	h := &logHolder{notified: make(chan struct{}, 1)}
	if err := space.Join(name, wire.Raw{}, h, &h.Reader); err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		p := channel.Publication{Payload: []byte(Stars(size))}
		if _, err := h.Log().Channel().Publish(&p, new(channel.Scratch), nil); errors.Is(err, channel.ErrFull) && n > 0 {
			return h
		} else if err != nil && !errors.Is(err, channel.ErrFull) {
			t.Fatal(err)
		}
	}
}
