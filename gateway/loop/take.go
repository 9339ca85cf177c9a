package loop

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"sluice/gateway/channel"
	"sluice/gateway/saved"
	"sluice/poller"
)

// Taking connections over from another process. Each loop blocks in a message from the beginning: its poller watches
// the descriptors that come, but nothing is read or written before Start.

// Taking is one takeover. Its methods are called by one goroutine.
type Taking struct {
	set   *Set
	do    []chan func() // for each loop: what it does meanwhile; closed to go on
	conns map[uint64]added
	// copied is what was copied of logs before the freeze, by the copies' numbers.
	copied map[uint64][]byte
}

// added is a connection of which only the descriptor is there.
type added struct {
	c    *Conn
	from netip.AddrPort // the other side: asking for it takes longer than all the rest of building the connection
}

// Take stops the loops, which have no connections, until Start.
func (s *Set) Take() *Taking {
	s.held.Store(true)
	t := &Taking{set: s, conns: make(map[uint64]added), copied: make(map[uint64][]byte)}
	for _, l := range s.loops {
		do := make(chan func())
		t.do = append(t.do, do)
		l.Post(call(func(*Loop) {
			for f := range do {
				f()
			}
		}))
	}
	return t
}

// on has a loop do something, and waits for it.
func (t *Taking) on(l *Loop, f func(*Loop) error) (err error) {
	done := make(chan struct{})
	t.do[l.index] <- func() {
		defer close(done)
		err = f(l)
	}
	<-done
	return err
}

// onAll has all loops do something at the same time, and waits for them.
func (t *Taking) onAll(f func(*Loop) error) error {
	errs := make([]error, len(t.set.loops))
	var running sync.WaitGroup
	running.Add(len(errs))
	for i, l := range t.set.loops {
		t.do[i] <- func() {
			defer running.Done()
			errs[i] = f(l)
		}
	}
	running.Wait()
	return errors.Join(errs...)
}

// loopOf returns the loop that has a connection.
func (t *Taking) loopOf(id uint64) *Loop { return t.set.loops[id%uint64(len(t.set.loops))] }

// Add takes the descriptors of connections.
func (t *Taking) Add(ids []uint64, fds []int) error {
	for _, l := range t.set.loops {
		err := t.on(l, func(l *Loop) (err error) {
			for i, id := range ids {
				if t.loopOf(id) == l && err == nil {
					err = t.add(l, id, fds[i])
				}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *Taking) add(l *Loop, id uint64, fd int) error {
	if t.conns[id].c != nil {
		return fmt.Errorf("loop: connection %d was handed over twice", id)
	}
	c := &Conn{loop: l, id: id, place: place{slot: -1}}
	if err := l.poller.Add(&c.Desc, fd, poller.Readable, c); err != nil {
		return fmt.Errorf("loop: watch connection %d: %w", id, err)
	}
	t.conns[id] = added{c, poller.PeerAddr(fd)}
	return nil
}

// Gone ends connections that were added.
func (t *Taking) Gone(ids []uint64) {
	for _, id := range ids {
		c := t.conns[id].c
		if c == nil {
			continue
		}
		delete(t.conns, id)
		t.on(c.loop, func(l *Loop) error {
			l.poller.Del(&c.Desc) // ignored: the descriptor is closed anyway
			c.closeFD()
			return nil
		})
	}
}

// Abandon ends everything that was added: the other process has died before it was frozen. The loops go on.
func (t *Taking) Abandon() {
	ids := make([]uint64, 0, len(t.conns))
	for id := range t.conns {
		ids = append(ids, id)
	}
	t.Gone(ids)
	t.copied = nil
	t.goOn()
}

func (t *Taking) goOn() {
	t.set.held.Store(false)
	for _, do := range t.do {
		close(do)
	}
}

// Load builds the connections from what Giving.Save has appended: each loop its own, at the same time. The channels
// were restored before.
func (t *Taking) Load(b []byte) (connections int, err error) {
	r := saved.Read("the connections", b, recordVersion)
	t.set.lastID.Store(r.Uint())
	variants := t.variants(r)
	logs := make([]takenLog, r.Count())
	for i := range logs {
		logs[i].read(r, t.copied)
	}
	kept := make([][]func(*Loop) error, len(t.set.loops))
	for r.Byte() != 0 {
		i, name, b := r.Uint()%uint64(len(kept)), string(r.Bytes()), r.View()
		for _, k := range t.set.keepers() {
			if k.name == name {
				kept[i] = append(kept[i], func(l *Loop) error { return k.LoadLoop(l, b) })
			}
		}
	}
	records := make([][]takenRecord, len(t.set.loops))
	for r.More() {
		one := r.View()
		k := t.conns[recordID(one)]
		if k.c == nil {
			return 0, fmt.Errorf("loop: connection %d has a record, and was not passed", recordID(one))
		}
		records[k.c.loop.index] = append(records[k.c.loop.index], takenRecord{k, one})
		connections++
	}
	t.copied = nil
	if err := r.End(); err != nil {
		return 0, err
	}
	if connections != len(t.conns) {
		return 0, fmt.Errorf("loop: %d connections were passed, and %d have records", len(t.conns), connections)
	}
	return connections, t.onAll(func(l *Loop) error {
		l.readClock() // it has waited since Take
		for _, one := range records[l.index] {
			x, err := readRecord(one.record, len(logs), len(variants))
			if err == nil {
				err = one.c.take(&x, one.from, variants[x.variant], logs)
			}
			if err != nil {
				return fmt.Errorf("connection %d: %w", one.c.id, err)
			}
		}
		for _, load := range kept[l.index] {
			if err := load(l); err != nil {
				return err
			}
		}
		return nil
	})
}

// takenRecord is a connection and its record.
type takenRecord struct {
	added
	record []byte
}

// variants returns the variants that the other process's connections may have; nil for one that this one has not.
func (t *Taking) variants(r *saved.Reader) (all []*Variant) {
	for range r.Count() {
		name := string(r.Bytes())
		var found *Variant
		for _, v := range t.set.cfg.Variants {
			if v.Name == name {
				found = v
			}
		}
		all = append(all, found)
	}
	return all
}

// takenLog is a log of the other process.
type takenLog struct {
	channel string
	before  []byte // what was copied before the freeze, but for the first bytes of frames
	skip    uint64
	tail    []byte

	mu sync.Mutex
	// Guarded by mu, set once a loop has joined it:
	log  *channel.Log
	base uint64
}

// read reads a log, of which a part may have been copied before.
func (log *takenLog) read(r *saved.Reader, copied map[uint64][]byte) {
	log.channel = string(r.Bytes())
	if number := r.Uint(); number > 0 {
		if log.before, log.skip = copied[number], r.Uint(); log.before == nil {
			r.Fail()
		}
	}
	log.tail = r.View()
}

// join subscribes a loop to the log, for a connection.
func (log *takenLog) join(c *Conn, f channel.Format) (g *Group, err error) {
	log.mu.Lock()
	defer log.mu.Unlock()
	if g, err = c.Group(log.channel, f); err != nil {
		return nil, fmt.Errorf("channel %q: %w", log.channel, err)
	}
	switch {
	case log.log == nil:
		log.log = g.Log()
		if len(log.tail) > 0 {
			log.base, err = g.RestoreTail(log.tail, log.before, log.skip)
		}
	case log.log != g.Log():
		err = fmt.Errorf("channel %q: its log has another format than before", log.channel)
	case len(g.subs) == 0 && len(log.tail) > 0: // the loop is new to it
		g.Rewind(log.base)
	}
	return g, err
}

// Start lets the loops serve.
func (t *Taking) Start() {
	for _, k := range t.conns {
		c := k.c
		if c.has(bitBlocked) || c.In != nil || c.Out != nil || c.bits&(bitGone|bitMuted|bitReturn) != 0 {
			c.loop.Post((*takenOver)(c))
		}
	}
	t.goOn()
}

// takenOver is posted for a connection that has something to do at once.
type takenOver Conn

// Deliver implements Message.
func (t *takenOver) Deliver(*Loop) {
	c := (*Conn)(t)
	if c.Phase != phaseOpen {
		return
	}
	c.step(func(c *Conn) {
		if c.has(bitReturn) {
			c.bits &^= bitReturn
			c.Close(ReasonMoved)
		}
		if c.unanswered() {
			c.openAgain()
		}
		c.Settle()
	})
}

// openAgain goes on with the answer to a request, as begin does. What the client has sent behind it is put off already.
func (c *Conn) openAgain() {
	if c.await(c.protocol().(Opener).OpenAgain(c)) {
		c.hold()
	} else {
		c.respond()
	}
}

// What is off here, and connections need.
var (
	errVariant     = errors.New("its protocol is not served")
	errCompression = errors.New("it has negotiated compression, which is off")
)

// take makes the connection, whose other side is from, what it was in the other process.
func (c *Conn) take(x *record, from netip.AddrPort, v *Variant, logs []takenLog) error {
	l := c.loop
	switch {
	case c.slot >= 0:
		return errors.New("it has two records")
	case v == nil:
		return errVariant
	case x.bits&bitCompressed != 0 && l.cfg.Compressors == nil:
		return errCompression
	}
	kept, err := v.Protocol.Load(l, x.protocol)
	_, opens := v.Protocol.(Opener)
	switch {
	case err != nil:
		return err
	case kept.Variant.Name != v.Name:
		return fmt.Errorf("it is %s for the gateway, and %s for its protocol", v.Name, kept.Variant.Name)
	case x.parts&partOpen != 0 && (!opens || len(x.own) == 0):
		return errors.New("its request cannot be answered anew")
	case x.catch != nil && len(kept.Formats) != len(x.refs)+1, x.catch == nil && len(kept.Formats) < len(x.refs):
		return fmt.Errorf("it has %d subscriptions, and formats for %d", len(x.refs), len(kept.Formats))
	}
	v = kept.Variant // several can have one name, in different framings
	c.variant, c.bits = l.variantIndex(v), x.bits
	c.heard, c.pinged, c.since = l.now-uint32(x.heard), l.now-uint32(x.pinged), l.now-uint32(x.since)
	c.tookAt = l.clock()
	if x.client.IsValid() {
		client := x.client // the record is not kept
		from, c.extra().client = client, &client
	}
	if kept.Identity != nil {
		c.extra().identity = kept.Identity
	}
	c.seat = l.cfg.Admission.Taken(from, c.has(bitRefused))
	l.add(c)
	if c.has(bitBlocked) {
		l.stats.Blocked.Add(1)
	}
	if kept.Identified {
		l.identify(c, kept.Identity.User)
	}
	if err := c.takeBuffers(x); err != nil {
		return err
	}
	for i := range x.refs {
		if err := c.takeRef(&x.refs[i], kept.Formats[i], &logs[x.refs[i].log]); err != nil {
			return err
		}
	}
	if cu := x.catch; cu != nil {
		f, ok := kept.Formats[len(x.refs)].(Format)
		if !ok {
			return errors.New("it catches up in a format without positions")
		}
		cu.format = f
		c.beginCatchUp(cu)
		c.catchLater()
	}
	if x.parts&partReturn != 0 {
		c.bits |= bitReturn
	}
	l.WakeAt(c, l.now+1) // its protocol knows when it is due
	c.protocol().Taken(c)
	c.mark()
	c.recount()
	return nil
}

// takeBuffers takes what is unfinished in both directions.
func (c *Conn) takeBuffers(x *record) error {
	if x.parts&partFrame != 0 {
		if !c.frame().Load(x.state, c.limits()) {
			return errors.New("its incomplete message cannot be read, or is too large")
		}
		c.In.begun = c.loop.now - uint32(x.begun)
	}
	if len(x.kept) > 0 {
		c.putOff(x.kept)
	}
	if len(x.own)+len(x.pong) > 0 {
		o := c.output()
		o.buf, o.pong = append(o.buf, x.own...), append(o.pong, x.pong...)
		o.response = x.parts&partOpen != 0
	}
	return nil
}

// takeRef subscribes the connection as it was.
func (c *Conn) takeRef(x *savedRef, f channel.Format, log *takenLog) error {
	l := c.loop
	g, err := log.join(c, f)
	if err != nil {
		return err
	}
	if c.Find(log.channel) != nil {
		l.EndIfEmpty(g)
		return fmt.Errorf("it is subscribed to channel %q twice", log.channel)
	}
	head := g.Log().Head()
	cursor := x.cursor
	if len(log.tail) == 0 {
		cursor = head
	}
	if x.lost != channel.KindMessage {
		cursor = lostCursor + uint64(x.lost)
	} else if !g.holds(cursor, x.cut) {
		return fmt.Errorf("channel %q: cursor %d, of which %d bytes were sent, is not in its log, which ends at %d", log.channel, cursor, x.cut, head)
	}
	if !l.enter(c, g, cursor, x.flags) {
		return errors.New("it has ended")
	}
	c.Ref(c.Refs() - 1).cut = x.cut
	if x.lost != channel.KindMessage && !c.has(bitLost) {
		c.bits |= bitLost
		l.lost.push(c)
		l.paceLater()
	}
	if cursor != head {
		g.again()
	}
	return nil
}

// holds reports whether a subscriber can be at a cursor, with so many bytes of the frame there sent.
func (g *Group) holds(cursor uint64, cut uint32) bool {
	v, ok := g.View(cursor)
	head := g.Log().Head()
	switch {
	case !ok || cursor > head || v.Floor(0, cursor) != cursor:
		return false
	case cursor == head:
		return cut == 0
	}
	end := v.Fit(cursor, head, 0)
	return cut == 0 || uint64(cut) < end-cursor
}
