package gateway

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/gateway/auth"
	"sluice/gateway/handshake"
	"sluice/gateway/namespace"
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

// String returns the flag's value.
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

// String returns the flag's value.
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
// negative value means off or no limit. Comments name the flag of `sluice serve` that
// sets the field, because error texts name it.
type Config struct {
	// Loops is the number of event loops (--loops), 1 to 1024. Each owns a share of the
	// connections and uses up to one core. Default: GOMAXPROCS.
	Loops int
	// BatchWindow is the minimum time between two sweeps of one channel
	// (--batch-window), at most 1s. With 10ms, a busy channel sends each subscriber one
	// write per 10 ms, and a publication is delayed by up to 10 ms. Default: 0, send at
	// once.
	BatchWindow time.Duration

	// WSPaths are additional paths that are served like /ws (--ws-path).
	WSPaths []string
	// Subprotocols are the supported WebSocket subprotocols (--subprotocols). The first
	// one that a client offers and that is in this list is chosen. Default: none.
	Subprotocols []string
	// Raw is what clients of raw WebSocket and SSE may do (--raw).
	Raw Raw
	// Tokens, if set, verifies clients' tokens (--token-hmac-secret-file and the other
	// key flags). The caller closes it, after Shutdown.
	//
	// With Tokens or Namespaces set, a client may do what its token and its channel's
	// namespace allow. With neither, every client may subscribe to any channel, and
	// publish as Raw says.
	Tokens *auth.Verifier
	// Namespaces holds the options of channels by the part of their name before ':'
	// (--namespaces).
	Namespaces *namespace.Set
	// Insecure allows every client to do everything and ignores tokens (--insecure). It is
	// for trials: Serve returns ErrInsecure for a listener that other machines can reach.
	Insecure bool
	// AllowedOrigins are the origins whose pages may connect, in addition to the
	// gateway's own host (--allowed-origins): "https://app.example.com",
	// "https://*.example.com", "null", or "*" for every page of every site.
	AllowedOrigins []string

	// History is how many publications each channel keeps for clients that reconnect
	// (--history), at most 1,048,576. Histories count against MaxBuffered. A channel
	// without subscribers that has a history counts against MaxChannels, but gives way
	// to a new channel. If Namespaces is set, it decides instead. Negative: no
	// history. Default: 100.
	History int
	// HistoryTTL is how long a publication is kept (--history-ttl), at least 1s. If
	// Namespaces is set, it decides instead. Default: 5m.
	HistoryTTL time.Duration
	// HistoryBytes bounds the history of one channel in bytes: payloads plus 40 bytes
	// each (--history-bytes). A larger message is not kept. Default: 1 MiB.
	HistoryBytes int
	// Greeting is the first message sent to each raw WebSocket and SSE client
	// (--greeting). Default: none.
	Greeting string
	// NoPage turns off the demo page that "/" shows in a browser (--page=off).
	NoPage bool
	// WebRoot is a directory whose files are served instead of the page (--web-root).
	WebRoot string
	// PublishURL is the URL of the internal listener, without a path, that the page
	// shows in its example of publishing. Default: none.
	PublishURL string

	// MaxConnections bounds the WebSocket and SSE connections (--max-connections).
	// Default: the process's limit on file descriptors, less a reserve for handshakes,
	// loops and files.
	MaxConnections int
	// MaxHandshakes bounds the connections whose request is not complete
	// (--max-handshakes). Beyond that, the one that has waited longest for its client's
	// bytes is closed. Default: 128.
	MaxHandshakes int
	// HandshakeTimeout is how long the TLS handshake and the request head may take
	// (--handshake-timeout). Default: 5s.
	HandshakeTimeout time.Duration
	// MaxMessage bounds one message in bytes, all its fragments together
	// (--max-message), 125 B to 64 MiB. A client that sends more is disconnected with code
	// 1009. Default: 64 KiB.
	MaxMessage int
	// MaxFragments bounds the frames of one message (--max-fragments). A client that
	// sends more is disconnected with code 1008. Default: 64.
	MaxFragments int
	// MaxChannels bounds the channels that exist at the same time (--max-channels).
	// Default: 100,000.
	MaxChannels int
	// ChannelBuffer bounds the size of one channel's log in bytes, counting frames plus 24
	// bytes each (--channel-buffer): how far its slowest subscriber may be behind its fastest. It is
	// rounded up to a power of two. The log's memory can reach two and a half times as
	// much when traffic alternates between large and tiny messages. At least twice
	// MaxMessage plus 2 KiB, at most 1 GiB. Default: 256 KiB.
	ChannelBuffer int
	// MaxPending bounds the bytes that wait to be sent on one connection outside of
	// channel logs: replies, and the rest of a partly written frame (--max-pending). A
	// connection with more is closed with code 1013. At least MaxMessage plus 32 KiB.
	// Default: 256 KiB.
	MaxPending int
	// MaxBuffered bounds in bytes the channel logs, histories, incomplete messages and
	// pending bytes of the whole process (--max-buffered): three eighths for logs, one
	// eighth for histories, one half for connections, divided among the loops. At least
	// eight times ChannelBuffer. Default: 512 MiB, or half of the memory limit if that is
	// less.
	MaxBuffered int

	// PingInterval is how long a client may be silent before it is pinged
	// (--ping-interval). Negative: never. Default: 25s.
	PingInterval time.Duration
	// PongTimeout is how long a client may stay silent after a ping (--pong-timeout), at
	// least 1s. Default: 10s.
	PongTimeout time.Duration
	// WriteTimeout is how long a client's socket may accept nothing while data is
	// waiting to be sent (--write-timeout). Negative: no limit. Default: 10s.
	WriteTimeout time.Duration
	// CloseTimeout is how long the gateway tries to send a closing connection its last
	// bytes and waits for its Close frame (--close-timeout). Default: 5s.
	CloseTimeout time.Duration
	// SendBuffer bounds the bytes that the kernel holds for a client that does not read
	// (SO_SNDBUF, --send-buffer), at least 4 KiB. Negative: the kernel's default.
	// Default: 64 KiB.
	SendBuffer int

	// TrustedProxies are the peers whose X-Forwarded-For is trusted (--trusted-proxies).
	// The client is the rightmost address in it that is not one of these. Default: none.
	TrustedProxies []netip.Prefix
	// ProxyProtocol are the peers whose connections must begin with a PROXY header,
	// version 1 or 2 (--proxy-protocol). From other peers the header is not accepted.
	// Default: none.
	ProxyProtocol []netip.Prefix
	// MaxPerAddress bounds the open connections of one IPv4 address or one IPv6 /64
	// (--max-per-address). The default does not apply to clients on this machine; an
	// explicit value does. Negative: no limit. Default: 200.
	MaxPerAddress int
	// AddressRate bounds the new connections per second of one IPv4 address or one IPv6
	// /64, with bursts of five times as many (--address-rate). The default does not apply
	// to clients on this machine; an explicit value does. Negative: no limit.
	// Default: 20.
	AddressRate int
	// AcceptRate bounds the new connections per second of all clients (--accept-rate).
	// Default: 0, no limit.
	AcceptRate int
	// MemoryLimit is the memory limit of the process in bytes, at least 32 MiB
	// (--memory-limit). The Go garbage collector targets 90 % of it, and new connections
	// are refused above 95 %. Negative: no limit. Default: the cgroup's limit, if any.
	MemoryLimit int64
	// Refuse is how new connections that exceed a limit are refused (--refuse).
	Refuse Refuse

	// SlowPolicy is what happens to slow subscribers, by channel (--slow-policy). The
	// first rule whose pattern matches applies. Default: they are disconnected.
	SlowPolicy []SlowRule
	// MessageRate bounds the messages per second of one connection, with bursts of twice
	// as many (--message-rate). A client that sends more is disconnected with code 1008. The
	// default does not apply to clients on this machine; an explicit value does.
	// Negative: no limit. Default: 100.
	MessageRate int
	// ControlRate is the same limit for control frames (pings and pongs) (--control-rate).
	// Default: 10.
	ControlRate int
	// ChannelRate bounds the publications per second to one channel (--channel-rate).
	// Beyond that, clients wait, Publish returns ErrRate if its context ends, and HTTP
	// publishers get 429. Default: 0, no limit.
	ChannelRate int
	// JoinRate bounds the subscriptions per second to one channel that notifies its
	// subscribers of joins and leaves (--join-rate). Further ones are refused with
	// error 111, except subscriptions made by a token or through the API. Negative: no limit. Default: 1,000.
	JoinRate int
	// MessageTimeout is how long a client may take to send a message it has begun
	// (--message-timeout), at least 1s. After that it is disconnected with code 1008.
	// Default: 10s.
	MessageTimeout time.Duration
	// UserTimeout is how long sent bytes may stay unacknowledged, or the peer's window
	// closed, before the kernel ends the connection (TCP_USER_TIMEOUT,
	// --tcp-user-timeout). It must be longer than WriteTimeout and CloseTimeout, so that they
	// can send the client a reason. Negative: the kernel's default, about 15 minutes. Default:
	// 20s, or 5s more than the longer of the two; negative if WriteTimeout is.
	UserTimeout time.Duration
	// NotsentLowat bounds the bytes that wait in the kernel unsent (TCP_NOTSENT_LOWAT,
	// --notsent-lowat), at least 2 KiB. Negative: limited only by SendBuffer. Default:
	// negative.
	NotsentLowat int

	// LoopTimeout is how long an event loop may be stuck before [Server.Failed] delivers
	// ErrLoopStuck (--loop-timeout), in whole seconds, at least 11s. Negative: never.
	// Default: 30s.
	LoopTimeout time.Duration

	// Name is this node's name in the HTTP API. Default: the host name.
	Name string
	// Version is the program's version, which clients of the Centrifugo protocol receive
	// when they connect. Default: "".
	Version string
	// NoClients turns off the paths of the Centrifugo protocol (--client-protocol off).
	NoClients bool

	// OnMessage, if set, is called with every message from a client before it is published.
	// The message is published only if it returns true. It runs on the client's event
	// loop and must not block: every connection of that loop waits for it. The payload is
	// valid, and must not be changed, until it returns.
	OnMessage func(m Message) (publish bool)

	// CertificateExpiry, if set, returns when the certificate in use for TLS expires, for
	// the metrics.
	CertificateExpiry func() time.Time

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

// Validate returns an error that joins all errors in the configuration, each saying what is
// wrong, why, and how to fix it.
func (c Config) Validate() error {
	c = c.withDefaults()
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	atLeast := func(flag string, got, least int) {
		if got < least {
			fault("--%s %d is too small: use at least %d", flag, got, least)
		}
	}
	// Time is swept once a second, so nothing shorter can be kept.
	seconds := func(flag string, d time.Duration) {
		if d > 0 && d < time.Second {
			fault("--%s %v is too short: timeouts are checked once a second; use at least 1s", flag, d)
		}
	}
	positive := func(flag string, d time.Duration) {
		if d < 0 {
			fault("--%s %v must be positive; otherwise a silent peer would stay connected forever", flag, d)
		}
	}
	atLeast("loops", c.Loops, 1)
	if c.Loops > 1024 {
		fault("--loops %d is too many: one per core is enough", c.Loops)
	}
	if c.BatchWindow < 0 || c.BatchWindow > time.Second {
		fault("--batch-window %v is out of range: use 0 to 1s", c.BatchWindow)
	}
	for _, p := range c.WSPaths {
		if p == "/" {
			fault("--ws-path / is already served (an upgrade there joins the channel lobby); remove it")
		} else if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "?#% ") || len(p) > 255 {
			fault("--ws-path %q must be a plain path such as /socket", p)
		}
	}
	for _, p := range c.Subprotocols {
		if !handshake.Token(p) {
			fault("--subprotocols %q is not a token (RFC 6455 section 4.1): use names such as chat,v2.chat", p)
		}
	}
	if _, _, err := handshake.CompileOrigins(c.AllowedOrigins); err != nil {
		fault("--allowed-origins: %w", err)
	}
	if c.MaxConnections < 0 {
		fault("--max-connections %d must not be negative; omit it for as many as the file descriptor limit allows", c.MaxConnections)
	}
	atLeast("max-handshakes", c.MaxHandshakes, 1)
	positive("handshake-timeout", c.HandshakeTimeout)
	if c.MaxMessage < 125 {
		fault("--max-message %s is too small: use at least 125B, the size of a control frame", bytesText(c.MaxMessage))
	}
	if c.MaxMessage > 64<<20 {
		fault("--max-message %s is too large: messages are encoded in one piece; use at most 64MiB", bytesText(c.MaxMessage))
	}
	atLeast("max-fragments", c.MaxFragments, 1)
	atLeast("max-channels", c.MaxChannels, 1)
	if least := 2 * (c.MaxMessage + 1024); c.ChannelBuffer < least {
		fault("--channel-buffer %s cannot hold two messages of --max-message %s: use at least %s", bytesText(c.ChannelBuffer), bytesText(c.MaxMessage), bytesText(least))
	}
	if c.ChannelBuffer > 1<<30 {
		fault("--channel-buffer %s is too large: use at most 1GiB", bytesText(c.ChannelBuffer))
	}
	if least := c.MaxMessage + pendingReadMax + pendingSlack; c.MaxPending < least {
		fault("--max-pending %s cannot hold the reply to a message of --max-message %s: use at least %s", bytesText(c.MaxPending), bytesText(c.MaxMessage), bytesText(least))
	}
	if least := 8 * c.ChannelBuffer; c.MaxBuffered < least {
		fault("--max-buffered %s cannot hold a few channels of --channel-buffer %s: use at least %s", bytesText(c.MaxBuffered), bytesText(c.ChannelBuffer), bytesText(least))
	}
	if c.History > 1<<20 {
		fault("--history %d is too large: use at most 1048576", c.History)
	}
	seconds("history-ttl", c.HistoryTTL)
	positive("history-ttl", c.HistoryTTL)
	if c.HistoryBytes < 1<<10 {
		fault("--history-bytes %s is too small: use at least 1KiB, or --history off", bytesText(c.HistoryBytes))
	}
	if len(c.Greeting) > c.MaxMessage {
		fault("--greeting has %d bytes, more than --max-message %s: use a shorter one", len(c.Greeting), bytesText(c.MaxMessage))
	}
	if !utf8.ValidString(c.Greeting) {
		fault("--greeting must be UTF-8, because it is sent as text")
	}
	if c.NoPage && c.WebRoot != "" {
		fault("--web-root %s has no effect with --page=off: use only one of them", c.WebRoot)
	}
	seconds("ping-interval", c.PingInterval)
	seconds("pong-timeout", c.PongTimeout)
	positive("pong-timeout", c.PongTimeout)
	seconds("write-timeout", c.WriteTimeout)
	seconds("close-timeout", c.CloseTimeout)
	positive("close-timeout", c.CloseTimeout)
	if c.SendBuffer > 0 && c.SendBuffer < 4<<10 {
		fault("--send-buffer %s is too small for TCP to work well: use at least 4KiB", bytesText(c.SendBuffer))
	}
	for flag, rate := range map[string]int{"message-rate": c.MessageRate, "control-rate": c.ControlRate, "address-rate": c.AddressRate, "accept-rate": c.AcceptRate, "channel-rate": c.ChannelRate, "join-rate": c.JoinRate} {
		if rate > rateMax {
			fault("--%s %d is too large: use at most %d, or off", flag, rate, rateMax)
		}
	}
	if c.AcceptRate < 0 || c.ChannelRate < 0 {
		fault("--accept-rate %d and --channel-rate %d must not be negative; omit a flag for no limit", c.AcceptRate, c.ChannelRate)
	}
	if c.MemoryLimit > 0 && c.MemoryLimit < 32<<20 {
		fault("--memory-limit %s is too small for the process itself: use at least 32MiB", bytesText(int(c.MemoryLimit)))
	}
	for _, r := range c.SlowPolicy {
		if r.Pattern == "" {
			fault("--slow-policy has an empty pattern: use one such as prices.*=skip, or *=skip for all channels")
		}
	}
	if c.LoopTimeout > 0 && c.LoopTimeout <= unhealthyAfter*time.Second {
		fault("--loop-timeout %v is too short: the process must run long enough to log a stuck loop's stack, which happens after %d s; use at least %ds, or off", c.LoopTimeout, unhealthyAfter, unhealthyAfter+1)
	}
	seconds("message-timeout", c.MessageTimeout)
	positive("message-timeout", c.MessageTimeout)
	if least := max(c.WriteTimeout, c.CloseTimeout); c.UserTimeout > 0 && c.UserTimeout <= least {
		fault("--tcp-user-timeout %v is too short: the kernel would end connections before --write-timeout %v and --close-timeout %v can send the reason; use more than %v", c.UserTimeout, c.WriteTimeout, c.CloseTimeout, least)
	}
	if c.NotsentLowat > 0 && c.NotsentLowat < 2<<10 {
		fault("--notsent-lowat %s is too small for TCP to work well: use at least 2KiB", bytesText(c.NotsentLowat))
	}
	return errors.Join(faults...)
}

// bytesText writes a size as flags take it, in the greatest unit that leaves a
// whole number.
func bytesText(n int) string {
	unit := 0
	for unit < 3 && n != 0 && n%1024 == 0 {
		n /= 1024
		unit++
	}
	return fmt.Sprint(n) + [...]string{"B", "KiB", "MiB", "GiB"}[unit]
}
