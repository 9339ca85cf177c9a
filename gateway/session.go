package gateway

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/centrifugo"

	"github.com/centrifugal/protocol"
)

// A client of the Centrifugo protocol has many channels on one connection, and gets a reply to
// each command. Its commands come as messages
// (session_command.go) and run one after the other. One that has to wait, for a token to be
// verified or for room in a channel, is put off with everything after it, and run again from its
// beginning when the wait is over.

// session is what the protocol keeps of such a connection.
type session struct {
	identity

	format centrifugo.Format // of what is for this connection alone; those of its channels differ in Joins
	again  bool              // the command that was put off is done again, and not counted again
	begun  uint32            // loop time when it came

	details map[string]*detail // of subscriptions, by channel: those that have any

	disconnect *protocol.Disconnect // what the server's API gave as the reason of its end
}

// newSession returns the identity of a new client, with its session.
func newSession(f centrifugo.Format) *identity {
	ses := &session{format: f}
	ses.id, ses.state = newClientID(), ses
	return &ses.identity
}

// detail is what only some subscriptions have.
type detail struct {
	info     []byte // JSON, what the token says of the subscription
	expireAt int64  // Unix seconds, 0 for never
}

// session returns what the connection has as a client of the protocol, nil for others.
func (c *conn) session() *session {
	who := c.identity()
	if who == nil {
		return nil
	}
	ses, _ := who.state.(*session)
	return ses
}

// clientInfo says who the connection is, with what a subscription's token said of it.
func (c *conn) clientInfo(chanInfo []byte) *protocol.ClientInfo {
	ses := c.session()
	return &protocol.ClientInfo{User: ses.user, Client: ses.id.String(), ConnInfo: ses.info, ChanInfo: chanInfo}
}

// detail returns what a subscription has beside its position.
func (ses *session) detail(channel string) detail {
	if d := ses.details[channel]; d != nil {
		return *d
	}
	return detail{}
}

// judgement is a token that is verified elsewhere. It goes to the judges and comes back:
// to a connection's loop, or to a goroutine of the handshake.
type judgement struct {
	c            *conn         // nil in a handshake
	ready, long  chan struct{} // there alone: closed when it has come back, and when it has to wait for a key set
	dropped      atomic.Bool   // likewise: nobody waits for it any more
	token        string
	subscription bool // which of the two kinds it has to be; in a handshake either will do

	// Written by a judge, read by the loop when it has come back.
	done    bool
	isSub   bool
	granted auth.Connection
	sub     auth.Subscription
	err     error
}

// judges verify the tokens that are too expensive for a loop, and those of handshakes: a few
// goroutines, because a flood of forged tokens must not take the machine. Those whose key has to be waited for go on to
// others, because anybody can name keys that nobody has, and must not keep others waiting.
type judges struct {
	verifier       *auth.Verifier
	queue, waiting chan *judgement
}

// judgesQueue bounds the tokens that wait; a client that comes when it is full is asked to try
// again.
const judgesQueue = 4096

// waitersMost is how many judgements wait for a key set at a time. One that waits costs
// nothing but its goroutine.
const waitersMost = 16

// startJudges starts the judges, which end with the server: n that never wait, and those that
// do.
func (s *Server) startJudges(n int) {
	s.judges = judges{verifier: s.policy.Tokens(), queue: make(chan *judgement, judgesQueue), waiting: make(chan *judgement, judgesQueue)}
	if s.policy.Tokens() == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.background.Go(func() {
		<-s.stats.stopped
		cancel()
	})
	for range n {
		s.background.Go(func() { s.judges.work(ctx) })
	}
	for range waitersMost {
		s.background.Go(func() { s.judges.wait(ctx) })
	}
}

// ended is the context of callers that do not wait for a key set.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// judgePanic is a panic of a judge's. It goes back with the judgement, and panics once more
// where the token's connection is.
type judgePanic struct {
	value any
	stack []byte
}

func (p *judgePanic) Error() string { return fmt.Sprintf("judge: %v\n%s", p.value, p.stack) }

// try verifies as a judge does.
func (j *judgement) try(ctx context.Context, v *auth.Verifier) {
	defer func() {
		if r := recover(); r != nil {
			j.err = &judgePanic{r, debug.Stack()}
		}
	}()
	j.plant("judge")
	j.verify(ctx, v)
}

// verdict returns the judgement where it is waited for.
func (j *judgement) verdict() *judgement {
	if p, ok := j.err.(*judgePanic); ok {
		panic(p)
	}
	return j
}

func (j *judges) work(ctx context.Context) {
	for {
		select {
		case x := <-j.queue:
			if x.try(ended, j.verifier); !errors.Is(x.err, context.Canceled) {
				x.back()
				continue
			}
			if x.long != nil {
				close(x.long)
			}
			select {
			case j.waiting <- x:
			default:
				x.err = auth.ErrUnavailable
				x.back()
			}
		case <-ctx.Done():
			return
		}
	}
}

func (j *judges) wait(ctx context.Context) {
	for {
		select {
		case x := <-j.waiting:
			if x.dropped.Load() {
				continue
			}
			x.try(ctx, j.verifier)
			x.back()
		case <-ctx.Done():
			return
		}
	}
}

// verify finds out what the token grants. ctx ends the wait for a key set.
func (j *judgement) verify(ctx context.Context, v *auth.Verifier) {
	switch {
	case j.c == nil:
		j.granted, j.sub, j.isSub, j.err = v.Either(ctx, j.token, time.Now())
	case j.subscription:
		j.sub, j.err = v.Subscription(ctx, j.token, time.Now())
	default:
		j.granted, j.err = v.Connection(ctx, j.token, time.Now())
	}
}

// back returns a judgement to where it is waited for.
func (j *judgement) back() {
	if j.c != nil {
		j.c.loop.post(j)
		return
	}
	close(j.ready)
}

// judge verifies the token of a handshake, at once where that is cheap. Else it waits,
// also for a key set, until ctx ends or the handshake takes too long.
func (s *Server) judge(ctx context.Context, t *target) *judgement {
	x := &judgement{token: t.token, ready: make(chan struct{}), long: make(chan struct{})}
	if v := s.policy.Tokens(); v.Cheap(x.token) {
		x.verify(ended, v)
		return x
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.HandshakeTimeout)
	defer cancel()
	unavailable := &judgement{err: auth.ErrUnavailable}
	select {
	case s.judges.queue <- x:
	default:
		return unavailable
	}
	select {
	case <-x.ready:
		return x.verdict()
	case <-x.long:
		if t.patient != nil && !t.patient() {
			break
		}
		select {
		case <-x.ready:
			return x.verdict()
		case <-ctx.Done():
		case <-s.stats.stopped: // and so have the judges
		}
	case <-ctx.Done():
	case <-s.stats.stopped: // likewise
	}
	x.dropped.Store(true)
	return unavailable
}

// deliver goes on with the command that waits for the token.
func (j *judgement) deliver(l *loop) {
	j.done = true
	if in := j.c.in; in != nil && in.judged == j {
		(*retry)(j.c).deliver(l)
	}
}

// judge verifies a token: at once where that is cheap, else done is false, and the
// command is to be put off.
func (c *conn) judge(token string, subscription bool) (x *judgement, done bool) {
	if in := c.in; in != nil && in.judged != nil && in.judged.token == token && in.judged.subscription == subscription {
		if x = in.judged; x.done {
			in.judged = nil
			x.verdict()
		}
		return x, x.done
	}
	x = &judgement{c: c, token: token, subscription: subscription}
	s := c.loop.server
	if v := s.policy.Tokens(); v.Cheap(token) {
		x.verify(ended, v)
		return x, true
	}
	select {
	case s.judges.queue <- x:
		c.input().judged = x
		return x, false
	default:
		x.err = auth.ErrUnavailable
		return x, true
	}
}

// subprotocols of the Centrifugo protocol.
const (
	subprotocolJSON     = "centrifuge-json"
	subprotocolProtobuf = "centrifuge-protobuf"
)
