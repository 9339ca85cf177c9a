package nats

import (
	"encoding/binary"
	"math"
	"slices"

	"sluice/gateway/channel"
	"sluice/gateway/engine"

	"github.com/cespare/xxhash/v2"
)

// A question goes to each node on a subject of its own, and so do the answers to the node that asked,
// in parts where they are large:
//
//	question  version, kind, what is asked   1 byte each
//	          node that asks                 8 bytes
//	          number                         uvarint
//	          request                        the rest
//	answer    version, kind, flags           1 byte each
//	          node that answers              8 bytes
//	          number, part                   uvarints
//	          answer                         the rest

// What can be asked.
const (
	askPing     = iota + 1 // nothing: the answer shows that a node's server knows what this one has subscribed to
	askCounters            // 256 uvarints
	askHeard               // the node whose number is in the request: 1 if it is live, and its newest beat, as uvarints
	askCount               // presence: the subscribers, as a uvarint, and the different users, as hashes of 8 bytes
	askList                // presence: a uvarint, 1 if there are no more than asked for, and they
	askNode                // whatever engine.Ask asks
)

const (
	answerMore   = 1 << iota // another part follows
	answerFailed             // it would be too large
)

// answerMax bounds an answer, in bytes.
const answerMax = 64 << 20

// askOverhead is more than a part has beside its data.
const askOverhead = 64

// reply is a node's answer.
type reply struct {
	node uint64
	data []byte
}

// inquiry is a question that waits for answers.
type inquiry struct {
	waiting map[uint64]*part // by node
	replies []reply
	missing int
	done    func(answers []reply, missing int)
}

// part is what has come of an answer.
type part struct {
	next uint64
	data []byte
}

// asks are the questions of this node.
type asks struct {
	number uint64
	open   map[uint64]*inquiry

	barred  []func() // wait for a barrier that begins later
	barring bool
}

// ask asks nodes, and calls done with what they answer and how many are missing.
func (n *nodes) ask(what byte, request []byte, of []uint64, done func(answers []reply, missing int)) {
	a := &n.asks
	if len(of) == 0 {
		done(nil, 0)
		return
	}
	if a.open == nil {
		a.open = make(map[uint64]*inquiry)
	}
	a.number++
	number, q := a.number, &inquiry{waiting: make(map[uint64]*part), done: done}
	b := append(make([]byte, 0, len(request)+askOverhead), beatVersion, kindQuestion, what)
	b = binary.LittleEndian.AppendUint64(b, n.cfg.id)
	b = append(binary.AppendUvarint(b, number), request...)
	for _, node := range of {
		if len(b) > n.transport.payloadMax() || n.transport.publish(n.subjectOf(node), b) != nil {
			q.missing++
			continue
		}
		q.waiting[node] = new(part)
	}
	if len(q.waiting) == 0 {
		done(nil, q.missing)
		return
	}
	a.open[number] = q
	n.cfg.after(engine.AskPatience, func() { a.over(number) })
}

// over ends a question.
func (a *asks) over(number uint64) {
	q := a.open[number]
	if q == nil {
		return
	}
	delete(a.open, number)
	q.done(q.replies, q.missing+len(q.waiting))
}

// giveUp ends all questions.
func (a *asks) giveUp() {
	for number := range a.open {
		a.over(number)
	}
	a.freed()
}

// freed calls what waits for a barrier.
func (a *asks) freed() {
	all := a.barred
	a.barred = nil
	for _, f := range all {
		f()
	}
}

// lost ends what a node is asked: it is not live any more.
func (a *asks) lost(node uint64) {
	for number, q := range a.open {
		if q.waiting[node] != nil {
			if delete(q.waiting, node); len(q.waiting) == 0 {
				a.over(number)
			}
		}
	}
}

// answered takes a part of an answer.
func (n *nodes) answered(b []byte) {
	if len(b) < 9 {
		return
	}
	flags, node := b[0], binary.LittleEndian.Uint64(b[1:])
	r := reader{rest: b[9:]}
	number, place := r.uvarint(), r.uvarint()
	q := n.asks.open[number]
	if r.bad || q == nil || q.waiting[node] == nil {
		return // it came too late
	}
	p := q.waiting[node]
	switch {
	case flags&answerFailed != 0, place != p.next, len(p.data)+len(r.rest) > answerMax:
		q.missing++
	case flags&answerMore != 0:
		p.next, p.data = p.next+1, append(p.data, r.rest...)
		return
	default:
		data := r.rest
		if len(p.data) > 0 {
			data = append(p.data, data...)
		}
		q.replies = append(q.replies, reply{node, data})
	}
	if delete(q.waiting, node); len(q.waiting) == 0 {
		n.asks.over(number)
	}
}

// question answers what a node asks.
func (n *nodes) question(b []byte) {
	if len(b) < 9 {
		return
	}
	what, asker := b[0], binary.LittleEndian.Uint64(b[1:])
	r := reader{rest: b[9:]}
	number := r.uvarint()
	if r.bad {
		return
	}
	if _, known := n.questions[asker]; known || len(n.questions) < peersMost {
		n.questions[asker] = number
	}
	answer := func(data []byte) { n.send(asker, number, data) }
	switch what {
	case askPing:
		answer(nil)
	case askCounters:
		c := n.counters()
		answer(appendCounters(nil, &c))
	case askHeard:
		answer(n.heardOf(&r))
	case askCount:
		answer(n.presentCount(string(r.rest)))
	case askList:
		most := r.uvarint()
		answer(n.presentList(string(r.rest), int(min(most, math.MaxInt))))
	case askNode:
		f := n.answer.Load()
		if f == nil {
			answer(nil)
			return
		}
		(*f)(r.rest, func(data []byte) {
			data = slices.Clone(data)
			n.post(func() { answer(data) })
		})
	}
}

// heardOf returns what is known of a node.
func (n *nodes) heardOf(r *reader) []byte {
	if len(r.rest) < 8 {
		return nil
	}
	p, live := n.peers[binary.LittleEndian.Uint64(r.rest)], uint64(0)
	if p == nil {
		return []byte{0, 0}
	}
	if p.live {
		live = 1
	}
	return binary.AppendUvarint(binary.AppendUvarint(nil, live), p.seq)
}

// send sends an answer, in parts. What cannot be sent is missing.
func (n *nodes) send(asker, number uint64, data []byte) {
	room, flags := n.transport.payloadMax()-askOverhead, byte(0)
	if room <= 0 || len(data) > answerMax {
		data, flags = nil, answerFailed
	}
	for place := uint64(0); ; place++ {
		rest := data[min(len(data), max(room, 0)):]
		data = data[:len(data)-len(rest)]
		if len(rest) > 0 {
			flags |= answerMore
		} else {
			flags &^= answerMore
		}
		b := append(make([]byte, 0, len(data)+askOverhead), beatVersion, kindAnswer, flags)
		b = binary.LittleEndian.AppendUint64(b, n.cfg.id)
		b = binary.AppendUvarint(binary.AppendUvarint(b, number), place)
		if n.transport.publish(n.subjectOf(asker), append(b, data...)) != nil || len(rest) == 0 {
			return
		}
		data = rest
	}
}

// others returns the other live nodes.
func (n *nodes) others() (all []uint64) {
	for id, p := range n.peers {
		if p.live && id != n.cfg.id {
			all = append(all, id)
		}
	}
	return all
}

// askAll asks all other live nodes.
func (n *nodes) askAll(what byte, request []byte, done func(answers []reply, missing int)) {
	if !n.post(func() {
		n.ask(what, request, n.others(), func(answers []reply, missing int) {
			n.unanswered.Add(uint64(missing))
			done(answers, missing)
		})
	}) {
		done(nil, int(n.live.Load())-1)
	}
}

// askNodes does what engine.Ask does.
func (n *nodes) askNodes(request []byte, done func(answers [][]byte, missing int)) {
	if n == nil {
		done(nil, 0)
		return
	}
	n.askAll(askNode, slices.Clone(request), func(answers []reply, missing int) {
		var all [][]byte
		for _, a := range answers {
			if len(a.data) > 0 {
				all = append(all, a.data)
			}
		}
		done(all, missing)
	})
}

// askOne does what engine.Router's AskNode does.
func (n *nodes) askOne(node uint64, request []byte, done func(answer []byte, err error)) {
	request = slices.Clone(request)
	switch {
	case n == nil:
		done(nil, engine.ErrUnknownNode)
	case !n.post(func() {
		if p := n.peers[node]; p == nil || !p.live || node == n.cfg.id {
			done(nil, engine.ErrUnknownNode)
			return
		}
		n.ask(askNode, request, []uint64{node}, func(answers []reply, missing int) {
			if n.unanswered.Add(uint64(missing)); len(answers) == 0 {
				done(nil, engine.ErrUnavailable)
				return
			}
			done(answers[0].data, nil)
		})
	}):
		done(nil, engine.ErrAway)
	}
}

// setAnswer does what engine.Answer does.
func (n *nodes) setAnswer(f func(request []byte, reply func([]byte))) {
	if n != nil {
		n.answer.Store(&f)
	}
}

// barrier calls done when all servers that nodes are connected to know what this node has subscribed to
// before the call, and no later than engine.AskPatience. Calls that come meanwhile share the next one.
func (n *nodes) barrier(done func()) {
	if n == nil {
		done()
		return
	}
	if !n.post(func() {
		n.asks.barred = append(n.asks.barred, done)
		n.bar()
	}) {
		done()
	}
}

func (n *nodes) bar() {
	a := &n.asks
	if a.barring || len(a.barred) == 0 {
		return
	}
	all := a.barred
	a.barred, a.barring = nil, true
	of := []uint64{n.cfg.id} // the own server
	seen := map[string]bool{n.transport.server(): true}
	for _, id := range n.others() {
		if server := n.peers[id].Server; !seen[server] {
			seen[server] = true
			of = append(of, id)
		}
	}
	n.ask(askPing, nil, of, func([]reply, int) {
		a.barring = false
		for _, f := range all {
			f()
		}
		n.bar()
	})
}

// presence does what engine.Presence does.
func (n *nodes) presence(name string, most int, done func(engine.Presence, error)) {
	if most > 0 {
		request := append(binary.AppendUvarint(nil, uint64(most)), name...)
		n.askAll(askList, request, func(answers []reply, missing int) {
			all, ok := n.cfg.present.List(name, most)
			out := engine.Presence{List: all, Partial: missing > 0}
			for _, a := range answers {
				r := reader{rest: a.data}
				if r.uvarint() != 1 {
					ok = false
				}
				for ok && len(r.rest) > 0 {
					e := channel.ParseExtra(r.bytes())
					out.List = append(out.List, e.Who.Info())
				}
			}
			if !ok || len(out.List) > most {
				out.List = nil
			}
			done(out, nil)
		})
		return
	}
	n.askAll(askCount, []byte(name), func(answers []reply, missing int) {
		out := engine.Presence{Partial: missing > 0}
		users := make(map[uint64]struct{})
		for _, a := range append(answers, reply{data: n.presentCount(name)}) {
			r := reader{rest: a.data}
			out.Clients += int(r.uvarint())
			for ; len(r.rest) >= 8; r.rest = r.rest[8:] {
				users[binary.LittleEndian.Uint64(r.rest)] = struct{}{}
			}
		}
		out.Users = len(users)
		done(out, nil)
	})
}

// presentCount counts this node's subscribers of a channel.
func (n *nodes) presentCount(name string) []byte {
	all, _ := n.cfg.present.List(name, math.MaxInt)
	b := binary.AppendUvarint(nil, uint64(len(all)))
	users := make(map[string]struct{}, len(all))
	for _, who := range all {
		if _, known := users[who.User]; !known {
			users[who.User] = struct{}{}
			b = binary.LittleEndian.AppendUint64(b, xxhash.Sum64String(who.User))
		}
	}
	return b
}

// presentList lists this node's subscribers of a channel.
func (n *nodes) presentList(name string, most int) []byte {
	all, ok := n.cfg.present.List(name, most)
	if !ok {
		return []byte{0}
	}
	b, one := []byte{1}, []byte(nil)
	for _, who := range all {
		one = channel.AppendWho(one[:0], who)
		b = append(binary.AppendUvarint(b, uint64(len(one))), one...)
	}
	return b
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}
