package loop

// A client may have a thousand subscriptions, and a publication to one of them, or a reply, must not cost a look at all of
// them. Of a connection with many the loop has an index, by channel: beside the connections, because few have one. A write
// gathers the logs whose groups are to be swept anyway, where they are fewer than the connection's subscriptions.
//
// Invariant: what is due of a subscription, of an open connection whose socket takes bytes, is brought by a sweep of its
// group: one that is under way or listed, or the one for which the channel has notified the group.

// manyRefs is how many subscriptions a connection has at most without an index. A look at so many costs no more than one
// into the index.
const manyRefs = 32

// refIndex has the places of a connection's subscriptions, by channel.
type refIndex map[string]int32

// index returns the index of a connection with many subscriptions, nil for any other.
func (c *Conn) index() refIndex {
	if c.Refs() <= manyRefs {
		return nil
	}
	return c.loop.indexes[c]
}

// Place returns the place of the connection's subscription to a channel, as Ref takes it; -1 for none.
func (c *Conn) Place(name string) int {
	if idx := c.index(); idx != nil {
		if i, ok := idx[name]; ok {
			return int(i)
		}
		return -1
	}
	for i := range c.Refs() {
		if c.Ref(i).group.key.channel == name {
			return i
		}
	}
	return -1
}

// Find returns the connection's subscription to a channel, nil for none.
func (c *Conn) Find(name string) *Ref {
	if i := c.Place(name); i >= 0 {
		return c.Ref(i)
	}
	return nil
}

// indexLast takes the last subscription into the index, and makes one for a connection that needs it now.
func (c *Conn) indexLast() {
	n := c.Refs()
	if n <= manyRefs {
		return
	}
	idx := c.loop.indexes[c]
	if idx == nil {
		if c.loop.indexes == nil {
			c.loop.indexes = make(map[*Conn]refIndex)
		}
		idx = make(refIndex, 2*manyRefs)
		c.loop.indexes[c] = idx
		for i := range n {
			idx[c.Ref(i).group.key.channel] = int32(i)
		}
		return
	}
	idx[c.Ref(n-1).group.key.channel] = int32(n - 1)
}

// unindex takes a subscription out of the index. The last one is about to take its place.
func (c *Conn) unindex(i int) {
	idx := c.index()
	if idx == nil {
		return
	}
	last := c.Refs() - 1
	if last <= manyRefs {
		c.dropIndex()
		return
	}
	delete(idx, c.Ref(i).group.key.channel)
	if i != last {
		idx[c.Ref(last).group.key.channel] = int32(i)
	}
}

// dropIndex forgets the index of a connection that leaves.
func (c *Conn) dropIndex() { delete(c.loop.indexes, c) }

// gatherDue puts what is due of the logs into the cork: of all of them, or of those that no sweep would bring later.
func (c *Conn) gatherDue(all bool) {
	l, idx := c.loop, refIndex(nil)
	if !all {
		idx = c.index()
	}
	if idx == nil || len(l.sweeps) >= len(idx) {
		for i := range c.Refs() {
			c.gather(c.Ref(i))
		}
		return
	}
	if l.swept != nil {
		c.gatherOf(idx, l.swept)
	}
	for _, g := range l.sweeps {
		if g != nil && g != l.swept {
			c.gatherOf(idx, g)
		}
	}
}

// gatherOf puts what is due of a group's log into the cork, if the connection is one of its subscribers.
func (c *Conn) gatherOf(idx refIndex, g *Group) {
	if i, ok := idx[g.key.channel]; ok {
		if r := c.Ref(int(i)); r.group == g {
			c.gather(r)
		}
	}
}
