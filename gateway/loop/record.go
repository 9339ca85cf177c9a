package loop

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"sluice/gateway/channel"
	"sluice/gateway/frame"
	"sluice/gateway/saved"
)

// What travels of a frozen loop's connections: the logs of their channels, as far as somebody is behind, and a
// record of each connection. A cursor counts from the lowest of its log. What the other process can do as well does
// not travel: the places of subscribers in their groups, the state of sweeps, the levels of rates.
//
// A message that waits travels as one that is not done yet (Wait.Again), before the bytes behind it.

// recordVersion is that of Save.
const recordVersion = 1

// bitsTravel are the bits of a connection that travel.
const bitsTravel = bitBlocked | bitPinged | bitListen | bitGone | bitPeerClosed | bitMuted | bitLocal | bitRefused | bitTook | bitPeerShut | bitCompressed

// The parts of a record that not every connection has.
const (
	partFrame = 1 << iota // an incomplete message
	partKept              // bytes that are not processed
	partOut               // bytes that wait to be sent
	partPong
	partCatch  // the place of a subscriber that catches up
	partClient // the address that a proxy has passed on
	// partReturn: the connection has to begin anew, because what it waits with cannot be done again, or what it has been
	// sent a part of is gone.
	partReturn
	// partOpen: the response was not sent yet, and Open begins anew (Opener).
	partOpen
)

// savedLog is a log that travels.
type savedLog struct {
	index   int
	channel string
	low     uint64  // the lowest cursor that travels
	reader  *Reader // that holds it; nil where nobody is behind
}

// Reader is channel.Reader, for short.
type Reader = channel.Reader

// recordEstimate is what Save makes room for with each connection.
const recordEstimate = 128

// Save appends the records of all connections that were passed. The loops are frozen.
func (g *Giving) Save(dst []byte) []byte {
	s := g.set
	logs, order := s.savedLogs()
	room := 0
	for log, x := range logs {
		from := x.low
		if c, ok := g.since(log, from); ok {
			from = c.to
		}
		room += int(log.Head()-from)*5/4 + recordEstimate
	}
	for _, l := range s.loops {
		room += recordEstimate * len(l.conns)
	}
	dst = append(slices.Grow(dst, room), recordVersion)
	dst = binary.AppendUvarint(dst, s.lastID.Load())
	dst = binary.AppendUvarint(dst, uint64(len(s.cfg.Variants)))
	for _, v := range s.cfg.Variants {
		dst = saved.AppendBytes(dst, v.Name)
	}
	dst = binary.AppendUvarint(dst, uint64(len(order)))
	for _, log := range order {
		dst = g.saveLog(dst, log, logs[log])
	}
	var one []byte
	for _, k := range s.keepers() {
		for _, l := range s.loops {
			if one = k.SaveLoop(one[:0], l); len(one) > 0 {
				dst = binary.AppendUvarint(append(dst, 1), uint64(l.index))
				dst = saved.AppendBytes(saved.AppendBytes(dst, k.name), one)
			}
		}
	}
	dst = append(dst, 0)
	for _, l := range s.loops {
		for _, c := range l.conns {
			if c.has(bitPassed) {
				one = c.save(one[:0], logs)
				dst = saved.AppendBytes(dst, one)
			}
		}
	}
	return dst
}

// keeper is a protocol that keeps something for its loops, under the name of one of its variants.
type keeper struct {
	Keeper
	name string
}

func (s *Set) keepers() (all []keeper) {
	for _, v := range s.cfg.Variants {
		k, ok := v.Protocol.(Keeper)
		if ok && !slices.ContainsFunc(all, func(x keeper) bool { return x.name == v.Name }) {
			all = append(all, keeper{k, v.Name})
		}
	}
	return all
}

// savedLogs returns the logs of all loops' groups.
func (s *Set) savedLogs() (logs map[*channel.Log]*savedLog, order []*channel.Log) {
	logs = make(map[*channel.Log]*savedLog)
	for _, l := range s.loops {
		for _, g := range l.groups {
			log := g.Log()
			x := logs[log]
			if x == nil {
				x = &savedLog{index: len(order), channel: g.key.channel, low: log.Head()}
				logs[log], order = x, append(order, log)
			}
			for i := range g.subs {
				if sub := &g.subs[i]; sub.c != nil && sub.c.has(bitPassed) && sub.cursor < x.low {
					x.low, x.reader = sub.cursor, &g.Reader
				}
			}
		}
	}
	return logs, order
}

// saveLog appends a log: what somebody is behind by, and was not copied before.
func (g *Giving) saveLog(dst []byte, log *channel.Log, x *savedLog) []byte {
	dst = saved.AppendBytes(dst, x.channel)
	for x.reader != nil {
		begin, from := len(dst), x.low
		if c, ok := g.since(log, x.low); ok {
			dst = binary.AppendUvarint(binary.AppendUvarint(dst, c.number), x.low-c.from)
			from = c.to
		} else {
			dst = append(dst, 0)
		}
		there := false
		dst = saved.AppendPart(dst, func(dst []byte) []byte {
			dst, there = x.reader.AppendTail(dst, x.low, from)
			return dst
		})
		if there {
			return dst
		}
		dst = dst[:begin]
		g.set.raise(log, x)
	}
	return append(dst, 0, 0)
}

// raise finds the lowest cursor from which a log has everything: what lies below is gone for those who are behind.
func (s *Set) raise(log *channel.Log, x *savedLog) {
	gone := x.low
	x.low, x.reader = log.Head(), nil
	for _, l := range s.loops {
		for _, g := range l.groups {
			for i := range g.subs {
				sub := &g.subs[i]
				if g.Log() != log || sub.c == nil || sub.cursor <= gone || sub.cursor >= x.low {
					continue
				}
				if _, ok := g.Reader.AppendTail(nil, sub.cursor, sub.cursor); ok {
					x.low, x.reader = sub.cursor, &g.Reader
				}
			}
		}
	}
}

// appendAge appends how long ago a loop time was.
func (l *Loop) appendAge(dst []byte, at uint32) []byte {
	return binary.AppendVarint(dst, int64(int32(l.now-at)))
}

// save appends the connection's record.
func (c *Conn) save(dst []byte, logs map[*channel.Log]*savedLog) []byte {
	l, parts := c.loop, 0
	var state, kept, own, pong, client []byte
	if c.midMessage() {
		parts |= partFrame
		state = c.In.frame.Append(nil)
	}
	if c.hasPutOff() {
		parts |= partKept
		if w := c.In.wait; w != nil {
			switch m, ok := w.Again(c); {
			case ok:
				kept = frame.AppendMasked(kept, m.Op, m.Payload)
			case c.opening():
				parts |= partOpen
			default:
				parts |= partReturn
			}
		}
		kept = append(kept, c.In.kept.Bytes()...)
	}
	c.release()
	if o := c.Out; o != nil {
		if own = o.buf[o.sent:]; len(own) > 0 {
			parts |= partOut
		}
		if pong = o.pong; len(pong) > 0 {
			parts |= partPong
		}
		if o.catch != nil {
			parts |= partCatch
		}
	}
	if c.ext != nil && c.ext.client != nil {
		parts |= partClient
		client, _ = c.ext.client.MarshalBinary() // never fails
	}
	for i := range c.Refs() {
		if r := c.Ref(i); r.cut > 0 && r.sub().cursor < logs[r.group.Log()].low {
			parts |= partReturn
		}
	}
	dst = binary.AppendUvarint(dst, c.id)
	dst = append(dst, c.variant, byte(parts))
	dst = binary.AppendUvarint(dst, uint64(c.bits&bitsTravel))
	dst = l.appendAge(l.appendAge(dst, c.heard), c.pinged)
	if c.bits&(bitBlocked|bitMuted) != 0 {
		dst = l.appendAge(dst, c.since)
	}
	if parts&partFrame != 0 {
		dst = saved.AppendBytes(l.appendAge(dst, c.In.begun), state)
	}
	for _, part := range []struct {
		bit   int
		bytes []byte
	}{{partKept, kept}, {partOut, own}, {partPong, pong}, {partClient, client}} {
		if parts&part.bit != 0 {
			dst = saved.AppendBytes(dst, part.bytes)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(c.Refs()))
	for i := range c.Refs() {
		dst = c.Ref(i).save(dst, logs)
	}
	if parts&partCatch != 0 {
		dst = c.Out.catch.save(dst)
	}
	return saved.AppendBytes(dst, c.protocol().Save(nil, c))
}

// opening reports whether the connection waits with its response, in a way that can begin anew.
func (c *Conn) opening() bool {
	o, ok := c.protocol().(Opener)
	return ok && c.unanswered() && o.Opening(c)
}

// save appends a subscription: its log, its cursor there, its flags, and what it waits to be notified of.
func (r *Ref) save(dst []byte, logs map[*channel.Log]*savedLog) []byte {
	s, x := r.sub(), logs[r.group.Log()]
	cursor, cut, lost := s.cursor-x.low, r.cut, s.lost()
	switch {
	case lost != channel.KindMessage:
		cursor = 0
	case s.cursor < x.low:
		cursor, cut, lost = 0, 0, channel.KindGap
	}
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(x.index)), cursor)
	dst = binary.AppendUvarint(dst, uint64(cut))
	return append(dst, s.flags, byte(lost))
}

// bits of a saved catchUp.
const (
	catchBlind byte = 1 << iota
	catchBegun
	catchMissed // it was live before, and has missed something
)

// save appends where a subscriber is that catches up.
func (cu *catchUp) save(dst []byte) []byte {
	bits := byte(0)
	if cu.blind {
		bits |= catchBlind
	}
	if cu.begun {
		bits |= catchBegun
	}
	if cu.skipped != nil {
		bits |= catchMissed
	}
	dst = append(saved.AppendBytes(dst, cu.channel), bits, cu.flags, byte(cu.ask.Kind))
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(cu.ask.At.Epoch)), cu.ask.At.Offset)
	return binary.AppendUvarint(dst, uint64(cu.ask.N))
}

// record is what save has appended, as far as it is read.
type record struct {
	id      uint64
	variant uint8
	parts   int
	bits    uint16

	heard, pinged, since, begun int32 // ages
	state, kept, own, pong      []byte
	client                      netip.AddrPort
	refs                        []savedRef
	catch                       *catchUp
	protocol                    []byte
}

type savedRef struct {
	log    int
	cursor uint64
	cut    uint32
	flags  uint8
	lost   channel.Kind
}

// recordID returns the ID of a record's connection.
func recordID(b []byte) uint64 { return saved.ReadPart("a connection", b).Uint() }

// readRecord reads a record. Its parts lie in b.
func readRecord(b []byte, logs, variants int) (x record, err error) {
	r := saved.ReadPart("a connection", b)
	x.id, x.variant, x.parts = r.Uint(), r.Byte(), int(r.Byte())
	x.bits = uint16(r.Uint()) & bitsTravel
	x.heard, x.pinged = int32(r.Int()), int32(r.Int())
	if x.bits&(bitBlocked|bitMuted) != 0 {
		x.since = int32(r.Int())
	}
	if x.parts&partFrame != 0 {
		x.begun, x.state = int32(r.Int()), r.View()
	}
	for _, part := range []struct {
		bit   int
		bytes *[]byte
	}{{partKept, &x.kept}, {partOut, &x.own}, {partPong, &x.pong}} {
		if x.parts&part.bit != 0 {
			*part.bytes = r.View()
		}
	}
	if x.parts&partClient != 0 && x.client.UnmarshalBinary(r.View()) != nil {
		r.Fail()
	}
	cuts := 0
	for range r.Count() {
		ref := savedRef{int(r.Uint()), r.Uint(), uint32(r.Uint()), r.Byte(), channel.Kind(r.Byte())}
		if ref.cut > 0 {
			cuts++
		}
		if ref.log < 0 || ref.log >= logs || ref.lost > channel.KindReset ||
			ref.cut > 0 && (cuts > 1 || x.bits&bitBlocked == 0 || ref.lost != channel.KindMessage) { // the invariant of Ref.cut
			r.Fail()
			break
		}
		x.refs = append(x.refs, ref)
	}
	if x.parts&partCatch != 0 {
		x.catch = readCatchUp(r)
	}
	x.protocol = r.View()
	if int(x.variant) >= variants {
		r.Fail()
	}
	return x, r.End()
}

func readCatchUp(r *saved.Reader) *catchUp {
	cu := &catchUp{channel: string(r.Bytes())}
	bits := r.Byte()
	cu.flags = r.Byte()
	cu.ask.Kind = channel.AskKind(r.Byte())
	cu.ask.At = channel.Position{Epoch: channel.Epoch(r.Uint()), Offset: r.Uint()}
	cu.ask.N = int(r.Uint())
	if cu.ask.Kind > channel.AskNewest || cu.ask.N < 0 || !channel.ValidName(cu.channel) {
		r.Fail()
	}
	cu.blind, cu.begun = bits&(catchBlind|catchMissed) != 0, bits&catchBegun != 0
	return cu
}
