package migration

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
)

// The files of the result.
const (
	confFile       = "sluice.conf"
	namespacesFile = "namespaces.json"
	hooksFile      = "hooks.json"
)

// conversion is a configuration that becomes sluice's.
type conversion struct {
	root    *node
	dir     string            // of the result
	env     map[string]string // for headers that refer to it
	now     time.Time
	options *option.Options // which settings there are
	trial   *serve.Settings // what the options set: it says which values they can have

	settings []setting
	files    []file
	advice   []string // what an operator has to decide
	hooks    hooks
}

// setting is a line of sluice.conf.
type setting struct {
	name, value string
	comment     bool // it has no effect until an operator removes the #
}

// file is a file of the result.
type file struct {
	name string
	data []byte
}

// convert decides about each key. Its error lists why there can be no result.
func convert(data []byte, dir string, env []string, now time.Time) (*conversion, error) {
	if strings.ContainsFunc(dir, func(r rune) bool { return r < ' ' || r == 0x7f || r == ',' }) {
		return nil, fmt.Errorf("%q has a character that sluice.conf cannot express in a path; use another directory", dir)
	}
	root, err := parse(data)
	if err != nil {
		return nil, err
	}
	if err := older(root); err != nil {
		return nil, err
	}
	c := &conversion{root: root, dir: dir, env: make(map[string]string), now: now}
	c.retry()
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		c.env[name] = value
	}
	root.leaves(func(leaf *node) {
		if leaf.null() {
			leaf.drop(idle, "null is the default")
		}
	})
	if err := c.refusals(); err != nil {
		return nil, err
	}
	c.listeners()
	c.api()
	c.tokens()
	c.findHooks()
	c.channels()
	c.writeHooks()
	c.origins()
	c.rest()
	c.elsewhere()
	root.leaves(func(leaf *node) {
		if leaf.fate == nil {
			leaf.mark(lost, "not a key of Centrifugo 6 (open source)")
		}
	})
	return c, nil
}

// set adds a setting, and returns an error if it cannot have the value.
func (c *conversion) set(name string, values ...string) error {
	if err := c.try(name, values...); err != nil {
		c.retry()
		return err
	}
	for _, v := range values {
		c.settings = append(c.settings, setting{name: name, value: v})
	}
	return nil
}

// try sets values on trial.
func (c *conversion) try(name string, values ...string) error {
	opt := c.options.ByName[name]
	for _, v := range values {
		if v == "" {
			return errors.New("it is empty")
		}
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) || opt.List && strings.Contains(v, ",") {
			return errors.New("it has a character that sluice.conf cannot express")
		}
		if err := opt.Set(v); err != nil {
			return err
		}
	}
	for _, f := range c.options.FaultsOf(c.trial.Gateway.Validate()) {
		if f.Option == name {
			return f.Err
		}
	}
	return nil
}

// retry begins the trial again, with the settings that there are.
func (c *conversion) retry() {
	c.trial = new(serve.Settings)
	c.options = option.New(c.trial)
	c.trial.Gateway.FieldName = c.options.FlagOf
	for _, s := range c.settings {
		if s.comment {
			continue
		}
		if err := c.options.ByName[s.name].Set(s.value); err != nil {
			panic(err) // it was set before
		}
	}
}

// unset removes a setting.
func (c *conversion) unset(name string) {
	c.settings = slices.DeleteFunc(c.settings, func(s setting) bool { return s.name == name })
	c.retry()
}

// must is set for values that are known to be possible.
func (c *conversion) must(name string, values ...string) {
	if err := c.set(name, values...); err != nil {
		panic(fmt.Sprintf("%s = %q: %v", name, values, err))
	}
}

// suggest adds a setting as a comment.
func (c *conversion) suggest(name, value string) {
	c.settings = append(c.settings, setting{name, value, true})
}

// file adds a file, and returns its path.
func (c *conversion) file(name string, data []byte) string {
	c.files = append(c.files, file{name, data})
	return filepath.Join(c.dir, name)
}

// elsewhere says what may be configured by variables in the environment.
func (c *conversion) elsewhere() {
	var names []string
	for name := range c.env {
		if strings.HasPrefix(name, "CENTRIFUGO_") && !strings.HasPrefix(name, "CENTRIFUGO_VAR_") {
			names = append(names, name)
		}
	}
	if slices.Sort(names); names != nil {
		c.advise("variables of the environment are not read: put the values of %s into the configuration first", strings.Join(names, ", "))
	}
	connect := c.hook("connect", "")
	keyed := slices.ContainsFunc(c.settings, func(s setting) bool { return slices.Contains(keySettings, s.name) })
	if !keyed && (connect == nil || !connect.used) {
		c.advise("there is no key that verifies tokens, so all clients are anonymous; if Centrifugo has it from a variable, set token-hmac-secret-file, token-public-key-file or jwks-url")
	}
}

func (c *conversion) advise(format string, args ...any) {
	c.advice = append(c.advice, printable(fmt.Sprintf(format, args...)))
}

// separators are parts of channel names with a meaning, as sluice has them.
var separators = []struct{ name, value string }{
	{"namespace_boundary", ":"}, {"private_prefix", "$"}, {"user_boundary", "#"}, {"user_separator", ","},
}

// refusals lists what gives channels other permissions in a way that no setting can express.
func (c *conversion) refusals() error {
	var faults []error
	for _, s := range separators {
		n := c.root.get("channel." + s.name)
		v, err := n.text()
		switch {
		case n.null():
		case err == nil && v == s.value:
			n.mark(idle, "%q is what sluice has too", s.value)
		default:
			faults = append(faults, fmt.Errorf("%s: sluice always uses %q here, so channels would get the permissions of others; rename the channels, and remove it", n.path, s.value))
		}
	}
	return errors.Join(faults...)
}

// olderKeys are keys at the top of Centrifugo 5's configuration, each with what Centrifugo 6
// has in its place.
var olderKeys = map[string]string{
	"token_hmac_secret_key": "client.token.hmac_secret_key", "token_rsa_public_key": "client.token.rsa_public_key",
	"token_ecdsa_public_key": "client.token.ecdsa_public_key", "token_jwks_public_endpoint": "client.token.jwks_public_endpoint",
	"token_audience": "client.token.audience", "token_issuer": "client.token.issuer", "token_user_id_claim": "client.token.user_id_claim",
	"separate_subscription_token_config": "client.subscription_token.enabled",
	"allowed_origins":                    "client.allowed_origins", "client_insecure": "client.insecure",
	"allow_anonymous_connect_without_token": "client.allow_anonymous_connect_without_token",
	"client_channel_limit":                  "client.channel_limit", "client_queue_max_size": "client.queue_max_size",
	"client_connection_limit": "client.connection_limit", "user_subscribe_to_personal": "client.subscribe_to_user_personal_channel.enabled",
	"namespaces": "channel.namespaces", "channel_max_length": "channel.max_length", "channel_namespace_boundary": "channel.namespace_boundary",
	"channel_private_prefix": "channel.private_prefix", "channel_user_boundary": "channel.user_boundary", "global_history_meta_ttl": "channel.history_meta_ttl",
	"presence": "channel.without_namespace.presence", "join_leave": "channel.without_namespace.join_leave",
	"history_size": "channel.without_namespace.history_size", "history_ttl": "channel.without_namespace.history_ttl",
	"force_recovery":             "channel.without_namespace.force_recovery",
	"allow_subscribe_for_client": "channel.without_namespace.allow_subscribe_for_client", "allow_publish_for_client": "channel.without_namespace.allow_publish_for_client",
	"granular_proxy_mode": "the names of proxies in namespaces", "rpc_namespaces": "rpc.namespaces",
	"proxy_connect_endpoint": "client.proxy.connect.endpoint", "proxy_refresh_endpoint": "client.proxy.refresh.endpoint",
	"proxy_subscribe_endpoint": "channel.proxy.subscribe.endpoint", "proxy_publish_endpoint": "channel.proxy.publish.endpoint",
	"proxy_sub_refresh_endpoint": "channel.proxy.sub_refresh.endpoint", "proxy_rpc_endpoint": "rpc.proxy.endpoint",
	"proxy_connect_timeout": "client.proxy.connect.timeout", "proxy_http_headers": "http_headers of each proxy",
	"api_key": "http_api.key", "api_insecure": "http_api.insecure", "admin_password": "admin.password", "admin_secret": "admin.secret", "admin_insecure": "admin.insecure",
	"address": "http_server.address", "port": "http_server.port", "internal_port": "http_server.internal_port", "internal_address": "http_server.internal_address",
	"tls": "http_server.tls.enabled", "tls_cert": "http_server.tls.cert_pem", "tls_key": "http_server.tls.key_pem", "tls_autocert": "http_server.tls_autocert.enabled",
	"redis_address": "engine.redis.address", "nats_url": "broker.nats.url", "log_level": "log.level", "log_file": "log.file",
	"websocket_message_size_limit": "websocket.message_size_limit", "grpc_api_port": "grpc_api.port",
	"uni_sse_handler_prefix": "uni_sse.handler_prefix", "shutdown_timeout": "shutdown.timeout", "sockjs": "HTTP streaming and SSE",
}

// olderPattern matches other keys that only Centrifugo 5 has at the top.
var olderPattern = regexp.MustCompile(`^(token|subscription_token|client|proxy|redis|nats|api|admin|websocket|uni_(sse|websocket|http_stream|grpc)|allow|channel|tls|sockjs|tarantool|grpc_api|node)_`)

// olderObjects are keys that are an object in Centrifugo 6, and were none in Centrifugo 5.
var olderObjects = []string{"engine", "broker", "admin", "prometheus", "health", "debug", "sse", "http_stream", "uni_sse", "uni_websocket", "uni_http_stream", "uni_grpc", "grpc_api", "swagger"}

// older returns an error that lists the keys of Centrifugo 5.
func older(root *node) error {
	var faults []error
	for _, n := range root.children {
		switch now, known := olderKeys[n.key], olderPattern.MatchString(n.key) && n.shape != object; {
		case now != "":
			faults = append(faults, fmt.Errorf("%s: Centrifugo 6 has %s in its place", n.key, now))
		case known, n.shape == scalar && !n.null() && contains(olderObjects, n.key):
			faults = append(faults, fmt.Errorf("%s: Centrifugo 6 has no such key at the top, or has an object here", n.key))
		}
	}
	if faults == nil {
		return nil
	}
	return errors.Join(append([]error{errors.New("it is a configuration of Centrifugo 5 or older: convert it to that of Centrifugo 6 first, with the converter on the page \"Migrating to v6\" of Centrifugo's documentation")}, faults...)...)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if strings.EqualFold(x, s) {
			return true
		}
	}
	return false
}
