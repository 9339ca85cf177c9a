package gateway

import (
	"context"
	"math"

	"sluice/gateway/access"
	"sluice/gateway/channel"
	"sluice/gateway/engine/backing"
)

// openEngine starts the engine, unless a test has one.
func (s *Server) openEngine(with parts) (err error) {
	if with.engine != nil {
		s.engine = backing.Plain(with.engine(s.space, s.present), s.cfg.Name)
		return nil
	}
	g := backing.Gateway{
		Space: s.space, Present: s.present, Keep: s.keep, NamespaceOf: s.policy.NamespaceOf, Name: s.cfg.Name,
		MessageMax: s.cfg.MaxMessage, Rate: max(s.cfg.ChannelRate, 0), Describe: s.describe, Logger: s.cfg.Logger,
	}
	if in := s.cfg.Inherited; in != nil {
		g.After = in.released
		form, _ := backing.FormOf(&s.cfg.Store)
		if form != backing.Memory && g.Name == "" {
			g.Name = in.Node // which the directory has, and is not open yet, or which other nodes know
		}
		if form == backing.Servers {
			g.ID = in.id
		}
	}
	g.Namespaces = streamsOf(s.policy)
	s.engine, err = backing.Open(context.Background(), &s.cfg.Store, g)
	return err
}

// streamsOf returns what a store keeps of each namespace.
func streamsOf(p *access.Policy) (list []backing.Namespace) {
	for o := range p.Namespaces() {
		list = append(list, backing.Namespace{Name: o.Name, Size: min(o.HistorySize, math.MaxInt32), TTL: o.HistoryTTL, Durable: o.Stored()})
	}
	return list
}

// streams returns what a store keeps with this configuration.
func (c *Config) streams() []backing.Namespace { return streamsOf(access.New(c.access())) }

// keep returns how much the channels' space keeps of one.
func (s *Server) keep(name string) channel.Keep {
	o := s.policy.Options(name)
	if o == nil {
		return channel.Keep{}
	}
	return channel.Keep{Count: min(o.HistorySize, math.MaxInt32), TTL: o.HistoryTTL.Milliseconds()}
}

// engineDescriptors returns how many file descriptors the engine keeps.
func (c *Config) engineDescriptors() int {
	if c.Namespaces == nil {
		return backing.Descriptors(&c.Store, 1)
	}
	streams := 0
	for o := range c.Namespaces.All() {
		if o.Stored() {
			streams++
		}
	}
	return backing.Descriptors(&c.Store, streams)
}
