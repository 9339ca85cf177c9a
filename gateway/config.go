package gateway

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"strconv"
	"time"

	"sluice/gateway/access"
	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/edge"
	"sluice/gateway/edge/admit"
	"sluice/gateway/engine/backing"
	"sluice/gateway/hook"
	"sluice/gateway/loop"
	"sluice/gateway/rate"
	"sluice/gateway/raw"
	"sluice/gateway/setting"
	"sluice/gateway/wire/deflate"
	"sluice/poller"
)

// Raw is what clients of raw WebSocket and SSE (/ws, /sse, /echo) may do.
type Raw = raw.Access

const (
	RawDefault = raw.AccessDefault
	RawPublish = raw.AccessPublish
	RawListen  = raw.AccessListen
	RawOff     = raw.AccessOff
)

// Refuse is how a new connection that exceeds a limit is refused.
type Refuse = edge.Refuse

const (
	RefuseHTTP  = edge.RefuseHTTP
	RefuseClose = edge.RefuseClose
)

// Demo is whether the demo page shows the gateway's numbers and can bring visitors.
type Demo int

const (
	// DemoAuto: it does in a browser on this machine, for a listener on a loopback address,
	// if no proxies are configured. Everybody else gets a page without them.
	DemoAuto Demo = iota
	// DemoOff: it does not.
	DemoOff
)

// Compression is whether clients that ask for it receive publications compressed.
type Compression int

const (
	// CompressionOff: they do not.
	CompressionOff Compression = iota
	// CompressionShared: a publication is compressed once for all of them, as permessage-deflate without
	// context takeover over WebSocket, and as gzip in an event stream. It costs no memory per connection.
	CompressionShared
)

// SlowRule specifies what happens to slow subscribers of channels whose names match Pattern.
type SlowRule = loop.SlowRule

// Store says where histories are stored, and how channels are shared between gateways.
type Store = backing.Store

// Message is a message to publish, or one that a client sent.
type Message struct {
	Channel string // 1 to 255 bytes of UTF-8 without control characters or white space
	Payload []byte // UTF-8 unless Binary
	Binary  bool
	Conn    uint64 // ID of the sending connection, which no other connection of any node has; 0 if the message did not come from a client
}

// Config holds the settings of a Server. The zero value is ready for use: in every field, zero
// means the default, and in a field with the tag off, a negative value means what that tag says.
// The tags of a field that operators can set hold its default and bounds, and the name and help
// that programs such as cmd/sluice show (package setting).
type Config struct {
	// TrustedProxies are the peers whose X-Forwarded-For is trusted. The client is the
	// rightmost address in it that is not one of these.
	TrustedProxies []netip.Prefix `name:"trusted-proxies" group:"Admission" help:"proxies whose X-Forwarded-For header is trusted: addresses or networks. Without it, all clients behind a proxy count as one"`
	// ProxyProtocol are the peers whose connections must begin with a PROXY header,
	// version 1 or 2. From other peers the header is not accepted.
	ProxyProtocol []netip.Prefix `name:"proxy-protocol" group:"Admission" help:"proxies that send a PROXY protocol header (version 1 or 2): addresses or networks. The header is required from these proxies and rejected from all others"`
	// MaxPerAddress bounds the open connections of one IPv4 address or one IPv6 /64. The
	// default does not apply to clients on this machine; an explicit value does.
	MaxPerAddress int `name:"max-per-address" group:"Admission" default:"auto" auto:"200, unlimited for loopback" off:"no limit" reload:"on SIGHUP" help:"maximum open connections from one IPv4 address or one IPv6 /64"`
	// AddressRate bounds the new connections per second of one IPv4 address or one IPv6
	// /64, with bursts of five times as many. The default does not apply to clients on
	// this machine; an explicit value does.
	AddressRate int `name:"address-rate" group:"Admission" unit:"/s" default:"auto" auto:"20/s, unlimited for loopback" max:"1000000, or off" off:"no limit" reload:"on SIGHUP" help:"new connections per second from one address (burst 5x)"`
	// AcceptRate bounds the new connections per second of all clients.
	AcceptRate int `name:"accept-rate" group:"Admission" unit:"/s" default:"off" max:"1000000, or off" off:"no limit" reload:"on SIGHUP" help:"new connections per second from all clients together, or off"`
	// MemoryLimit is the memory limit of the process in bytes. The Go garbage collector
	// targets 90 % of it, and new connections are refused above 95 %. Default: the cgroup's.
	MemoryLimit int64 `name:"memory-limit" group:"Admission" unit:"bytes" default:"auto" min:"32MiB" small:"is too small for the process itself" off:"no limit" help:"memory limit of the process; new connections are refused above 95%. auto: the cgroup's limit, if there is one"`
	// Refuse is how new connections that exceed a limit are refused.
	Refuse Refuse `name:"refuse" group:"Admission" words:"http,close" default:"http" help:"how new connections over a limit are refused: http responds with 429 or 503; close accepts the WebSocket and closes it with code 1013, which a web page can see"`

	// Raw is what clients of raw WebSocket and SSE may do.
	Raw Raw `name:"raw" group:"Clients" words:"auto,publish,listen,off" default:"auto" help:"what raw WebSocket and SSE clients may do: publish, listen (subscribe only) or off. auto: publish if tokens, namespaces, or hooks that decide who may connect or subscribe are configured, which then decide about publishing, too; also if only this machine can connect and no proxy is configured; otherwise listen"`
	// Compression is whether clients that ask for it receive publications compressed.
	Compression Compression `name:"compression" group:"Clients" words:"off,shared" default:"off" help:"compression for clients that ask for it: shared compresses each publication once for all of them (permessage-deflate over WebSocket, gzip over SSE), without memory per connection; off never compresses"`
	// CompressionMin is the size from which on a publication is compressed, in bytes, with what the client's
	// format adds to it.
	CompressionMin int `name:"compression-min" group:"Clients" unit:"bytes" default:"128" min:"1" max:"64MiB" help:"smallest publication that is compressed, including what the client's format adds; smaller ones would hardly shrink"`
	// AllowedOrigins are the origins whose pages may connect, in addition to the
	// gateway's own host: "https://app.example.com", "https://*.example.com", "null", or
	// "*" for every page of every site.
	AllowedOrigins []string `name:"allowed-origins" group:"Clients" reload:"on SIGHUP" help:"origins of other sites whose pages may connect, such as https://app.example.com or https://*.example.com; * allows every site"`
	// Subprotocols are the supported WebSocket subprotocols. The first one that a client
	// offers and that is in this list is chosen.
	Subprotocols []string `name:"subprotocols" group:"Clients" help:"WebSocket subprotocols to accept; the first of the client's offers that is in this list is chosen"`
	// WSPaths are additional paths that are served like /ws.
	WSPaths []string `name:"ws-path" group:"Clients" meta:"PATH" help:"additional path for raw WebSocket, same as /ws (repeatable)"`
	// Greeting is the first message sent to each raw WebSocket and SSE client.
	Greeting string `name:"greeting" group:"Clients" meta:"TEXT" help:"first message sent to each raw WebSocket and SSE client"`
	// NoPage turns off the demo page that "/" shows in a browser.
	NoPage bool `name:"page" group:"Clients" default:"on" help:"demo page at /, for trying the gateway in a browser: on or off"`
	// WebRoot is a directory whose files are served instead of the page.
	WebRoot string `name:"web-root" group:"Clients" meta:"DIR" help:"directory to serve at / instead of the demo page"`
	// Demo is whether the demo page shows the gateway's numbers and can bring visitors.
	Demo Demo `name:"demo" group:"Clients" words:"auto,off" default:"auto" help:"live numbers and test visitors on the demo page: auto shows them in a browser on this machine, if the listener's address is loopback and no proxy is configured; off never shows them"`

	// NoClients turns off the paths of the Centrifugo protocol.
	NoClients bool `name:"client-protocol" group:"Channels and permissions" default:"on" help:"Centrifugo protocol at /connection/...: on or off"`
	// Tokens, if set, verifies clients' tokens. The caller closes it, after Shutdown.
	//
	// With Tokens or Namespaces set, a client may do what its token and its channel's
	// namespace allow. With neither, every client may subscribe to any channel, and
	// publish as Raw says.
	Tokens *auth.Verifier `reload:"on SIGHUP"`
	// Namespaces holds the options of channels by the part of their name before ':'.
	Namespaces *namespace.Set `reload:"on SIGHUP"`
	// Insecure allows every client to do everything and ignores tokens. It is
	// for trials: Serve returns ErrInsecure for a listener that other machines can reach.
	Insecure bool

	// History is how many publications each channel keeps for clients that reconnect.
	// Histories count against MaxBuffered. A channel without subscribers that has a history
	// counts against MaxChannels, but gives way to a new channel. If Namespaces is set, it
	// decides instead.
	History int `name:"history" group:"History" default:"100" max:"1048576" off:"no history" reload:"on SIGHUP" help:"publications kept per channel for clients that reconnect, or off"`
	// HistoryTTL is how long a publication is kept. If Namespaces is set, it decides instead.
	HistoryTTL time.Duration `name:"history-ttl" group:"History" default:"5m" min:"1s" reload:"on SIGHUP" help:"how long a publication is kept in history"`
	// HistoryBytes bounds the history of one channel in bytes: payloads plus 40 bytes for
	// each. A larger message is not kept.
	HistoryBytes int `name:"history-bytes" group:"History" unit:"bytes" default:"1MiB" min:"1KiB, or {History} off" help:"bytes of history kept per channel; a message larger than this is not kept"`

	Store Store // where histories are stored, and how channels are shared

	// MaxConnections bounds the WebSocket and SSE connections. Default: the process's
	// limit on file descriptors, less a reserve for handshakes, loops and files.
	MaxConnections int `name:"max-connections" group:"Limits" default:"auto" reload:"on SIGHUP" help:"maximum open connections, WebSocket and SSE together; auto: as many as the file descriptor limit allows"`
	// MaxHandshakes bounds the connections whose request is not complete. Beyond that,
	// the one that has waited longest for its client's bytes is closed.
	MaxHandshakes int `name:"max-handshakes" group:"Limits" default:"128" min:"1" max:"100000" help:"maximum connections that have not finished their HTTP request; beyond that, the one that has kept the gateway waiting longest is closed"`
	// MaxMessage bounds one message in bytes, all its fragments together. A client that
	// sends more is disconnected with code 1009.
	MaxMessage int `name:"max-message" group:"Limits" unit:"bytes" default:"64KiB" min:"125B, the size of a control frame" max:"64MiB" large:"is too large: messages are encoded in one piece" help:"maximum size of a message from a client, all its fragments together; a larger one closes the connection with code 1009"`
	// MaxFragments bounds the frames of one message. A client that sends more is
	// disconnected with code 1008.
	MaxFragments int `name:"max-fragments" group:"Limits" default:"64" min:"1" help:"maximum frames in a message from a client; exceeding this closes the connection with code 1008"`
	// MaxChannels bounds the channels that exist at the same time.
	MaxChannels int `name:"max-channels" group:"Limits" default:"100000" min:"1" reload:"on SIGHUP" help:"maximum channels that exist at the same time"`
	// ChannelLimit bounds the subscriptions of one connection. A client that subscribes to another channel gets an error,
	// and one whose token or connect hook names more is disconnected.
	ChannelLimit int `name:"channel-limit" group:"Limits" default:"128" min:"1" max:"1024" reload:"on SIGHUP" help:"maximum subscriptions of one connection (Centrifugo protocol)"`
	// MaxPending bounds the bytes that wait to be sent on one connection outside of
	// channel logs: replies, and the rest of a partly written frame. A connection with
	// more is closed with code 1013. At least MaxMessage plus 32 KiB.
	MaxPending int `name:"max-pending" group:"Limits" unit:"bytes" default:"256KiB" help:"maximum bytes queued for one connection, apart from its channels' logs; exceeding this closes it with code 1013"`
	// MaxBuffered bounds in bytes the channel logs, histories, incomplete messages and
	// pending bytes of the whole process: three eighths for logs, one eighth for
	// histories, one half for connections, divided among the loops. At least eight times
	// ChannelBuffer. It is lowered to half of the memory limit.
	MaxBuffered int `name:"max-buffered" group:"Limits" unit:"bytes" default:"512MiB" help:"maximum memory for all channel logs, histories and connection queues together"`

	// SlowPolicy is what happens to slow subscribers, by channel. The first rule whose
	// pattern matches applies. Default: they are disconnected.
	SlowPolicy []SlowRule `name:"slow-policy" group:"Slow and hostile clients" words:"*=skip" reload:"on SIGHUP" help:"action for slow subscribers, by channel: PATTERN=close or PATTERN=skip, such as prices.*=skip; the first match applies, otherwise close. skip continues with the newest publication and reports the gap if the client's format can express it"`
	// MessageRate bounds the messages per second of one connection, with bursts of twice
	// as many. A client that sends more is disconnected with code 1008. The default does
	// not apply to clients on this machine; an explicit value does.
	MessageRate int `name:"message-rate" group:"Slow and hostile clients" unit:"/s" default:"auto" auto:"100/s, unlimited for loopback" max:"1000000, or off" off:"no limit" reload:"on SIGHUP" help:"messages per second from one connection (burst 2x); beyond that, the connection is closed with code 1008"`
	// ControlRate is the same limit for control frames (pings and pongs).
	ControlRate int `name:"control-rate" group:"Slow and hostile clients" unit:"/s" default:"auto" auto:"10/s, unlimited for loopback" max:"1000000, or off" off:"no limit" reload:"on SIGHUP" help:"control frames per second from one connection (burst 2x); beyond that, the connection is closed with code 1008"`
	// ChannelRate bounds the publications per second to one channel. Beyond that,
	// clients wait, Publish returns ErrRate if its context ends, and HTTP publishers get 429.
	ChannelRate int `name:"channel-rate" group:"Slow and hostile clients" unit:"/s" default:"off" max:"1000000, or off" off:"no limit" reload:"on SIGHUP" help:"publications per second in one channel, or off; above that, clients wait and HTTP publishers get 429"`
	// JoinRate bounds the subscriptions per second to one channel that notifies its
	// subscribers of joins and leaves. Further ones are refused with error 111, except
	// subscriptions made by a token or through the API.
	JoinRate int `name:"join-rate" group:"Slow and hostile clients" unit:"/s" default:"auto" auto:"1000/s" max:"1000000, or off" off:"no limit" reload:"on SIGHUP" help:"subscriptions per second to one channel that sends join and leave messages; above that, clients get error 111 and retry"`
	// MessageTimeout is how long a client may take to send a message it has begun. After
	// that it is disconnected with code 1008.
	MessageTimeout time.Duration `name:"message-timeout" group:"Slow and hostile clients" default:"10s" min:"1s" help:"time limit for a client to finish a message that it has begun"`
	// UserTimeout is how long sent bytes may stay unacknowledged, or the peer's window
	// closed, before the kernel ends the connection (TCP_USER_TIMEOUT). It must be longer
	// than WriteTimeout and CloseTimeout, so that they can send the client a reason. The
	// default is negative if WriteTimeout is.
	UserTimeout time.Duration `name:"tcp-user-timeout" group:"Slow and hostile clients" default:"auto" auto:"20s, or 5s more than the longer of {WriteTimeout} and {CloseTimeout}" off:"the kernel's default, about 15 minutes" help:"how long sent data may stay unacknowledged by the client's kernel before the connection is dropped (TCP_USER_TIMEOUT), or off"`
	// NotsentLowat bounds the bytes that wait in the kernel unsent (TCP_NOTSENT_LOWAT).
	NotsentLowat int `name:"notsent-lowat" group:"Slow and hostile clients" unit:"bytes" default:"off" min:"2KiB" small:"is too small for TCP to work well" off:"limited by {SendBuffer} only" help:"unsent bytes per connection that may wait in the kernel (TCP_NOTSENT_LOWAT); off: limited by {SendBuffer} only"`

	// Loops is the number of event loops. Each owns a share of the connections and uses up
	// to one core. Default: GOMAXPROCS.
	Loops int `name:"loops" group:"Delivery" default:"auto" min:"1" max:"1024" large:"is too many; one per core is enough" help:"event loops; auto: one per CPU core"`
	// ChannelBuffer bounds the size of one channel's log in bytes, counting frames plus 24
	// bytes each: how far its slowest subscriber may be behind its fastest. It is
	// rounded up to a power of two. The log's memory can reach two and a half times as
	// much when traffic alternates between large and tiny messages. At least twice
	// MaxMessage plus 2 KiB.
	ChannelBuffer int `name:"channel-buffer" group:"Delivery" unit:"bytes" default:"256KiB" max:"1GiB" help:"log size of one channel: how far its slowest subscriber may fall behind"`
	// BatchWindow is the minimum time between two sweeps of one channel. With 10ms, a busy
	// channel sends each subscriber one write per 10 ms, and a publication is delayed by up
	// to 10 ms. Zero sends at once.
	BatchWindow time.Duration `name:"batch-window" group:"Delivery" default:"0s" max:"1s" large:"is out of range; use 0 to 1s" help:"minimum time between two writes to the subscribers of a channel, up to 1s; adds latency, but saves CPU per delivery"`
	// SendBuffer bounds the bytes that the kernel holds for a client that does not read.
	SendBuffer int `name:"send-buffer" group:"Delivery" unit:"bytes" default:"64KiB" min:"4KiB" small:"is too small for TCP to work well" off:"the kernel's own default" help:"kernel send buffer per connection (SO_SNDBUF); off: the kernel's own default"`

	// HandshakeTimeout is how long the TLS handshake and the request head may take.
	HandshakeTimeout time.Duration `name:"handshake-timeout" group:"Timeouts" default:"5s" help:"time limit for a client to send its whole request head"`
	// PingInterval is how long a client may be silent before it is pinged.
	PingInterval time.Duration `name:"ping-interval" group:"Timeouts" default:"25s" min:"1s" off:"never" help:"silence after which a client is pinged, or off"`
	// PongTimeout is how long a client may stay silent after a ping.
	PongTimeout time.Duration `name:"pong-timeout" group:"Timeouts" default:"10s" min:"1s" help:"time limit for a client to respond to a ping, before its connection is closed"`
	// WriteTimeout is how long a client's socket may accept nothing while data is waiting.
	WriteTimeout time.Duration `name:"write-timeout" group:"Timeouts" default:"10s" min:"1s" off:"no limit" help:"how long a client may go without reading while data is waiting for it, or off"`
	// CloseTimeout is how long the gateway tries to send a closing connection its last
	// bytes and waits for its Close frame.
	CloseTimeout time.Duration `name:"close-timeout" group:"Timeouts" default:"5s" min:"1s" help:"time limit for the closing handshake, including the last bytes to the client"`
	// DrainDelay is how long a server that shuts down still accepts connections, while it is not ready
	// any more: the time that a load balancer needs to notice.
	DrainDelay time.Duration `name:"drain-delay" group:"Timeouts" default:"0s" reload:"on SIGHUP" help:"how long the gateway still accepts clients after SIGINT or SIGTERM, while /readyz responds with 503: the time that load balancers need to notice"`
	// DrainDuration is how long it takes to close all connections that have to reconnect, at a pace,
	// so that they do not come back all at once. A few are closed without a pace.
	DrainDuration time.Duration `name:"drain-duration" group:"Timeouts" default:"10s" min:"1s" off:"all at once" help:"time over which clients that must reconnect are told to, so that they do not all come back at once, or off: all clients when the gateway stops, and those that have lost messages. It takes less time for few clients, because at least a hundred are told per second and event loop"`
	// LoopTimeout is how long an event loop may be stuck before [Server.Failed] delivers
	// ErrLoopStuck, in whole seconds.
	LoopTimeout time.Duration `name:"loop-timeout" group:"Timeouts" default:"30s" min:"11s, or off" small:"is too short: the process must run long enough to log a stuck loop's stack, which happens after 10 s" off:"never" help:"how long an event loop may be stuck before the process exits with status 70: 11s or more, or off. /readyz responds with 503 after 2s, /healthz after 10s"`

	// Inherited is what [TakeOver] passes to Takeover.Build, for a server that takes over from another process; nil for
	// any other.
	Inherited *Inheritance
	// PublishURL is the URL of the internal listener, without a path, that the page
	// shows in its example of publishing.
	PublishURL string
	// Name is this node's name, which no other live node may have. Default: the host name; with DataDir,
	// a name that was drawn once and is kept there; with NATSURL, the host name and random characters.
	Name string `name:"node-name" group:"Store and nodes" meta:"TEXT" help:"name of this gateway among others and in the server API (/api/info), which no other live one may have; without it, the host name, with {DataDir} a name that is drawn once and kept there, and with {NATSURL} the host name and random characters"`
	// Version is the program's version, which clients of the Centrifugo protocol receive
	// when they connect.
	Version string
	// Commit is the commit that the program was built from, for the metric
	// sluice_build_info.
	Commit string

	// Hooks, if set, decide who may connect, subscribe, publish and stay (package hook; hook.NewSet makes a set of
	// functions). A connect or subscribe hook counts like Tokens: the node is not open any more. Without
	// Namespaces, the hooks called hook.Default decide about every channel.
	Hooks *hook.Set `reload:"on SIGHUP"`

	// Webhooks are HTTP endpoints that are notified of events: that a channel has its first subscriber or has none any more,
	// that clients come and go, and what is published. Events are receivers in this process. Without any of them clients cost nothing
	// more.
	Webhooks []Webhook `reload:"on SIGHUP"`
	Events   []EventReceiver
	// VacatedDelay is for how long a channel has no subscribers before they are notified of that, because a page that is loaded anew
	// leaves its channels for a moment; one that has subscribers again in that time was never vacated. 0: 5 s. Negative: not at all.
	VacatedDelay time.Duration

	// Visitors, if set, starts the visitors that a user can bring on the demo page: a process
	// of the program's own. It is written lines of JSON with commands, and lines that the page shows are
	// read from it. Close asks it to end; it has ended when Read returns io.EOF, which
	// the gateway waits for. cmd/sluice has package bench/visitors for it.
	Visitors func() (io.ReadWriteCloser, error)

	// CertificateExpiry, if set, returns when the certificate in use for TLS expires, for
	// the metrics.
	CertificateExpiry func() time.Time

	// FieldName, if set, returns the name to use for a field of Config in the log and in
	// responses to clients, for a program whose users know the settings by other names,
	// such as flags. It is also called with "APIKey", the field of [Internal], and with
	// "ServeInternal", which stands for the internal listener. Default: the name itself.
	FieldName setting.Names

	// Logger receives the log. At most a few records of each kind are written per second;
	// the rest are counted, except at debug level. Payloads are never logged. Default:
	// nothing is logged.
	Logger *slog.Logger
}

// automatic has the values that "auto" stands for.
var automatic = setting.Auto[Config]()

// withDefaults fills in what was left zero.
func (c Config) withDefaults() Config {
	setting.Defaults(&c)
	if c.Loops == 0 {
		c.Loops = runtime.GOMAXPROCS(0)
	}
	if c.UserTimeout == 0 {
		c.UserTimeout = max(automatic.UserTimeout, c.WriteTimeout+5*time.Second, c.CloseTimeout+5*time.Second)
		if c.WriteTimeout < 0 {
			c.UserTimeout = -1 // it would end clients that may stay without reading
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// fitDescriptors settles MaxConnections by the limit on file descriptors, of which some are kept for everything else.
func (c *Config) fitDescriptors(limit, kept int) error {
	if c.MaxConnections == 0 {
		c.MaxConnections = limit - kept
	}
	if c.MaxConnections <= limit-kept {
		return nil
	}
	return Faults{{
		Field: "MaxConnections", Value: strconv.Itoa(c.MaxConnections),
		Why: fmt.Sprintf("needs more file descriptors than the limit of %d allows (%d are reserved for files, loops and handshakes)", limit, kept),
		Fix: fmt.Sprintf("raise the limit (ulimit -n, LimitNOFILE=), or use at most %d", limit-kept),
	}}
}

// access returns the configuration of rights.
func (c *Config) access() access.Config {
	return access.Config{Insecure: c.Insecure, Tokens: c.Tokens, Namespaces: c.Namespaces, History: c.History, HistoryTTL: c.HistoryTTL, Hooks: c.Hooks, ChannelLimit: c.ChannelLimit}
}

// loops returns the configuration of the event loops, but for what only the server has.
func (c *Config) loops() loop.Config {
	cfg := loop.Config{
		Loops: c.Loops, BatchWindow: c.BatchWindow, PingInterval: c.PingInterval, PongTimeout: c.PongTimeout, WriteTimeout: c.WriteTimeout,
		CloseTimeout: c.CloseTimeout, MessageTimeout: c.MessageTimeout, LoopTimeout: c.LoopTimeout,
		MaxMessage: c.MaxMessage, MaxFragments: c.MaxFragments, MaxPending: c.MaxPending, ChannelBuffer: c.ChannelBuffer,
		HeldMax:       max(c.MaxBuffered/2/c.Loops, c.MaxPending),
		Rates:         c.rates(),
		DrainDuration: c.DrainDuration, Logger: c.Logger,
	}
	if c.Compression == CompressionShared {
		// A publisher compresses as long as it runs, so there is seldom use for more.
		cfg.Compressors = deflate.New(c.CompressionMin, runtime.GOMAXPROCS(0)+1)
	}
	return cfg
}

// edge returns the configuration of the edge, but for what only the server has.
func (c *Config) edge() edge.Config {
	rate := rateFor(c.AddressRate, automatic.AddressRate, false)
	return edge.Config{
		Live: edge.Live{MaxConnections: c.MaxConnections, Limits: admit.Limits{
			Open: rateFor(c.MaxPerAddress, automatic.MaxPerAddress, false), Rate: rate, Burst: 5 * rate, TotalRate: c.AcceptRate,
			// What was asked for holds for this machine's clients too.
			LoopbackOpen: c.MaxPerAddress > 0, LoopbackRate: c.AddressRate > 0,
		}},
		MaxHandshakes: c.MaxHandshakes, HandshakeTimeout: c.HandshakeTimeout,
		Compression:  c.Compression == CompressionShared,
		CloseRefused: c.Refuse == RefuseClose, TrustedProxies: c.TrustedProxies, ProxyProtocol: c.ProxyProtocol,
		Socket: poller.Options{SendBuffer: c.SendBuffer, NotsentLowat: c.NotsentLowat, UserTimeout: c.UserTimeout, NoDelay: true},
		Logger: c.Logger,
	}
}

// rates returns the limits of each connection.
func (c *Config) rates() loop.ClientRates {
	return loop.ClientRates{Message: clientRateFor(c.MessageRate, automatic.MessageRate), Control: clientRateFor(c.ControlRate, automatic.ControlRate)}
}

// clientRateFor returns the limits of a rate for each connection, with bursts of twice as many.
func clientRateFor(configured, otherwise int) loop.ClientRate {
	limit := func(local bool) rate.Limit {
		n := rateFor(configured, otherwise, local)
		return rate.PerSecond(n, 2*n)
	}
	return loop.ClientRate{Remote: limit(false), Local: limit(true)}
}

// rateFor returns the rate that applies to a client: none to one of this machine, unless it
// was asked for.
func rateFor(configured, otherwise int, local bool) int {
	switch {
	case configured > 0:
		return configured
	case configured < 0, local:
		return 0
	}
	return otherwise
}
