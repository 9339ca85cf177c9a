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

// Raw says what clients of the raw protocol (/ws, /echo) may do.
type Raw int

const (
	// RawDefault is RawPublish where only this machine can reach the listeners, and
	// no proxy is listed that brings others, else RawListen. Serve decides it from its listener's address.
	RawDefault Raw = iota
	// RawPublish: clients listen, and what they send goes to their channel.
	RawPublish
	// RawListen: clients only listen; one that sends a message to a channel is
	// closed with 1008. /echo still answers.
	RawListen
	// RawOff: the raw paths answer 404.
	RawOff
)

// String returns the flag's word.
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

// Refuse says how a newcomer is refused for a limit.
type Refuse int

const (
	// RefuseHTTP answers the request: 429 or 503, with Retry-After.
	RefuseHTTP Refuse = iota
	// RefuseClose accepts an upgrade and closes it with 1013, because a browser's
	// page does not see the status of a refused upgrade.
	RefuseClose
)

// String returns the flag's word.
func (r Refuse) String() string {
	if r == RefuseClose {
		return "close"
	}
	return "http"
}

// SlowRule is what becomes of slow subscribers of some channels. In Pattern *
// stands for any run of characters.
type SlowRule struct {
	Pattern string
	// Skip: instead of being closed with 1013 they go on with the newest
	// publication, and are told that there is a gap. Only where the wire format can
	// tell it (format=json, event streams); others are closed all the same.
	Skip bool
}

// Config is what a Server can be told. In every field zero means the default
// that its comment gives; where a comment says so, negative means off. The
// comment names the flag of `sluice serve`, which errors use too.
type Config struct {
	// Loops is the number of event loops (--loops). Each owns its share of
	// the connections and runs on a core of its own while there is work.
	// Default: GOMAXPROCS.
	Loops int
	// BatchWindow is the least time between two sweeps of one channel
	// (--batch-window): 10ms lets a busy channel collect what 10 ms bring into one
	// write for each subscriber and delays a publication by up to as much.
	// Default: 0, every sweep as soon as it can be.
	BatchWindow time.Duration

	// WSPaths are paths that serve what /ws serves (--ws-path).
	WSPaths []string
	// Subprotocols are the WebSocket subprotocols that may be agreed on
	// (--subprotocols); the first that a client offers and this list names is
	// chosen. Default: none.
	Subprotocols []string
	// Raw is what raw clients may do (--raw).
	Raw Raw
	// Tokens, where set, verifies the tokens with which clients say who they are
	// (--token-hmac-secret-file and its like). It is the caller's to close, after
	// Shutdown. Namespaces are what holds for channels, by the part of their name
	// before ':' (--namespaces). Where either is set a client may do what its token
	// and the channel's namespace say; else whatever the protocol can, but publishing
	// only as Raw says. Insecure lets everybody do everything all the same
	// (--insecure): for trials, where only this machine can reach the listeners.
	Tokens     *auth.Verifier
	Namespaces *namespace.Set
	Insecure   bool
	// AllowedOrigins are the Origins that may connect beside the page's own host
	// (--allowed-origins): "https://app.example.com", "https://*.example.com",
	// "null", or "*" for every page of every site.
	AllowedOrigins []string

	// History is how many publications of each channel are kept for clients that
	// ask for them (--history), for HistoryTTL at most (--history-ttl) and at most
	// HistoryBytes of them together (--history-bytes, payloads and 40 bytes for
	// each; a larger message is not kept). They count against MaxBuffered, and the
	// channels that nobody reads while something of them is kept against
	// MaxChannels, but give way to new ones. Negative: none are kept. Default: 100,
	// 5m, 1 MiB.
	History      int
	HistoryTTL   time.Duration
	HistoryBytes int
	// Greeting is sent to each client before anything else (--greeting). Default:
	// nothing.
	Greeting string
	// Page is what "/" shows in a browser: a page to try the gateway with. NoPage
	// leaves it out (--page=off); WebRoot is a directory whose files are served
	// instead (--web-root). PublishURL is where the page says that programs
	// publish, the URL of the internal listener without a path; "" leaves it open.
	NoPage     bool
	WebRoot    string
	PublishURL string

	// MaxConnections bounds the WebSocket connections (--max-connections).
	// Default: the process's descriptor limit less a reserve and MaxHandshakes.
	MaxConnections int
	// MaxHandshakes bounds the connections that have not finished their request
	// (--max-handshakes). When all places are taken the one that has waited longest for
	// its client's bytes is closed. Default: 128.
	MaxHandshakes int
	// HandshakeTimeout is the time for a whole request head (--handshake-timeout).
	// Default: 5s.
	HandshakeTimeout time.Duration
	// MaxMessage bounds one message of a client in bytes, its fragments
	// together (--max-message); more is answered with close code 1009. Default: 64 KiB.
	MaxMessage int
	// MaxFragments bounds the frames of one message (--max-fragments); more is
	// answered with 1008. Default: 64.
	MaxFragments int
	// MaxChannels bounds the channels that exist at a time (--max-channels).
	// Default: 100,000.
	MaxChannels int
	// ChannelBuffer bounds one channel's log in bytes (--channel-buffer): how far
	// the fastest and the slowest subscriber can be apart, frames and 24 bytes
	// for each. Rounded up to a power of two; the rings that hold it take up to two and
	// a half times as much when traffic changes between large and tiny messages.
	// At least twice MaxMessage and 2 KiB more. Default: 256 KiB.
	ChannelBuffer int
	// MaxPending bounds in bytes what is kept for one connection beside the
	// channel's log, replies and the rest of a cut frame (--max-pending). A
	// connection with more is closed with 1013. At least MaxMessage and 32 KiB
	// more. Default: 256 KiB.
	MaxPending int
	// MaxBuffered bounds in bytes what the process keeps in channel logs,
	// histories, incomplete messages and pending bytes together (--max-buffered):
	// three eighths for logs, one for histories, one half divided among the loops.
	// At least eight times ChannelBuffer. Default: 512 MiB.
	MaxBuffered int

	// PingInterval is how long a client may be silent before it is pinged
	// (--ping-interval). Negative: never. Default: 25s.
	PingInterval time.Duration
	// PongTimeout is how long a pinged client may stay silent after that
	// (--pong-timeout). Default: 10s.
	PongTimeout time.Duration
	// WriteTimeout is how long a client may take no byte while bytes wait for it
	// (--write-timeout). Negative: forever. Default: 10s.
	WriteTimeout time.Duration
	// CloseTimeout is how long a connection that is being closed is offered its
	// last bytes and waited for (--close-timeout). Default: 5s.
	CloseTimeout time.Duration
	// SendBuffer bounds what the kernel holds for a client that does not read
	// (SO_SNDBUF, --send-buffer). Negative: the kernel's own default. Default: 64 KiB.
	SendBuffer int

	// TrustedProxies are the peers whose X-Forwarded-For is believed
	// (--trusted-proxies): the client is the rightmost address there that is not
	// one of them. ProxyProtocol are the peers whose connections begin with a header
	// of the PROXY protocol, version 1 or 2 (--proxy-protocol); from them it is
	// required, from others not taken. Default: none.
	TrustedProxies []netip.Prefix
	ProxyProtocol  []netip.Prefix
	// MaxPerAddress bounds the open connections of one IPv4 address or one /64 of
	// IPv6 (--max-per-address), AddressRate how many of it are accepted a second
	// (--address-rate), five times that at once. The defaults are not for clients of
	// this machine, explicit values are. Negative: no bound. Default: 200, 20.
	MaxPerAddress int
	AddressRate   int
	// AcceptRate bounds the connections that are accepted a second in all
	// (--accept-rate). Default: 0, no bound.
	AcceptRate int
	// MemoryLimit is the memory in bytes that the process may have (--memory-limit).
	// Go's collector is told 90 % of it; newcomers are refused above 95 %. Negative:
	// no limit. Default: that of the cgroup, if it has one.
	MemoryLimit int64
	// Refuse is how newcomers are refused for a limit (--refuse).
	Refuse Refuse

	// SlowPolicy says what becomes of a subscriber that is too slow, by its channel
	// (--slow-policy). The first rule whose pattern fits holds. Default: closed.
	SlowPolicy []SlowRule
	// MessageRate bounds the messages a second of one connection (--message-rate),
	// ControlRate its control frames (--control-rate); twice that at once. More is
	// answered with 1008. The defaults are not for clients of this machine,
	// explicit values are. Negative: no bound. Default: 100, 10.
	MessageRate int
	ControlRate int
	// ChannelRate bounds the publications a second of one channel (--channel-rate).
	// More are pushed back: clients wait, HTTP publishers are answered 429. Default:
	// 0, no bound.
	ChannelRate int
	// JoinRate bounds the subscriptions a second to one channel whose joins and leaves are
	// told to its subscribers (--join-rate); as many at once. More are refused for the moment,
	// with error 111. Those that a token or the API asks for are not. Negative: no bound.
	// Default: 1,000.
	JoinRate int
	// MessageTimeout is the time in which a message that has begun must be whole
	// (--message-timeout); after it the client is closed with 1008. Default: 10s.
	MessageTimeout time.Duration
	// UserTimeout bounds how long the peer's kernel may leave bytes
	// unacknowledged or its window closed (TCP_USER_TIMEOUT, --tcp-user-timeout).
	// More than WriteTimeout and than CloseTimeout, which tell the client why.
	// Negative: the kernel's own, about 15 minutes. Default: 20s, or 5s more than the
	// longer of the two; negative where WriteTimeout is.
	UserTimeout time.Duration
	// NotsentLowat bounds the bytes that wait in the kernel without having been sent
	// (TCP_NOTSENT_LOWAT, --notsent-lowat). Negative: the kernel's own, SendBuffer.
	// Default: negative.
	NotsentLowat int

	// LoopTimeout is for how long a loop may not tick before Server.Failed returns
	// ErrLoopStuck (--loop-timeout): at least 11s, in whole seconds. Negative: for
	// ever. Default: 30s.
	LoopTimeout time.Duration

	// Name is what the API calls this node. Default: the host's name.
	Name string
	// Version is what clients are told of the program, in the reply to their connect.
	// Default: "".
	Version string
	// NoClients turns the client protocol's paths off (--client-protocol off).
	NoClients bool

	// OnMessage, where set, is given every message of a client before it is
	// published; it runs on the client's loop and must not block. Only what it
	// returns true for is published. The payload is valid during the call.
	OnMessage func(m Message) (publish bool)

	// CertificateExpiry, where set, tells the metrics when the certificate ends that is
	// shown to TLS clients.
	CertificateExpiry func() time.Time

	// Logger takes the log, of which records that repeat themselves are cut to a few a
	// second and a count. Payloads are never logged. Default: none is written.
	Logger *slog.Logger
}

// Defaults of Config, for help texts and tests.
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
		def(&c.UserTimeout, -1) // it would end who takes nothing, who may
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

// Validate reports every fault at once (errors.Join), each as what, why and how
// to mend it.
func (c Config) Validate() error {
	c = c.withDefaults()
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	atLeast := func(flag string, got, least int) {
		if got < least {
			fault("--%s %d is too small: give at least %d", flag, got, least)
		}
	}
	// Time is swept once a second, so nothing shorter can be kept.
	seconds := func(flag string, d time.Duration) {
		if d > 0 && d < time.Second {
			fault("--%s %v is too short: time is checked once a second: give at least 1s", flag, d)
		}
	}
	positive := func(flag string, d time.Duration) {
		if d < 0 {
			fault("--%s %v must be positive: otherwise a silent peer would keep its place forever", flag, d)
		}
	}
	atLeast("loops", c.Loops, 1)
	if c.Loops > 1024 {
		fault("--loops %d is too many: one per core is enough", c.Loops)
	}
	if c.BatchWindow < 0 || c.BatchWindow > time.Second {
		fault("--batch-window %v is out of range: give 0 to 1s", c.BatchWindow)
	}
	for _, p := range c.WSPaths {
		if p == "/" {
			fault("--ws-path / is already served: an upgrade there joins the channel lobby: leave it out")
		} else if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "?#% ") || len(p) > 255 {
			fault("--ws-path %q is not a plain path: give a path such as /socket", p)
		}
	}
	for _, p := range c.Subprotocols {
		if !handshake.Token(p) {
			fault("--subprotocols %q is not a token (RFC 6455 section 4.1): give names such as chat,v2.chat", p)
		}
	}
	if _, _, err := handshake.CompileOrigins(c.AllowedOrigins); err != nil {
		fault("--allowed-origins: %w", err)
	}
	if c.MaxConnections < 0 {
		fault("--max-connections %d is negative: leave it out for as many as the file descriptor limit allows", c.MaxConnections)
	}
	atLeast("max-handshakes", c.MaxHandshakes, 1)
	positive("handshake-timeout", c.HandshakeTimeout)
	if c.MaxMessage < 125 {
		fault("--max-message %s is too small: give at least 125B, the size of a control frame", bytesText(c.MaxMessage))
	}
	if c.MaxMessage > 64<<20 {
		fault("--max-message %s is too large: a message is encoded in one piece: give at most 64MiB", bytesText(c.MaxMessage))
	}
	atLeast("max-fragments", c.MaxFragments, 1)
	atLeast("max-channels", c.MaxChannels, 1)
	if least := 2 * (c.MaxMessage + 1024); c.ChannelBuffer < least {
		fault("--channel-buffer %s cannot hold two messages of --max-message %s: give at least %s", bytesText(c.ChannelBuffer), bytesText(c.MaxMessage), bytesText(least))
	}
	if c.ChannelBuffer > 1<<30 {
		fault("--channel-buffer %s is too large: give at most 1GiB", bytesText(c.ChannelBuffer))
	}
	if least := c.MaxMessage + pendingReadMax + pendingSlack; c.MaxPending < least {
		fault("--max-pending %s cannot hold the reply to a message of --max-message %s: give at least %s", bytesText(c.MaxPending), bytesText(c.MaxMessage), bytesText(least))
	}
	if least := 8 * c.ChannelBuffer; c.MaxBuffered < least {
		fault("--max-buffered %s cannot hold a few channels of --channel-buffer %s: give at least %s", bytesText(c.MaxBuffered), bytesText(c.ChannelBuffer), bytesText(least))
	}
	if c.History > 1<<20 {
		fault("--history %d is too large: give at most 1048576", c.History)
	}
	seconds("history-ttl", c.HistoryTTL)
	positive("history-ttl", c.HistoryTTL)
	if c.HistoryBytes < 1<<10 {
		fault("--history-bytes %s is too small: give at least 1KiB, or --history off", bytesText(c.HistoryBytes))
	}
	if len(c.Greeting) > c.MaxMessage {
		fault("--greeting has %d bytes, more than --max-message %s: give a shorter one", len(c.Greeting), bytesText(c.MaxMessage))
	}
	if !utf8.ValidString(c.Greeting) {
		fault("--greeting is not UTF-8: it is sent as text: give a UTF-8 text")
	}
	if c.NoPage && c.WebRoot != "" {
		fault("--web-root %s has no effect with --page=off: give only one of them", c.WebRoot)
	}
	seconds("ping-interval", c.PingInterval)
	seconds("pong-timeout", c.PongTimeout)
	positive("pong-timeout", c.PongTimeout)
	seconds("write-timeout", c.WriteTimeout)
	seconds("close-timeout", c.CloseTimeout)
	positive("close-timeout", c.CloseTimeout)
	if c.SendBuffer > 0 && c.SendBuffer < 4<<10 {
		fault("--send-buffer %s is too small for TCP to work well: give at least 4KiB", bytesText(c.SendBuffer))
	}
	for flag, rate := range map[string]int{"message-rate": c.MessageRate, "control-rate": c.ControlRate, "address-rate": c.AddressRate, "accept-rate": c.AcceptRate, "channel-rate": c.ChannelRate, "join-rate": c.JoinRate} {
		if rate > rateMax {
			fault("--%s %d is too large: give at most %d, or off", flag, rate, rateMax)
		}
	}
	if c.AcceptRate < 0 || c.ChannelRate < 0 {
		fault("--accept-rate %d and --channel-rate %d must not be negative: leave out the one that should have no limit", c.AcceptRate, c.ChannelRate)
	}
	if c.MemoryLimit > 0 && c.MemoryLimit < 32<<20 {
		fault("--memory-limit %s is too small for the process itself: give at least 32MiB", bytesText(int(c.MemoryLimit)))
	}
	for _, r := range c.SlowPolicy {
		if r.Pattern == "" {
			fault("--slow-policy has an empty pattern: give one such as prices.*=skip, or *=skip for all channels")
		}
	}
	if c.LoopTimeout > 0 && c.LoopTimeout <= unhealthyAfter*time.Second {
		fault("--loop-timeout %v is too short: a stuck loop's stack is logged after %d s, and the process must live that long: give at least %ds, or off", c.LoopTimeout, unhealthyAfter, unhealthyAfter+1)
	}
	seconds("message-timeout", c.MessageTimeout)
	positive("message-timeout", c.MessageTimeout)
	if least := max(c.WriteTimeout, c.CloseTimeout); c.UserTimeout > 0 && c.UserTimeout <= least {
		fault("--tcp-user-timeout %v is too short: the kernel would end connections before --write-timeout %v and --close-timeout %v can send the reason: give more than %v", c.UserTimeout, c.WriteTimeout, c.CloseTimeout, least)
	}
	if c.NotsentLowat > 0 && c.NotsentLowat < 2<<10 {
		fault("--notsent-lowat %s is too small for TCP to work well: give at least 2KiB", bytesText(c.NotsentLowat))
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
