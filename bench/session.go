package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// session is what a client of Centrifugo's protocol knows of itself: the commands that
// wait for their replies, and its subscriptions. The goroutine that reads its connection owns it.
type session struct {
	// Set at construction.
	dialect dialect
	done    chan error // gets one value when all commands of a flush are answered, or the connection has ended; room for one

	subs   []*subscription
	unsent []*protocol.Command
	asked  []question
	lastID uint32
	pong   bool // the server wants its pings answered
	idle   bool // the outcome of the last flush has been reported
}

// question is a command that waits for its reply.
type question struct {
	id  uint32
	of  string // for messages
	sub *subscription
}

// subscription is one channel of one client.
type subscription struct {
	// Set at construction.
	channel *channel
	first   bool // of its session: it stands where the connection does

	epoch   string
	hash    uint64   // of the epoch: see epochHash
	stands  standing // see standing
	live    bool     // subscribed
	recover bool     // it asks for what it missed
}

// channel is a channel's name, as all of its subscriptions share it.
type channel struct {
	name string
	lead []byte // how its publications begin in JSON
}

func newChannel(name string) *channel {
	return &channel{name, fmt.Appendf(nil, `{"push":{"channel":%q,"pub":{"data":`, name)} // names are plain: see audience
}

// position is where a client stands in a channel.
type position struct {
	epoch  string
	offset uint64
}

func newClientSession(d dialect) *session {
	return &session{dialect: d, done: make(chan error, 1), idle: true}
}

// connect asks to be let in, with a token if there is one.
func (s *session) connect(token string) {
	s.ask("connect", nil, &protocol.Command{Connect: &protocol.ConnectRequest{Token: token}})
}

// join adds a subscription and asks for it. since is nil, or from where to recover.
func (s *session) join(c *channel, since *position) *subscription {
	sub := &subscription{channel: c, first: len(s.subs) == 0}
	s.subs = append(s.subs, sub)
	s.subscribe(sub, since)
	return sub
}

// subscribe asks for a subscription that is there, for the first time or again. When it
// recovers, the one who reads sets where it stands before the frame goes out.
func (s *session) subscribe(sub *subscription, since *position) {
	req := &protocol.SubscribeRequest{Channel: sub.channel.name}
	if sub.recover = since != nil; sub.recover {
		sub.epoch = since.epoch
		req.Recover, req.Epoch, req.Offset = true, since.epoch, since.offset
	}
	s.ask("subscribe to "+sub.channel.name, sub, &protocol.Command{Subscribe: req})
}

// unsubscribe asks to get no more of a channel.
func (s *session) unsubscribe(sub *subscription) {
	s.ask("unsubscribe from "+sub.channel.name, sub,
		&protocol.Command{Unsubscribe: &protocol.UnsubscribeRequest{Channel: sub.channel.name}})
}

func (s *session) ask(of string, sub *subscription, cmd *protocol.Command) {
	s.lastID++
	cmd.Id = s.lastID
	s.unsent = append(s.unsent, cmd)
	s.asked = append(s.asked, question{cmd.Id, of, sub})
}

// flush returns a frame with all commands that were asked for since the last.
func (s *session) flush() []byte {
	frame := maskedFrame(s.dialect.opcode(), s.dialect.commands(s.unsent))
	s.unsent, s.idle = nil, false
	return frame
}

// settle tells what became of the last flush, once.
func (s *session) settle(err error) {
	if s.idle {
		return
	}
	s.idle = true
	select {
	case s.done <- err:
	default: // nobody has asked what became of the one before
	}
}

// wait waits for what settle tells. An error is also that nothing comes for patience.
func (s *session) wait(ctx context.Context, patience time.Duration) error {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case err := <-s.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return errors.New("the server did not respond within --timeout")
	}
}

// standing returns where a subscription stands. The first stands where the connection does, as in
// the other protocols.
func (c *conn) standing(sub *subscription) *standing {
	if sub.first {
		return &c.stands
	}
	return &sub.stands
}

var errUnsubscribed = errors.New("the server ended a subscription")

// decoded takes a reply or a push that is no plain publication.
func (r *receiver) decoded(c *conn, reply *protocol.Reply, now int64) error {
	push := reply.Push
	switch {
	case reply.Id > 0:
		return r.answered(c, reply, now)
	case push == nil: // a ping
		if !c.session.pong {
			return nil
		}
		return r.reply(c, c.session.dialect.pong())
	case push.Pub != nil:
		i := slices.IndexFunc(c.session.subs, func(s *subscription) bool { return s.channel.name == push.Channel })
		if i < 0 {
			return fmt.Errorf("%w: a message for channel %q, which the client has not subscribed to", errProtocol, push.Channel)
		}
		return r.pushed(c, c.session.subs[i], push.Pub.Data, push.Pub.Offset, now)
	case push.Unsubscribe != nil:
		r.closes[ws.StatusCode(push.Unsubscribe.Code)]++
		return fmt.Errorf("%w to %s: %d, %s", errUnsubscribed, push.Channel, push.Unsubscribe.Code, push.Unsubscribe.Reason)
	case push.Disconnect != nil:
		r.closes[ws.StatusCode(push.Disconnect.Code)]++
		return fmt.Errorf("%w: %d, %s", errClosed, push.Disconnect.Code, push.Disconnect.Reason)
	}
	return nil // of joins, leaves and the like nothing is counted
}

// answered takes the reply to a command.
func (r *receiver) answered(c *conn, reply *protocol.Reply, now int64) error {
	s := c.session
	i := slices.IndexFunc(s.asked, func(q question) bool { return q.id == reply.Id })
	if i < 0 {
		return fmt.Errorf("%w: a reply to command %d, which was never sent or has already had a reply", errProtocol, reply.Id)
	}
	q := s.asked[i]
	s.asked = slices.Delete(s.asked, i, i+1)
	switch {
	case reply.Error != nil:
		return fmt.Errorf("the server refused to %s: %d, %s", q.of, reply.Error.Code, reply.Error.Message)
	case q.sub == nil && reply.Connect != nil:
		s.pong = reply.Connect.Pong
	case q.sub != nil && !q.sub.live && reply.Subscribe != nil:
		r.subscribed(c, q.sub, reply.Subscribe, now)
	case q.sub != nil && q.sub.live && reply.Unsubscribe != nil:
		q.sub.live = false
	default:
		return fmt.Errorf("%w: the reply to %s is of the wrong kind", errProtocol, q.of)
	}
	if len(s.asked) == 0 {
		s.asked = nil // many sessions rest
		s.settle(nil)
	}
	return nil
}

// subscribed takes where a subscription stands, and what it has recovered.
func (r *receiver) subscribed(c *conn, sub *subscription, res *protocol.SubscribeResult, now int64) {
	sub.live = true
	if r.rejoined != nil {
		r.rejoined(c, sub, res)
	}
	at := c.standing(sub)
	switch {
	case !sub.recover:
		*at = standing{}
	case !res.Recovered:
		r.gaps++
		*at = standing{}
	case res.Epoch != sub.epoch:
		r.holes++ // its offsets count something else
		*at = standing{}
	}
	sub.epoch, sub.hash = res.Epoch, epochHash(res.Epoch)
	for _, pub := range res.Publications {
		r.pushed(c, sub, pub.Data, pub.Offset, now) // ignored: it is subscribed, and nothing else can fail
	}
	switch {
	case res.Epoch == "": // the channel has no positions
		*at = standing{}
	case !at.known:
		*at = standing{true, res.Offset}
	case at.offset < res.Offset:
		r.holes++ // recovered, it says, and the newest have not come
		at.offset = res.Offset
	}
}

// pushed takes a publication, live or recovered.
func (r *receiver) pushed(c *conn, sub *subscription, data []byte, offset uint64, now int64) error {
	if !sub.live {
		return fmt.Errorf("%w: a message for channel %s after the client unsubscribed", errProtocol, sub.channel.name)
	}
	at := c.standing(sub)
	r.inEpoch = 0
	switch {
	case offset > 0:
		r.inEpoch = sub.hash
		r.follow(at, unknown, offset)
	case at.known:
		r.holes++ // nobody can resume from it
	}
	if s, own := r.findOwn(data); own {
		r.arrived(c, s, now)
	}
	return nil
}
