package cluster

import (
	"encoding/json"
	"time"

	"sluice/gateway/event"
)

// A Cluster that moves to another process goes on to own what it owns. Everything else is asked for anew, with sessions of
// their own.

// savedCluster is what moves.
type savedCluster struct {
	Owned  parts
	Epochs [event.Partitions]string
	Peers  []Node // that the notifier has channels of
}

// Save pauses the Cluster, and returns what Load takes in the process that goes on.
func (c *Cluster) Save() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = true
	s := savedCluster{Owned: c.owned, Epochs: c.epochs}
	for _, p := range c.peers {
		if p.present {
			s.Peers = append(s.Peers, p.Node)
		}
	}
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // texts and numbers
	}
	return b
}

// Resume goes on after Save: nothing has moved. What was pushed or asked meanwhile begins anew.
func (c *Cluster) Resume() {
	c.locked(func() {
		c.paused = false
		for _, p := range c.peers {
			p.stop()
		}
	})
}

// Load takes what Save has returned, before Tick is called.
func (c *Cluster) Load(b []byte) error {
	var s savedCluster
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	c.locked(func() {
		c.owned, c.mine, c.epochs = s.Owned, s.Owned, s.Epochs
		c.now = time.Now()
		for _, node := range s.Peers {
			p := c.peer(node.ID)
			p.Node, p.present = node, true
		}
	})
	return nil
}
