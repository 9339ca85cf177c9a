// Package wsclient is the WebSocket client of this module's own tools: `sluice pub` and `sluice
// sub`, the subscribers of bench/chaos, and one of the clients of bench/interop. It is a package of
// its own because they share nothing else, and it stands beside the load tester's client (package
// bench), which is another one on purpose: a fault of one of them shows as a difference.
//
// [Dialer.Dial] returns a [Conn] or why there is none: a [Refusal] if the answer was HTTP and no
// upgrade. One goroutine reads messages ([Conn.Next]); replies to pings and Close frames are sent
// by another one where reading must not wait ([Conn.Keep]).
//
// The package does not know what messages mean, which path or token a gateway expects, when
// another try makes sense, and which flags its callers have.
package wsclient

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/gobwas/ws"
)

// Dialer are the settings of connections. Its zero value has none.
type Dialer struct {
	TLS     *tls.Config
	Header  http.Header                                            // of the request; Host, too
	Timeout time.Duration                                          // to connect and upgrade; 0: as long as it takes
	Buffer  int                                                    // bytes to read at once; 0: Buffer
	Control func(network, address string, c syscall.RawConn) error // of the socket before it connects
}

// Refusal is an HTTP response in place of the upgrade.
type Refusal struct {
	Status int
	Body   []byte // the first few KiB
}

// Error returns the status.
func (r *Refusal) Error() string {
	return fmt.Sprintf("refused with %d %s", r.Status, http.StatusText(r.Status))
}

// Dial connects to a ws or wss URL and upgrades. The error is a Refusal, context.Cause(ctx), or
// one of packages net, tls and ws.
func (d Dialer) Dial(ctx context.Context, url string) (*Conn, error) {
	var refused *Refusal
	header := d.Header.Clone()
	header.Del("Host")
	dialer := ws.Dialer{
		Timeout: d.Timeout, TLSConfig: d.TLS, Host: d.Header.Get("Host"), Header: ws.HandshakeHeaderHTTP(header), ReadBufferSize: Buffer,
		NetDial:       (&net.Dialer{Control: d.Control}).DialContext,
		OnStatusError: func(status int, _ []byte, resp io.Reader) { refused = readRefusal(status, resp) },
	}
	conn, early, _, err := dialer.Dial(ctx, url)
	switch {
	case refused != nil:
		return nil, refused
	case ctx.Err() != nil:
		if err == nil {
			conn.Close() // nothing has been sent yet
		}
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	}
	return newConn(conn, early, cmp.Or(d.Buffer, Buffer)), nil
}

// readRefusal reads the start of the answer's body. The dialer's deadline bounds it.
func readRefusal(status int, resp io.Reader) *Refusal {
	r := &Refusal{Status: status}
	if answer, err := http.ReadResponse(bufio.NewReader(resp), nil); err == nil {
		r.Body, _ = io.ReadAll(io.LimitReader(answer.Body, 4<<10)) // error ignored: what has arrived is enough
	}
	return r
}
