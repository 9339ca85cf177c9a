package edge

import (
	"net"
	"syscall"
	"time"

	"sluice/gateway/loop"
	"sluice/poller"
)

// A connection in its handshake is a bare descriptor as long as nothing has to be waited
// for: what most of them are from the accept to their loop. It becomes a net.Conn when
// its client's bytes are waited for, when it speaks TLS, and when net/http gets it.

// link makes a net.Conn of a bare descriptor, and puts TLS over it where the door wants
// that. On error the connection is gone.
func (g *greeting) link() error {
	if g.conn == nil {
		c, err := poller.NetConn(g.fd)
		if g.fd = -1; err != nil {
			return err
		}
		g.conn = c
	}
	if _, secured := g.conn.(*loop.Secure); !secured && g.door.tls != nil {
		g.conn = loop.NewSecure(g, g.conn, g.door.tls)
	}
	return nil
}

// readReady reads what is there already.
func (g *greeting) readReady(p []byte) (int, error) {
	if g.conn == nil {
		return poller.Read(g.fd, p)
	}
	return readReady(loop.Bare(g.conn), p)
}

// writeReady writes what the socket takes at once.
func (g *greeting) writeReady(p []byte) error {
	if g.conn == nil {
		_, err := poller.Write(g.fd, p)
		return err
	}
	g.conn.SetWriteDeadline(time.Now().Add(answerTimeout)) // ignored: then the write fails
	_, err := g.conn.Write(p)
	return err
}

// close closes the connection, of which nothing has become. Later calls do nothing.
func (g *greeting) close() {
	switch {
	case g.conn != nil:
		g.conn.Close() // ignored: there is nobody to tell
	case g.fd >= 0:
		poller.Close(g.fd) // ignored: likewise
		g.fd = -1
	}
}

// abandon ends the connection with a reset: nothing of it stays.
func (g *greeting) abandon() {
	switch {
	case g.conn != nil:
		c := loop.Bare(g.conn)
		if l, ok := c.(interface{ SetLinger(int) error }); ok {
			l.SetLinger(0) // ignored: then the kernel takes longer to let go
		}
		c.Close() // ignored: there is nobody to tell
	case g.fd >= 0:
		poller.SetAbort(g.fd) // ignored: then the kernel takes longer to let go
		g.close()
	}
}

// detach takes the descriptor from the greeting, for a loop.
func (g *greeting) detach() (fd int, sec *loop.Secure, err error) {
	if g.conn != nil {
		return loop.Detach(g.conn)
	}
	fd, g.fd = g.fd, -1
	return fd, nil, nil
}

// readReady reads from a connection of package net what is there already.
func readReady(c net.Conn, p []byte) (int, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0, nil
	}
	return poller.ReadReady(sc, p)
}
