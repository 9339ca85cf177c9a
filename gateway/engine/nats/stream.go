package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
)

// Histories lie in streams: one for each namespace that keeps a history, and for each shard of its channels.
// A channel is a subject of its stream, a publication a message, and its offset the message's sequence.
// Limits are the stream's: so many messages of each subject, one more than the history's size, because
// the one before the oldest proves to a client at exactly that place that it has missed nothing; and an
// age, which is at least a day, so that the position of a quiet channel stays known.
//
// How long a stream lives is the epoch of its channels. In this process's own store the generation of the data
// directory is added, which grows when acknowledged messages may be gone. To that of a stream on servers is
// added how often nodes saw it go back: its description says so. And a start that does not use a stream counts as well.
//
// Rejected: one stream per channel (each costs a Raft group and files), one for all namespaces (limits belong
// to a stream), and nats.go's interface to streams (see api.go).

const (
	shardsInCluster = 8 // changing it loses histories: channels would be in other streams
	ageLeast        = 24 * time.Hour
	duplicateWindow = engine.DuplicateWindow
	// messageBytes is what a message takes at least of the room on the disk, as far as the bound on their
	// number goes: the server's index costs some 100 bytes of memory for each.
	messageBytes = 1 << 10
)

// streamsConfig is what streams are made from.
type streamsConfig struct {
	prefix      string // "" for "sluice"
	embedded    bool   // the server is in this process, and nobody else uses it
	replicas    int    // 0 for 3 where the servers are a cluster, else 1
	histories   []HistoryOf
	namespaceOf func(channel string) string
	dataMax     int64         // bytes, of all streams together
	maxMessage  int           // bytes of a payload
	generation  func() uint64 // of the data directory; nil for none
	readBytes   int           // the most that a reading has; 0 for 64 MiB
	log         *slog.Logger
}

// streams are all streams of a node.
type streams struct {
	// Set at construction.
	namespaceOf func(channel string) string
	byNamespace map[string][]*stream
	all         []*stream
}

// of returns the stream of a channel; nil if its history is not durable.
func (s *streams) of(channel string) *stream {
	if s == nil {
		return nil
	}
	shards := s.byNamespace[s.namespaceOf(channel)]
	switch len(shards) {
	case 0:
		return nil
	case 1:
		return shards[0]
	}
	return shards[hash(channel)%uint64(len(shards))]
}

// stream is one stream.
type stream struct {
	// Set at construction.
	link       *link
	name       string // of the stream
	prefix     string // of its subjects
	live       bool   // the server republishes what it stores
	single     bool   // it has no replicas that could be behind
	generation func() uint64
	readBytes  int

	current atomic.Uint64 // epoch

	infos coalesced
	flow  flow
}

// streamName returns the name of a stream, and the part of its subjects that stands for it.
func streamName(prefix, namespace string, shard int) (name, id string) {
	id = namespaceToken(namespace) + "_" + strconv.Itoa(shard)
	return strings.ToUpper(prefix) + "_" + id, id
}

// namespaceToken encodes a namespace's name for names of streams and subjects.
func namespaceToken(namespace string) string {
	if namespace != "" && len(namespace) <= 64 && !strings.ContainsAny(namespace, ":$#/") && isPlain(namespace) {
		return namespace
	}
	encoded := nameEncoding.EncodeToString([]byte(namespace))
	if len(encoded) > 128 {
		encoded = "+" + strconv.FormatUint(hash(namespace), 36) + "+" + encoded[:64]
	}
	return string(encodedMark) + encoded
}

// subject returns the subject under which a channel's publications are stored.
func (st *stream) subject(channel string) string { return st.prefix + token(channel) }

// probe returns the subject for messages that only ask whether the stream answers.
func (st *stream) probe() string { return st.prefix + probeToken }

// epoch returns the epoch of the stream's channels, as of the last state.
func (st *stream) epoch() channel.Epoch { return channel.Epoch(st.current.Load()) }

// state is what a stream's leader knows of it.
type state struct {
	first, last uint64 // sequences of the oldest and of the newest message; first is 0 if there never was one
	epoch       channel.Epoch
	leader      string // server; "" where servers are no cluster
	doubtful    bool   // it has no leader, or one without a majority of replicas: what is sent to it may have no answer
	limit       int    // messages of a subject
	raised      uint64 // the last sequence when limit was raised last
}

// state asks the stream's leader.
func (st *stream) state(ctx context.Context) (state, error) {
	return st.infos.get(ctx, func(ctx context.Context) (state, error) {
		in, err := st.link.info(ctx, st.name)
		if err != nil {
			return state{}, err
		}
		s := in.state(st.generation())
		st.current.Store(uint64(s.epoch))
		return s, nil
	})
}

// coalesced makes one question of those that are asked while another one is under way: the answers of
// all are as new as if each had asked.
type coalesced struct {
	mu   sync.Mutex
	next *question // guarded by mu: it has not begun
	busy bool      // guarded by mu: another one is under way
}

type question struct {
	done chan struct{}
	s    state
	err  error
}

func (c *coalesced) get(ctx context.Context, ask func(context.Context) (state, error)) (state, error) {
	c.mu.Lock()
	q := c.next
	if q == nil {
		q = &question{done: make(chan struct{})}
		c.next = q
		if !c.busy {
			c.busy = true
			go c.run(ask)
		}
	}
	c.mu.Unlock()
	select {
	case <-q.done:
		return q.s, q.err
	case <-ctx.Done():
		return state{}, fmt.Errorf("%w: %w", errAway, ctx.Err())
	}
}

// run asks until nobody has a question. It does not end with one who asks, because others wait, too: a
// question is bounded by answerTimeout.
func (c *coalesced) run(ask func(context.Context) (state, error)) {
	for {
		c.mu.Lock()
		q := c.next
		c.next = nil
		c.busy = q != nil
		c.mu.Unlock()
		if q == nil {
			return
		}
		q.s, q.err = ask(context.Background())
		close(q.done)
	}
}

// goBack gives the stream another epoch than the one it has had, unless another node has done so.
func (st *stream) goBack(ctx context.Context, prefix string, epoch channel.Epoch) error {
	c, err := st.link.claim(ctx, prefix)
	for errors.Is(err, errClaimed) {
		if err = pause(ctx, openAgain); err == nil {
			c, err = st.link.claim(ctx, prefix)
		}
	}
	if err != nil {
		return err
	}
	defer c.end()
	in, err := st.link.info(ctx, st.name)
	if err != nil || in.state(st.generation()).epoch != epoch {
		return err
	}
	d, err := parseDescription(textIn(in.Config, "description"))
	if err != nil {
		return err
	}
	d.back++
	in.Config["description"] = d.String()
	return st.link.api(ctx, "STREAM.UPDATE."+st.name, in.Config, nil)
}

// info is a stream's configuration and state.
type info struct {
	Config  map[string]any `json:"config"`
	Created time.Time      `json:"created"`
	State   struct {
		Messages uint64 `json:"messages"`
		Bytes    uint64 `json:"bytes"`
		First    uint64 `json:"first_seq"`
		Last     uint64 `json:"last_seq"`
	} `json:"state"`
	Cluster struct {
		Leader   string `json:"leader"`
		Replicas []struct {
			Active time.Duration `json:"active"` // since the leader heard it
		} `json:"replicas"` // beside the leader
	} `json:"cluster"`
}

// silentAfter is after what time a replica that its leader has not heard counts as gone. Replicas are heard every second.
const silentAfter = 3 * time.Second

// doubtful reports whether a stream may not be able to store anything. Servers answer for one that has
// no leader any more, and a leader may not have noticed yet that it is alone.
func (in *info) doubtful() bool {
	replicas, silent := in.Cluster.Replicas, 0
	for _, r := range replicas {
		if r.Active > silentAfter {
			silent++
		}
	}
	return len(replicas) > 0 && in.Cluster.Leader == "" || 2*silent > len(replicas)
}

func (l *link) info(ctx context.Context, name string) (*info, error) {
	in := new(info)
	if err := l.api(ctx, "STREAM.INFO."+name, nil, in); err != nil {
		return nil, err
	}
	return in, nil
}

func (in *info) state(generation uint64) state {
	d, _ := parseDescription(textIn(in.Config, "description")) // ignored: it was read when the stream was opened
	epoch := uint64(in.Created.UnixNano()) + generation + d.back
	return state{first: in.State.First, last: in.State.Last, epoch: channel.Epoch(max(epoch, 1)), leader: in.Cluster.Leader, doubtful: in.doubtful(),
		limit: int(numberIn(in.Config, "max_msgs_per_subject")), raised: d.raised}
}

// textIn and numberIn return values of a configuration; "" and 0 if they are missing.
func textIn(config map[string]any, key string) string {
	s, _ := config[key].(string)
	return s
}

func numberIn(config map[string]any, key string) int64 {
	n, _ := config[key].(json.Number)
	i, _ := n.Int64() // ignored: 0 then
	return i
}

// description is what a stream's description says: that it is ours, in which format, and the last sequence
// when its limit of messages per subject was raised last. Messages up to there may have been dropped by
// the lower limit. And it says how often the stream went back (Engine.wentBack) or was not used, if it did or was.
type description struct{ raised, back uint64 }

const (
	storeFormat = 1
	// raising is raised while the limit is being raised.
	raising = math.MaxUint64
)

func (d description) String() string {
	s := fmt.Sprintf("sluice: format=%d raised=%d", storeFormat, d.raised)
	if d.back > 0 {
		s += fmt.Sprintf(" back=%d", d.back)
	}
	return s
}

// parseDescription reads a description. Its error says what a user can do.
func parseDescription(s string) (d description, err error) {
	var format int
	if n, _ := fmt.Sscanf(s, "sluice: format=%d raised=%d back=%d", &format, &d.raised, &d.back); n < 2 && (n != 1 || format <= storeFormat) {
		return d, errForeign
	}
	if format > storeFormat {
		return d, errNewer
	}
	return d, nil
}
