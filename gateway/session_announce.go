package gateway

import (
	"errors"
	"time"

	"sluice/gateway/centrifugo"
	"sluice/gateway/channel"
	"sluice/gateway/presence"

	"github.com/centrifugal/protocol"
)

// announcements are the joins and leaves of a loop that found their channel without room.
// They wait there as publishers do, in their order, so that none is lost and none overtakes
// another: not while the first of them waits, nor when it was told to try again.
type announcements struct {
	loop    *loop
	ch      *channel.Channel
	waiting []channel.Publication
}

// announcingMax bounds the joins that wait in one channel, for each loop: nobody subscribes
// there while there are more. Leaves are not more than subscribers.
const announcingMax = 4096

// announce publishes a join or a leave to a channel.
func (l *loop) announce(kind channel.Kind, ch *channel.Channel, who *presence.Info) {
	info := &protocol.ClientInfo{User: who.User, Client: who.Client, ConnInfo: who.ConnInfo, ChanInfo: who.ChanInfo}
	p := channel.Publication{Kind: kind, Payload: centrifugo.AppendClientInfo(nil, info)}
	a := l.waiting[ch]
	if a != nil {
		a.waiting = append(a.waiting, p)
		return
	}
	a = &announcements{loop: l, ch: ch, waiting: []channel.Publication{p}}
	if !a.publish() {
		l.waiting[ch] = a
	}
}

// publish publishes what waits. false: there is no room for all of it.
func (a *announcements) publish() bool {
	l := a.loop
	for len(a.waiting) > 0 {
		p := &a.waiting[0]
		p.At = time.Now().UnixMilli()
		// Where the channel has ended nobody is there to be told.
		if _, err := l.engine.Publish(a.ch.Name(), a.ch, p, &l.encode, a); errors.Is(err, channel.ErrFull) {
			return false // Released comes
		}
		*p = channel.Publication{} // its payload goes before the slice does
		a.waiting = a.waiting[1:]
	}
	return true
}

// Released implements engine.Caller.
func (a *announcements) Released() { a.loop.post(a) }

// Published implements engine.Caller. The local engine answers at once.
func (a *announcements) Published(channel.Receipt, error) {}

func (a *announcements) deliver(l *loop) {
	if a.publish() {
		delete(l.waiting, a.ch)
	}
}
