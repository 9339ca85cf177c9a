package route

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"sluice/gateway/loop"
)

// Registration is all that a server needs of a protocol: a protocol's New returns it.
type Registration struct {
	Variants []*loop.Variant
	Routes   []*Route // in the order in which they are tried
	// Sharing are the beginnings of names of functions in which a panic ends the process, because it
	// leaves half changed what connections share.
	Sharing []string
}

// Join returns one registration for several protocols.
func Join(protocols ...Registration) (all Registration) {
	for _, p := range protocols {
		all.Variants = append(all.Variants, p.Variants...)
		all.Routes = append(all.Routes, p.Routes...)
		all.Sharing = append(all.Sharing, p.Sharing...)
	}
	return all
}

// Route is where the WebSocket and SSE clients of a protocol are served.
type Route struct {
	// Paths are those of WebSocket clients, percent-encoded. "{name}" at the end of one stands for
	// one segment, which is not empty. The first that fits a request counts.
	Paths        []string
	Subprotocols []string // that an upgrade may agree to
	// Parse reads an upgrade into h, in which ListenOnly says what the listener allows, and sets at
	// least its Variant. name is the segment that "{name}" stands for, as it was sent, "" for none.
	// Later is nil if nothing is left to do: not a nil pointer in the interface.
	Parse   func(h *loop.Hello, req *Request, name string) (Later, *Reject)
	Streams []Stream
	Posts   []Post
}

// Post is a path at which clients of streams send messages, each in a request whose answer has no content. Clients may keep
// their connections to it.
type Post struct {
	Path    string  // without a segment that is named
	BodyMax int     // bytes of a request's body
	Off     *Reject // the answer to every request; nil to serve them
	// Serve takes a request. Requests are served in the order in which they are complete. It may block, though not for long.
	Serve func(ctx context.Context, contentType string, body []byte) *Reject
}

// Stream is a path of clients that are sent a stream: events or, where Hello.ContentType says so, something else.
type Stream struct {
	Path    string  // as in Route.Paths; Parse finds the segment by req.PathValue(name)
	Methods string  // separated by ", ", OPTIONS at the end
	BodyMax int     // bytes of a request's body
	Off     *Reject // the answer to every request; nil to serve them
	// CloseRefused: a client that is over a limit can be sent the reason in its stream.
	CloseRefused bool
	// Sends: its clients may send messages, at one of the route's Posts.
	Sends bool
	Parse func(h *loop.Hello, req *http.Request) (Later, *Reject)
}

// Later is the part of reading a request that may have to wait.
type Later interface {
	// Waits reports whether Authorize may take long.
	Waits() bool
	// Authorize settles what the client may do, by the token in its request. It calls wait before it
	// waits, and gives up if that returns false; nil for nothing.
	Authorize(ctx context.Context, h *loop.Hello, wait func() bool) *Reject
}

// Fits reports whether a path fits one of Route.Paths, and returns the segment that "{name}"
// stands for.
func Fits(pattern, path string) (name string, ok bool) {
	prefix, _, named := strings.Cut(pattern, "{")
	if !named {
		return "", path == pattern
	}
	name, ok = strings.CutPrefix(path, prefix)
	return name, ok && name != "" && !strings.Contains(name, "/")
}

// Claims returns the paths at which two routes, or a route's WebSocket and SSE clients, would be
// served.
func (p Registration) Claims() (paths []string) {
	var taken []string
	claim := func(own []string) {
		for _, p := range own {
			if slices.ContainsFunc(taken, func(q string) bool {
				_, over := Fits(p, q)
				_, under := Fits(q, p)
				return over || under
			}) {
				paths = append(paths, p)
			}
		}
		taken = append(taken, own...)
	}
	for _, r := range p.Routes {
		claim(r.Paths)
		for _, st := range r.Streams {
			claim([]string{st.Path})
		}
		for _, p := range r.Posts {
			claim([]string{p.Path})
		}
	}
	return paths
}
