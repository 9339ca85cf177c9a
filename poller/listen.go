package poller

import (
	"context"
	"fmt"
	"net"
	"syscall"
)

// Listen returns a listener without TCP keep-alive, whose connections have a send buffer of so
// many bytes.
func Listen(ctx context.Context, network, address string, sendBuffer int) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false) // its listening socket does not hand all options on
	l, err := lc.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if sc, ok := l.(syscall.Conn); ok {
		err = Tune(sc, Options{SendBuffer: sendBuffer})
	}
	if err != nil {
		l.Close() // ignored: the error that matters is err
		return nil, fmt.Errorf("set send buffer: %w", err)
	}
	return l, nil
}
