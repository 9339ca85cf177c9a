package main

import (
	"fmt"
	"strconv"
	"time"

	"sluice/gateway"
	"sluice/gateway/certificate"
)

// settings are what `serve` is told: the gateway's configuration and what the
// command itself needs.
type settings struct {
	gateway         gateway.Config // without what plan settles: Raw, NoPage, Refuse, MemoryLimit
	raw             string
	page            string
	listen          []string
	tlsListen       []string
	certificate     certificate.Files
	selfSigned      string // on or off
	internalListen  string
	apiKeyFile      string
	refuse          string
	access          accessFiles
	memoryLimit     int
	shutdownTimeout time.Duration
	logLevel        string
	logFormat       string
	config          string
}

// options binds every setting to its option.
func (s *settings) options() *options {
	o := &options{byName: map[string]*option{}, flags: layer{}, foreign: map[string]bool{}}
	g := &s.gateway

	in := o.in("Listen")
	in.texts(&s.listen, "listen", "ADDR", "127.0.0.1:8000", "where clients connect: HOST:PORT or unix:/path; repeatable;\nor off, where --tls-listen is enough", "off")
	in.text(&s.internalListen, "internal-listen", "ADDR", "127.0.0.1:9000", "where metrics, health, publishing and profiles are; or off", "off")
	in.text(&s.apiKeyFile, "api-key-file", "FILE", "", "a file with the key that the internal listener demands")

	s.tlsOptions(o.in("TLS"))
	s.admissionOptions(o.in("Who may come in"))

	in = o.in("Clients")
	in.word(&s.raw, "raw", "auto", "what clients may do: publish, listen (only), off; auto is\npublish where only this machine can connect and no proxy is\nlisted, or where keys or namespaces decide; else listen",
		"auto", "publish", "listen", "off")
	in.texts(&g.AllowedOrigins, "allowed-origins", "LIST", "", "other web origins whose pages may connect, such as\nhttps://app.example.com or https://*.example.com")
	in.texts(&g.Subprotocols, "subprotocols", "LIST", "", "WebSocket subprotocols that may be agreed on")
	in.texts(&g.WSPaths, "ws-path", "PATH", "", "a further path that serves what /ws serves; repeatable")
	in.text(&g.Greeting, "greeting", "TEXT", "", "sent to each client before anything else")
	in.word(&s.page, "page", "on", "the page at / to try the gateway with", "on", "off")
	in.text(&g.WebRoot, "web-root", "DIR", "", "a directory to serve at / instead of that page")

	s.accessOptions(o.in("Channels and rights"))

	in = o.in("History")
	in.count(&g.History, "history", strconv.Itoa(gateway.DefaultHistory), "off", "publications kept of each channel for clients that come back;\nor off")
	in.duration(&g.HistoryTTL, "history-ttl", formatDuration(gateway.DefaultHistoryTTL), zeroRefused, "how long they are kept")
	in.size(&g.HistoryBytes, "history-bytes", formatSize(gateway.DefaultHistoryBytes), false, "bytes kept of each channel; a larger message is not kept")

	in = o.in("Limits")
	in.count(&g.MaxConnections, "max-connections", "auto", "auto", "connections, WebSocket and event streams; auto is what\ndescriptors allow")
	in.count(&g.MaxHandshakes, "max-handshakes", strconv.Itoa(gateway.DefaultMaxHandshakes), "", "connections that have not finished their request")
	in.size(&g.MaxMessage, "max-message", formatSize(gateway.DefaultMaxMessage), false, "one message of a client, its fragments together")
	in.count(&g.MaxFragments, "max-fragments", strconv.Itoa(gateway.DefaultMaxFragments), "", "frames of one message")
	in.count(&g.MaxChannels, "max-channels", strconv.Itoa(gateway.DefaultMaxChannels), "", "channels at a time")
	in.size(&g.MaxPending, "max-pending", formatSize(gateway.DefaultMaxPending), false, "bytes kept for one connection beside the channels' logs")
	in.size(&g.MaxBuffered, "max-buffered", formatSize(gateway.DefaultMaxBuffered), false, "bytes kept for all channels and connections together")

	s.hostileOptions(o.in("Slow and hostile clients"))

	in = o.in("Delivery")
	in.count(&g.Loops, "loops", "auto", "auto", "event loops; auto is one for each core")
	in.size(&g.ChannelBuffer, "channel-buffer", formatSize(gateway.DefaultChannelBuffer), false, "how far a channel's slowest subscriber may be behind")
	in.duration(&g.BatchWindow, "batch-window", "0s", zeroAllowed, "least time between two writes of a channel: more latency,\nless CPU for each delivery")
	in.size(&g.SendBuffer, "send-buffer", formatSize(gateway.DefaultSendBuffer), true, "what the kernel holds for a client that does not read;\noff leaves it to the kernel")

	in = o.in("Timeouts")
	in.duration(&g.HandshakeTimeout, "handshake-timeout", formatDuration(gateway.DefaultHandshakeTimeout), zeroRefused, "for a client's whole request head")
	in.duration(&g.PingInterval, "ping-interval", formatDuration(gateway.DefaultPingInterval), zeroIsOff, "silence after which a client is pinged; or off")
	in.duration(&g.PongTimeout, "pong-timeout", formatDuration(gateway.DefaultPongTimeout), zeroRefused, "silence after a ping that ends the connection")
	in.duration(&g.WriteTimeout, "write-timeout", formatDuration(gateway.DefaultWriteTimeout), zeroIsOff, "how long a client may take no byte of what waits; or off")
	in.duration(&g.CloseTimeout, "close-timeout", formatDuration(gateway.DefaultCloseTimeout), zeroRefused, "for the closing handshake and a client's last bytes")
	in.duration(&g.LoopTimeout, "loop-timeout", formatDuration(gateway.DefaultLoopTimeout), zeroIsOff, "how long an event loop may be stuck before the process ends\nwith status 70; or off. After 2s /readyz answers 503, after\n10s /healthz")
	in.duration(&s.shutdownTimeout, "shutdown-timeout", "30s", zeroRefused, "for closing every connection after SIGINT or SIGTERM")

	in = o.in("Logging")
	in.word(&s.logLevel, "log-level", "info", "least level: debug, info, warn or error",
		"debug", "info", "warn", "error")
	in.word(&s.logFormat, "log-format", "auto", "auto (text on a terminal, else JSON), text or json",
		"auto", "text", "json")

	in = o.in("Configuration")
	in.text(&s.config, "config", "FILE", "", "a file of lines 'key = value'; keys are these flags without\nthe dashes. A # that begins a line or follows white space\nbegins a comment. Double quotes around a value, read as Go\nreads a string, keep what would be lost: a #, white space at\nits ends. A list may be repeated or given with commas, any\nother key only once")
	return o
}

func (s *settings) tlsOptions(in adder) {
	in.texts(&s.tlsListen, "tls-listen", "ADDR", "", "where clients connect with TLS: HOST:PORT or unix:/path;\nrepeatable, beside --listen")
	in.text(&s.certificate.Cert, "tls-cert", "FILE", "", "the certificate with its chain, PEM; read again when it\nchanges and at SIGHUP, as the other two")
	in.text(&s.certificate.Key, "tls-key", "FILE", "", "its private key, PEM")
	in.text(&s.certificate.ClientCA, "tls-client-ca", "FILE", "", "certificates, PEM: every TLS client must show one that they\nsigned")
	in.toggle(&s.selfSigned, "tls-self-signed", "for trials on loopback: a certificate made at the start")
}

// withoutLoopback says what auto means to a bound that is for each client.
const withoutLoopback = "; auto is %s, without\na bound for clients of this machine"

func (s *settings) admissionOptions(in adder) {
	g := &s.gateway
	in.prefixes(&g.TrustedProxies, "trusted-proxies", "peers whose X-Forwarded-For is believed: addresses or\nnetworks; without it all clients of a proxy count as one")
	in.prefixes(&g.ProxyProtocol, "proxy-protocol", "peers whose connections must begin with a header of the\nPROXY protocol (1 or 2); from others none is taken")
	in.bound(&g.MaxPerAddress, "max-per-address", "", "auto", fmt.Sprintf("connections of one address, of one /64 of IPv6"+withoutLoopback, strconv.Itoa(gateway.DefaultMaxPerAddress)))
	in.bound(&g.AddressRate, "address-rate", perSecond, "auto", fmt.Sprintf("new ones of it in a second, five times that at once"+withoutLoopback, formatRate(gateway.DefaultAddressRate)))
	in.bound(&g.AcceptRate, "accept-rate", perSecond, "off", "new connections of all in a second")
	in.size(&s.memoryLimit, "memory-limit", "auto", true, "of the process: above 95 % nobody new is let in; auto is what\nthe cgroup allows, if it says")
	in.word(&s.refuse, "refuse", "http", "how newcomers are refused: http answers 429 or 503, close\naccepts and closes with 1013, which a page can see", "http", "close")
}

func (s *settings) hostileOptions(in adder) {
	g := &s.gateway
	in.rules(&g.SlowPolicy, "slow-policy", "what becomes of slow subscribers, by channel, such as\nprices.*=skip: to the newest, with a record of the gap, where\nthe format has one; the first that fits, else close")
	in.bound(&g.MessageRate, "message-rate", perSecond, "auto", fmt.Sprintf("messages of one connection, twice that at once"+withoutLoopback, formatRate(gateway.DefaultMessageRate)))
	in.bound(&g.ControlRate, "control-rate", perSecond, "auto", fmt.Sprintf("its control frames, twice that at once"+withoutLoopback, formatRate(gateway.DefaultControlRate)))
	in.bound(&g.ChannelRate, "channel-rate", perSecond, "off", "publications of one channel; who publishes more waits, or\ngets 429")
	in.bound(&g.JoinRate, "join-rate", perSecond, "auto", fmt.Sprintf("subscriptions to one channel that tells its subscribers of\njoins; auto is %s", formatRate(gateway.DefaultJoinRate)))
	in.duration(&g.MessageTimeout, "message-timeout", formatDuration(gateway.DefaultMessageTimeout), zeroRefused, "for a message that has begun")
	in.duration(&g.UserTimeout, "tcp-user-timeout", "auto", zeroIsOff, fmt.Sprintf("how long a peer's kernel may acknowledge nothing; auto is %s,\nor more, to be above --write-timeout and --close-timeout", formatDuration(gateway.DefaultUserTimeout)))
	in.size(&g.NotsentLowat, "notsent-lowat", "off", true, "bytes that wait in the kernel without having been sent; off\nbounds them by --send-buffer alone")
}
