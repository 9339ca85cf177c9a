package nats

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice/gateway/setting"
)

// Streams are created where they are missing, and brought to their limits where they are there, which keeps
// what they have and so their epochs. An update replaces the whole configuration, and the server compares it with
// nothing: one that was made from an old reading would undo another node's. So a node that has to change something
// claims that (claim.go), and reads before it changes. If nodes have different settings, those of the last one hold.
//
// A stream reserves its bytes at the server. When there is one more namespace with a history, each
// stream's share is smaller: those that shrink come first, and then those that are new.

var (
	errForeign = errors.New("it is not sluice's")
	errNewer   = errors.New("a newer version of sluice has written it")
)

var prefixPattern = regexp.MustCompile(`^[a-z0-9][-a-z0-9]{0,63}$`)

const (
	defaultPrefix = "sluice"
	// storeMessageMost is a message's size that JetStream's files take: 32 MiB with all that is around it.
	storeMessageMost = 32<<20 - payloadOverhead
	// sharesLeast is how many messages of the largest size a stream has room for at least.
	sharesLeast = 4
	roundBytes  = 1 << 20 // of a stream's share
	openTries   = 5
	peersTries  = 40 // a cluster that starts does not know all its servers at once
	openAgain   = 250 * time.Millisecond
)

// plan is a stream as it should be.
type plan struct {
	*stream
	id       string
	limit    int
	maxAge   time.Duration
	maxBytes int64
	replicas int // 0: as it is, and 3 or 1 for a new one
	existing *info
}

// openStreams creates the streams of all durable histories, or brings them to their limits. It returns nil if
// there are none. What cannot be fixed by waiting is an error that names the setting; while the servers
// are away it is errAway.
func openStreams(ctx context.Context, l *link, c streamsConfig) (*streams, error) {
	c.prefix = cmp.Or(c.prefix, defaultPrefix)
	if c.generation == nil {
		c.generation = func() uint64 { return 0 }
	}
	if !prefixPattern.MatchString(c.prefix) {
		return nil, setting.Error(fmt.Sprintf("{NATSPrefix} %q must consist of a-z, 0-9 and '-', and begin with a letter or a digit", setting.Literal(c.prefix)))
	}
	s := &streams{namespaceOf: c.namespaceOf, byNamespace: make(map[string][]*stream)}
	var plans []*plan
	shards := shardsInCluster
	if c.embedded {
		shards, c.replicas = 1, 1
	}
	for _, h := range c.histories {
		if !h.Durable || h.Size <= 0 {
			continue
		}
		for shard := range shards {
			name, id := streamName(c.prefix, h.Namespace, shard)
			st := &stream{link: l, name: name, prefix: c.prefix + ".in." + id + ".", live: !c.embedded, single: c.embedded,
				generation: c.generation, readBytes: cmp.Or(c.readBytes, 64<<20)}
			plans = append(plans, &plan{stream: st, id: id, limit: h.Size + 1, maxAge: max(h.TTL, ageLeast), replicas: c.replicas})
			s.byNamespace[h.Namespace] = append(s.byNamespace[h.Namespace], st)
			s.all = append(s.all, st)
		}
	}
	if plans == nil {
		s = nil
	}
	if s == nil && !c.embedded {
		return nil, nil
	}
	if s != nil && c.maxMessage > storeMessageMost {
		return nil, setting.Error(fmt.Sprintf("{MaxMessage} %s is too large for a history that is stored: at most %s", setting.FormatSize(c.maxMessage), setting.FormatSize(storeMessageMost)))
	}
	o := opening{l: l, c: c, plans: plans}
	for try := 1; ; try++ {
		err := o.run(ctx)
		if err == nil {
			o.advise()
			return s, nil
		}
		var a again
		if !errors.As(err, &a) {
			return nil, err
		}
		if err = a.error; try >= a.tries {
			return nil, err
		}
		select { // another node has created or changed a stream meanwhile, or a cluster is not complete yet
		case <-time.After(openAgain):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// again is an error of what may work when it is tried again.
type again struct {
	error
	tries int
}

func (e again) Unwrap() error { return e.error }

// opening is the work of openStreams.
type opening struct {
	l     *link
	c     streamsConfig
	plans []*plan
}

func (o *opening) run(ctx context.Context) error {
	if err := o.look(ctx); err != nil {
		return err
	}
	one := o.l.reads.ConnectedClusterName() == "" // a server that is alone makes a stream once, however many nodes ask
	if !o.c.embedded && slices.ContainsFunc(o.plans, func(p *plan) bool { return p.existing == nil && !one || p.existing != nil && p.changes() }) {
		c, err := o.l.claim(ctx, o.c.prefix)
		if err != nil {
			return err
		}
		defer c.end()
		if err := o.look(ctx); err != nil { // another node may have changed it before this one began to claim
			return err
		}
	}
	// Those that shrink come first, then those that grow, then new ones.
	slices.SortStableFunc(o.plans, func(a, b *plan) int { return cmp.Compare(a.place(), b.place()) })
	for _, p := range o.plans {
		if err := o.open(ctx, p); err != nil {
			return o.fault(p, err)
		}
	}
	return nil
}

// look looks at what is there, and finds out how large streams may be.
func (o *opening) look(ctx context.Context) error {
	for _, p := range o.plans {
		in, err := o.info(ctx, p.name, false)
		switch {
		case hasCode(err, codeNoStream):
			p.existing = nil
		case err != nil:
			return o.fault(p, err)
		default:
			if err := p.mine(in); err != nil {
				return o.unusable(p, err)
			}
			p.existing = in
		}
	}
	unused, err := o.unused(ctx)
	if err != nil {
		return err
	}
	streams := max(len(o.plans)+len(unused), 1)
	share := o.c.dataMax / int64(streams)
	if least := sharesLeast * int64(o.c.maxMessage+payloadOverhead); share < least && len(o.plans) > 0 {
		return setting.Error(fmt.Sprintf("{DataMax} %s is too small for %d streams and {MaxMessage} %s: at least %s", setting.FormatSize(int(o.c.dataMax)),
			streams, setting.FormatSize(o.c.maxMessage), setting.FormatSize(int(least)*streams)))
	}
	if share > roundBytes {
		share -= share % roundBytes
	}
	for _, in := range unused {
		if d, err := parseDescription(textIn(in.Config, "description")); err == nil {
			d.back++ // what is published meanwhile is not in it
			in.Config["description"] = d.String()
		}
		in.Config["max_bytes"] = min(numberIn(in.Config, "max_bytes"), share)
		if err := o.l.api(ctx, "STREAM.UPDATE."+textIn(in.Config, "name"), in.Config, nil); err != nil {
			return err
		}
	}
	for _, p := range o.plans {
		p.maxBytes = share
	}
	return nil
}

// advise has a line in the log if streams have fewer copies than new ones would have.
func (o *opening) advise() {
	if few := slices.IndexFunc(o.plans, func(p *plan) bool { return p.existing != nil && numberIn(p.existing.Config, "num_replicas") < 3 }); few >= 0 &&
		o.c.replicas == 0 && o.l.reads.ConnectedClusterName() != "" {
		o.c.log.Warn("streams have fewer copies than the cluster can keep: they do not survive the loss of a server until the number of NATS replicas is set to 3",
			"stream", o.plans[few].name, "copies", numberIn(o.plans[few].existing.Config, "num_replicas"))
	}
}

// place is where a plan comes: 0 for streams that shrink, 1 for those that grow, 2 for new ones.
func (p *plan) place() int {
	switch {
	case p.existing == nil:
		return 2
	case numberIn(p.existing.Config, "max_bytes") < p.maxBytes:
		return 1
	}
	return 0
}

// mine returns why an existing stream cannot be used.
func (p *plan) mine(in *info) error {
	if _, err := parseDescription(textIn(in.Config, "description")); err != nil {
		return err
	}
	subjects, _ := in.Config["subjects"].([]any)
	denied, _ := in.Config["deny_purge"].(bool)
	sealed, _ := in.Config["sealed"].(bool)
	switch {
	case len(subjects) != 1 || subjects[0] != p.prefix+"*":
		return fmt.Errorf("its subjects are %v, not %s*", subjects, p.prefix)
	case textIn(in.Config, "storage") != "file":
		return errors.New("its messages are not in files")
	case textIn(in.Config, "retention") != "limits":
		return errors.New("its retention is not by limits")
	case in.Config["mirror"] != nil || in.Config["sources"] != nil:
		return errors.New("its messages come from other streams")
	case sealed || denied:
		return errors.New("it does not allow to purge it")
	}
	return nil
}

// config returns what of a stream's configuration is ours.
func (p *plan) config(d description) map[string]any {
	c := map[string]any{
		"name": p.name, "description": d.String(), "subjects": []string{p.prefix + "*"},
		"storage": "file", "retention": "limits", "discard": "old", "allow_direct": true, "no_ack": false, "max_msg_size": -1,
		"max_msgs_per_subject": p.limit, "max_age": p.maxAge.Nanoseconds(), "duplicate_window": duplicateWindow.Nanoseconds(),
		"max_bytes": p.maxBytes, "max_msgs": max(p.maxBytes/messageBytes, int64(p.limit)),
	}
	if p.replicas > 0 {
		c["num_replicas"] = p.replicas
	}
	if p.live {
		head, _, _ := strings.Cut(p.prefix, ".")
		c["republish"] = map[string]any{"src": p.prefix + "*", "dest": head + ".ch.{{wildcard(1)}}"}
	}
	var same map[string]any // as it looks when it was decoded
	b, _ := json.Marshal(c) // ignored, as the next one: what is encoded here can be decoded
	d2 := json.NewDecoder(strings.NewReader(string(b)))
	d2.UseNumber()
	_ = d2.Decode(&same)
	return same
}

// changes reports whether an existing stream is not as it should be.
func (p *plan) changes() bool {
	return p.described().raised == raising || len(p.differs(p.existing, p.described())) > 0
}

// described returns the description of an existing stream.
func (p *plan) described() description {
	d, _ := parseDescription(textIn(p.existing.Config, "description")) // ignored: mine has read it
	return d
}

// raises reports whether an existing stream's limit will be raised.
func (p *plan) raises() bool {
	limit := numberIn(p.existing.Config, "max_msgs_per_subject")
	return limit > 0 && int64(p.limit) > limit
}

// open creates a stream, or changes what is not as it should be.
func (o *opening) open(ctx context.Context, p *plan) error {
	if p.existing == nil {
		c := p.config(description{})
		if p.replicas == 0 {
			c["num_replicas"] = 1
			if o.l.reads.ConnectedClusterName() != "" {
				c["num_replicas"] = 3
			}
		}
		if err := o.l.api(ctx, "STREAM.CREATE."+p.name, c, new(info)); err != nil {
			return err
		}
		// Where nodes create it at the same moment, the answers of a cluster differ in when that was.
		in, err := o.info(ctx, p.name, true)
		if err != nil {
			return err
		}
		p.current.Store(uint64(in.state(p.generation()).epoch))
		return nil
	}
	d := p.described()
	if p.raises() {
		d.raised = raising
	}
	if changes := p.differs(p.existing, p.described()); len(changes) > 0 && strings.HasSuffix(p.id, "_0") { // its other shards change as well
		o.c.log.Info("the configuration of streams changes: all gateways should have the same settings", "stream", p.name, "changes", p.said(changes))
	}
	in, err := o.update(ctx, p, p.existing, d)
	if err == nil && d.raised == raising {
		// What the lower limit has dropped lies below what is stored now.
		if in, err = o.info(ctx, p.name, true); err == nil {
			d.raised = in.State.Last
			in, err = o.update(ctx, p, in, d)
		}
	}
	if err != nil {
		return err
	}
	p.current.Store(uint64(in.state(p.generation()).epoch))
	return nil
}

// info asks for a stream. While it is made by this node or another one, it has no leader yet, and nobody
// answers: it is asked for again soon. made is whether the stream is there: a server that says no has not
// made its part yet.
func (o *opening) info(ctx context.Context, name string, made bool) (*info, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	for {
		soon, cancel := context.WithTimeout(ctx, openAgain)
		in, err := o.l.info(soon, name)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, errAway) || errors.Is(err, errNoJetStream) || hasCode(err, codeNoStream) && !made {
			return in, err
		}
		if err := pause(ctx, shortAgain); err != nil {
			return nil, err
		}
	}
}

// differs returns what of a stream's configuration is not as it should be.
func (p *plan) differs(in *info, d description) map[string]any {
	c := p.config(d)
	for key, value := range c {
		if reflect.DeepEqual(in.Config[key], value) || in.Config[key] == nil && (value == false || value == json.Number("0")) {
			delete(c, key)
		}
	}
	return c
}

// said returns what changes in a stream's configuration, in words.
func (p *plan) said(changes map[string]any) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(changes)) {
		all = append(all, fmt.Sprintf("%s from %v to %v", key, p.existing.Config[key], changes[key]))
	}
	return strings.Join(all, ", ")
}

// update brings a stream to its configuration, and leaves what is not ours of that. It asks nothing if
// nothing changes.
func (o *opening) update(ctx context.Context, p *plan, in *info, d description) (*info, error) {
	changes := p.differs(in, d)
	if len(changes) == 0 {
		return in, nil
	}
	maps.Copy(in.Config, changes)
	updated := new(info)
	if err := o.l.api(ctx, "STREAM.UPDATE."+p.name, in.Config, updated); err != nil {
		return nil, err
	}
	return updated, nil
}

// unused returns the streams of this process's own store whose namespaces are not durable any more. They
// empty with age, and those that are empty it removes. If they are used again, their epoch is another one.
func (o *opening) unused(ctx context.Context) (left []*info, err error) {
	if !o.c.embedded {
		return nil, nil // other nodes may have other settings
	}
	names, err := o.l.names(ctx, o.c.prefix+".in.>")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if slices.ContainsFunc(o.plans, func(p *plan) bool { return p.name == name }) {
			continue
		}
		in, err := o.l.info(ctx, name)
		if err == nil && in.State.Messages > 0 {
			left = append(left, in)
			continue
		}
		if err == nil {
			err = o.l.api(ctx, "STREAM.DELETE."+name, nil, nil)
		}
		if err != nil {
			return nil, err
		}
	}
	return left, nil
}

// names returns the names of streams with subjects that overlap one.
func (l *link) names(ctx context.Context, subject string) (all []string, err error) {
	for {
		var page struct {
			Total   int      `json:"total"`
			Streams []string `json:"streams"`
		}
		if err := l.api(ctx, "STREAM.NAMES", map[string]any{"subject": subject, "offset": len(all)}, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Streams...)
		if len(page.Streams) == 0 || len(all) >= page.Total {
			return all, nil
		}
	}
}

// unusable describes an existing stream that is none of ours.
func (o *opening) unusable(p *plan, err error) error {
	return setting.Error(fmt.Sprintf("stream %s cannot be used: %s: remove it, or choose another {NATSPrefix}", p.name, setting.Literal(err.Error())))
}

// fault turns the servers' error into one that says what to do. What a server refuses is tried again: two nodes
// that make a stream at the same time are refused in more ways than one.
func (o *opening) fault(p *plan, err error) error {
	var refused *apiError
	var why string
	tries := openTries
	switch {
	case hasCode(err, codeNotEnabled, codeNotForAccount) || errors.Is(err, errNoJetStream):
		return again{setting.Error("the servers of {NATSURL} have no JetStream, or not for this account: enable it, or let no namespace keep a durable history"), openTries}
	case hasCode(err, codeNoStream) || !errors.As(err, &refused):
		err = fmt.Errorf("stream %s: %w", p.name, err)
		if errors.Is(err, errAway) && !hasCode(err, codeNoStream) {
			return err
		}
		return again{err, openTries}
	case hasCode(err, codeSubjectsOverlap):
		why = fmt.Sprintf("another stream has its subjects (%s*): remove that one, or choose another {NATSPrefix}", p.prefix)
	case hasCode(err, codeNoStorage):
		why = fmt.Sprintf("JetStream has no room for %s more: lower {DataMax}, or raise max_file_store of the servers", setting.FormatSize(int(p.maxBytes)))
	case hasCode(err, codeNoPeers, codeInsufficient):
		tries, why = peersTries, setting.Literal(refused.Error())+": the cluster needs as many servers with JetStream as {NATSReplicas}"
	case errors.Is(err, errAway): // there is no leader
		return fmt.Errorf("stream %s: %w", p.name, err)
	default:
		why = setting.Literal(refused.Error()) + ": change the setting, remove the stream, or choose another {NATSPrefix}"
	}
	return again{setting.Error(fmt.Sprintf("stream %s cannot be made or changed: %s", p.name, why)), tries}
}
