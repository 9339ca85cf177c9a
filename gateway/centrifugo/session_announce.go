package centrifugo

import (
	"encoding/binary"
	"errors"
	"reflect"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/loop"
	"sluice/gateway/presence"
	"sluice/gateway/saved"
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
	held    bool // resumed comes
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
		if a.held = a.held || l.Silent((*resumed)(a)); a.held {
			return false
		}
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

// resumed is delivered when the loop goes on after a freeze, in this process or, with what has travelled, in another one.
type resumed announcements

// Deliver implements loop.Message.
func (r *resumed) Deliver(l *loop.Loop) {
	a := (*announcements)(r)
	a.held = false
	a.Deliver(l)
}

// announcedVersion is that of SaveLoop.
const announcedVersion = 1

// SaveLoop implements loop.Keeper: the joins and leaves that wait.
func (p *Protocol) SaveLoop(dst []byte, l *loop.Loop) []byte {
	from := p.announcers[l.Index()]
	if len(from) == 0 {
		return dst
	}
	dst = append(dst, announcedVersion)
	for ch, a := range from {
		dst = binary.AppendUvarint(saved.AppendBytes(dst, ch.Name()), uint64(len(a.waiting)))
		for i := range a.waiting {
			dst = saved.AppendBytes(append(dst, byte(a.waiting[i].Kind)), a.waiting[i].Extra)
		}
	}
	return dst
}

// LoadLoop implements loop.Keeper.
func (p *Protocol) LoadLoop(l *loop.Loop, b []byte) error {
	r, from := saved.Read("who comes and goes", b, announcedVersion), p.announcers[l.Index()]
	for r.More() {
		ch := l.Space().Find(string(r.Bytes()))
		a := from[ch]
		if a == nil {
			a = &announcements{loop: l, from: from, ch: ch, held: true}
		}
		for range r.Count() {
			kind := channel.Kind(r.Byte())
			if kind != channel.KindJoin && kind != channel.KindLeave {
				r.Fail()
			}
			a.waiting = append(a.waiting, channel.Publication{Kind: kind, Extra: r.Bytes()})
		}
		if ch != nil && from[ch] == nil { // else nobody is there to be told
			from[ch] = a
			l.Post((*resumed)(a))
		}
	}
	return r.End()
}
