// Package engine assigns publications their order, keeps histories, and reaches other nodes.
//
// An [Engine] that stores publications elsewhere, or shares channels between nodes, answers
// later: through a [Caller] or a function, from any goroutine. Goroutines that can wait use
// [Publisher] and [Wait]. Package engine/local is the engine of a single node, and answers at
// once.
//
// The package does not know connections, loops or wire formats.
package engine

import (
	"errors"
	"time"

	"sluice/gateway/channel"
)

var (
	// ErrPending is returned by Publish if the result comes later, through the Caller.
	ErrPending = errors.New("engine: answer is pending")
	// ErrUnavailable is returned while an engine is away, and if it did not answer in time: then
	// it may still do what it was asked for. It is temporary.
	ErrUnavailable = errors.New("engine: unavailable, or no answer in time")
	// ErrAway is the ErrUnavailable that is certain: the engine has not done what it was asked for,
	// and will not. It comes at once.
	ErrAway error = awayError{}
	// ErrEpoch is returned for a position of another epoch than the channel's.
	ErrEpoch = errors.New("engine: position of another epoch")
)

type awayError struct{}

func (awayError) Error() string { return "engine: away, and nothing was done" }
func (awayError) Unwrap() error { return ErrUnavailable }

// Patience is how long to wait for an engine's answer.
const Patience = 5 * time.Second

// DuplicateWindow is for how long an engine that stores publications recognizes one by its ID. A store
// holds all IDs of that time in memory.
const DuplicateWindow = 15 * time.Second

// AskPatience is how long an engine waits for the answers of other nodes.
const AskPatience = time.Second

// Caller is a publisher. Its methods may be called from any goroutine, perhaps under a lock:
// they must only post.
type Caller interface {
	// Released is called after channel.ErrFull, when it is worth trying again.
	channel.Waiter
	// Published is called once, with the result of a publish that returned ErrPending; perhaps
	// before that has returned.
	Published(channel.Receipt, error)
}

// Engine assigns publications their order, keeps histories, and reaches other nodes.
//
// Methods may be called from any goroutine, return within 10 us, never wait, and are called
// under no lock. done is called once, perhaps before the method returns, from any goroutine and
// under no lock; its error is ErrUnavailable, perhaps ErrAway, unless a method says otherwise.
type Engine interface {
	// Publish publishes p to the channel called name. ch is that channel on this node, nil if
	// it has none. p is not kept. Publish returns the result, or ErrPending: then c.Published
	// comes, and c does not wait in ch any more (ch.Forget). Other errors are channel.ErrFull, after
	// which c.Released comes if c is not nil, channel.ErrTooBig, ErrUnavailable, and ErrAway: then p
	// is certainly not published.
	//
	// A publication with p.ID (up to 64 characters of ASCII, which no other message of any channel
	// has) may be handed over again, on any node, when its result is unknown: it is pending, or was
	// ErrUnavailable. It is published once, and both have its result, if no more than DuplicateWindow lies
	// between them and the channel has a history that the engine stores.
	Publish(name string, ch *channel.Channel, p *channel.Publication, s *channel.Scratch, c Caller) (channel.Receipt, error)
	// Attach is called when ch was opened on this node, which is attaching until ch.Attached or
	// ch.Failed is called; Detach when it has ended. Each is called once for a Channel, and only
	// where the space is remote.
	Attach(ch *channel.Channel)
	Detach(ch *channel.Channel)
	// Fill fills ch's own history from the engine's: ch.Filled or ch.Failed is the answer, after all
	// that the engine had at the time of the call was appended. It is called again only after that.
	Fill(ch *channel.Channel)
	// History returns what is kept of a channel, for listing. Its error may be ErrEpoch.
	History(q HistoryQuery, done func(channel.Collected, error))
	// Presence returns the subscribers of a channel on all nodes: with most 0 their numbers, else
	// the list, which is nil if there are more than most. Where nodes do not answer in time, it
	// returns what the others have, as Partial.
	Presence(name string, most int, done func(Presence, error))
	// Remove removes a channel's history. Its order goes on.
	Remove(name string, done func(error))
	// Info returns the other nodes, also while the engine is away.
	Info(done func(Nodes, error))
	// Ask asks all other live nodes, and calls done with their answers, in no particular order, and
	// with how many are missing: of nodes that did not answer within AskPatience, or cannot be reached.
	// request is not kept. It is for questions that an operator or a backend asks, not for clients.
	Ask(request []byte, done func(answers [][]byte, missing int))
	// Answer sets the function that answers what other nodes ask. Before that, and where a reply is
	// empty, the node has answered with nothing. The function is called from any goroutine under no
	// lock, and must only post; request is its own. It calls reply once, at any time.
	Answer(func(request []byte, reply func(answer []byte)))
}

// HistoryQuery selects publications of a channel's history: those after a position or, with Back,
// before it, newest first. Without a position it selects all. With a Count of 0 only the newest
// position is returned.
type HistoryQuery struct {
	Channel string
	Since   *channel.Ask
	Back    bool
	Most    channel.Bounds
	Now     int64 // in the unit of Publication.At
}

// Presence is the answer to a query of a channel's subscribers.
type Presence struct {
	List           []*channel.ClientInfo // in no particular order
	Clients, Users int                   // Users are the different ones
	Partial        bool                  // not all nodes answered
}

// Nodes are the other nodes.
type Nodes struct {
	List    []NodeInfo
	Partial bool // there may be more, or some may be gone: this node does not hear all of them
}

// NodeInfo describes another node.
type NodeInfo struct {
	ID, Name, Version                       string
	Clients, Users, Subscriptions, Channels int
	Uptime                                  time.Duration
	Away                                    bool // its engine is, at least in part
	Draining                                bool `json:",omitempty"` // it shuts down
	Events                                  bool `json:",omitempty"` // it has receivers of events

	// Silent is for how long it has not been heard, 0 while it is: whether it is up is not known, and the
	// rest is old.
	Silent time.Duration `json:"-"`
}

// goneMost is how many channels that end one after the other Publish tries.
const goneMost = 4

// Publish has e publish p, whose At is set, into the channel called name. The channel is ch or, where
// that is nil, the one that this node has, or one that is opened because channels of its name
// keep a history; where there is no room for one more, nothing is kept. If the channel has ended
// meanwhile, another of its name takes its place. Publish returns the channel that it tried last,
// in which c waits after channel.ErrFull; the other results are those of e.Publish.
func Publish(e Engine, space *channel.Space, name string, ch *channel.Channel, p *channel.Publication, s *channel.Scratch, c Caller) (*channel.Channel, channel.Receipt, error) {
	for tries := 1; ; tries++ {
		if ch == nil {
			ch = space.Find(name)
		}
		if ch == nil && !p.Passing && space.Keeps(name) {
			ch, _ = space.Open(name) // ignored: see above
		}
		receipt, err := e.Publish(name, ch, p, s, c)
		if tries == goneMost || !errors.Is(err, channel.ErrGone) {
			return ch, receipt, err
		}
		ch = nil
	}
}

// Router is an engine that reaches other nodes one by one.
type Router interface {
	// AskNode is Ask for one node, by the number that it has among all nodes. Questions to a node reach it in the order of the
	// calls. The error is ErrUnknownNode if no live node has the number, and ErrUnavailable if there is no answer.
	AskNode(node uint64, request []byte, done func(answer []byte, err error))
}

// Neighbors is a Router that says which other nodes there are.
type Neighbors interface {
	Router
	// Neighbors calls done with the other live nodes. ok is false as long as they are not known.
	Neighbors(done func(list []Neighbor, ok bool))
}

// Neighbor is another live node. Its Info is empty until it has described itself.
type Neighbor struct {
	Node uint64 // its number
	Info NodeInfo
}

// ErrUnknownNode is returned for a node that does not exist, or is gone.
var ErrUnknownNode = errors.New("engine: no such node")
