package namespace

import (
	_ "embed"
	"iter"
	"slices"
	"strings"
)

// A Set holds the options of every channel. Create it with Parse, Default or Everywhere. It
// does not change and is safe for concurrent use.
type Set struct {
	without  *Options
	named    []*Options          // in the file's order
	byName   map[string]*Options // nil where every channel has the options of without
	personal *Personal           // nil for none
}

// Default returns a Set without namespaces: channels whose name has no namespace have the
// given options, all others are unknown. The options' Name is ignored.
func Default(without Options) *Set {
	s := Everywhere(without)
	s.byName = make(map[string]*Options)
	return s
}

// Everywhere returns a Set in which all channels have the same options, whatever their
// names. The options' Name is ignored.
func Everywhere(all Options) *Set {
	all.Name = ""
	return &Set{without: &all}
}

// Lookup returns the options of channel, or false if its namespace is not configured. The
// options belong to the Set and must not be changed.
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

// All returns an iterator over the options of channels without a namespace, then those of
// each namespace in the file's order. They belong to the Set and must not be changed.
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

// Example returns an example of a namespaces file, which Parse accepts.
func Example() []byte { return slices.Clone(example) }
