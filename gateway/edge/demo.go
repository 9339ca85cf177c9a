package edge

import (
	"context"
	"net/http"
	"time"

	"sluice/gateway/loop"
)

// Demo answers requests of the page that come from this machine, through a listener that nobody
// else can reach. It reports false, and has done nothing, if a request is none of those that it
// answers: it is then answered as any other.
//
// An answer that goes on for minutes calls lasting before it begins: from then on it has no place
// among the requests, and no deadline that it has not set itself, and is to end with the returned
// context: with the request's, and when the edge is closed. It is the demo's to see that there
// are few of them.
type Demo func(w http.ResponseWriter, r *http.Request, lasting func() context.Context) bool

// demo answers a request if it is for the demo.
func (s *Server) demo(w http.ResponseWriter, r *http.Request, c *webConn) bool {
	if !c.here || s.cfg.Demo == nil {
		return false
	}
	if sec, ok := c.Conn.(*loop.Secure); ok {
		state := sec.ConnectionState()
		r.TLS = &state // net/http does not see that it is TLS
	}
	return s.cfg.Demo(w, r, func() context.Context { return c.last(r.Context()) })
}

// last makes room for others while an answer goes on for minutes.
func (c *webConn) last(request context.Context) context.Context {
	s := c.web.server
	c.web.places.leave(c.web.kept.place(c))
	c.lasts = true
	c.SetReadDeadline(time.Time{})  // ignored: then reading fails, which ends the request
	c.SetWriteDeadline(time.Time{}) // ignored: likewise
	ctx, cancel := context.WithCancel(request)
	go func() {
		defer cancel()
		select {
		case <-s.ending:
		case <-ctx.Done():
		}
	}()
	return ctx
}
