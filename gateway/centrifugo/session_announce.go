package centrifugo

import (
	"errors"
	"reflect"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/loop"
	"sluice/gateway/presence"
)

// announcer has the joins and leaves of one loop that found their channel without room.
// They wait there as publishers do, in their order, so that none is lost and none overtakes
// another: not while the first of them waits, nor when it was told to try again.
type announcer map[*channel.Channel]*announcements

// sharing are the protocol's functions in which a panic ends the process.
var sharing = [...]string{reflect.TypeFor[presence.Table]().PkgPath() + ".", reflect.TypeFor[announcer]().PkgPath() + ".announcer."}

// announcements are those of one channel.
type announcements struct {
	loop    *loop.Loop
	from    announcer
	ch      *channel.Channel
	waiting []channel.Publication
}

// announcingMax bounds the joins that wait in one channel, for each loop: nobody subscribes
// there while there are more. Leaves are not more than subscribers.
const announcingMax = 4096

// full reports whether nobody may join a channel for now.
func (from announcer) full(ch *channel.Channel) bool {
	a := from[ch]
	return a != nil && len(a.waiting) >= announcingMax
}

// announce publishes a join or a leave to a channel.
func (from announcer) announce(l *loop.Loop, kind channel.Kind, ch *channel.Channel, who *channel.ClientInfo) {
	p := channel.Publication{Kind: kind, Extra: channel.AppendWho(nil, who)}
	a := from[ch]
	if a != nil {
		a.waiting = append(a.waiting, p)
		return
	}
	a = &announcements{loop: l, from: from, ch: ch, waiting: []channel.Publication{p}}
	if !a.publish() {
		from[ch] = a
	}
}

// publish publishes what waits. It returns false if some of it goes on waiting.
func (a *announcements) publish() bool {
	l := a.loop
	for len(a.waiting) > 0 {
		p := &a.waiting[0]
		p.At = l.Time().UnixMilli()
		// Where the channel has ended nobody is there to be told.
		if _, err := l.Engine().Publish(a.ch.Name(), a.ch, p, l.Scratch(), a); errors.Is(err, channel.ErrFull) || err == engine.ErrPending {
			return false // Released or Published comes
		}
		a.next()
	}
	return true
}

// next takes the first one off: it is published, or nobody is notified of it.
func (a *announcements) next() {
	a.waiting[0] = channel.Publication{} // its bytes go before the slice does
	a.waiting = a.waiting[1:]
}

// Released implements engine.Caller.
func (a *announcements) Released() { a.loop.Post(a) }

// Published implements engine.Caller.
func (a *announcements) Published(channel.Receipt, error) { a.loop.Post((*announced)(a)) }

// Deliver implements loop.Message: the channel calls.
func (a *announcements) Deliver(*loop.Loop) {
	if a.publish() {
		delete(a.from, a.ch)
	}
}

// announced is posted when an engine has answered for the first of what waits.
type announced announcements

// Deliver implements loop.Message.
func (m *announced) Deliver(l *loop.Loop) {
	a := (*announcements)(m)
	a.next()
	a.Deliver(l)
}
