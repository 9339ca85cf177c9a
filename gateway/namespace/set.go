package namespace

import (
	_ "embed"
	"iter"
	"slices"
	"strings"
)

// A Set gives the options of every channel. Make one with Parse, Default or
// Everywhere. It does not change and is safe for concurrent use.
type Set struct {
	without *Options
	named   []*Options          // in the file's order
	byName  map[string]*Options // nil where every channel has the options of without
}

// Default gives a set without namespaces: channels whose name has no namespace have
// the options given, all others are unknown. The options' Name is ignored.
func Default(without Options) *Set {
	s := Everywhere(without)
	s.byName = make(map[string]*Options)
	return s
}

// Everywhere gives a set in which all channels have the same options, whatever their
// names. The options' Name is ignored.
func Everywhere(all Options) *Set {
	all.Name = ""
	return &Set{without: &all}
}

// Lookup gives the options of channel; false says that it is of a namespace that
// is not configured. The options are the set's own: do not change them.
func (s *Set) Lookup(channel string) (*Options, bool) {
	if s.byName == nil {
		return s.without, true
	}
	name := strings.TrimPrefix(channel, privatePrefix)
	i := strings.IndexByte(name, namespaceBoundary)
	if i <= 0 {
		return s.without, true
	}
	o, ok := s.byName[name[:i]]
	return o, ok
}

// All gives the options of channels without a namespace, then those of each namespace
// in the file's order. They are the set's own: do not change them.
func (s *Set) All() iter.Seq[*Options] {
	return func(yield func(*Options) bool) {
		if !yield(s.without) {
			return
		}
		for _, o := range s.named {
			if !yield(o) {
				return
			}
		}
	}
}

//go:embed example.json
var example []byte

// Example gives a file that Parse accepts, to show what one looks like.
func Example() []byte { return slices.Clone(example) }
