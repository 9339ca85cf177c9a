package namespace

import (
	"errors"
	"fmt"
)

// Personal says that each user has a channel, to which the gateway subscribes all of the user's connections.
type Personal struct {
	Namespace string // of these channels; "" for none
	// SingleConnection closes the other connections of a user who connects. The channels must have presence.
	SingleConnection bool
}

// WithPersonal returns the set with personal channels, or what is wrong with them.
func (s *Set) WithPersonal(p Personal) (*Set, error) {
	if err := errors.Join(s.personalFaults(p)...); err != nil {
		return nil, err
	}
	own := *s
	own.personal = &p
	return &own, nil
}

// personalFaults returns what is wrong with personal channels in the set.
func (s *Set) personalFaults(p Personal) (faults []error) {
	o, ok := s.Lookup(p.channel("u"))
	if !ok {
		return []error{fmt.Errorf("personal_channel_namespace: there is no namespace %s; add it, or remove this", quoted(p.Namespace))}
	}
	if p.SingleConnection && !o.Presence {
		return []error{errors.New(`single_connection: needs presence, to find a user's other connections; add "presence": true to the namespace of the personal channels, or remove single_connection`)}
	}
	return nil
}

// Personal returns the channel of a user and whether the user may have only one connection; "" if there is no such channel.
func (s *Set) Personal(user string) (channel string, single bool) {
	if s == nil || s.personal == nil || user == "" {
		return "", false
	}
	return s.personal.channel(user), s.personal.SingleConnection
}

func (p Personal) channel(user string) string {
	if p.Namespace == "" {
		return string(userBoundary) + user
	}
	return p.Namespace + string(namespaceBoundary) + string(userBoundary) + user
}

// The keys of a file for personal channels.
const (
	keyClient   = "client"
	keyPersonal = "subscribe_to_user_personal_channel"
)

// client reads what a file has beside its channels. It is checked when the namespaces are known.
func (p *parser) client(raw string) {
	list, ok := p.object(keyClient, raw)
	if !ok {
		return
	}
	for _, m := range list {
		switch m.key {
		case keyPersonal:
			p.personal(m.raw)
		case "proxy", "allow_anonymous_connect_without_token":
			p.fault(keyClient, "%s belongs in the file of hooks; move it there", quoted(m.key))
		default:
			p.fault(keyClient, "%s", unknown(m.key, []string{keyPersonal}))
		}
	}
}

func (p *parser) personal(raw string) {
	const where = keyClient + "." + keyPersonal
	list, ok := p.object(where, raw)
	if !ok {
		return
	}
	enabled, read := false, len(p.faults)
	var personal Personal
	flag := func(m member, to *bool) {
		var err error
		if *to, err = readFlag(m.raw); err != nil {
			p.fault(where, "%s: %w", m.key, err)
		}
	}
	for _, m := range list {
		switch m.key {
		case "enabled":
			flag(m, &enabled)
		case "single_connection":
			flag(m, &personal.SingleConnection)
		case "personal_channel_namespace":
			if personal.Namespace, ok = text(m.raw); !ok {
				p.fault(where, "%s: %s is %s; write the name of a namespace", m.key, shown(m.raw), kind(m.raw))
			}
		default:
			p.fault(where, "%s", unknown(m.key, []string{"enabled", "single_connection", "personal_channel_namespace"}))
		}
	}
	switch {
	case len(p.faults) > read:
	case !enabled && personal != Personal{}:
		p.fault(where, `it has no effect without enabled; add "enabled": true, or remove it`)
	case enabled:
		p.set.personal = &personal
	}
}

// checkPersonal reports what is wrong with personal channels now that all namespaces are read.
func (p *parser) checkPersonal() {
	if p.set.personal == nil || p.faults != nil {
		return
	}
	for _, err := range p.set.personalFaults(*p.set.personal) {
		p.fault(keyClient+"."+keyPersonal, "%w", err)
	}
}
