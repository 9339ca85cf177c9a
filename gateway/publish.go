package gateway

import (
	"context"
	"errors"
	"sync"
	"time"
	"unicode/utf8"

	"sluice/gateway/channel"
	"sluice/gateway/handshake"
)

// Receipt is the result of a publication.
type Receipt struct {
	// Epoch and Offset are the publication's position in its channel: "" and 0 if the
	// channel has neither subscribers nor a history.
	Epoch  string `json:"epoch"`
	Offset uint64 `json:"offset"`
	// Subscribers is how many subscribers the channel had at that moment.
	Subscribers int `json:"subscribers"`
}

// The errors of [Server.Publish].
var (
	ErrBadChannel = errors.New("gateway: channel name must be 1 to 255 bytes of UTF-8 without control characters or white space")
	ErrBadText    = errors.New("gateway: text is not UTF-8; publish it as binary")
	ErrTooBig     = errors.New("gateway: message is larger than --max-message")
	// ErrPushedBack is returned if the channel's log was full until the context ended.
	// Nothing was published; try again later.
	ErrPushedBack = errors.New("gateway: the channel's buffer is full, because its subscribers are behind")
	// ErrRate is returned if the channel's rate (Config.ChannelRate) was exceeded until
	// the context ended.
	ErrRate = errors.New("gateway: the channel has reached its publication rate limit (--channel-rate)")
)

// publisher is a goroutine that publishes. It implements engine.Caller.
type publisher struct {
	scratch  channel.Scratch
	released chan struct{}
}

var publishers = sync.Pool{New: func() any { return &publisher{released: make(chan struct{}, 1)} }}

func (p *publisher) Released() {
	select {
	case p.released <- struct{}{}:
	default:
	}
}

func (p *publisher) Published(channel.Receipt, error) {}

// await waits until the channel calls, ctx ends or, where it is not 0, wait is over.
func (p *publisher) await(ctx context.Context, wait time.Duration) (called bool) {
	var over <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-p.released:
		return true
	case <-ctx.Done():
	case <-over:
	}
	return false
}

// Publish publishes a message to its channel, and returns its position and the number of
// subscribers. It does not wait for delivery. While the channel's log is full
// it waits until ctx ends, then it returns [ErrPushedBack] or [ErrRate]. Other errors are
// [ErrBadChannel], [ErrBadText] and [ErrTooBig]. The payload is copied.
func (s *Server) Publish(ctx context.Context, m Message) (Receipt, error) { return s.submit(ctx, 0, m) }

// submit publishes what has to be looked at first.
func (s *Server) submit(ctx context.Context, wait time.Duration, m Message) (Receipt, error) {
	switch {
	case handshake.ChannelName(m.Channel) != nil:
		return Receipt{}, ErrBadChannel
	case len(m.Payload) > s.cfg.MaxMessage:
		return Receipt{}, ErrTooBig
	case !m.Binary && !utf8.Valid(m.Payload):
		return Receipt{}, ErrBadText
	}
	return s.publish(ctx, wait, m.Channel, channel.Publication{Payload: m.Payload, Binary: m.Binary, From: m.Conn})
}

// turnWait bounds how long an HTTP publish waits for other publications to be encoded,
// beside its wait for room.
const turnWait = 5 * time.Second

// publish publishes what was found to be right. It waits for room until ctx ends and, where
// wait is not 0, no longer than that; the time in which other publications are encoded does
// not count.
func (s *Server) publish(ctx context.Context, wait time.Duration, name string, pub channel.Publication) (Receipt, error) {
	p := publishers.Get().(*publisher)
	defer publishers.Put(p)
	for {
		ch := s.space.Find(name)
		if ch == nil && !pub.Passing && s.space.Keeps(name) {
			ch, _ = s.space.Open(name) // no place for one more: the receipt says that nothing was kept
		}
		pub.At = time.Now().UnixMilli()
		receipt, err := s.engine.Publish(name, ch, &pub, &p.scratch, p)
		if err == nil {
			s.stats.published.Add(1)
			return Receipt{Epoch: receipt.Epoch.String(), Offset: receipt.Offset, Subscribers: receipt.Subscribers}, nil
		}
		if errors.Is(err, channel.ErrGone) {
			if ctx.Err() != nil {
				return Receipt{}, ErrPushedBack
			}
			continue // it ended between the two: there is another now, or none
		}
		if !errors.Is(err, channel.ErrFull) {
			return Receipt{}, err
		}
		begun, turn := time.Now(), errors.Is(err, channel.ErrTurn)
		called := false
		switch {
		case turn && wait > 0:
			called = p.await(ctx, wait+turnWait)
		case turn:
			called = p.await(ctx, 0)
		default:
			s.stats.pushedBack.Add(1)
			if called = p.await(ctx, wait); wait > 0 {
				wait = max(wait-time.Since(begun), 1)
			}
		}
		if !called {
			if ch != nil { // else the engine is full, without a channel on this node
				ch.Forget(p)
			}
			select { // it may have been told meanwhile
			case <-p.released:
			default:
			}
			if errors.Is(err, channel.ErrRate) {
				return Receipt{}, ErrRate
			}
			return Receipt{}, ErrPushedBack
		}
	}
}
