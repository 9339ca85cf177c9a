package visitors

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"sluice/bench/record"
	"sluice/bench/wsclient"
)

const (
	dialing     = 64               // that connect at a time
	dialTimeout = 10 * time.Second // to connect and upgrade
	readBuffer  = 2 << 10          // bytes for each
)

// visit runs all visitors until ctx is done.
func (c *crowd) visit(ctx context.Context) {
	turns := make(chan struct{}, dialing)
	dialer := wsclient.Dialer{Timeout: dialTimeout, Buffer: readBuffer,
		// The gateway is the one that started this process, at the address where the page found it,
		// and its certificate may be self-signed.
		TLS: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}}
	var all sync.WaitGroup
	for _, v := range c.visitors {
		all.Go(func() { c.stay(ctx, v, dialer, turns) })
	}
	all.Wait()
}

// stay connects a visitor, and again whenever it was cut off, until ctx is done or it cannot come
// back.
func (c *crowd) stay(ctx context.Context, v *visitor, dialer wsclient.Dialer, turns chan struct{}) {
	for tries := 0; ; tries++ {
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			return
		}
		conn, err := dialer.Dial(ctx, c.url+"&since="+c.since(v))
		<-turns
		if err == nil {
			var received bool
			if received, err = c.read(ctx, v, conn); received {
				tries = 0
			}
		}
		if reason := final(err); reason != "" {
			c.leave(v, reason)
			return
		}
		wait := time.NewTimer((c.pace.backOff + rand.N(c.pace.backOff)) << min(tries, 4))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
}

// read reads a connection to its end, and reports whether a record came.
func (c *crowd) read(ctx context.Context, v *visitor, conn *wsclient.Conn) (received bool, err error) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Net.Close() }) // ignored: it is the end
	defer stop()
	c.opened(v, conn)
	defer c.closed(v)
	var records record.Reader
	for {
		_, p, err := conn.Next()
		now := c.clock()
		if err != nil {
			return received, err
		}
		rec, err := records.Read(p)
		if err != nil {
			return received, fmt.Errorf("a record: %w", err)
		}
		c.received(v, &rec, now)
		received = true
	}
}

// final returns why a client must not come back (PROTOCOL.md, "Close codes" and "Refusals"), or "".
func final(err error) string {
	var refused *wsclient.Refusal
	if errors.As(err, &refused) && refused.Status != http.StatusTooManyRequests && refused.Status < http.StatusInternalServerError {
		line, _, _ := strings.Cut(string(refused.Body), "\n")
		return fmt.Sprintf("The gateway refused them with %d: %s", refused.Status, strings.TrimSpace(line))
	}
	var closed wsutil.ClosedError
	if errors.As(err, &closed) && (closed.Code == ws.StatusPolicyViolation && closed.Reason != "no response to ping" || closed.Code == 3005) {
		return fmt.Sprintf("The gateway closed their connections with %d: %s", closed.Code, closed.Reason)
	}
	return ""
}
