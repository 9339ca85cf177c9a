package namespace

import (
	"fmt"
	"regexp"
	"slices"

	"sluice/gateway/setting"
)

// The keys of a file that are not options.
const (
	keyChannel    = "channel"
	keyWithout    = "without_namespace"
	keyNamespaces = "namespaces"
	keyName       = "name"
)

// namePattern matches the names that a namespace may have, as in Centrifugo.
var namePattern = regexp.MustCompile(`^[-a-zA-Z0-9_.]{2,}$`)

// parser reads a file whose JSON is valid, and continues after each fault.
type parser struct {
	set    *Set
	faults []error
}

// fault reports what is wrong; where is "" for the file as a whole.
func (p *parser) fault(where, format string, args ...any) {
	if where != "" {
		format = "%s: " + format
		args = append([]any{where}, args...)
	}
	p.faults = append(p.faults, fmt.Errorf(format, args...))
}

// object returns the members of a value that must be an object. Repeated keys are
// reported, and their first value is used.
func (p *parser) object(where, raw string) (list []member, ok bool) {
	if kind(raw) != "an object" {
		if where == "" {
			p.fault("", `the file is %s; write an object, {"without_namespace": {...}, "namespaces": [...]}`, kind(raw))
		} else {
			p.fault(where, "%s is %s; write an object, {...}", shown(raw), kind(raw))
		}
		return nil, false
	}
	seen := make(map[string]int)
	for _, m := range members(raw) {
		seen[m.key]++
		switch seen[m.key] {
		case 1:
			list = append(list, m)
		case 2:
			p.fault(where, "%s appears more than once; remove all but one", quoted(m.key))
		}
	}
	return list, true
}

func (p *parser) file(raw string) {
	list, ok := p.object("", raw)
	if !ok {
		return
	}
	defer p.checkPersonal()
	if i := slices.IndexFunc(list, func(m member) bool { return m.key == keyClient }); i >= 0 {
		p.client(list[i].raw)
		list = slices.Delete(list, i, i+1)
	}
	i := slices.IndexFunc(list, func(m member) bool { return m.key == keyChannel })
	if i < 0 {
		p.channel("", list)
		return
	}
	for j, m := range list {
		if j != i {
			p.fault("", `%s is next to "channel", but if a file has "channel", sluice reads only that and "client"; `+
				"move it into \"channel\" if it belongs there, or remove it", quoted(m.key))
		}
	}
	if inner, ok := p.object(keyChannel, list[i].raw); ok {
		p.channel(keyChannel, inner)
	}
}

// channel reads the object that holds without_namespace and namespaces.
func (p *parser) channel(where string, list []member) {
	for _, m := range list {
		switch m.key {
		case keyWithout:
			if inner, ok := p.object(keyWithout, m.raw); ok {
				p.without(inner)
			}
		case keyNamespaces:
			p.namespaces(m.raw)
		default:
			p.unknownAbove(where, m.key)
		}
	}
}

// unknownAbove reports a key that is neither without_namespace nor namespaces.
func (p *parser) unknownAbove(where, key string) {
	if does, ok := foreignAbove[key]; ok {
		p.fault(where, "%s", notOurs(key, does))
		return
	}
	_, has := foreign[key]
	if has || optionOf(key) != nil {
		p.fault(where, "%s is a channel option in the wrong place; "+
			`move it into "without_namespace" or into a namespace`, quoted(key))
		return
	}
	p.fault(where, "%s", unknown(key, []string{keyWithout, keyNamespaces, keyChannel, keyClient}))
}

func (p *parser) without(list []member) {
	list = slices.DeleteFunc(list, func(m member) bool {
		if m.key == keyName {
			p.fault(keyWithout, `name: not allowed for channels without a namespace; remove it, or move the options into "namespaces"`)
		}
		return m.key == keyName
	})
	p.options(keyWithout, list, p.set.without)
}

func (p *parser) namespaces(raw string) {
	if kind(raw) != "an array" {
		p.fault(keyNamespaces, `%s is %s; write an array of objects, [{"name": "chat", ...}]`, shown(raw), kind(raw))
		return
	}
	list, all := elements(raw, namespacesMax)
	if !all {
		p.fault(keyNamespaces, "there are more than %d; put channels with the same options into one namespace",
			namespacesMax)
	}
	for i, raw := range list {
		where := fmt.Sprintf("%s[%d]", keyNamespaces, i)
		list, ok := p.object(where, raw)
		if !ok {
			continue
		}
		o := new(Options)
		if j := slices.IndexFunc(list, func(m member) bool { return m.key == keyName }); j < 0 {
			p.fault(where, `name: missing, so no channel would belong to this namespace; add it, for example "name": "chat"`)
		} else {
			where = p.name(where, list[j].raw, o)
			list = slices.Delete(list, j, j+1)
		}
		p.options(where, list, o)
	}
}

// name reads a namespace's name, adds the namespace to the set and returns the
// namespace's place as errors name it.
func (p *parser) name(where, raw string, o *Options) string {
	name, ok := text(raw)
	switch {
	case !ok:
		p.fault(where, `name: %s is %s; write a string, for example "chat"`, shown(raw), kind(raw))
		return where
	case !namePattern.MatchString(name):
		p.fault(where, "name: %s must consist of two or more of the characters a-z, A-Z, 0-9, '-', '_' and '.', "+
			`without ':'; for example, "chat"`, quoted(name))
		return where
	}
	named := fmt.Sprintf("namespace %s", quoted(name))
	if p.set.byName[name] != nil {
		p.fault(where, "name: %s is already the name of another namespace; rename or remove one of them", quoted(name))
		return named
	}
	o.Name = name
	p.set.byName[name] = o
	p.set.named = append(p.set.named, o)
	return named
}

// options reads every option but the name.
func (p *parser) options(where string, list []member, o *Options) {
	unread := make(map[string]bool)
	for _, m := range list {
		if err := o.read(m); err != nil {
			p.fault(where, "%w", err)
			unread[m.key] = true
		}
	}
	for _, err := range o.faults(unread) {
		p.fault(where, "%w", err)
	}
}

// read sets one option.
func (o *Options) read(m member) error {
	x := optionOf(m.key)
	if x == nil {
		if does, ok := foreign[m.key]; ok {
			return notOurs(m.key, does)
		}
		names := make([]string, len(known))
		for i := range known {
			names[i] = known[i].name
		}
		return unknown(m.key, names)
	}
	var err error
	if x.flag != nil {
		*x.flag(o), err = readFlag(m.raw)
	} else {
		err = x.read(o, m.raw)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", x.name, err)
	}
	return nil
}

func optionOf(name string) *option {
	if i := slices.IndexFunc(known, func(x option) bool { return x.name == name }); i >= 0 {
		return &known[i]
	}
	return nil
}

// notOurs returns the fault of an option that only Centrifugo has.
func notOurs(name, does string) error {
	return fmt.Errorf("%s: this Centrifugo option is not supported: sluice %s; remove it", name, does)
}

// unknown returns the fault of an unknown key; names are those it could mean.
func unknown(key string, names []string) error {
	if name := setting.Nearest(key, names); name != "" {
		return fmt.Errorf("%s is unknown: did you mean %q?", quoted(key), name)
	}
	return fmt.Errorf("%s is not a known option; remove it", quoted(key))
}
