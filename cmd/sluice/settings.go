package main

import (
	"strconv"
	"time"

	"sluice/gateway"
)

// settings are what `serve` is told: the gateway's configuration and what the
// command itself needs.
type settings struct {
	gateway         gateway.Config // without Raw and Logger, which start decides
	raw             string
	page            string
	listen          []string
	internalListen  string
	apiKeyFile      string
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
	in.texts(&s.listen, "listen", "ADDR", "127.0.0.1:8000", "where clients connect: HOST:PORT or unix:/path; repeatable")
	in.text(&s.internalListen, "internal-listen", "ADDR", "127.0.0.1:9000", "where metrics, health, publishing and profiles are; or off", "off")
	in.text(&s.apiKeyFile, "api-key-file", "FILE", "", "a file with the key that the internal listener demands")

	in = o.in("Clients")
	in.word(&s.raw, "raw", "auto", "what clients may do: publish, listen (only), off; auto is\npublish where only this machine can connect, else listen",
		"auto", "publish", "listen", "off")
	in.texts(&g.AllowedOrigins, "allowed-origins", "LIST", "", "other web origins whose pages may connect, such as\nhttps://app.example.com or https://*.example.com")
	in.texts(&g.Subprotocols, "subprotocols", "LIST", "", "WebSocket subprotocols that may be agreed on")
	in.texts(&g.WSPaths, "ws-path", "PATH", "", "a further path that serves what /ws serves; repeatable")
	in.text(&g.Greeting, "greeting", "TEXT", "", "sent to each client before anything else")
	in.word(&s.page, "page", "on", "the page at / to try the gateway with", "on", "off")
	in.text(&g.WebRoot, "web-root", "DIR", "", "a directory to serve at / instead of that page")

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
