package edge

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"sluice/gateway/loop"
	"sluice/gateway/route"
	"sluice/poller"
)

// Event streams (Server-Sent Events, HTML standard section 9.2) are for browsers
// behind proxies that break WebSocket, and for curl. net/http takes the request
// apart; then the connection goes to a loop like any other, and only its wire
// format differs. The response has no length and ends with the connection, so that
// the same bytes are for every subscriber.

// A browser whose stream has ended waits this long before it comes again, milliseconds:
// each a little differently, so that not all come at once.
const (
	streamRetryMin = 1000
	streamRetryMax = 3000
)

var rejectStreamMethod = route.NewReject(http.StatusMethodNotAllowed, "stream_method",
	"Use GET to open an SSE stream.").WithHeader("Allow: GET, OPTIONS\r\n")

// admitPage looks at what is the same for all requests of clients: whether the page may ask,
// and with which of the methods. off, unless it is nil, is the answer to all of them. Where it answered the request itself,
// ok is false.
func (s *Server) admitPage(w http.ResponseWriter, r *http.Request, methods string, off *route.Reject, to string) (conn *webConn, ok bool) {
	conn = r.Context().Value(webConnKey{}).(*webConn) // web gives net/http no other
	origin, foreign := r.Header.Get("Origin"), len(r.Header.Values("Origin")) > 0
	w.Header().Set("Vary", "Origin")
	if len(r.Header.Values("Origin")) > 1 || !s.live.Load().Origins.Allow(origin, foreign, r.Host) {
		s.logRefusedOrigin(origin, r.Host)
		s.refuseHTTP(w, conn, rejectOrigin)
		return conn, false
	}
	if foreign {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		if s.live.Load().Origins.Credentials(origin) {
			w.Header().Set("Access-Control-Allow-Credentials", "true")
		}
		w.Header().Set("Access-Control-Expose-Headers", "Retry-After") // of a refusal, which sluice.js reads
	}
	allowed := strings.Split(methods, ", ")
	words := allowed[:len(allowed)-1] // without OPTIONS
	switch {
	case off != nil:
		s.refuseHTTP(w, conn, off)
	case r.Method == http.MethodOptions:
		w.Header().Set("Allow", methods)
		w.Header().Set("Access-Control-Allow-Methods", strings.Join(words, ", "))
		fields := "Cache-Control, Content-Type, Last-Event-ID"
		if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" && tokens(asked) {
			fields += ", " + asked
		}
		w.Header().Set("Access-Control-Allow-Headers", fields)
		w.Header().Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
	case !slices.Contains(words, r.Method):
		reject := *rejectStreamMethod
		reject.Text, reject.Header = "Use "+strings.Join(words, " or ")+" to "+to+".", "Allow: "+methods+"\r\n"
		s.refuseHTTP(w, conn, &reject)
	default:
		return conn, true
	}
	return conn, false
}

// serveStream returns the handler of a protocol's event streams.
func (s *Server) serveStream(st route.Stream) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, ok := s.admitPage(w, r, st.Methods, st.Off, "open a stream")
		defer conn.arrived()
		if !ok {
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, int64(st.BodyMax))
		h := &conn.arriving.Hello
		h.ListenOnly = !st.Sends || conn.door.listenOnly()
		later, reject := st.Parse(h, r)
		if reject == nil && later != nil {
			reject = later.Authorize(r.Context(), h, nil)
		}
		if reject == nil {
			reject = s.stream(w, r, conn)
		}
		if reject != nil {
			s.refuseHTTP(w, conn, reject)
		}
	}
}

// stream takes the connection from net/http and sends it to a loop.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, c *webConn) *route.Reject {
	if !s.passage.Enter(s.ending) {
		c.move(w)
		return nil
	}
	defer s.passage.Leave()
	refused, reject := s.takePlace(c.refusal, c.client)
	if reject != nil {
		return reject
	}
	a := &c.arriving
	if s.cfg.Compression {
		w.Header().Set("Vary", "Origin, Accept-Encoding")
	}
	a.Refused, a.Client, a.Told, a.From = refused, c.client, c.told, c
	a.Compressed = s.cfg.Compression && acceptsGzip(r.Header.Values("Accept-Encoding"))
	a.RefusalHeader = originFields(w.Header())
	if a.Response = streamHead(w.Header(), a.ContentType, a.Compressed); a.ContentType == "" {
		a.Greeting = append(streamRetry(), a.Greeting...)
	}
	if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
		s.leavePlace(refused)
		return rejectDescriptors // cannot be: it is a connection of ours, with HTTP/1
	}
	var err error
	if a.FD, a.Secure, err = loop.Detach(c.Conn); err != nil {
		s.leavePlace(refused)
		s.refused(rejectDescriptors.Reason, c.client)
		c.Close() // ignored: there is nobody to tell
		return nil
	}
	if !c.inherits {
		poller.TuneFD(a.FD, s.cfg.Socket) // ignored: it works without
	}
	a.Seat, c.seat = loop.Seat(c.seat), 0
	if !refused {
		s.stats.outcome(outcomeStream)
	}
	s.loops.Arrive(a)
	return nil
}

// acceptsGzip reports whether a client names gzip among the encodings that it accepts (RFC 9110 section 12.5.3). Those who
// accept anything are not meant: they include clients that do not decode.
func acceptsGzip(fields []string) bool {
	for _, field := range fields {
		for element := range strings.SplitSeq(field, ",") {
			coding, weight, _ := strings.Cut(element, ";")
			if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
				continue
			}
			name, q, weighted := strings.Cut(strings.TrimSpace(weight), "=")
			value, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
			return !weighted || strings.EqualFold(strings.TrimSpace(name), "q") && err == nil && value > 0
		}
	}
	return false
}

// streamHead is the response's head, with the header fields that concern origins and compression. "" is the type of events.
func streamHead(header http.Header, contentType string, gzip bool) []byte {
	if contentType == "" {
		contentType = "text/event-stream; charset=utf-8"
	}
	cache, encoding := "no-store", ""
	if gzip {
		cache += ", no-transform" // a proxy that packs anew would hold events back
		encoding = "Content-Encoding: gzip\r\n"
	}
	// All at once, so that it has no room to spare: a client that waits for its channel or a hook keeps it.
	return []byte("HTTP/1.1 200 OK\r\n" +
		"Content-Type: " + contentType + "\r\n" +
		"Cache-Control: " + cache + "\r\n" +
		"X-Content-Type-Options: nosniff\r\n" +
		"X-Accel-Buffering: no\r\n" + // nginx: pass on what comes at once
		"Connection: close\r\n" +
		originFields(header) + encoding + "\r\n")
}

// originFields returns the fields of a response that concern origins and what it varies with.
func originFields(header http.Header) (fields string) {
	for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers", "Vary"} {
		if v := header.Get(name); v != "" {
			fields += name + ": " + v + "\r\n"
		}
	}
	return fields
}

// streamRetry is the first of a stream.
func streamRetry() []byte {
	return fmt.Appendf(nil, "retry: %d\n", streamRetryMin+rand.Int64N(streamRetryMax-streamRetryMin+1))
}

// refuseHTTP answers a request with a refusal, and counts it.
func (s *Server) refuseHTTP(w http.ResponseWriter, from *webConn, r *route.Reject) {
	s.refused(r.Reason, from.client)
	for line := range strings.Lines(r.Header) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		w.Header().Set(name, value)
	}
	if r.Retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(r.RetryAfter()))
	}
	http.Error(w, r.Text, r.Status)
}
