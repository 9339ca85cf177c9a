package migration

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/cmd/internal/cli"
)

// rest decides about the keys that need nothing but a row of a table.
func (c *conversion) rest() {
	for _, x := range equivalents {
		n := c.root.get(x.key)
		if n == nil || n.fate != nil {
			continue
		}
		value, err := x.value(n)
		if err == nil && value != "" {
			err = c.set(x.option, value)
		}
		switch {
		case err != nil:
			n.mark(lost, "%s: %v", x.option, err)
		case value == "":
			n.mark(idle, "off, or the default")
		case x.difference != "":
			n.mark(changed, "%s; %s", x.option, x.difference)
		default:
			n.mark(kept, "%s", x.option)
		}
	}
	c.room()
	if d := c.trial.ShutdownTimeout; d >= time.Second && d < drainDefault {
		c.must("drain-duration", cli.FormatDuration(d))
	}
	c.must("raw", "off") // Centrifugo has no such clients
	c.logs()
	c.compression()
	c.engines()
	for path, fixed := range paths {
		n := c.root.get(path)
		if n == nil {
			continue
		}
		group, _, _ := strings.Cut(path, ".")
		if enabled := c.root.get(group + ".enabled"); enabled != nil && !enabled.on() {
			n.mark(idle, "%s is off", group)
		}
		c.fixed(n, fixed)
	}
	for _, group := range []string{"sse", "http_stream", "uni_sse", "uni_http_stream", "emulation"} {
		if n := c.root.get(group + ".max_request_body_size"); n != nil {
			if i, err := n.number(); err == nil && (i == 0 || i == 65536) {
				n.mark(idle, "max-message bounds requests; its default is 64KiB")
			}
			n.mark(lost, "max-message bounds requests of all clients")
		}
	}
	if n := c.root.get("proxies"); n.off() {
		n.mark(idle, "there are none")
	}
	for _, x := range switched {
		n := c.root.get(x.group)
		if !n.get("enabled").on() {
			n.mark(idle, "%s is off", x.group)
		}
		n.mark(x.verdict, "%s", x.text)
	}
	for _, at := range c.root.get("consumers").each() {
		if !at.get("enabled").on() {
			at.mark(idle, "it is off")
			continue
		}
		kind, _ := at.get("type").text()
		at.mark(lost, "sluice does not consume from %s; let a program of yours do it, and call the server API", quoted(kind))
		c.advise("%s: nothing is published from %s any more", at.path, quoted(kind))
	}
	c.root.get("consumers").mark(idle, "there are none")
	for _, x := range constants {
		n := c.root.get(x.key)
		if s, err := n.text(); err == nil && s == x.value {
			n.mark(idle, "%s is what sluice has too", x.value)
		}
		n.mark(changed, "it is always %s", x.value)
	}
	for _, x := range always {
		c.root.get(x.key).mark(idle, "%s", x.text)
	}
	for _, x := range missing {
		c.root.get(x.key).lose("%s", x.text)
	}
}

// drainDefault is the default of drain-duration, which must not be longer than shutdown-timeout.
const drainDefault = 10 * time.Second

// equivalent is a key that is a setting of sluice's.
type equivalent struct {
	key, option string
	value       func(*node) (string, error) // "" for none
	difference  string
}

var equivalents = []equivalent{
	{"client.ping_interval", "ping-interval", time1, ""},
	{"client.pong_timeout", "pong-timeout", time1, ""},
	{"client.connection_limit", "max-connections", number1, ""},
	{"client.connection_rate_limit", "accept-rate", number1, "it counts all new connections, also those for HTTP requests"},
	{"client.channel_limit", "channel-limit", number1, ""},
	{"client.queue_max_size", "max-pending", number1, "it bounds what is queued for one connection; channel-buffer bounds how far it may fall behind a channel"},
	{"websocket.message_size_limit", "max-message", number1, ""},
	{"node.name", "node-name", (*node).text, ""},
	{"shutdown.timeout", "shutdown-timeout", time1, ""},
}

// number1 returns a number as a setting has it, "" for 0.
func number1(n *node) (string, error) {
	i, err := n.number()
	if err != nil || i == 0 {
		return "", err
	}
	return strconv.FormatInt(i, 10), nil
}

// time1 is number1 for a duration.
func time1(n *node) (string, error) {
	d, err := n.duration()
	if err != nil || d == 0 {
		return "", err
	}
	return cli.FormatDuration(d), nil
}

// room raises the buffers that max-message needs.
func (c *conversion) room() {
	n := c.root.get("websocket.message_size_limit")
	message := c.trial.Gateway.MaxMessage
	if message == 0 {
		return
	}
	for _, x := range []struct {
		name        string
		now, needed int
	}{
		{"channel-buffer", cmp.Or(c.trial.Gateway.ChannelBuffer, 256<<10), 2*message + 4<<10},
		{"max-pending", cmp.Or(c.trial.Gateway.MaxPending, 256<<10), message + 64<<10},
	} {
		if x.now < x.needed {
			c.unset(x.name)
			c.settings = append(c.settings, setting{name: x.name, value: strconv.Itoa(x.needed)})
			n.fate = &fate{changed, n, "max-message; channel-buffer and max-pending have room for such messages"}
		}
	}
	c.retry()
	faults := c.options.FaultsOf(c.trial.Gateway.Validate())
	if len(faults) == 0 {
		return
	}
	n.fate = &fate{lost, n, "max-message: " + faults[0].Err.Error()}
	for _, name := range []string{"max-message", "channel-buffer", "max-pending"} {
		c.unset(name)
	}
}

func (c *conversion) logs() {
	n := c.root.get("log.level")
	level, _ := n.text()
	switch level = strings.ToLower(level); level {
	case "":
	case "debug", "info", "warn", "error":
		c.must("log-level", level)
		n.mark(kept, "log-level")
	case "trace":
		c.must("log-level", "debug")
		n.mark(changed, "log-level = debug, the lowest level")
	case "fatal", "none":
		c.must("log-level", "error")
		n.mark(changed, "log-level = error, the highest level")
	default:
		n.mark(lost, "sluice has no such level")
	}
	c.root.get("log.level").mark(idle, "the default")
	c.root.get("log.file").lose("the log goes to stderr; let a service manager keep it")
}

func (c *conversion) compression() {
	for _, transport := range []string{"websocket", "uni_websocket"} {
		n := c.root.get(transport)
		if !n.get("compression").on() {
			for _, key := range []string{"compression", "compression_min_size", "compression_level"} {
				n.get(key).mark(idle, "%s.compression is off", transport)
			}
			continue
		}
		if !slices.ContainsFunc(c.settings, func(s setting) bool { return s.name == "compression" }) {
			c.must("compression", "shared")
			if least, err := number1(n.get("compression_min_size")); err == nil && least != "" && c.set("compression-min", least) == nil {
				n.get("compression_min_size").mark(kept, "compression-min")
			}
		}
		n.get("compression").mark(changed, "compression = shared: a publication is compressed once for all clients, without a context between messages")
		n.get("compression_min_size").mark(idle, "compression-min has one value for all clients")
		n.get("compression_level").lose("the level is fixed")
	}
}

// engines decides about what keeps histories, presence and what several nodes share.
func (c *conversion) engines() {
	kind := func(n *node) string {
		s, _ := n.get("type").text()
		return strings.ToLower(s)
	}
	const memory = "in memory, as without data-dir and nats-url"
	const store = "sluice shares channels over NATS servers with JetStream (nats-url), and one node can keep histories on disk (data-dir); existing histories are not carried over"
	stored := false
	for _, x := range []struct{ group, with string }{{"engine", ""}, {"broker", "enabled"}, {"presence_manager", "enabled"}} {
		n := c.root.get(x.group)
		switch k := kind(n); {
		case x.with != "" && !n.get(x.with).on():
			n.mark(idle, "%s is off", x.group)
		case k == "" || k == "memory":
			n.mark(idle, memory)
		case k == "nats":
			stored = true
			n.mark(lost, "sluice needs NATS servers with JetStream, and keeps histories there; nats-url is a comment in %s", confFile)
			url, _ := n.get("nats.url").text()
			if url == "" {
				url = "nats://localhost:4222"
			}
			c.suggest("nats-url", url)
		default:
			stored = true
			n.mark(lost, store)
		}
	}
	if stored {
		c.advise("sluice runs as one node and keeps histories in memory, until you set nats-url or data-dir")
	}
	for _, x := range []struct{ group, text string }{
		{"map_broker", "sluice has no map subscriptions"},
		{"controller", "nodes find each other over NATS (nats-url)"},
	} {
		n := c.root.get(x.group)
		if k := kind(n); k == "" || k == "memory" || x.group == "controller" && !n.get("enabled").on() {
			n.mark(idle, "off, or in memory")
		}
		n.mark(lost, "%s", x.text)
	}
}

// paths are the keys for paths that sluice always has.
var paths = map[string]string{
	"websocket.handler_prefix":       "/connection/websocket",
	"sse.handler_prefix":             "/connection/sse",
	"http_stream.handler_prefix":     "/connection/http_stream",
	"uni_sse.handler_prefix":         "/connection/uni_sse",
	"uni_http_stream.handler_prefix": "/connection/uni_http_stream",
	"uni_websocket.handler_prefix":   "/connection/uni_websocket",
	"emulation.handler_prefix":       "/emulation",
	"prometheus.handler_prefix":      "/metrics",
	"health.handler_prefix":          "/healthz",
	"debug.handler_prefix":           "/debug/pprof",
}

// switched are the groups that have a switch, with what happens if it is on.
var switched = []struct {
	group   string
	verdict verdict
	text    string
}{
	{"grpc_api", lost, "there is no gRPC API; use the HTTP API"},
	{"uni_grpc", lost, "there is no gRPC for clients; use uni_sse"},
	{"webtransport", lost, "there is no WebTransport; clients use WebSocket"},
	{"swagger", lost, "there is no page for it; gateway/api documents the API"},
	{"init", lost, "there is no such endpoint"},
	{"opentelemetry", lost, "there is no tracing; metrics are at /metrics"},
	{"graphite", lost, "metrics are at /metrics, for Prometheus; let an agent forward them"},
	{"admin", lost, "the page on the internal listener shows the gateway; it asks for the API key, not for a password"},
}

// constants are the keys for values that sluice always has.
var constants = []struct{ key, value string }{
	{"client.history_max_publication_limit", "300"},
	{"client.recovery_max_publication_limit", "300"},
	{"client.stale_close_delay", "10s"},
	{"client.expired_close_delay", "10s"},
	{"client.expired_sub_close_delay", "10s"},
}

// always are the keys about what sluice does, or does not do, in any case.
var always = []struct{ key, text string }{
	{"client.allow_anonymous_connect_without_token", "a client without a token is anonymous, and may do what allow_..._for_anonymous says"},
	{"client.presence_update_interval", "presence needs no updates in sluice"},
	{"client.channel_position_check_delay", "a client's position cannot be lost between nodes without a notice"},
	{"client.channel_position_max_time_lag", "a client's position cannot be lost between nodes without a notice"},
	{"sse.enabled", "HTTP transports are on where the Centrifugo protocol is"},
	{"http_stream.enabled", "HTTP transports are on where the Centrifugo protocol is"},
	{"uni_sse.enabled", "HTTP transports are on where the Centrifugo protocol is"},
	{"uni_http_stream.enabled", "HTTP transports are on where the Centrifugo protocol is"},
	{"uni_websocket.enabled", "it is on where the Centrifugo protocol is"},
	{"websocket.read_buffer_size", "sluice has no buffer per connection"},
	{"websocket.write_buffer_size", "sluice has no buffer per connection"},
	{"websocket.use_write_buffer_pool", "sluice has no buffer per connection"},
	{"uni_websocket.read_buffer_size", "sluice has no buffer per connection"},
	{"uni_websocket.write_buffer_size", "sluice has no buffer per connection"},
	{"uni_websocket.use_write_buffer_pool", "sluice has no buffer per connection"},
	{"websocket.write_timeout", "write-timeout, 10s, means something else: how long a client may not read while data waits"},
	{"uni_websocket.write_timeout", "write-timeout, 10s, means something else: how long a client may not read while data waits"},
	{"websocket.decompressed_message_size_limit", "max-message bounds messages before and after decompression"},
	{"uni_websocket.decompressed_message_size_limit", "max-message bounds messages before and after decompression"},
	{"uni_websocket.message_size_limit", "max-message bounds messages of all clients"},
	{"prometheus", "/metrics is on the internal listener, and needs the API key; its figures are named sluice_..."},
	{"health", "/healthz is on both listeners, and /readyz on the internal one"},
	{"debug", "/debug/pprof is on the internal listener"},
	{"usage_stats", "sluice sends none"},
	{"node.info_metrics_aggregate_interval", "there is no such interval"},
	{"enable_unreleased_features", "it is about Centrifugo's"},
}

// missing are the keys about what sluice does not have.
var missing = []struct{ key, text string }{
	{"client.disallow_anonymous_connection_tokens", "a token without a user makes an anonymous client, which may do what allow_..._for_anonymous says"},
	{"client.insecure_skip_token_signature_verify", "tokens are always verified"},
	{"client.insecure", "sluice has --insecure for trials, on loopback alone"},
	{"client.concurrency", "commands of a connection run one after the other"},
	{"websocket.disabled", "WebSocket is on where the Centrifugo protocol is"},
	{"client.user_connection_limit", "sluice limits connections by address (max-per-address), not by user; a connect hook can count them"},
	{"client.user_id_http_header", "a header is no identity; use a connect hook with this header in http_headers"},
	{"client.connect_include_server_time", "there is no time in the answer to connect"},
	{"client.connect_code_to_unidirectional_disconnect", "the codes are fixed"},
	{"uni_sse.connect_code_to_http_response", "the statuses are fixed"},
	{"uni_http_stream.connect_code_to_http_response", "the statuses are fixed"},
	{"uni_websocket.disable_closing_handshake", "connections always end with a closing handshake"},
	{"uni_websocket.disable_disconnect_push", "a disconnect is always announced"},
	{"uni_websocket.join_push_messages", "messages have a frame each"},
	{"shared_poll", "sluice has no shared polling"},
	{"pid_file", "a service manager knows the process"},
}
