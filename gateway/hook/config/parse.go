package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"sluice/gateway/hook"
	"sluice/gateway/hook/proxy"
)

// namePattern matches the names that hooks and namespaces of methods may have, as in Centrifugo.
var namePattern = regexp.MustCompile(`^[-a-zA-Z0-9_.]{2,}$`)

const nameRule = `a name must consist of two or more of the characters a-z, A-Z, 0-9, '-', '_' and '.'`

const (
	namesMax    = 1000
	inFlightMax = 10_000
	cacheMax    = 24 * time.Hour
)

// Parse reads a hooks file. readFile reads the files of certificates that it names. The error
// lists all faults.
func Parse(data []byte, readFile func(name string) ([]byte, error)) (*Config, error) {
	r := reader{readFile: readFile}
	if r.syntax(data); r.faults != nil {
		return nil, errors.Join(r.faults...)
	}
	c := new(Config)
	r.object("", bytes.TrimSpace(data),
		field{"client", func(where string, raw json.RawMessage) {
			r.object(where, raw, field{"proxy", func(where string, raw json.RawMessage) {
				r.object(where, raw, r.client("connect", &c.Connect), r.client("refresh", &c.Refresh))
			}}, r.flag("allow_anonymous_connect_without_token", &c.AllowAnonymous), r.elsewhere("subscribe_to_user_personal_channel"))
		}},
		field{"channel", func(where string, raw json.RawMessage) { r.channel(where, raw, c) }},
		field{"rpc", func(where string, raw json.RawMessage) { r.rpc(where, raw, c) }},
		field{"proxies", func(where string, raw json.RawMessage) { r.proxies(where, raw, c) }},
	)
	if r.faults != nil {
		return nil, errors.Join(r.faults...)
	}
	return c, nil
}

// client reads a hook for connections, which has to be enabled.
func (r *reader) client(name string, to **Hook) field {
	return field{name, func(where string, raw json.RawMessage) {
		enabled := false
		h, seen := r.hook(where, raw, r.flag("enabled", &enabled))
		if enabled {
			h.Name = hook.Default
			*to = h
		}
		if len(seen) > 0 && !seen["enabled"] {
			r.fault(where, `it has no effect without enabled; add "enabled": true, or remove it`)
		}
	}}
}

// elsewhere returns a field that another file has.
func (r *reader) elsewhere(name string) field {
	return field{name, func(where string, _ json.RawMessage) {
		r.fault(where, "belongs in the file of --namespaces; move it there")
	}}
}

func (r *reader) channel(where string, raw json.RawMessage, c *Config) {
	const streams = "sluice asks a backend for decisions, and delivers only what was published"
	r.object(where, raw, field{"proxy", func(where string, raw json.RawMessage) {
		r.object(where, raw,
			r.named("subscribe", &c.Subscribe), r.named("publish", &c.Publish), r.named("sub_refresh", &c.SubRefresh),
			r.refused("subscribe_stream", streams), r.refused("map_publish", streams), r.refused("map_remove", streams),
			r.refused("shared_poll_refresh", streams), r.refused("state", streams), r.refused("cache_empty", streams),
		)
	}}, r.elsewhere("namespaces"), r.elsewhere("without_namespace"))
}

// named reads the hook of an event with the name hook.Default.
func (r *reader) named(name string, to **Hook) field {
	return field{name, func(where string, raw json.RawMessage) {
		*to, _ = r.hook(where, raw)
		(*to).Name = hook.Default
	}}
}

func (r *reader) rpc(where string, raw json.RawMessage, c *Config) {
	c.Methods.Boundary = ":"
	choice := func(c *Choice) []field {
		return []field{r.flag("proxy_enabled", &c.Enabled), r.text("proxy_name", &c.Name)}
	}
	r.object(where, raw,
		r.named("proxy", &c.RPC),
		field{"without_namespace", func(where string, raw json.RawMessage) {
			r.object(where, raw, choice(&c.Methods.Without)...)
			r.unusedName(where, c.Methods.Without)
		}},
		field{"namespaces", func(where string, raw json.RawMessage) {
			r.array(where, raw, func(where string, raw json.RawMessage) {
				var n MethodNamespace
				r.object(where, raw, append(choice(&n.Choice), r.text("name", &n.Name))...)
				r.unusedName(where, n.Choice)
				r.name(where, n.Name, len(c.Methods.Namespaces), func(i int) string { return c.Methods.Namespaces[i].Name })
				c.Methods.Namespaces = append(c.Methods.Namespaces, n)
			})
		}},
		field{"namespace_boundary", func(where string, raw json.RawMessage) {
			if r.text("", &c.Methods.Boundary).read(where, raw); c.Methods.Boundary == "" {
				r.fault(where, `it is empty; remove it for the default, ":"`)
			}
		}},
		r.refused("ping", "clients ping by the protocol"),
	)
}

// unusedName reports a hook that is named and not enabled.
func (r *reader) unusedName(where string, c Choice) {
	if c.Name != "" && !c.Enabled {
		r.fault(join(where, "proxy_name"), `it has no effect without proxy_enabled; add "proxy_enabled": true, or remove it`)
	}
}

// name checks the name of one of several things, of which others have theirs.
func (r *reader) name(where, name string, others int, other func(int) string) {
	switch {
	case !namePattern.MatchString(name):
		r.fault(join(where, "name"), "%s; %s is none", nameRule, quoted(name))
		return
	case others == namesMax:
		r.fault(where, "there are more than %d", namesMax)
	}
	for i := range others {
		if other(i) == name {
			r.fault(join(where, "name"), "%s is a name that another one has; rename or remove one of them", quoted(name))
			return
		}
	}
}

func (r *reader) proxies(where string, raw json.RawMessage, c *Config) {
	r.array(where, raw, func(where string, raw json.RawMessage) {
		name := ""
		h, _ := r.hook(where, raw, r.text("name", &name))
		r.name(where, name, len(c.Named), func(i int) string { return c.Named[i].Name })
		if name == hook.Default {
			r.fault(join(where, "name"), `"default" is the name of the hooks in channel.proxy and rpc.proxy; choose another one`)
		}
		h.Name = name
		c.Named = append(c.Named, h)
	})
}

// hook reads a hook; more are further keys that it may have. It returns which keys there are.
func (r *reader) hook(where string, raw json.RawMessage, more ...field) (h *Hook, seen map[string]bool) {
	h = &Hook{Where: where}
	const noGRPC = "hooks are called over HTTP, and not over gRPC"
	seen = r.object(where, raw, append(more,
		field{"endpoint", func(where string, raw json.RawMessage) {
			if r.text("", &h.Endpoint).read(where, raw); kind(raw) != "a string" {
				return
			}
			if err := proxy.CheckEndpoint(h.Endpoint); err != nil {
				r.fault(where, "%w", err)
			}
		}},
		r.duration("timeout", &h.Timeout, checkTimeout),
		r.texts("http_headers", &h.Headers),
		r.texts("emulated_headers", &h.EmulatedHeaders),
		r.flag("binary_encoding", &h.Binary),
		r.flag("include_connection_meta", &h.Meta),
		field{"http", func(where string, raw json.RawMessage) { r.http(where, raw, h) }},
		r.number("max_in_flight", &h.InFlight, 1, inFlightMax),
		r.duration("queue_timeout", &h.Wait, checkTimeout),
		r.texts("singleflight_headers", &h.SharedBy),
		r.duration("cache", &h.Cache, checkCache),
		r.refused("grpc", noGRPC),
		r.refused("grpc_metadata", noGRPC),
	)...)
	if kind(raw) == "an object" && !seen["endpoint"] {
		r.fault(join(where, "endpoint"), "%w", proxy.CheckEndpoint(""))
	}
	if h.TLS != nil && h.Endpoint != "" && !isHTTPS(h.Endpoint) {
		r.fault(where+".http.tls", "it has no effect on an http:// endpoint; use https://, or remove it")
	}
	r.headerNames(join(where, "http_headers"), h.Headers)
	r.headerNames(join(where, "emulated_headers"), h.EmulatedHeaders)
	for i, name := range h.SharedBy {
		if !contains(h.Headers, name) && !contains(h.EmulatedHeaders, name) {
			r.fault(fmt.Sprintf("%s[%d]", join(where, "singleflight_headers"), i),
				"%s is in neither http_headers nor emulated_headers, so the backend does not see it; add it there, or remove it", quoted(name))
		}
	}
	return h, seen
}

func checkCache(d time.Duration) error {
	if d < 0 || d > cacheMax {
		return fmt.Errorf(`%v is not between 0 and %v; write, for example, "10s"`, d, cacheMax)
	}
	return nil
}

// http reads what is about HTTP alone.
func (r *reader) http(where string, raw json.RawMessage, h *Hook) {
	r.object(where, raw,
		field{"static_headers", func(where string, raw json.RawMessage) {
			if kind(raw) != "an object" {
				r.fault(where, "it is %s; write an object, {\"name\": \"value\"}", kind(raw))
				return
			}
			h.StaticHeaders = make(map[string]string)
			var names []string
			r.members(raw, func(name string, raw json.RawMessage) {
				var value string
				at := join(where, name)
				if r.text("", &value).read(at, raw); !validHeaderValue(value) {
					r.fault(at, "the value has a character that no header may have")
				}
				names = append(names, name)
				h.StaticHeaders[name] = value
			})
			r.headerNames(where, names)
		}},
		field{"status_to_code_transforms", func(where string, raw json.RawMessage) {
			r.array(where, raw, func(where string, raw json.RawMessage) {
				h.Transforms = append(h.Transforms, r.transform(where, raw))
			})
		}},
		field{"tls", func(where string, raw json.RawMessage) { h.TLS = r.tls(where, raw) }},
	)
}

// textMax bounds texts in the reasons of a Close frame.
const textMax = hook.CloseTextMax

func (r *reader) transform(where string, raw json.RawMessage) (t proxy.Transform) {
	short := func(where, s string) {
		if len(s) > textMax || !isASCII(s) {
			r.fault(where, "it must be ASCII and at most %d bytes long", textMax)
		}
	}
	seen := r.object(where, raw,
		r.number("status_code", &t.Status, 100, 599),
		field{"to_error", func(where string, raw json.RawMessage) {
			var code int
			t.Error = new(hook.Error)
			seen := r.object(where, raw, r.number("code", &code, 1, 1<<31-1), r.text("message", &t.Error.Message), r.flag("temporary", &t.Error.Temporary))
			short(join(where, "message"), t.Error.Message)
			if t.Error.Code = uint32(code); !seen["code"] {
				r.fault(join(where, "code"), "it is missing; write one from 400 to 1999")
			}
		}},
		field{"to_disconnect", func(where string, raw json.RawMessage) {
			var code int
			t.Disconnect = new(hook.Disconnect)
			seen := r.object(where, raw, r.number("code", &code, 1000, 4999), r.text("reason", &t.Disconnect.Reason))
			short(join(where, "reason"), t.Disconnect.Reason)
			t.Disconnect.Code = uint32(code)
			switch {
			case !seen["code"]:
				r.fault(join(where, "code"), "it is missing; write one from 4000 to 4999")
			case code != 0 && !hook.ClosesWith(t.Disconnect.Code):
				r.fault(join(where, "code"), "%d is not a code of a Close frame; use one from 4000 to 4999", code)
			}
		}},
	)
	if (t.Error == nil) == (t.Disconnect == nil) {
		r.fault(where, "it must have exactly one of to_error and to_disconnect")
	}
	switch {
	case !seen["status_code"]:
		r.fault(join(where, "status_code"), "it is missing; write the status of an answer, for example 429")
	case t.Status == 200:
		r.fault(join(where, "status_code"), "200 is an answer that decides, and is not transformed")
	}
	return t
}
