package bench

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/url"
	"runtime"
	"strings"
	"time"

	"sluice/bench/clienttls"
)

// Options are the settings that all scenarios share: the server, the protocol, and the
// tester itself. Zero means the default, which each field's comment ends with.
type Options struct {
	URL      string        // the server, ws://HOST:PORT or wss://HOST:PORT; ws://127.0.0.1:8000
	Path     string        // where to upgrade, unless URL has a path; /ws, or /connection/websocket for the Centrifugo protocol
	Protocol Protocol      // of the subscribers; Raw
	Hello    string        // a text message that each connection sends first; none
	Sources  int           // loopback addresses to connect from, 127.0.0.2 and up; 32 for a loopback server, none for others
	Loops    int           // receiving loops; one per core
	Dialing  int           // connects in progress at a time; 64
	Timeout  time.Duration // of a connect with its upgrade; 10 s
	PID      int           // the server's process on this machine, to measure its CPU and memory; not measured
	PIDs     []int         // further processes of the server, which are added; none

	// For the Centrifugo protocol.
	Channel         string // that clients subscribe to; lobby
	Channels        int    // this many channels instead, named Channel0, Channel1 and so on; clients are spread over them; 1
	Token           string // that all clients connect with; none
	TokenSecretFile string // instead: a file with the HS256 secret, to sign a token for each client; none

	unstamped bool // nothing is published that stamps have to tell apart

	// For wss.
	TLS    clienttls.Flags
	Resume bool // resume TLS sessions; by default every connection makes a full handshake

	// Progress is a terminal that shows one line of progress; nil: none.
	Progress io.Writer
}

// Defaults of the scenarios' durations.
const (
	DefaultTimeout  = 10 * time.Second
	DefaultDuration = 20 * time.Second
	DefaultWarmup   = 2 * time.Second
	DefaultCatchUp  = 2 * time.Second
	DefaultSettle   = 30 * time.Second
)

// UsageError reports invalid options, one line per fault: what is wrong and how to fix it.
// Nothing was measured.
type UsageError struct{ faults []string }

func (e *UsageError) Error() string { return strings.Join(e.faults, "\n") }

// Faults collects everything that is wrong with some options.
type Faults []string

// Add adds a fault.
func (f *Faults) Add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

// AtLeast adds a fault if the value of a flag is below its least one.
func (f *Faults) AtLeast(flag string, got, least int) {
	if got < least {
		f.Add("%s is %d: use at least %d", flag, got, least)
	}
}

// Between adds a fault if the value of a flag is not between two others.
func (f *Faults) Between(flag string, got, least, most int) {
	if got < least || got > most {
		f.Add("%s is %d: use %d to %d", flag, got, least, most)
	}
}

// HTTP adds a fault if the value of a flag is set, and not an http or https URL.
func (f *Faults) HTTP(flag, got string) {
	u, err := url.Parse(got)
	if got != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		f.Add("%s is %q: use an http or https URL", flag, got)
	}
}

func (f Faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return &UsageError{f}
}

// target is where and how a fleet connects.
type target struct {
	url      *url.URL // where subscribers connect
	publish  *url.URL // where publishers do
	protocol Protocol
	audience *audience // nil in other protocols than Centrifugo's
	addr     string    // resolved once, not for each connection
	hello    string
	sources  int
	timeout  time.Duration
	compress bool // ask for compression
	bare     bool // no upgrade: a plain TCP socket
	once     bool // close after the upgrade

	tls        *tls.Config // also of a ws address, for POSTs to an https one
	handshakes *handshakes
}

func (o *Options) setDefaults() {
	setDefault(&o.URL, "ws://127.0.0.1:8000")
	setDefault(&o.Protocol, Raw)
	setDefault(&o.Path, o.Protocol.path())
	setDefault(&o.Channel, "lobby")
	setDefault(&o.Channels, 1)
	setDefault(&o.Loops, runtime.NumCPU())
	setDefault(&o.Dialing, 64)
	setDefault(&o.Timeout, DefaultTimeout)
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// sourcesMost keeps within 127.0.0.0/24.
const sourcesMost = 250

// resolve checks what concerns the server and resolves its address.
func (o *Options) resolve(f *Faults) target {
	t := target{hello: o.Hello, sources: o.Sources, timeout: o.Timeout, protocol: o.Protocol, handshakes: &handshakes{}}
	o.Protocol.check(f)
	t.audience = o.audience(f)
	if o.Protocol == SSE && o.Hello != "" {
		f.Add("--hello needs a WebSocket: it does not work with --protocol sse")
	}
	if o.Loops < 0 || o.Loops > 64 {
		f.Add("--loops is %d: use 1 to 64, or 0 for one per core", o.Loops)
	}
	f.AtLeast("--dialing", o.Dialing, 1)
	if o.Sources < 0 || o.Sources > sourcesMost {
		f.Add("--sources is %d: use 1 to %d, or 0 for the default", o.Sources, sourcesMost)
	}
	u, err := url.Parse(o.URL)
	switch {
	case err != nil:
		f.Add("--url %q is not a URL: use one such as ws://127.0.0.1:8000", o.URL)
		return t
	case u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "":
		f.Add("--url %q is not a WebSocket URL: use one such as ws://127.0.0.1:8000 or wss://127.0.0.1:8443", o.URL)
		return t
	}
	t.tls = o.tlsConfig(f, u.Hostname())
	if u.Path == "" || u.Path == "/" {
		path, query, _ := strings.Cut(o.Path, "?")
		u.Path, u.RawQuery = "/"+strings.TrimPrefix(path, "/"), query
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), map[string]string{"ws": "80", "wss": "443"}[u.Scheme])
	}
	addr, err := net.ResolveTCPAddr("tcp", host)
	if err != nil {
		f.Add("--url %s: %v", o.URL, err)
		return t
	}
	if t.url, t.publish, err = o.Protocol.addresses(u, o.Channel); err != nil {
		f.Add("--url %s, --path %s: %v", o.URL, o.Path, err)
	}
	t.addr = addr.String()
	t.setSources(addr.IP)
	return t
}

// others returns further nodes, which differ from the first in their addresses only.
func (o *FanoutOptions) others(f *Faults) (nodes []target) {
	for _, u := range o.Nodes {
		if len(*f) > 0 {
			break // they have the same faults
		}
		other := o.Options
		other.URL = u
		nodes = append(nodes, other.resolve(f))
	}
	return nodes
}

// with returns all nodes: the run's first and others.
func (r *Run) with(others []target) []target {
	for i := range others {
		others[i].audience, others[i].handshakes = r.target.audience, r.target.handshakes
	}
	return append([]target{r.target}, others...)
}

// setSources settles the local addresses: many ports are needed to connect to
// one server port, and a closed connection keeps its port for a minute.
func (t *target) setSources(server net.IP) {
	switch {
	case !server.IsLoopback() || server.To4() == nil:
		t.sources = 0 // the system chooses
	case t.sources == 0:
		t.sources = 32
	}
}
