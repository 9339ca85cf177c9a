package main

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"sluice/gateway"
	"sluice/gateway/edge/certificate"
	"sluice/gateway/setting"
)

// settings are everything that `serve` can be configured with: the gateway's
// configuration and what the command itself needs.
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
	o := &options{byName: map[string]*option{}, fields: map[string]*option{}, flags: layer{}, foreign: map[string]bool{}}
	g := &s.gateway

	in := o.in("Listeners")
	in.texts(&s.listen, "listen", "ADDR", "127.0.0.1:8000", "address for clients: HOST:PORT or unix:/path (repeatable), or off to serve TLS only", "off")
	in.text(&s.internalListen, "internal-listen", "ADDR", "127.0.0.1:9000", "address for publishing over HTTP, the server API, metrics, health and profiles: HOST:PORT or unix:/path, or off", "off")
	in.text(&s.apiKeyFile, "api-key-file", "FILE", "", "file with the API key that the internal listener requires; mandatory when other machines can reach it")

	s.tlsOptions(o.in("TLS"))
	s.admissionOptions(o.in("Admission"))

	in = o.in("Clients")
	in.word(&s.raw, "raw", "auto", "what raw WebSocket and SSE clients may do: publish, listen (subscribe only) or off. auto: publish if tokens or namespaces are configured, "+
		"or if only this machine can connect and no proxy is configured; otherwise listen",
		"auto", "publish", "listen", "off")
	in.texts(&g.AllowedOrigins, "allowed-origins", "LIST", "", "origins of other sites whose pages may connect, such as https://app.example.com or https://*.example.com; * allows every site")
	in.texts(&g.Subprotocols, "subprotocols", "LIST", "", "WebSocket subprotocols to accept; the first of the client's offers that is in this list is chosen")
	in.texts(&g.WSPaths, "ws-path", "PATH", "", "additional path for raw WebSocket, same as /ws (repeatable)")
	in.text(&g.Greeting, "greeting", "TEXT", "", "first message sent to each raw WebSocket and SSE client")
	in.word(&s.page, "page", "on", "demo page at /, for trying the gateway in a browser: on or off", "on", "off")
	in.text(&g.WebRoot, "web-root", "DIR", "", "directory to serve at / instead of the demo page")

	s.accessOptions(o.in("Channels and permissions"))

	in = o.in("History")
	in.count(&g.History, "history", strconv.Itoa(gateway.DefaultHistory), "off", "publications kept per channel for clients that reconnect, or off")
	in.duration(&g.HistoryTTL, "history-ttl", formatDuration(gateway.DefaultHistoryTTL), zeroRefused, "how long a publication is kept in history")
	in.size(&g.HistoryBytes, "history-bytes", formatSize(gateway.DefaultHistoryBytes), false, "bytes of history kept per channel; a message larger than this is not kept")

	in = o.in("Limits")
	in.count(&g.MaxConnections, "max-connections", "auto", "auto", "maximum open connections, WebSocket and SSE together; auto: as many as the file descriptor limit allows")
	in.count(&g.MaxHandshakes, "max-handshakes", strconv.Itoa(gateway.DefaultMaxHandshakes), "", "maximum connections that have not finished their HTTP request; beyond that, the one that has kept the gateway waiting longest is closed")
	in.size(&g.MaxMessage, "max-message", formatSize(gateway.DefaultMaxMessage), false, "maximum size of a message from a client, all its fragments together; a larger one closes the connection with code 1009")
	in.count(&g.MaxFragments, "max-fragments", strconv.Itoa(gateway.DefaultMaxFragments), "", "maximum frames in a message from a client; exceeding this closes the connection with code 1008")
	in.count(&g.MaxChannels, "max-channels", strconv.Itoa(gateway.DefaultMaxChannels), "", "maximum channels that exist at the same time")
	in.size(&g.MaxPending, "max-pending", formatSize(gateway.DefaultMaxPending), false, "maximum bytes queued for one connection, apart from its channels' logs; exceeding this closes it with code 1013")
	in.size(&g.MaxBuffered, "max-buffered", formatSize(gateway.DefaultMaxBuffered), false, "maximum memory for all channel logs, histories and connection queues together")

	s.hostileOptions(o.in("Slow and hostile clients"))

	in = o.in("Delivery")
	in.count(&g.Loops, "loops", "auto", "auto", "event loops; auto: one per CPU core")
	in.size(&g.ChannelBuffer, "channel-buffer", formatSize(gateway.DefaultChannelBuffer), false, "log size of one channel: how far its slowest subscriber may fall behind")
	in.duration(&g.BatchWindow, "batch-window", "0s", zeroAllowed, "minimum time between two writes to the subscribers of a channel, up to 1s; adds latency, but saves CPU per delivery")
	in.size(&g.SendBuffer, "send-buffer", formatSize(gateway.DefaultSendBuffer), true, "kernel send buffer per connection (SO_SNDBUF); off: the kernel's own default")

	in = o.in("Timeouts")
	in.duration(&g.HandshakeTimeout, "handshake-timeout", formatDuration(gateway.DefaultHandshakeTimeout), zeroRefused, "time limit for a client to send its whole request head")
	in.duration(&g.PingInterval, "ping-interval", formatDuration(gateway.DefaultPingInterval), zeroIsOff, "silence after which a client is pinged, or off")
	in.duration(&g.PongTimeout, "pong-timeout", formatDuration(gateway.DefaultPongTimeout), zeroRefused, "time limit for a client to respond to a ping, before its connection is closed")
	in.duration(&g.WriteTimeout, "write-timeout", formatDuration(gateway.DefaultWriteTimeout), zeroIsOff, "how long a client may go without reading while data is waiting for it, or off")
	in.duration(&g.CloseTimeout, "close-timeout", formatDuration(gateway.DefaultCloseTimeout), zeroRefused, "time limit for the closing handshake, including the last bytes to the client")
	in.duration(&g.LoopTimeout, "loop-timeout", formatDuration(gateway.DefaultLoopTimeout), zeroIsOff, "how long an event loop may be stuck before the process exits with status 70: 11s or more, or off. /readyz responds with 503 after 2s, /healthz after 10s")
	in.duration(&s.shutdownTimeout, "shutdown-timeout", "30s", zeroRefused, "time limit for closing all connections after SIGINT or SIGTERM")

	in = o.in("Logging")
	in.word(&s.logLevel, "log-level", "info", "lowest level to log: debug, info, warn or error",
		"debug", "info", "warn", "error")
	in.word(&s.logFormat, "log-format", "auto", "format of the log: text, json or auto (text on a terminal, JSON otherwise)",
		"auto", "text", "json")

	in = o.in("Configuration")
	in.text(&s.config, "config", "FILE", "", "configuration file with lines 'key = value'; keys are these flags without the dashes. A # at the start of a line or after a space begins a comment. "+
		"Put a value that contains # or begins or ends with spaces in double quotes (Go string syntax). A list may be repeated or separated by commas; any other key may be set only once")
	o.nameFields(s)
	return o
}

// nameFields finds the option of each field of gateway.Config that an option sets.
func (o *options) nameFields(s *settings) {
	config := reflect.ValueOf(&s.gateway).Elem()
	for _, opt := range o.list {
		for i := range config.NumField() {
			if opt.target == config.Field(i).Addr().Interface() {
				o.fields[config.Type().Field(i).Name] = opt
			}
		}
	}
	for field, name := range map[string]string{ // plan settles these
		"Raw": "raw", "NoPage": "page", "Refuse": "refuse", "MemoryLimit": "memory-limit", "Insecure": "insecure",
		"NoClients": "client-protocol", "Namespaces": "namespaces", "APIKey": "api-key-file", "ServeInternal": "internal-listen",
		// of certificate.Files
		"Cert": "tls-cert", "Key": "tls-key", "ClientCA": "tls-client-ca",
	} {
		o.fields[field] = o.byName[name]
	}
}

// flagOf returns what a field of gateway.Config is called on the command line.
func (o *options) flagOf(field string) string {
	switch field {
	case "NoPage":
		return "--page=off"
	case "NoClients":
		return "--client-protocol off"
	}
	if opt := o.fields[field]; opt != nil {
		return "--" + opt.name
	}
	return field
}

// faultsOf returns the faults of settings as errors about options. Any other error becomes
// one about no option.
func (o *options) faultsOf(err error) (told []optionFault) {
	var faults setting.Faults
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &faults):
		return []optionFault{{"", err}}
	}
	for _, f := range faults {
		name := ""
		if opt := o.fields[f.Field]; opt != nil {
			name = opt.name
		}
		told = append(told, optionFault{name, errors.New(f.Text(o.flagOf))})
	}
	return told
}

func (s *settings) tlsOptions(in adder) {
	in.texts(&s.tlsListen, "tls-listen", "ADDR", "", "address for clients over TLS: HOST:PORT or unix:/path (repeatable), in addition to --listen")
	in.text(&s.certificate.Cert, "tls-cert", "FILE", "", "certificate and its chain, in PEM. All TLS files are reloaded when they change and on SIGHUP")
	in.text(&s.certificate.Key, "tls-key", "FILE", "", "private key of --tls-cert, in PEM")
	in.text(&s.certificate.ClientCA, "tls-client-ca", "FILE", "", "CA certificates, in PEM: TLS clients must present a certificate signed by one of them")
	in.toggle(&s.selfSigned, "tls-self-signed", "generate a self-signed certificate at startup; for trials on loopback only")
}

// onLoopback ends the text of a per-client limit whose default does not apply to clients
// on this machine.
const onLoopback = "; auto: %s, unlimited for loopback"

func (s *settings) admissionOptions(in adder) {
	g := &s.gateway
	in.prefixes(&g.TrustedProxies, "trusted-proxies", "proxies whose X-Forwarded-For header is trusted: addresses or networks. Without it, all clients behind a proxy count as one")
	in.prefixes(&g.ProxyProtocol, "proxy-protocol", "proxies that send a PROXY protocol header (version 1 or 2): addresses or networks. The header is required from these proxies and rejected from all others")
	in.bound(&g.MaxPerAddress, "max-per-address", "", "auto", fmt.Sprintf("maximum open connections from one IPv4 address or one IPv6 /64"+onLoopback, strconv.Itoa(gateway.DefaultMaxPerAddress)))
	in.bound(&g.AddressRate, "address-rate", perSecond, "auto", fmt.Sprintf("new connections per second from one address (burst 5x)"+onLoopback, formatRate(gateway.DefaultAddressRate)))
	in.bound(&g.AcceptRate, "accept-rate", perSecond, "off", "new connections per second from all clients together, or off")
	in.size(&s.memoryLimit, "memory-limit", "auto", true, "memory limit of the process; new connections are refused above 95%. auto: the cgroup's limit, if there is one")
	in.word(&s.refuse, "refuse", "http", "how new connections over a limit are refused: http responds with 429 or 503; close accepts the WebSocket and closes it with code 1013, which a web page can see", "http", "close")
}

func (s *settings) hostileOptions(in adder) {
	g := &s.gateway
	in.rules(&g.SlowPolicy, "slow-policy", "action for slow subscribers, by channel: PATTERN=close or PATTERN=skip, such as prices.*=skip; the first match applies, otherwise close. "+
		"skip continues with the newest publication and reports the gap if the client's format can express it")
	in.bound(&g.MessageRate, "message-rate", perSecond, "auto", fmt.Sprintf("messages per second from one connection (burst 2x); beyond that, the connection is closed with code 1008"+onLoopback, formatRate(gateway.DefaultMessageRate)))
	in.bound(&g.ControlRate, "control-rate", perSecond, "auto", fmt.Sprintf("control frames per second from one connection (burst 2x); beyond that, the connection is closed with code 1008"+onLoopback, formatRate(gateway.DefaultControlRate)))
	in.bound(&g.ChannelRate, "channel-rate", perSecond, "off", "publications per second in one channel, or off; above that, clients wait and HTTP publishers get 429")
	in.bound(&g.JoinRate, "join-rate", perSecond, "auto", fmt.Sprintf("subscriptions per second to one channel that sends join and leave messages; above that, clients get error 111 and retry; auto: %s", formatRate(gateway.DefaultJoinRate)))
	in.duration(&g.MessageTimeout, "message-timeout", formatDuration(gateway.DefaultMessageTimeout), zeroRefused, "time limit for a client to finish a message that it has begun")
	in.duration(&g.UserTimeout, "tcp-user-timeout", "auto", zeroIsOff, fmt.Sprintf("how long sent data may stay unacknowledged by the client's kernel before the connection is dropped (TCP_USER_TIMEOUT), or off; "+
		"auto: %s, or 5s more than the longer of --write-timeout and --close-timeout", formatDuration(gateway.DefaultUserTimeout)))
	in.size(&g.NotsentLowat, "notsent-lowat", "off", true, "unsent bytes per connection that may wait in the kernel (TCP_NOTSENT_LOWAT); off: limited by --send-buffer only")
}
