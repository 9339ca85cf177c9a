package migration

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sluice/gateway/hook"
	"sluice/gateway/hook/config"
)

// hooks are the proxies of the configuration.
type hooks struct {
	list []*proxy
}

// proxy is one of Centrifugo's proxies, which becomes a hook.
type proxy struct {
	at     *node
	use    string // where a namespace finds it: "subscribe default", or "proxy" with its name; "" for those of connections
	broken string // why it cannot be a hook
	used   bool
}

// findHooks finds all proxies, and decides which can be hooks.
func (c *conversion) findHooks() {
	add := func(at *node, use string) *proxy {
		p := &proxy{at: at, use: use}
		if at != nil {
			c.hooks.list = append(c.hooks.list, p)
		}
		return p
	}
	for _, event := range []string{"connect", "refresh"} {
		p := add(c.root.get("client.proxy."+event), event)
		p.used = p.at.get("enabled").on()
	}
	for _, event := range []string{"subscribe", "publish", "sub_refresh"} {
		add(c.root.get("channel.proxy."+event), event)
	}
	add(c.root.get("rpc.proxy"), "rpc")
	for _, at := range c.root.get("proxies").each() {
		name, _ := at.get("name").text()
		p := add(at, "proxy "+name)
		if c.hook("", name) != p {
			p.broken = "another proxy has this name"
		} else if fault := fault(`{"proxies":[{"name":%s,"endpoint":"http://127.0.0.1"}]}`, encoded(name)); fault != nil {
			p.broken = fault.Error()
		}
	}
	for _, p := range c.hooks.list {
		if p.broken != "" {
			continue
		}
		if p.at.get("endpoint").off() && p.use != "connect" && p.use != "refresh" {
			p.broken = "it has no endpoint"
			continue
		}
		c.repair(p)
	}
	for _, p := range c.hooks.list {
		if p.used && p.broken != "" {
			p.used = false
			p.at.mark(lost, "%s", p.broken)
			c.advise("%s: %s; clients without a token are anonymous then, and anonymous clients may do nothing", p.at.path, p.broken)
		}
	}
}

// hook returns the proxy that a namespace selects, nil if there is none.
func (c *conversion) hook(event, name string) *proxy {
	use := "proxy " + name
	if name == "" || name == hook.Default {
		use = event
	}
	for _, p := range c.hooks.list {
		if p.use == use {
			return p
		}
	}
	return nil
}

// forwards reports whether a hook gets a header of the opening request.
func (c *conversion) forwards(header string) bool {
	for _, p := range c.hooks.list {
		if list, err := p.at.get("http_headers").texts(); p.used && err == nil && contains(list, header) {
			return true
		}
	}
	return false
}

// repair takes out of a proxy what its hook cannot have, and encodes it.
func (c *conversion) repair(p *proxy) {
	const grpcOnly = "it has no effect on an HTTP endpoint"
	p.at.get("grpc").drop(idle, grpcOnly)
	p.at.get("grpc_metadata").drop(idle, grpcOnly)
	if tls := p.at.get("http.tls"); !tls.get("enabled").on() {
		tls.drop(idle, "http.tls is off")
	}
	c.expand(p.at.get("http.static_headers"))
	for _, key := range []string{"http_headers", "emulated_headers"} {
		n := p.at.get(key)
		list, err := n.texts()
		if err != nil {
			n.drop(lost, "%v", err)
			continue
		}
		good := []any{}
		var bad []string
		for _, name := range list {
			if err := headerFault(name); err != nil {
				bad = append(bad, advised(err))
			} else if !contains(texts(good), name) {
				good = append(good, name)
			}
		}
		if n != nil {
			n.shape, n.value = scalars, good
		}
		if bad != nil {
			n.mark(lost, "not all of it: %s", strings.Join(bad, "; "))
		}
	}
	for p.broken == "" {
		_, err := config.Parse(fmt.Appendf(nil, `{"proxies":[%s]}`, p.encode()), os.ReadFile)
		if err == nil {
			return
		}
		faults := config.Faults(err)
		if len(faults) == 0 {
			p.broken = err.Error()
		}
		// Dropping one changes the places of others, so all are found first.
		found := make([]*node, len(faults))
		for i, f := range faults {
			path := strings.TrimPrefix(strings.TrimPrefix(f.Where, "proxies[0]"), ".")
			if whole := transform.FindString(path); whole != "" {
				path = whole
			}
			if found[i] = p.at.at(path); found[i] == nil || found[i] == p.at || path == "endpoint" {
				p.broken = f.Err.Error()
				return
			}
		}
		for i, f := range faults {
			found[i].drop(lost, "%s", advised(f.Err))
		}
	}
}

// transform matches the path of what is decided about one status.
var transform = regexp.MustCompile(`^http\.status_to_code_transforms\[\d+\]`)

// encode returns a proxy as an element of proxies, with a name that Parse accepts.
func (p *proxy) encode() json.RawMessage {
	var o objectOf
	o.add("name", encoded("any"))
	p.fields(&o)
	return o.json()
}

// fields returns the members of a proxy, apart from its name.
func (p *proxy) fields(o *objectOf) {
	for _, child := range p.at.present() {
		if child.key != "name" && child.key != "enabled" {
			o.add(child.key, child.encode())
		}
	}
}

func texts(list []any) (s []string) {
	for _, v := range list {
		s = append(s, v.(string))
	}
	return s
}

// fault returns the first thing that is wrong in a hooks file.
func fault(format string, args ...any) error {
	_, err := config.Parse(fmt.Appendf(nil, format, args...), os.ReadFile)
	if faults := config.Faults(err); len(faults) > 0 {
		return faults[0].Err
	}
	return err
}

// headerFault returns an error if a header is never passed on.
func headerFault(name string) error {
	return fault(`{"proxies":[{"name":"any","endpoint":"http://127.0.0.1","http_headers":[%s]}]}`, encoded(name))
}

// advised returns the text of a fault without the advice to do what was done.
func advised(fault error) string { return strings.TrimSuffix(fault.Error(), "; remove it") }

var step = regexp.MustCompile(`^([^.\[\]]+|"[^"]*")?(\[\d+\])?\.?`)

// at returns the node at a path of the encoded node, nil if there is none.
func (n *node) at(path string) *node {
	for path != "" && n != nil {
		m := step.FindStringSubmatch(path)
		if m[0] == "" {
			return nil
		}
		path = path[len(m[0]):]
		if name := m[1]; name != "" {
			if unquoted, err := strconv.Unquote(name); err == nil {
				name = unquoted
			}
			found := slices.IndexFunc(n.children, func(child *node) bool { return child.key == name && !child.dropped })
			if found < 0 {
				return n // it is about something that is missing
			}
			n = n.children[found]
		}
		if m[2] != "" && n.shape == objects {
			i, _ := strconv.Atoi(strings.Trim(m[2], "[]"))
			if i >= len(n.present()) {
				return nil
			}
			n = n.present()[i]
		}
	}
	return n
}

var variable = regexp.MustCompile(`\$\{(CENTRIFUGO_VAR_[^}]+)}`)

// expand makes an object of static headers, which can be a list too, and replaces variables.
func (c *conversion) expand(n *node) {
	if n == nil {
		return
	}
	for _, pair := range n.each() {
		key, _ := pair.get("key").text()
		value := pair.get("value")
		if value == nil || key == "" {
			pair.drop(lost, "it has no key, or no value")
			continue
		}
		pair.shape, pair.key, pair.value = scalar, key, value.value
		pair.children, pair.fate = nil, nil
	}
	if n.shape == objects {
		n.shape = object
	}
	for _, header := range n.children {
		s, ok := header.value.(string)
		if !ok {
			continue // Parse says what is wrong
		}
		missing := ""
		header.value = variable.ReplaceAllStringFunc(s, func(ref string) string {
			name := variable.FindStringSubmatch(ref)[1]
			value, ok := c.env[name]
			if !ok {
				missing = name
			}
			return value
		})
		if missing != "" {
			header.drop(lost, "the variable %s is not in the environment of 'sluice import'", missing)
		}
	}
}

// writeHooks writes the hooks that are used, and reports which are not.
func (c *conversion) writeHooks() {
	var client, clientProxy, channelProxy, rpc, all objectOf
	var named []json.RawMessage
	c.methods(&rpc)
	for _, p := range c.hooks.list {
		if !p.used {
			if p.broken != "" && !p.at.get("endpoint").off() {
				p.at.mark(lost, "%s", p.broken)
			}
			p.at.mark(idle, "nothing uses it")
			continue
		}
		var o objectOf
		switch name, isNamed := strings.CutPrefix(p.use, "proxy "); {
		case isNamed:
			o.add("name", encoded(name))
			p.fields(&o)
			named = append(named, o.json())
		case p.use == "connect" || p.use == "refresh":
			o.add("enabled", encoded(true))
			p.fields(&o)
			clientProxy.add(p.use, o.json())
		case p.use == "rpc":
			p.fields(&o)
			rpc.add("proxy", o.json())
		default:
			p.fields(&o)
			channelProxy.add(p.use, o.json())
		}
		p.at.mark(kept, "%s", hooksFile)
		c.headerAdvice(p)
	}
	c.emulatedAdvice()
	if !clientProxy.empty() {
		client.add("proxy", clientProxy.json())
	}
	anonymous := c.root.get("client.allow_anonymous_connect_without_token")
	switch connect := c.hook("connect", ""); {
	case connect != nil && connect.used && anonymous.on():
		client.add(anonymous.key, encoded(true))
		anonymous.mark(kept, "%s", hooksFile)
	case anonymous.on():
		anonymous.mark(idle, "a client without a token is anonymous in sluice, if there is no connect hook")
	}
	if !client.empty() {
		all.add("client", client.json())
	}
	if !channelProxy.empty() {
		var channel objectOf
		channel.add("proxy", channelProxy.json())
		all.add("channel", channel.json())
	}
	if !rpc.empty() {
		all.add("rpc", rpc.json())
	}
	if named != nil {
		all.add("proxies", array(named))
	}
	if !all.empty() {
		c.must("hooks", c.file(hooksFile, indented(all.json())))
	}
}

func array(list []json.RawMessage) json.RawMessage {
	b := []byte{'['}
	for i, raw := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, raw...)
	}
	return append(b, ']')
}

// headerAdvice warns about headers that a client can forge.
func (c *conversion) headerAdvice(p *proxy) {
	emulated, _ := p.at.get("emulated_headers").texts()
	fromClient, _ := p.at.get("http_headers").texts()
	for _, name := range emulated {
		if contains(fromClient, name) {
			c.advise("%s: %s is in http_headers and in emulated_headers: where the opening request lacks it, a client chooses its value. If a proxy in front sets it, remove it from emulated_headers", p.at.path, name)
		}
	}
	if static := p.at.get("http.static_headers"); static != nil {
		for _, header := range static.present() {
			if contains(fromClient, header.key) || contains(emulated, header.key) {
				c.advise("%s: %s is a static header and one of the client's, whose value goes before; remove it from one of the lists", p.at.path, header.key)
			}
		}
	}
}

// emulatedAdvice warns of configurations that may rely on what CVE-2026-71485 was about.
func (c *conversion) emulatedAdvice() {
	var names, paths []string
	for _, p := range c.hooks.list {
		list, _ := p.at.get("http_headers").texts()
		if !p.used || len(list) == 0 || p.at.get("emulated_headers") != nil {
			continue
		}
		paths = append(paths, p.at.path)
		for _, name := range list {
			if !contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if names != nil {
		c.advise("%s: before 6.9.0, Centrifugo sent hooks the headers in http_headers also if a client had written them into its connect command (CVE-2026-71485). sluice never does. If your clients rely on that (the option headers of the SDKs), add those names to emulated_headers; never add one that identifies a user and that a proxy in front sets. The names: %s",
			strings.Join(paths, ", "), strings.Join(names, ", "))
	}
}
