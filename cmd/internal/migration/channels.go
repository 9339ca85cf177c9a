package migration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/gateway/access/namespace"
)

// channels converts channel.namespaces and channel.without_namespace, and which hooks they
// select.
func (c *conversion) channels() {
	ch := c.root.get("channel")
	c.closeAnonymous(ch)
	var file objectOf
	without := ch.get("without_namespace")
	if without != nil {
		hooks := c.selects(without)
		if raw, ok := repairNamespace(without, "without_namespace", func(raw json.RawMessage) string {
			return fmt.Sprintf(`{"without_namespace":%s}`, raw)
		}); ok {
			use(hooks)
			file.add("without_namespace", raw)
		}
	}
	var list []json.RawMessage
	var names []string
	for _, at := range ch.get("namespaces").each() {
		name, _ := at.get("name").text()
		if slices.Contains(names, name) {
			at.mark(lost, "another namespace is called %s", quoted(name))
			continue
		}
		names = append(names, name)
		hooks := c.selects(at)
		raw, ok := repairNamespace(at, "namespace "+quoted(name), func(raw json.RawMessage) string {
			return fmt.Sprintf(`{"namespaces":[%s]}`, raw)
		})
		if ok {
			use(hooks)
			list = append(list, raw)
		}
	}
	file.add("namespaces", array(list))
	c.personal(&file)
	c.must("namespaces", c.file(namespacesFile, indented(file.json())))
	ch.get("namespaces").mark(idle, "there are none")

	if n := ch.get("max_length"); n != nil {
		if i, err := n.number(); err == nil && (i == 255 || i == 0) {
			n.mark(idle, "255 is what sluice has too")
		}
		n.mark(lost, "names of channels have at most 255 bytes")
	}
	ch.get("history_meta_ttl").mark(idle, "sluice keeps a channel's epoch and offset for as long as the channel exists")
	ch.get("publication_data_format").lose("sluice does not inspect publications; a publish hook can")
	const streams = "sluice asks a backend for decisions, and delivers only what was published"
	for _, name := range []string{"subscribe_stream", "map_publish", "map_remove", "shared_poll_refresh", "state", "cache_empty"} {
		n := ch.get("proxy." + name)
		if n.get("endpoint").off() {
			n.mark(idle, "it has no endpoint")
		}
		n.mark(lost, streams)
	}
}

// closeAnonymous takes out what anonymous clients may do, if no client could be anonymous before
// without a token or a hook's consent.
func (c *conversion) closeAnonymous(ch *node) {
	client := c.root.get("client")
	free := client.get("allow_anonymous_connect_without_token").on()
	asked := client.get("proxy.connect.enabled").on()
	connect := c.hook("connect", "")
	switch {
	case asked && (connect == nil || !connect.used):
		// The hook would have decided.
	case free, asked && !client.get("disallow_anonymous_connection_tokens").on():
		return
	}
	const why = "in sluice, a client without a token is anonymous and gets this; in Centrifugo, it could not connect like this. Add it again if everybody may"
	for _, at := range append([]*node{ch.get("without_namespace")}, ch.get("namespaces").each()...) {
		for _, what := range []string{"subscribe", "publish", "presence", "history"} {
			if n := at.get("allow_" + what + "_for_anonymous"); n.on() {
				n.drop(lost, why)
			}
		}
	}
}

// use marks hooks as used.
func use(hooks []*proxy) {
	for _, p := range hooks {
		p.used = true
	}
}

// selects returns which hooks a namespace has. One that cannot be a hook closes what it decided.
func (c *conversion) selects(at *node) (hooks []*proxy) {
	for _, x := range []struct {
		event  string
		rights []string
	}{
		{"subscribe", []string{"allow_subscribe_for_client", "allow_subscribe_for_anonymous"}},
		{"publish", []string{"allow_publish_for_client", "allow_publish_for_subscriber", "allow_publish_for_anonymous"}},
		{"sub_refresh", nil},
	} {
		enabled, named := at.get(x.event+"_proxy_enabled"), at.get(x.event+"_proxy_name")
		if !enabled.on() {
			named.drop(idle, "%s_proxy_enabled is off", x.event)
			continue
		}
		name, _ := named.text()
		p := c.hook(x.event, name)
		if p != nil && p.broken == "" {
			hooks = append(hooks, p)
			continue
		}
		why := "there is no such proxy"
		if p != nil {
			why = p.at.path + ": " + p.broken
		}
		enabled.drop(lost, "%s", why)
		named.drop(lost, "%s", why)
		c.shut(at, enabled, why, x.rights)
	}
	stream := at.get("subscribe_stream_proxy_enabled")
	if !stream.on() {
		for _, key := range []string{"subscribe_stream_proxy_name", "subscribe_stream_proxy_bidirectional"} {
			at.get(key).drop(idle, "subscribe_stream_proxy_enabled is off")
		}
	}
	if at.get("subscription_type").off() {
		at.get("map").drop(idle, "subscription_type is not map")
		at.get("shared_poll").drop(idle, "subscription_type is not shared_poll")
	}
	if stream.on() {
		const why = "sluice asks no backend for streams; use a subscribe hook, and publish by the server API"
		stream.drop(lost, why)
		c.shut(at, stream, why, []string{"allow_subscribe_for_client", "allow_subscribe_for_anonymous"})
	}
	return hooks
}

// shut takes out permissions that a hook decided about.
func (c *conversion) shut(at, decider *node, why string, rights []string) {
	for _, name := range rights {
		if n := at.get(name); n.on() {
			n.drop(lost, "%s decided instead, and is not carried over; add it again if all clients may do this", decider.path)
		}
	}
	if rights != nil {
		name, _ := at.get("name").text()
		c.advise("%s (%s): %s. Nobody may do what it allowed, until you add a hook or an option", decider.path, quoted(name), why)
	}
}

// repairNamespace takes out of a namespace what sluice refuses, and encodes it.
func repairNamespace(at *node, where string, file func(json.RawMessage) string) (raw json.RawMessage, ok bool) {
	for {
		raw = at.encode()
		_, err := namespace.Parse([]byte(file(raw)))
		if err == nil {
			at.mark(kept, "%s, %s", namespacesFile, where)
			return raw, true
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			key, text := splitFault(strings.TrimPrefix(line, where+": "))
			n := at.get(key)
			if n == nil || n.dropped || key == "name" || key == "channel_regex" { // without the last, there would be more channels
				at.mark(lost, "%s", line)
				return nil, false
			}
			switch text = strings.TrimSuffix(text, "; remove it"); {
			case strings.Contains(text, "no effect") || strings.Contains(text, "grants nothing by itself") || strings.Contains(text, "there is no history"):
				n.drop(idle, "%s", text)
			case n.off():
				n.drop(idle, "off")
			default:
				n.drop(lost, "%s", strings.TrimPrefix(text, "this Centrifugo option is not supported: "))
			}
		}
	}
}

// splitFault splits a fault into the option that it is about and what is wrong.
func splitFault(line string) (name, text string) {
	if prefix, err := strconv.QuotedPrefix(line); err == nil {
		name, _ = strconv.Unquote(prefix) // it has the form of one
		return name, strings.TrimSpace(line[len(prefix):])
	}
	name, text, _ = strings.Cut(line, ": ")
	return name, text
}

// personal converts the channel of each user, whose namespace has to be part of the result.
func (c *conversion) personal(file *objectOf) {
	n := c.root.get("client.subscribe_to_user_personal_channel")
	if !n.get("enabled").on() {
		n.mark(idle, "client.subscribe_to_user_personal_channel is off")
		return
	}
	before := file.b.Len()
	var client objectOf
	client.add(n.key, n.encode())
	file.add("client", client.json())
	if _, err := namespace.Parse(file.json()); err != nil {
		file.b.Truncate(before)
		n.mark(lost, "%s", advised(err))
		return
	}
	n.mark(kept, "%s", namespacesFile)
}

// shownMax bounds the bytes of a value that a message repeats.
const shownMax = 64

// quoted returns a name as messages show it.
func quoted(s string) string {
	if len(s) > shownMax {
		return strconv.Quote(strings.ToValidUTF8(s[:shownMax], "") + "...")
	}
	return strconv.Quote(s)
}
