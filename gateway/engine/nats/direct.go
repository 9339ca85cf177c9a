package nats

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	natsgo "github.com/nats-io/nats.go"
)

// Direct gets: questions that any replica of a stream answers. A server from 2.11 on answers with a batch:
// messages, each with the sequence of the one before it and the number of those that follow, and an end.
// An older one does not know batches and answers with one message without that number; then the next
// one is asked for. What is asked is the same, so that a cluster of both works.
//
// An answer that does not come to its end is no answer: one whose rest is lost would look complete. A
// replica that hangs is asked by chance, so that the same question goes to another one next time.

const (
	batchMessages = 256
	batchBytes    = 1 << 20 // a server that sends much more than a client reads closes the connection
	directTimeout = 500 * time.Millisecond
)

// errShort is for an answer that breaks off.
var errShort = fmt.Errorf("%w: the answer breaks off", errAway)

// errLate is for an answer that did not come to its end in time.
var errLate = fmt.Errorf("%w in time", errAway)

// errNoBatches is for a server that answers no batches, where it has to.
var errNoBatches = errors.New("nats: the server answers no batches")

// directGet is a question that any replica answers.
type directGet struct {
	Seq       uint64   `json:"seq,omitempty"`
	NextBy    string   `json:"next_by_subj,omitempty"`
	LastBy    string   `json:"last_by_subj,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"`
}

// inbox receives answers to direct gets.
type inbox struct {
	nc      *natsgo.Conn
	subject string // the question's tag follows
	sub     *natsgo.Subscription
	link    *link
	round   int // the last tag
}

func (l *link) inbox() (*inbox, error) {
	in := &inbox{nc: l.reads, subject: l.reads.NewInbox() + ".", link: l}
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

// ending is how an answer ends.
type ending struct {
	last    uint64 // sequence of its last message
	none    bool   // there is no message
	single  bool   // it is one message of a server without batches: there may be more
	pending uint64 // how many more there are
	upTo    uint64 // of multi_last: up to which sequence the server has looked
}

// batch asks a question, and calls take with each message of the answer. What it returns with an error says
// how far it has come. errLate is for an answer that did not come to its end in time.
func (in *inbox) batch(ctx context.Context, stream string, q directGet, take func(*answer)) (e ending, err error) {
	in.round++
	if err := in.ask(stream, in.round, q); err != nil {
		return e, err
	}
	for {
		a, err := in.next(ctx)
		switch {
		case err != nil:
			return e, err
		case a.tag != in.round:
			continue // of a question that was given up
		case a.status == statusNone && e.last == 0:
			e.none = true
			return e, nil
		case a.status == statusEnd:
			if e.pending, e.upTo = a.pending, a.upTo; a.previous != e.last {
				return e, errShort
			}
			return e, nil
		case a.status == statusBad && q.MultiLast != nil && e.last == 0:
			return e, errNoBatches
		case a.status != 0:
			return e, a.fault()
		case a.seq < q.Seq || a.seq <= e.last || a.counted && a.previous != e.last:
			return e, errShort
		}
		take(&a)
		if e.last = a.seq; !a.counted {
			e.single = true
			return e, nil
		}
	}
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
	soon, cancel := context.WithTimeout(ctx, cmp.Or(in.link.test.patience, directTimeout))
	defer cancel()
	m, err := in.sub.NextMsgWithContext(soon)
	if err != nil {
		if soon.Err() != nil && ctx.Err() == nil {
			return answer{}, errLate
		}
		if errors.Is(err, natsgo.ErrNoResponders) {
			return answer{status: statusAway}, nil
		}
		return answer{}, away(err)
	}
	if f := in.link.test.late; f != nil && f(m) {
		return answer{}, errLate
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
