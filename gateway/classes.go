package gateway

import (
	"maps"
	"sync/atomic"

	"sluice/gateway/access"
)

// classes makes each namespace a class of the channels' space, by its name. The first is that of channels without one.
type classes struct {
	room   int                            // set by begin
	byName atomic.Pointer[map[string]int] // replaced by follow
}

// classesSpare is how many names there may be that the first configuration does not have. Each costs some bytes for each
// loop.
const classesSpare = 512

// begin returns how many classes there are, and that of a channel.
func (c *classes) begin(policy *access.Policy) (n int, of func(channel string) int) {
	c.byName.Store(&map[string]int{"": 0})
	for range policy.Namespaces() {
		c.room++
	}
	c.room += classesSpare
	c.follow(policy)
	return c.room, func(channel string) int { return c.of(policy.NamespaceOf(channel)) }
}

// of returns the class of a namespace.
func (c *classes) of(namespace string) int { return (*c.byName.Load())[namespace] }

// follow adds the namespaces that the policy has now. Names that it has no more give way where there is no room; where that
// is not enough, namespaces count as none.
func (c *classes) follow(policy *access.Policy) {
	names := map[string]bool{"": true}
	for o := range policy.Namespaces() {
		names[o.Name] = true
	}
	next := maps.Clone(*c.byName.Load())
	var gone []int
	for name, class := range next {
		if !names[name] {
			gone = append(gone, class)
		}
	}
	for name := range names {
		if _, ok := next[name]; ok {
			continue
		}
		switch {
		case len(next) < c.room:
			next[name] = len(next)
		case len(gone) > 0:
			maps.DeleteFunc(next, func(_ string, class int) bool { return class == gone[0] })
			next[name], gone = gone[0], gone[1:]
		}
	}
	c.byName.Store(&next)
}
