package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sluice/gateway/channel"

	natsgo "github.com/nats-io/nats.go"
)

// How streams are read. Any replica answers a direct get: one that is behind answers short, and says
// nothing about it. The stream's leader answers questions to the API. So a reading asks the leader for
// the channel's head, reads until it has that, and asks the leader for the stream's state afterwards, which
// decides what is missing in front.
//
// A server from 2.11 on answers a direct get with a batch: messages, each with the number of those that follow,
// and an end. An older one does not know batches and answers with one message without that number; then
// the next one is asked for. What is asked is the same, so that a cluster of both works.

const (
	batchMessages = 256
	batchBytes    = 1 << 20 // a server that sends much more than a client reads closes the connection
	headsInBatch  = 1024    // subjects of one question; a server answers no more
	headsBytes    = 256 << 10
	headsAtOnce   = 256 // questions that are under way, where there are no batches
	shortAgain    = 10 * time.Millisecond
	shortTries    = 200
)

// stored is a message of a stream.
type stored struct {
	seq  uint64
	data []byte
}

// reading is what a stream keeps of a channel.
type reading struct {
	// msgs are all messages above floor, and above what was asked for, in their order.
	msgs []stored
	// floor is the sequence of the newest message that may be missing. It is below what was asked for if
	// nothing is missing since then.
	floor uint64
	// under is the message at floor, if it is still there: it may be a tombstone. Else its data is nil.
	under stored
	// head is the sequence of the newest message. If there is none, nothing that the channel ever had up
	// to head is kept.
	head  uint64
	epoch channel.Epoch
	none  bool // there is no message
}

// head is the newest message of a channel.
type head struct {
	// seq is its sequence. If there is no message, it is one up to which the stream has none of the
	// channel; 0 if no server that was asked is sure.
	seq   uint64
	msg   []byte
	found bool
}

// directGet is a question that any replica answers.
type directGet struct {
	Seq       uint64   `json:"seq,omitempty"`
	NextBy    string   `json:"next_by_subj,omitempty"`
	LastBy    string   `json:"last_by_subj,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"`
}

// errShort is for an answer that breaks off.
var errShort = fmt.Errorf("%w: the answer breaks off", errAway)

// read returns what the stream keeps of a channel above a sequence, complete up to what its leader has now.
func (st *stream) read(ctx context.Context, name string, above uint64) (reading, error) {
	subject := st.subject(name)
	from := max(above, 1) // that one, too: if it is still there, nothing is missing since then
	for try := 1; ; try++ {
		r, outcome, err := st.readOnce(ctx, subject, from, above)
		switch {
		case err != nil || outcome == readAll:
			return r, err
		case outcome == readMore:
			from = 1
		case try == shortTries:
			return reading{}, errShort
		default:
			if err := pause(ctx, shortAgain); err != nil {
				return reading{}, err
			}
		}
	}
}

// outcome says whether what was read is a reading.
type outcome int

const (
	readAll   outcome = iota
	readAgain         // it does not fit together: a replica is behind, or the stream was made anew
	readMore          // what is below has to be known, to say what is missing
)

func (st *stream) readOnce(ctx context.Context, subject string, from, above uint64) (r reading, _ outcome, err error) {
	before := st.epoch()
	want := uint64(0)
	if !st.single {
		if want, err = st.leaderHead(ctx, subject); err != nil {
			return r, 0, err
		}
	}
	p := piece{most: st.readBytes}
	if err = st.readFrom(ctx, subject, from, &p); err != nil {
		return r, 0, err
	}
	if want > above && p.last() < want {
		return r, readAgain, nil // by a replica that is behind
	}
	s, err := st.state(ctx)
	if err != nil {
		return r, 0, err
	}
	if s.epoch != before {
		return r, readAgain, nil
	}
	r.epoch, r.head = s.epoch, p.last()
	if r.head == 0 {
		// Nothing was there. Where the channel is then depends on what the stream has, if there still is
		// nothing of it after that.
		if want, err = st.leaderHead(ctx, subject); err != nil || want > above {
			return r, readAgain, err
		}
		r.head, r.none = want, want == 0
		if r.none {
			r.head = s.last
		}
	}
	joins := above > 0 && len(p.msgs) > 0 && p.msgs[0].seq == above
	if joins && p.cut == 0 && len(p.msgs) <= s.limit && s.first <= above {
		r.floor, r.under, r.msgs = above, p.msgs[0], p.msgs[1:]
		return r, readAll, nil
	}
	if from > 1 && len(p.msgs) > 0 && p.msgs[0].seq <= s.raised && p.cut == 0 {
		return r, readMore, nil
	}
	r.floor, r.under, r.msgs = keptOf(p.msgs, p.cut, s)
	for len(r.msgs) > 0 && r.msgs[0].seq <= above {
		r.msgs = r.msgs[1:]
	}
	return r, readAll, nil
}

// keptOf returns which of a channel's messages are complete, and what is below them. More than the limit are
// read while others are dropped: then something may be missing between the older ones.
func keptOf(msgs []stored, cut uint64, s state) (floor uint64, under stored, kept []stored) {
	kept = msgs
	if s.limit > 0 && len(kept) > s.limit {
		kept = kept[len(kept)-s.limit:]
	}
	switch {
	case len(kept) > 0 && s.limit > 0 && len(kept) == s.limit:
		floor = kept[0].seq
	case len(kept) == 0 || kept[0].seq > s.raised:
		// Nothing of the channel was dropped but with the front of the stream.
	default:
		floor = kept[0].seq - 1
	}
	if s.first > 0 {
		floor = max(floor, s.first-1)
	}
	floor = max(floor, cut)
	for len(kept) > 0 && kept[0].seq <= floor {
		if kept[0].seq == floor {
			under = kept[0]
		}
		kept = kept[1:]
	}
	return floor, under, kept
}

// piece is what was read so far.
type piece struct {
	msgs  []stored
	bytes int
	most  int    // bytes: the oldest are dropped
	cut   uint64 // sequence of the newest that was dropped
}

func (p *piece) add(m stored) {
	p.msgs = append(p.msgs, m)
	p.bytes += len(m.data)
	for p.bytes > p.most && len(p.msgs) > 1 {
		p.cut = p.msgs[0].seq
		p.bytes -= len(p.msgs[0].data)
		p.msgs = p.msgs[1:]
	}
}

func (p *piece) last() uint64 {
	if len(p.msgs) == 0 {
		return p.cut
	}
	return p.msgs[len(p.msgs)-1].seq
}

// readFrom adds the messages of a subject from a sequence on.
func (st *stream) readFrom(ctx context.Context, subject string, from uint64, p *piece) error {
	in, err := st.link.inbox()
	if err != nil {
		return err
	}
	defer in.end()
	for {
		more, err := st.batch(ctx, in, subject, from, p)
		if err != nil || !more {
			return err
		}
		from = p.last() + 1
	}
}

// batch asks once, and reports whether there may be more.
func (st *stream) batch(ctx context.Context, in *inbox, subject string, from uint64, p *piece) (more bool, err error) {
	if err := in.ask(st.name, 0, directGet{Seq: from, NextBy: subject, Batch: batchMessages, MaxBytes: batchBytes}); err != nil {
		return false, err
	}
	previous := uint64(0)
	for {
		a, err := in.next(ctx)
		switch {
		case err != nil:
			return false, err
		case a.status == statusNone && previous == 0:
			return false, nil
		case a.status == statusEnd:
			if a.previous != previous {
				return false, errShort
			}
			return a.pending > 0 && previous > 0, nil
		case a.status != 0:
			return false, a.fault()
		case a.seq < from || a.seq <= previous || a.counted && a.previous != previous:
			return false, errShort
		}
		p.add(stored{a.seq, a.data})
		if previous = a.seq; !a.counted {
			return true, nil
		}
	}
}

// leaderHead asks the stream's leader for the sequence of the newest message; 0 if there is none.
func (st *stream) leaderHead(ctx context.Context, subject string) (uint64, error) {
	var answer struct {
		Message struct {
			Seq uint64 `json:"seq"`
		} `json:"message"`
	}
	err := st.link.api(ctx, "STREAM.MSG.GET."+st.name, map[string]string{"last_by_subj": subject}, &answer)
	if hasCode(err, codeNoMessage) {
		return 0, nil
	}
	return answer.Message.Seq, err
}

// purge removes the messages of a channel below a sequence.
func (st *stream) purge(ctx context.Context, name string, below uint64) error {
	return st.link.api(ctx, "STREAM.PURGE."+st.name, map[string]any{"filter": st.subject(name), "seq": below}, nil)
}

// heads returns the newest messages of channels, in the order of their names. Any replica answers, which may
// be behind.
func (st *stream) heads(ctx context.Context, names []string) ([]head, error) {
	all := make([]head, len(names))
	in, err := st.link.inbox()
	if err != nil {
		return nil, err
	}
	defer in.end()
	sure := uint64(0) // up to where one without a message has none
	if st.single {
		// The only server knows it before it is asked for heads.
		s, err := st.state(ctx)
		if err != nil {
			return nil, err
		}
		sure = s.last
	}
	batches := st.link.batches()
	for from := 0; from < len(names); {
		to, size := from, 0
		for to < len(names) && to-from < headsInBatch && size < headsBytes {
			size += len(names[to])*4/3 + len(st.prefix) + 4
			to++
		}
		if batches {
			err := st.headsOfBatch(ctx, in, names[from:to], all[from:to], sure)
			if errors.Is(err, errNoBatches) {
				batches = false
				continue
			}
			if err != nil {
				return nil, err
			}
		} else if err := st.headsOneByOne(ctx, in, names[from:to], all[from:to], sure); err != nil {
			return nil, err
		}
		from = to
	}
	return all, nil
}

// errNoBatches is for a server that answers no batches.
var errNoBatches = errors.New("nats: the server answers no batches")

// headsOfBatch asks for up to headsInBatch channels at once.
func (st *stream) headsOfBatch(ctx context.Context, in *inbox, names []string, heads []head, sure uint64) error {
	index := make(map[string]int, len(names))
	subjects := make([]string, len(names))
	for i, name := range names {
		subjects[i] = st.subject(name)
		index[subjects[i]] = i
	}
	least := uint64(0) // up to where the replicas that have answered are sure
	ask := directGet{MultiLast: subjects, MaxBytes: batchBytes}
	for more, first := true, true; more; first = false {
		if err := in.ask(st.name, 0, ask); err != nil {
			return err
		}
		previous, none := uint64(0), false
		for ended := false; !ended; {
			a, err := in.next(ctx)
			switch {
			case err != nil:
				return err
			case a.status == statusNone && previous == 0:
				more, none, ended = false, true, true
			case a.status == statusEnd:
				if a.previous != previous {
					return errShort
				}
				more, ended = a.pending > 0 && previous > 0, true
				if first || a.upTo < least {
					least = a.upTo
				}
			case a.status == statusBad && previous == 0:
				return errNoBatches
			case a.status != 0:
				return a.fault()
			case !a.counted || a.previous != previous:
				return errShort
			default:
				if i, ok := index[a.subject]; ok && a.seq >= heads[i].seq {
					heads[i] = head{a.seq, a.data, true}
				}
				previous = a.seq
			}
		}
		if none {
			least = 0
		}
		ask.Seq = previous + 1
	}
	for i := range heads {
		if !heads[i].found {
			heads[i].seq = max(sure, least)
		}
	}
	return nil
}

// headsOneByOne asks for each channel, many at a time.
func (st *stream) headsOneByOne(ctx context.Context, in *inbox, names []string, heads []head, sure uint64) error {
	answered := make([]bool, len(names))
	asked, got := 0, 0
	for got < len(names) {
		for asked < len(names) && asked-got < headsAtOnce {
			if err := in.ask(st.name, asked, directGet{LastBy: st.subject(names[asked])}); err != nil {
				return err
			}
			asked++
		}
		a, err := in.next(ctx)
		if err != nil {
			return err
		}
		if a.tag < 0 || a.tag >= asked || answered[a.tag] {
			continue // of an earlier question
		}
		switch a.status {
		case 0:
			heads[a.tag] = head{a.seq, a.data, true}
		case statusNone:
			heads[a.tag] = head{seq: sure}
		default:
			return a.fault()
		}
		answered[a.tag] = true
		got++
	}
	return nil
}

// inbox receives answers to direct gets.
type inbox struct {
	nc      *natsgo.Conn
	subject string // a number follows
	sub     *natsgo.Subscription
}

func (l *link) inbox() (*inbox, error) {
	in := &inbox{nc: l.reads, subject: l.reads.NewInbox() + "."}
	sub, err := l.reads.SubscribeSync(in.subject + "*")
	if err == nil {
		err = sub.SetPendingLimits(-1, -1) // what is asked for at once is bounded
	}
	if err != nil {
		return nil, away(err)
	}
	in.sub = sub
	return in, nil
}

func (in *inbox) end() {
	_ = in.sub.Unsubscribe() // ignored: the connection is closed
}

// ask sends a question; its answers have the tag.
func (in *inbox) ask(stream string, tag int, q directGet) error {
	body, _ := json.Marshal(q) // ignored: it can be encoded
	if err := in.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, in.subject+strconv.Itoa(tag), body); err != nil {
		return away(err)
	}
	return nil
}

// Statuses of answers.
const (
	statusEnd  = 204
	statusNone = 404
	statusBad  = 408 // malformed, or a server that does not know what is asked
	statusAway = 503 // nobody answers
)

// answer is one message of an answer to a direct get.
type answer struct {
	tag            int
	status         int // 0 for a message of the stream
	text           string
	subject        string
	seq            uint64
	data           []byte
	counted        bool // it is one of a batch
	pending        uint64
	previous, upTo uint64
}

func (a *answer) fault() error {
	if a.status == statusAway {
		return fmt.Errorf("%w: no such stream", errAway)
	}
	return fmt.Errorf("nats: direct get: %d %s", a.status, a.text)
}

// next returns the next answer. No answer in time is an error: what came before may not be all.
func (in *inbox) next(ctx context.Context) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	m, err := in.sub.NextMsgWithContext(ctx)
	if err != nil {
		if errors.Is(err, natsgo.ErrNoResponders) {
			return answer{status: statusAway}, nil
		}
		return answer{}, away(err)
	}
	a := answer{data: m.Data, subject: m.Header.Get("Nats-Subject")}
	if a.tag, err = strconv.Atoi(m.Subject[len(in.subject):]); err != nil {
		a.tag = -1
	}
	if status := m.Header.Get("Status"); status != "" {
		a.status, _ = strconv.Atoi(status)
		a.text = m.Header.Get("Description")
	}
	a.seq = headerNumber(m, "Nats-Sequence")
	_, a.counted = m.Header["Nats-Num-Pending"]
	a.pending = headerNumber(m, "Nats-Num-Pending")
	a.previous = headerNumber(m, "Nats-Last-Sequence")
	a.upTo = headerNumber(m, "Nats-UpTo-Sequence")
	return a, nil
}

func headerNumber(m *natsgo.Msg, key string) uint64 {
	n, _ := strconv.ParseUint(m.Header.Get(key), 10, 64) // ignored: 0 if it is missing
	return n
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errAway, ctx.Err())
	}
}
