package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/event"
	"sluice/gateway/event/cluster"
	"sluice/gateway/event/stream"
	"sluice/gateway/event/webhook"
	"sluice/gateway/hook/proxy"
	"sluice/gateway/loop"
	"sluice/gateway/ops"
)

// EventOptions are what a receiver of events gets. Two that are equal mean the same.
type EventOptions struct {
	Types    event.Types   // 0 for event.Levels: occupied and vacated
	Channels string        // patterns, separated by commas, in which * stands for any run of bytes; "" for all channels
	Queue    int           // bytes of what may wait for the receiver; 0 for 64 MiB
	Digest   time.Duration // how often it is sent a list of all occupied channels; 0 for never
}

// Webhook is an HTTP endpoint that is notified of events (package event/webhook). Two that are equal mean the same.
type Webhook struct {
	URL string
	// Secrets sign what is sent, each of them: whsec_..., separated by white space. Without one nothing is signed.
	Secrets string
	EventOptions
}

// EventReceiver is notified of events in this process: To may be an event.Func.
type EventReceiver struct {
	Name string // in the log and in metrics; each has another one
	EventOptions
	To event.Receiver
}

// options returns the options of a receiver with a name.
func (o *EventOptions) options(name string) event.Options {
	of := event.Options{Name: name, Bytes: o.Queue, Digest: o.Digest, Filter: event.Filter{Types: o.Types}}
	for p := range strings.SplitSeq(o.Channels, ",") {
		if p != "" {
			of.Channels = append(of.Channels, p)
		}
	}
	return of
}

// secrets returns the secrets.
func (w *Webhook) secrets() (list []webhook.Secret, err error) {
	for text := range strings.FieldsSeq(w.Secrets) {
		s, err := webhook.ParseSecret(text)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// webhookNames returns what webhooks are called in the log and in metrics: their URLs without what is secret.
func webhookNames(list []Webhook) (names []string) {
	seen := make(map[string]int)
	for i := range list {
		name := "" // of one that Validate refuses
		if u, err := url.Parse(list[i].URL); err == nil {
			name = proxy.Redacted(u)
		}
		if seen[name]++; seen[name] > 1 {
			name = fmt.Sprintf("%s (%d)", name, seen[name])
		}
		names = append(names, name)
	}
	return names
}

// validateEvents checks the receivers of events.
func (c *Config) validateEvents(faults *Faults) {
	names := webhookNames(c.Webhooks)
	urls := make(map[string]bool)
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		if err := proxy.CheckEndpoint(w.URL); err != nil {
			faults.Add("Webhooks", names[i], ": "+err.Error(), "")
			continue
		}
		if urls[w.URL] {
			faults.Add("Webhooks", names[i], "is listed twice, and would be sent everything twice", "remove one")
		}
		urls[w.URL] = true
		if _, err := w.secrets(); err != nil {
			faults.Add("Webhooks", names[i], ": its secret is not one: "+err.Error(), "")
		}
		w.validate("Webhooks", names[i], faults)
	}
	for i := range c.Events {
		r := &c.Events[i]
		if r.Name == "" || urls[r.Name] {
			faults.Add("Events", r.Name, "has no name, or that of another receiver", "give each a name of its own")
		}
		urls[r.Name] = true
		if r.To == nil {
			faults.Add("Events", r.Name, "has no receiver", "set To, for example to an event.Func")
		}
		r.validate("Events", r.Name, faults)
	}
}

func (o *EventOptions) validate(field, name string, faults *Faults) {
	if o.Types&^event.All != 0 {
		faults.Add(field, name, "selects events that do not exist", "use event.ParseTypes")
	}
	if o.Queue < 0 || o.Digest < 0 {
		faults.Add(field, name, "has a negative queue or digest", "use 0 for the default")
	}
}

// canceled is a context that has ended.
var canceled = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// events is what the server notifies an application of. Its methods are safe for concurrent use.
type events struct {
	server  *Server        // set at construction
	sends   atomic.Bool    // there are receivers
	ticking sync.WaitGroup // see tick

	mu sync.Mutex
	// Guarded by mu.
	notifier  *event.Notifier // nil until somebody wants events
	receivers []*receiver
	cluster   *cluster.Cluster // nil for a node that counts alone
	stop      func()           // ends ticking; nil before it has begun
	added     bool             // the receivers of the Config were added
	over      bool             // no events are sent any more
	paused    bool             // save was called, and nothing is sent
	settle    func()           // to be called when the server serves, which has taken over; nil for nothing
}

// receiver is one that was added.
type receiver struct {
	name  string
	of    Webhook // the zero one for an EventReceiver
	queue *event.Queue
	close func()
}

// configured reports whether somebody is to be notified from the beginning.
func (e *events) configured() bool { return len(e.server.cfg.Webhooks)+len(e.server.cfg.Events) > 0 }

// begin makes the notifier, before there are loops, if there are receivers. A process that takes over from another one has
// what waits for them first (load).
func (e *events) begin() loop.Observer {
	if !e.configured() {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.make()
	if e.server.cfg.Inherited == nil {
		e.add()
		e.tick()
	}
	return observer{e.notifier}
}

// make makes the notifier. The caller holds mu.
func (e *events) make() {
	s := e.server
	cfg := event.Config{Node: s.engine.Name, VacatedDelay: s.cfg.VacatedDelay, Log: s.cfg.Logger}
	e.sends.Store(e.configured())
	if n := e.neighbors(); n != nil {
		e.cluster = cluster.New(cluster.Config{Self: s.engine.ID, Sends: e.configured(), Bus: bus{n}, Log: s.cfg.Logger})
		cfg.Shared, cfg.Changes = true, e.cluster.Changes
	} else {
		cfg.NodeScope = e.shared()
	}
	e.notifier = event.New(cfg)
	if e.cluster != nil {
		e.cluster.Attach(e.notifier)
	}
	o := observer{e.notifier}
	publish := o.published
	s.publisher.Observe.Store(&publish)
}

// wanted returns the notifier, which counts subscribers from now on if nobody wanted that before. It is nil once the server
// shuts down, or another process has what it had.
func (e *events) wanted() *event.Notifier {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return nil
	}
	if e.notifier == nil {
		e.make()
		e.server.set.Observe(observer{e.notifier})
		e.tick()
	}
	return e.notifier
}

// add adds the receivers of the Config, once. The caller holds mu.
func (e *events) add() {
	if e.added || e.over {
		return
	}
	e.added = true
	cfg := &e.server.cfg
	names := webhookNames(cfg.Webhooks)
	for i := range cfg.Webhooks {
		e.addWebhook(names[i], cfg.Webhooks[i])
	}
	for i := range cfg.Events {
		r := &cfg.Events[i]
		e.receivers = append(e.receivers, &receiver{name: r.Name, queue: e.notifier.Add(r.options(r.Name), r.To), close: func() {}})
	}
	there := make(chan struct{})
	e.notifier.Here(0, func([]string) { close(there) })
	<-there // what happens from now on they are notified of
}

// addWebhook adds one, which was validated. The caller holds mu.
func (e *events) addWebhook(name string, w Webhook) {
	secrets, err := w.secrets()
	var to *webhook.Webhook
	if err == nil {
		to, err = webhook.New(webhook.Config{URL: w.URL, Secrets: secrets, UserAgent: userAgent(e.server.cfg.Version)})
	}
	if err != nil {
		e.server.cfg.Logger.Error("a webhook cannot be called", "webhook", name, "error", err) // Validate has accepted it
		return
	}
	e.receivers = append(e.receivers, &receiver{name: name, of: w, queue: e.notifier.Add(w.options(name), to), close: to.Close})
}

// userAgent returns what the gateway calls itself when it calls others.
func userAgent(version string) string {
	if version == "" {
		return "sluice"
	}
	return "sluice/" + version
}

// setWebhooks replaces the webhooks, which are valid. One that stays as it was keeps what waits for it. For a reload.
func (e *events) setWebhooks(list []Webhook) {
	if len(list) > 0 && e.wanted() == nil {
		return
	}
	e.mu.Lock()
	var gone []*receiver
	var stay []*receiver
	names := webhookNames(list)
	there := make(map[Webhook]bool)
	for _, r := range e.receivers {
		there[r.of] = true
		stays := r.of == Webhook{}
		for i := range list {
			stays = stays || list[i] == r.of && names[i] == r.name
		}
		if stays {
			stay = append(stay, r)
		} else {
			gone = append(gone, r)
			there[r.of] = false
		}
	}
	e.receivers, e.added = stay, true
	notifier := e.notifier
	e.sends.Store(len(list)+len(e.server.cfg.Events) > 0)
	if e.cluster != nil {
		e.cluster.Sends(e.sends.Load())
	}
	e.mu.Unlock()
	for _, r := range gone { // it waits for attempts to end
		notifier.Remove(r.queue)
		r.close()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range list {
		if !there[list[i]] && !e.over {
			e.addWebhook(names[i], list[i])
		}
	}
}

// hold is called before all clients are told to come back: on another node, or soon.
func (e *events) hold() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.notifier != nil {
		e.notifier.Hold()
	}
	if e.cluster != nil && !e.over {
		e.cluster.Drain()
	}
}

// close sends what waits, until ctx ends.
func (e *events) close(ctx context.Context) {
	e.mu.Lock()
	over, notifier, receivers, c := e.over, e.notifier, e.receivers, e.cluster
	e.mu.Unlock()
	if over || notifier == nil {
		e.end()
		return
	}
	if c != nil {
		handOver(ctx, c)
	}
	e.end()
	if err := notifier.Close(ctx); err != nil {
		for _, err := range err.(interface{ Unwrap() []error }).Unwrap() { // one for each receiver
			if left, ok := errors.AsType[*event.Unsent](err); ok {
				e.server.cfg.Logger.Error("events were not sent", "receiver", left.Receiver, "events", left.Events)
			}
		}
	}
	for _, r := range receivers {
		r.close()
	}
}

// end notes that no events are sent any more.
func (e *events) end() {
	e.mu.Lock()
	e.over = true
	if e.stop != nil {
		e.stop()
	}
	e.mu.Unlock()
	e.ticking.Wait()
}

// ServeHTTP serves events as SSE.
func (e *events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := e.wanted()
	if n == nil {
		http.Error(w, "the gateway is shutting down", http.StatusServiceUnavailable)
		return
	}
	stream.Handler(n).ServeHTTP(w, r)
}

// snapshot returns what the metrics say of the receivers.
func (e *events) snapshot() (list []ops.Webhook) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.receivers {
		x := r.queue.Stats()
		list = append(list, ops.Webhook{
			Name: r.name, Events: x.Events, Bytes: x.Bytes, Oldest: x.Oldest.Seconds(), Delivered: x.Delivered, Attempts: x.Attempts, Failures: x.Failures,
			Collapsed: x.Collapsed, Dropped: x.Dropped, Resets: x.Resets, Digests: x.Digests, Gone: x.Gone,
		})
	}
	return list
}

// observer brings what happens on loops, and to channels, to a notifier.
type observer struct{ *event.Notifier }

// eventSharing is where a panic ends the process: in what loops have in common.
var eventSharing = reflect.TypeFor[event.Notifier]().PkgPath() + "."

// edgeTypes are the types of edges.
var edgeTypes = [...]event.Type{
	loop.EdgeConnected: event.Connected, loop.EdgeDisconnected: event.Disconnected, loop.EdgeSubscribed: event.Subscribed,
	loop.EdgeUnsubscribed: event.Unsubscribed, loop.EdgePublished: event.Publication, loop.EdgeCacheEmpty: event.CacheEmpty,
}

// Wants implements loop.Observer.
func (o observer) Wants(k loop.EdgeKind) bool { return o.Notifier.Wants(edgeTypes[k]) }

// Happened implements loop.Observer.
func (o observer) Happened(e *loop.Edge) {
	of := event.Event{Type: edgeTypes[e.Kind], Channel: e.Channel, User: e.User, Transport: e.Transport, Code: e.Code, Reason: e.Text, Bytes: e.Payload}
	if e.Receipt.Offset > 0 {
		of.Offset, of.HistoryEpoch = e.Receipt.Offset, e.Receipt.Epoch.String()
	}
	o.EmitOf(e.Client, of)
}

// published is called with what is published other than by clients on loops.
func (o observer) published(name string, payload []byte, r channel.Receipt) {
	if !o.Notifier.Wants(event.Publication) {
		return
	}
	o.Happened(&loop.Edge{Kind: loop.EdgePublished, Channel: name, Payload: payload, Receipt: r})
}
