package gateway

import (
	"io"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/setting"
)

// Raw is what clients of raw WebSocket and SSE (/ws, /sse, /echo) may do.
type Raw int

const (
	// RawDefault is RawPublish if only this machine can reach the listener and no
	// proxies are configured, and RawListen otherwise. Serve decides by the address of
	// its listener. If Tokens or Namespaces is set, it decides instead.
	RawDefault Raw = iota
	// RawPublish: clients may subscribe, and their messages are published in their channel.
	RawPublish
	// RawListen: clients may only subscribe. A client that sends a message to a channel is
	// disconnected with code 1008. /echo still works.
	RawListen
	// RawOff: the paths of raw WebSocket and SSE return 404.
	RawOff
)

// String returns the setting as a word: "default", "publish", "listen" or "off".
func (r Raw) String() string {
	switch r {
	case RawPublish:
		return "publish"
	case RawListen:
		return "listen"
	case RawOff:
		return "off"
	}
	return "default"
}

// Refuse is how a new connection that exceeds a limit is refused.
type Refuse int

const (
	// RefuseHTTP responds to the request with 429 or 503 and Retry-After.
	RefuseHTTP Refuse = iota
	// RefuseClose accepts an upgrade and closes it with code 1013, because a web page
	// cannot see the status of a refused upgrade.
	RefuseClose
)

// String returns the setting as a word: "http" or "close".
func (r Refuse) String() string {
	if r == RefuseClose {
		return "close"
	}
	return "http"
}

// SlowRule specifies what happens to slow subscribers of channels whose names match
// Pattern, in which * stands for any run of characters.
type SlowRule struct {
	Pattern string
	// Skip: instead of being disconnected with code 1013, a slow subscriber continues with
	// the newest publication and is notified of a gap. Subscribers whose format cannot
	// express that (raw WebSocket without format=json) are disconnected all the same.
	Skip bool
}

// Config holds the settings of a Server. The zero value is ready for use: in every
// field, zero means the default stated in its comment. Where a comment says so, a
// negative value means off or no limit. Error messages show it as "off".
type Config struct {
	// Loops is the number of event loops, 1 to 1024. Each owns a share of the connections
	// and uses up to one core. Default: GOMAXPROCS.
	Loops int
	// BatchWindow is the minimum time between two sweeps of one channel, at most 1s. With
	// 10ms, a busy channel sends each subscriber one write per 10 ms, and a publication
	// is delayed by up to 10 ms. Default: 0, send at once.
	BatchWindow time.Duration

	// WSPaths are additional paths that are served like /ws.
	WSPaths []string
	// Subprotocols are the supported WebSocket subprotocols. The first one that a client
	// offers and that is in this list is chosen. Default: none.
	Subprotocols []string
	// Raw is what clients of raw WebSocket and SSE may do.
	Raw Raw
	// Tokens, if set, verifies clients' tokens. The caller closes it, after Shutdown.
	//
	// With Tokens or Namespaces set, a client may do what its token and its channel's
	// namespace allow. With neither, every client may subscribe to any channel, and
	// publish as Raw says.
	Tokens *auth.Verifier
	// Namespaces holds the options of channels by the part of their name before ':'.
	Namespaces *namespace.Set
	// Insecure allows every client to do everything and ignores tokens. It is
	// for trials: Serve returns ErrInsecure for a listener that other machines can reach.
	Insecure bool
	// AllowedOrigins are the origins whose pages may connect, in addition to the
	// gateway's own host: "https://app.example.com", "https://*.example.com", "null", or
	// "*" for every page of every site.
	AllowedOrigins []string

	// History is how many publications each channel keeps for clients that reconnect, at
	// most 1,048,576. Histories count against MaxBuffered. A channel without subscribers
	// that has a history counts against MaxChannels, but gives way to a new channel. If
	// Namespaces is set, it decides instead. Negative: no history. Default: 100.
	History int
	// HistoryTTL is how long a publication is kept, at least 1s. If Namespaces is set, it
	// decides instead. Default: 5m.
	HistoryTTL time.Duration
	// HistoryBytes bounds the history of one channel in bytes: payloads plus 40 bytes for
	// each. A larger message is not kept. Default: 1 MiB.
	HistoryBytes int
	// Greeting is the first message sent to each raw WebSocket and SSE client.
	// Default: none.
	Greeting string
	// NoPage turns off the demo page that "/" shows in a browser.
	NoPage bool
	// WebRoot is a directory whose files are served instead of the page.
	WebRoot string
	// PublishURL is the URL of the internal listener, without a path, that the page
	// shows in its example of publishing. Default: none.
	PublishURL string

	// MaxConnections bounds the WebSocket and SSE connections. Default: the process's
	// limit on file descriptors, less a reserve for handshakes, loops and files.
	MaxConnections int
	// MaxHandshakes bounds the connections whose request is not complete. Beyond that,
	// the one that has waited longest for its client's bytes is closed. Default: 128.
	MaxHandshakes int
	// HandshakeTimeout is how long the TLS handshake and the request head may take.
	// Default: 5s.
	HandshakeTimeout time.Duration
	// MaxMessage bounds one message in bytes, all its fragments together, 125 B to 64
	// MiB. A client that sends more is disconnected with code 1009. Default: 64 KiB.
	MaxMessage int
	// MaxFragments bounds the frames of one message. A client that sends more is
	// disconnected with code 1008. Default: 64.
	MaxFragments int
	// MaxChannels bounds the channels that exist at the same time. Default: 100,000.
	MaxChannels int
	// ChannelBuffer bounds the size of one channel's log in bytes, counting frames plus 24
	// bytes each: how far its slowest subscriber may be behind its fastest. It is
	// rounded up to a power of two. The log's memory can reach two and a half times as
	// much when traffic alternates between large and tiny messages. At least twice
	// MaxMessage plus 2 KiB, at most 1 GiB. Default: 256 KiB.
	ChannelBuffer int
	// MaxPending bounds the bytes that wait to be sent on one connection outside of
	// channel logs: replies, and the rest of a partly written frame. A connection with
	// more is closed with code 1013. At least MaxMessage plus 32 KiB. Default: 256 KiB.
	MaxPending int
	// MaxBuffered bounds in bytes the channel logs, histories, incomplete messages and
	// pending bytes of the whole process: three eighths for logs, one eighth for
	// histories, one half for connections, divided among the loops. At least eight times
	// ChannelBuffer. Default: 512 MiB, or half of the memory limit if that is less.
	MaxBuffered int

	// PingInterval is how long a client may be silent before it is pinged. Negative:
	// never. Default: 25s.
	PingInterval time.Duration
	// PongTimeout is how long a client may stay silent after a ping, at least 1s.
	// Default: 10s.
	PongTimeout time.Duration
	// WriteTimeout is how long a client's socket may accept nothing while data is
	// waiting to be sent. Negative: no limit. Default: 10s.
	WriteTimeout time.Duration
	// CloseTimeout is how long the gateway tries to send a closing connection its last
	// bytes and waits for its Close frame. Default: 5s.
	CloseTimeout time.Duration
	// SendBuffer bounds the bytes that the kernel holds for a client that does not read
	// (SO_SNDBUF), at least 4 KiB. Negative: the kernel's default. Default: 64 KiB.
	SendBuffer int

	// TrustedProxies are the peers whose X-Forwarded-For is trusted. The client is the
	// rightmost address in it that is not one of these. Default: none.
	TrustedProxies []netip.Prefix
	// ProxyProtocol are the peers whose connections must begin with a PROXY header,
	// version 1 or 2. From other peers the header is not accepted. Default: none.
	ProxyProtocol []netip.Prefix
	// MaxPerAddress bounds the open connections of one IPv4 address or one IPv6 /64. The
	// default does not apply to clients on this machine; an explicit value does.
	// Negative: no limit. Default: 200.
	MaxPerAddress int
	// AddressRate bounds the new connections per second of one IPv4 address or one IPv6
	// /64, with bursts of five times as many. The default does not apply to clients on
	// this machine; an explicit value does. Negative: no limit. Default: 20.
	AddressRate int
	// AcceptRate bounds the new connections per second of all clients. Default: 0, no
	// limit.
	AcceptRate int
	// MemoryLimit is the memory limit of the process in bytes, at least 32 MiB. The Go
	// garbage collector targets 90 % of it, and new connections are refused above 95 %.
	// Negative: no limit. Default: the cgroup's limit, if any.
	MemoryLimit int64
	// Refuse is how new connections that exceed a limit are refused.
	Refuse Refuse

	// SlowPolicy is what happens to slow subscribers, by channel. The first rule whose
	// pattern matches applies. Default: they are disconnected.
	SlowPolicy []SlowRule
	// MessageRate bounds the messages per second of one connection, with bursts of twice
	// as many. A client that sends more is disconnected with code 1008. The default does
	// not apply to clients on this machine; an explicit value does. Negative: no limit.
	// Default: 100.
	MessageRate int
	// ControlRate is the same limit for control frames (pings and pongs). Default: 10.
	ControlRate int
	// ChannelRate bounds the publications per second to one channel. Beyond that,
	// clients wait, Publish returns ErrRate if its context ends, and HTTP publishers get
	// 429. Default: 0, no limit.
	ChannelRate int
	// JoinRate bounds the subscriptions per second to one channel that notifies its
	// subscribers of joins and leaves. Further ones are refused with error 111, except
	// subscriptions made by a token or through the API. Negative: no limit. Default:
	// 1,000.
	JoinRate int
	// MessageTimeout is how long a client may take to send a message it has begun, at
	// least 1s. After that it is disconnected with code 1008. Default: 10s.
	MessageTimeout time.Duration
	// UserTimeout is how long sent bytes may stay unacknowledged, or the peer's window
	// closed, before the kernel ends the connection (TCP_USER_TIMEOUT). It must be longer
	// than WriteTimeout and CloseTimeout, so that they can send the client a reason.
	// Negative: the kernel's default, about 15 minutes. Default: 20s, or 5s more than the
	// longer of the two; negative if WriteTimeout is.
	UserTimeout time.Duration
	// NotsentLowat bounds the bytes that wait in the kernel unsent (TCP_NOTSENT_LOWAT),
	// at least 2 KiB. Negative: limited only by SendBuffer. Default: negative.
	NotsentLowat int

	// LoopTimeout is how long an event loop may be stuck before [Server.Failed] delivers
	// ErrLoopStuck, in whole seconds, at least 11s. Negative: never. Default: 30s.
	LoopTimeout time.Duration

	// Name is this node's name in the HTTP API. Default: the host name.
	Name string
	// Version is the program's version, which clients of the Centrifugo protocol receive
	// when they connect. Default: "".
	Version string
	// NoClients turns off the paths of the Centrifugo protocol.
	NoClients bool

	// OnMessage, if set, is called with every message from a client before it is published.
	// The message is published only if it returns true. It runs on the client's event
	// loop and must not block: every connection of that loop waits for it. The payload is
	// valid, and must not be changed, until it returns.
	OnMessage func(m Message) (publish bool)

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

// The defaults of Config's fields.
const (
	DefaultHistory          = 100
	DefaultHistoryTTL       = 5 * time.Minute
	DefaultHistoryBytes     = 1 << 20
	DefaultMaxHandshakes    = 128
	DefaultHandshakeTimeout = 5 * time.Second
	DefaultMaxMessage       = 64 << 10
	DefaultMaxFragments     = 64
	DefaultMaxChannels      = 100_000
	DefaultChannelBuffer    = 256 << 10
	DefaultMaxPending       = 256 << 10
	DefaultMaxBuffered      = 512 << 20
	DefaultPingInterval     = 25 * time.Second
	DefaultPongTimeout      = 10 * time.Second
	DefaultWriteTimeout     = 10 * time.Second
	DefaultCloseTimeout     = 5 * time.Second
	DefaultSendBuffer       = 64 << 10
	DefaultMaxPerAddress    = 200
	DefaultAddressRate      = 20
	DefaultMessageRate      = 100
	DefaultControlRate      = 10
	DefaultJoinRate         = 1000
	DefaultMessageTimeout   = 10 * time.Second
	DefaultLoopTimeout      = 30 * time.Second
	DefaultUserTimeout      = 20 * time.Second
)

// pendingReadMax is how many bytes may wait for a connection before it is no
// longer read. pendingSlack is what one turn may add to that besides a reply:
// control frames and the rest of a cut frame's neighbourhood.
const (
	pendingReadMax = 16 << 10
	pendingSlack   = 16 << 10
)

// withDefaults fills in what was left zero.
func (c Config) withDefaults() Config {
	def(&c.Loops, runtime.GOMAXPROCS(0))
	def(&c.History, DefaultHistory)
	def(&c.HistoryTTL, DefaultHistoryTTL)
	def(&c.HistoryBytes, DefaultHistoryBytes)
	def(&c.MaxHandshakes, DefaultMaxHandshakes)
	def(&c.HandshakeTimeout, DefaultHandshakeTimeout)
	def(&c.MaxMessage, DefaultMaxMessage)
	def(&c.MaxFragments, DefaultMaxFragments)
	def(&c.MaxChannels, DefaultMaxChannels)
	def(&c.ChannelBuffer, DefaultChannelBuffer)
	def(&c.MaxPending, DefaultMaxPending)
	def(&c.MaxBuffered, DefaultMaxBuffered)
	def(&c.PingInterval, DefaultPingInterval)
	def(&c.PongTimeout, DefaultPongTimeout)
	def(&c.WriteTimeout, DefaultWriteTimeout)
	def(&c.CloseTimeout, DefaultCloseTimeout)
	def(&c.SendBuffer, DefaultSendBuffer)
	def(&c.MessageTimeout, DefaultMessageTimeout)
	def(&c.LoopTimeout, DefaultLoopTimeout)
	if c.WriteTimeout < 0 {
		def(&c.UserTimeout, -1) // it would end clients that may stay without reading
	}
	def(&c.UserTimeout, max(DefaultUserTimeout, c.WriteTimeout+5*time.Second, c.CloseTimeout+5*time.Second))
	def(&c.NotsentLowat, -1)
	if c.Name == "" {
		c.Name, _ = os.Hostname() // "" where it is not known
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError + 1}))
	}
	return c
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
