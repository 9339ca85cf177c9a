package event

// The methods of this file are for the wiring of several nodes, which knows who the others are, and
// carries the Changes from one to another. Each partition belongs to one node, which hears of all
// changes in it, and sends its events. The calls take effect in their order.

// Set records that a channel has subscribers on another node, or has none.
func (n *Notifier) Set(node, channel string, on bool) {
	p := partitionOf(channel, "")
	n.onNode(node, func(at int) { n.levels.set(at, p, channel, on, n.at) })
}

// Sync replaces what is known of another node in a partition. channels are those with subscribers there.
func (n *Notifier) Sync(node string, p int, channels []string) {
	n.onNode(node, func(at int) { n.levels.sync(at, p, channels, n.at) })
}

// Drain records that the clients of another node are about to move, or with false that they stay
// after all; then a Sync of each partition follows. Until the node is gone no channel is vacated
// because it has no subscriber there.
func (n *Notifier) Drain(node string, on bool) {
	n.onNode(node, func(at int) { n.levels.nodes[at].draining = on })
}

// Gone records that another node has ended. If it said so itself, its clients have
// Config.VacatedDelay to appear elsewhere. If it was not heard for as long as its lease, they have
// had that time.
func (n *Notifier) Gone(node string, lapsed bool) {
	n.onNode(node, func(at int) {
		delay := n.levels.delay
		if lapsed {
			delay = 0
		}
		n.levels.gone(at, n.at, delay)
	})
}

// Own begins to send the events of a partition, after Sync was called for all other nodes: each
// receiver gets a Reset of it, with a new epoch, which is greater than after.
func (n *Notifier) Own(p int, after string) { n.OwnAs(p, after, func(string) {}) }

// OwnAs is Own, and calls f with the epoch.
func (n *Notifier) OwnAs(p int, after string, f func(epoch string)) {
	n.do(func() {
		if n.levels.parts[p].owned {
			return
		}
		n.levels.own(p)
		epoch := nextEpoch(n.clock(), after)
		f(epoch)
		for _, q := range n.queues {
			n.reset(q.Queue, p, epoch)
		}
		n.feed.reset(p)
	})
}

// Disown ends what Own has begun. What waits of Occupied and Vacated is not sent any more.
func (n *Notifier) Disown(p int) {
	n.do(func() {
		n.levels.disown(p)
		for _, q := range n.queues {
			q.disown(p)
		}
	})
}

// Here calls f with the channels of a partition that have subscribers on this node, for the Sync of
// another node, at its place among the Changes.
func (n *Notifier) Here(p int, f func(channels []string)) {
	n.do(func() {
		var names []string
		for channel, c := range n.levels.parts[p].channels {
			if c.nodes.has(self) {
				names = append(names, channel)
			}
		}
		f(names)
	})
}

// Hold begins a time in which the clients of this node move: until Settle, no channel is vacated
// because it has no subscriber here.
func (n *Notifier) Hold() { n.do(func() { n.levels.nodes[self].draining = true }) }

// Settle ends Hold: channels that have no subscribers here are vacated after Config.VacatedDelay.
func (n *Notifier) Settle() {
	n.do(func() {
		n.levels.nodes[self].draining = false
		for p := range Partitions {
			n.levels.sync(self, p, n.in.here(p), n.at)
		}
	})
}

// onNode has f called with the place of a node.
func (n *Notifier) onNode(node string, f func(at int)) {
	n.do(func() {
		at, err := n.levels.node(node)
		if err != nil {
			n.cfg.Log.Error("a node is not counted", "node", node, "error", err)
			return
		}
		f(at)
	})
}
