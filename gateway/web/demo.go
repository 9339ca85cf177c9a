package web

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Demo answers what the page asks of its own gateway: the numbers of its strip, and visitors that
// a user brings (visitors.go). It is for a browser on the gateway's machine that shows the gateway's own
// page, and for nobody else: see own. The caller sees to it that the listener and the peer are both
// loopback.
type Demo struct {
	// Set at construction.
	numbers func() Numbers
	start   func() (io.ReadWriteCloser, error)
	crowd   crowd
}

// NewDemo returns a demo. start starts the visitors' process, as gateway.Config.Visitors does; if
// there is none, the numbers say so.
func NewDemo(numbers func() Numbers, start func() (io.ReadWriteCloser, error)) *Demo {
	return &Demo{numbers: numbers, start: start, crowd: crowd{place: make(chan struct{}, 1)}}
}

// Numbers are what the page's strip shows. Counters only grow: the page makes rates and quantiles
// of the differences.
type Numbers struct {
	Time        int64     `json:"time"` // Unix milliseconds
	Version     string    `json:"version"`
	Uptime      float64   `json:"uptime"` // seconds
	Connections int64     `json:"connections"`
	Published   uint64    `json:"published"`
	Delivered   uint64    `json:"delivered"`
	Latency     Histogram `json:"latency"` // from publishing to the last write
	Memory      Memory    `json:"memory"`
	Visitors    Available `json:"visitors"`
}

// Histogram counts observations. Counts has one more element than Bounds: what is above the last.
type Histogram struct {
	Bounds []float64 `json:"bounds"` // seconds, upper ones, inclusive
	Counts []uint64  `json:"counts"` // of each bucket alone
}

// Memory is what the process uses, in bytes.
type Memory struct {
	Process       int64  `json:"process"` // resident
	Fixed         int64  `json:"fixed"`   // of it: what it used before clients came
	PerConnection *int64 `json:"per_connection"`
}

// Available reports whether the page can bring visitors, and how many.
type Available struct {
	Available bool   `json:"available"`
	Reason    string `json:"reason"` // why not
	Most      int    `json:"most"`
}

// Measurable is the number of connections from which on the memory of one is worth showing: with
// fewer, what the process needs anyway hides it.
const Measurable = 1000

// NewMemory returns what a process uses that used fixed bytes before clients came.
func NewMemory(process, fixed, connections int64) Memory {
	m := Memory{Process: process, Fixed: fixed}
	if connections >= Measurable && process > fixed && fixed > 0 {
		each := (process - fixed) / connections
		m.PerConnection = &each
	}
	return m
}

// Serve answers a request for a path of the demo. It reports false, and has done nothing, if there
// is no such path or the request is not from the gateway's own page in a browser on this machine:
// such a request is to be answered as any other for an unknown path. An answer that goes on for
// minutes calls lasting first, and ends with the context that it returns.
func (d *Demo) Serve(w http.ResponseWriter, r *http.Request, lasting func() context.Context) bool {
	var serve func()
	switch r.Method + " " + r.URL.Path {
	case "GET /demo/numbers":
		serve = func() {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(d.numbers()) // ignored: the client may be gone
		}
	case "POST /demo/visitors":
		serve = func() { d.bring(w, r, lasting) }
	case "POST /demo/visitors/cut":
		serve = func() { d.cut(w, r) }
	}
	if serve == nil || !own(r) {
		return false
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	serve()
	return true
}

// own reports whether a request comes from the gateway's own page, and straight from the browser.
//
// Any page can make a browser on this machine send requests here, and any name can resolve to
// this machine (DNS rebinding). So Host has to be this machine's own name or address, and the
// browser has to say that the page has the same origin. And a reverse proxy on this machine would
// let everybody in: a request that has passed one shows it in its header. nginx adds nothing to
// it by default, but does not pass Connection on, which is for one hop (RFC 9110 section 7.6.1).
func own(r *http.Request) bool {
	if !loopbackHost(r.Host) || forwarded(r.Header) {
		return false
	}
	if !r.ProtoAtLeast(1, 1) || !strings.EqualFold(r.Header.Get("Connection"), "keep-alive") {
		return false
	}
	origins, sites := r.Header.Values("Origin"), r.Header.Values("Sec-Fetch-Site")
	for _, o := range origins {
		if u, err := url.Parse(o); err != nil || u.Host != r.Host || u.Scheme != "http" && u.Scheme != "https" { // one of both: the port serves no other
			return false
		}
	}
	for _, s := range sites {
		if s != "same-origin" {
			return false
		}
	}
	return len(origins)+len(sites) > 0 // every browser says one of both, or cannot be told from a program
}

// loopbackHost reports whether a Host field names this machine by what can be nothing else. A name
// that only resolves to it does not: a web page could have one.
func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && addr.IsLoopback()
}

// What proxies add to a request: fields, and the beginnings of others.
var (
	proxyFields   = []string{"Forwarded", "Via", "Client-Ip", "True-Client-Ip", "Cdn-Loop", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Proxyuser-Ip", "X-Request-Id", "X-Scheme"}
	proxyPrefixes = []string{"X-Forwarded", "X-Real-", "X-Original-", "X-Envoy-", "X-Amz", "X-Azure-", "X-Arr-", "X-Appengine-", "X-Cloud-", "X-Vercel-", "Cf-", "Fly-", "Fastly-", "Tailscale-"}
)

// forwarded reports whether a request has passed a proxy that says so.
func forwarded(h http.Header) bool {
	for name := range h {
		if slices.Contains(proxyFields, name) || slices.ContainsFunc(proxyPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			return true
		}
	}
	return false
}
