package migration

import "encoding/json"

// methods converts rpc: which methods have which hook.
func (c *conversion) methods(o *objectOf) {
	r := c.root.get("rpc")
	var list []json.RawMessage
	var names []string
	some := false
	if !r.get("ping.enabled").on() {
		r.get("ping").mark(idle, "rpc.ping is off")
	}
	if r.get("namespaces").off() {
		r.get("namespaces").mark(idle, "there are none")
	}
	for _, at := range append([]*node{r.get("without_namespace")}, r.get("namespaces").each()...) {
		var choice objectOf
		if at == nil {
			continue
		}
		if n := at.get("name"); at.key == "" {
			name, _ := n.text()
			if err := fault(`{"rpc":{"namespaces":[{"name":%s}]}}`, encoded(name)); err != nil || contains(names, name) {
				at.lose("its name is missing, not valid, or that of another one, so clients get error 104 for its methods")
				continue
			}
			n.mark(kept, "%s", hooksFile)
			names = append(names, name)
			choice.add("name", encoded(name))
		}
		some = c.method(at, &choice) || some
		if at.key == "" {
			list = append(list, choice.json())
		} else if !choice.empty() {
			o.add(at.key, choice.json())
		}
	}
	boundary := r.get("namespace_boundary")
	if !some {
		o.b.Reset()
		boundary.mark(idle, "no method has a hook")
		r.get("ping").lose("clients ping by the protocol")
		return
	}
	if list != nil {
		o.add("namespaces", array(list))
	}
	if text, err := boundary.text(); err == nil && text != "" {
		o.add(boundary.key, encoded(text))
		boundary.mark(kept, "%s", hooksFile)
	}
	boundary.mark(idle, "the default")
	r.get("ping").lose("clients ping by the protocol; the hook is asked for this method too")
}

// method converts which hook a namespace of methods has, and reports whether it has one.
func (c *conversion) method(at *node, choice *objectOf) bool {
	enabled, named := at.get("proxy_enabled"), at.get("proxy_name")
	if !enabled.on() {
		enabled.mark(idle, "off")
		named.mark(idle, "proxy_enabled is off")
		return false
	}
	name, _ := named.text()
	p := c.hook("rpc", name)
	if p == nil || p.broken != "" {
		enabled.mark(lost, "its proxy cannot be a hook, so clients get error 108 for its methods")
		named.mark(lost, "its proxy cannot be a hook")
		c.advise("%s: its proxy cannot be a hook, so clients get error 108 for its methods", at.path)
		return false
	}
	p.used = true
	choice.add(enabled.key, encoded(true))
	if name != "" {
		choice.add(named.key, encoded(name))
	}
	enabled.mark(kept, "%s", hooksFile)
	named.mark(kept, "%s", hooksFile)
	return true
}
