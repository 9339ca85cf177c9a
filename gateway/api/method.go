package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"

	"sluice/gateway/channel"
)

// method is a method of the API that may also be a batch's command.
type method struct {
	name string
	// decode reads a request; at is its place in the body.
	decode func(body []byte, at string) (call, *Error)
}

// call checks a decoded request and carries it out.
type call func(context.Context, *Handler) (any, error)

// define returns the method called name that do carries out. R is the type of its requests.
func define[R any, P interface {
	*R
	check() error
}](name string, do func(*Handler, context.Context, P) (any, error)) method {
	return method{name, func(body []byte, at string) (call, *Error) {
		r := P(new(R))
		if err := decode(body, r, at); err != nil {
			return nil, err
		}
		return func(ctx context.Context, h *Handler) (any, error) {
			if over(ctx) {
				return nil, errOver
			}
			if err := r.check(); err != nil {
				return nil, err
			}
			return do(h, ctx, r)
		}, nil
	}}
}

// action makes what acts on connections a method's.
func action[P any](do func(Node, context.Context, P) (ActionResult, error)) func(*Handler, context.Context, P) (any, error) {
	return func(h *Handler, ctx context.Context, r P) (any, error) { return do(h.node, ctx, r) }
}

// methods are all methods but batch, which has another form of answer.
var methods = []method{
	define("publish", func(h *Handler, ctx context.Context, r *PublishRequest) (any, error) { return h.publishOnce(ctx, r) }),
	define("broadcast", (*Handler).broadcast),
	define("subscribe", action(Node.Subscribe)),
	define("unsubscribe", action(Node.Unsubscribe)),
	define("disconnect", action(Node.Disconnect)),
	define("refresh", action(Node.Refresh)),
	define("presence", (*Handler).presence),
	define("presence_stats", func(h *Handler, ctx context.Context, r *ChannelRequest) (any, error) {
		return h.node.PresenceStats(ctx, r.Channel)
	}),
	define("history", (*Handler).history),
	define("history_remove", func(h *Handler, ctx context.Context, r *ChannelRequest) (any, error) {
		return Empty{}, h.node.HistoryRemove(ctx, r.Channel)
	}),
	define("channels", func(h *Handler, ctx context.Context, r *ChannelsRequest) (any, error) {
		result, err := h.node.Channels(ctx, r.Pattern)
		if result.Channels == nil {
			result.Channels = map[string]ChannelInfo{} // not null
		}
		return result, err
	}),
	define("channel_stats", func(h *Handler, ctx context.Context, r *ChannelStatsRequest) (any, error) {
		result, err := h.node.ChannelStats(ctx, r)
		if result.Channels == nil {
			result.Channels = []ChannelStats{} // not null
		}
		return result, err
	}),
	define("info", func(h *Handler, ctx context.Context, _ *InfoRequest) (any, error) {
		result, err := h.node.Info(ctx)
		if result.Nodes == nil {
			result.Nodes = []NodeInfo{} // not null
		}
		return result, err
	}),
}

// find returns the method of that name, or nil if there is none.
func find(name string) *method {
	for i := range methods {
		if methods[i].name == name {
			return &methods[i]
		}
	}
	return nil
}

// publishOnce publishes, unless a request with the same idempotency key has done so.
func (h *Handler) publishOnce(ctx context.Context, r *PublishRequest) (PublishResult, error) {
	switch {
	case r.IdempotencyKey == "":
		return h.node.Publish(ctx, r)
	case h.window == nil:
		return PublishResult{}, ErrNotAvailable.With("idempotency_key is not supported: this server does not store idempotency keys")
	}
	d := digestOf(r.Channel, r.IdempotencyKey)
	r.ID = d.id()
	return h.window.do(ctx, d, h.opt.Now, func() (PublishResult, error) { return h.node.Publish(ctx, r) })
}

// atOnce is how many of one request's publications, or of a parallel batch's commands, are done at
// the same time: a channel that pushes back must not hold up all others.
const atOnce = 16

func (h *Handler) broadcast(ctx context.Context, r *BroadcastRequest) (any, error) {
	responses := make([]PublishResponse, len(r.Channels))
	each(len(r.Channels), atOnce, func(i int) {
		switch {
		case over(ctx):
			responses[i].Error = errOver
			return
		case r.Channels[i] == "":
			responses[i].Error = badRequest("channels[%d] is empty", i)
			return
		}
		result, err := h.publishOnce(ctx, &PublishRequest{
			Channel: r.Channels[i], Data: r.Data, B64Data: r.B64Data, Payload: r.payload, Binary: r.binary,
			Tags: r.Tags, SkipHistory: r.SkipHistory, IdempotencyKey: r.IdempotencyKey,
		})
		if err != nil {
			responses[i].Error = h.shown(ctx, "broadcast", err)
			return
		}
		responses[i].Result = &result
	})
	return BroadcastResult{responses}, nil
}

func (h *Handler) presence(ctx context.Context, r *ChannelRequest) (any, error) {
	all, err := h.node.Presence(ctx, r.Channel)
	result := PresenceResult{make(map[string]channel.ClientInfo, len(all.Presence)), all.Partial}
	for id, info := range all.Presence {
		h.tidy("presence", &info)
		result.Presence[id] = info
	}
	return result, err
}

func (h *Handler) history(ctx context.Context, r *HistoryRequest) (any, error) {
	result, err := h.node.History(ctx, r)
	publications := make([]Publication, len(result.Publications)) // the node's stay as they are
	for i, p := range result.Publications {
		if p.B64Data == nil && !isJSON(p.Data) {
			p.B64Data = p.Data
		}
		if p.B64Data != nil {
			p.Data = nil
		}
		if p.Info != nil {
			info := *p.Info
			h.tidy("history", &info)
			p.Info = &info
		}
		publications[i] = p
	}
	result.Publications = publications
	return result, err
}

// tidy removes what would break the answer.
func (h *Handler) tidy(method string, info *channel.ClientInfo) {
	for _, raw := range []*json.RawMessage{&info.ConnInfo, &info.ChanInfo} {
		if len(*raw) > 0 && !isJSON(*raw) {
			h.opt.OnError(method, errors.New("info of client "+info.Client+" is not JSON: "+shorten(base64.StdEncoding.EncodeToString(*raw))))
			*raw = nil
		}
	}
}

// each calls f for 0 to n-1, at most so many at a time; with a limit of one, in order. A panic in
// f becomes one of the caller, which is a server's handler.
func each(n, most int, f func(i int)) {
	if most = min(most, n); most <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var (
		next     atomic.Int64
		panicked atomic.Pointer[any]
		workers  sync.WaitGroup
	)
	for range most {
		workers.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					panicked.Store(&p)
				}
			}()
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	workers.Wait()
	if p := panicked.Load(); p != nil {
		panic(*p)
	}
}
