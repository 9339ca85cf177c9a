package cluster

import (
	"encoding/json"

	"sluice/gateway/event"
)

// message is what nodes send each other. The answer to it is an answer, or nothing if the node cannot
// say anything now.
type message struct {
	From uint64 `json:"from"`
	Want *want  `json:"want,omitempty"`
	Push *push  `json:"push,omitempty"`
}

// want asks a node for its channels in some partitions. It replaces the one before.
type want struct {
	Parts parts `json:"parts"`
	// Have are the partitions of which the asking node has the channels, as of a push.
	Have    parts                    `json:"have"`
	Session uint64                   `json:"session"`
	Epochs  [event.Partitions]string `json:"epochs"` // the greatest that the node knows
}

// push is what a node says of its channels.
type push struct {
	Session uint64 `json:"session"`
	Number  uint64 `json:"number"` // in the session, from 1 on
	Items   []item `json:"items"`
}

// item is one of these: a channel that has subscribers now or has none, a piece of a sync, or that the node
// shuts down.
type item struct {
	Part    int      `json:"p,omitempty"`
	Channel string   `json:"c,omitempty"`
	On      bool     `json:"on,omitempty"`
	Sync    bool     `json:"sync,omitempty"`
	Names   []string `json:"names,omitempty"`
	First   bool     `json:"first,omitempty"`
	Last    bool     `json:"last,omitempty"`
	Drain   bool     `json:"drain,omitempty"`
}

// size is about how many bytes an item takes.
func (i *item) size() int {
	n := 40 + len(i.Channel)
	for _, name := range i.Names {
		n += len(name) + 3
	}
	return n
}

// answer is a node's answer.
type answer struct {
	OK    bool `json:"ok,omitempty"`
	Again bool `json:"again,omitempty"` // to a push: the session has to begin anew
}

// prefix tells messages from what else nodes ask each other.
const prefix = "\x02events "

func (m *message) append() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // texts and numbers
	}
	return append([]byte(prefix), b...)
}

// parts is a set of partitions.
type parts uint64

func bit(p int) parts          { return 1 << p }
func (s parts) has(p int) bool { return s>>p&1 == 1 }
func (s *parts) set(p int)     { *s |= bit(p) }
func (s *parts) clear(p int)   { *s &^= bit(p) }
