package api

import (
	"context"
	"encoding/json"

	"sluice/gateway/channel"
)

// Node carries out the API's requests. Its methods may be called from several goroutines at
// once. Requests have been checked: required fields are there. A Node may read a request and the
// bytes in it until it returns, but must not change them: the calls of one broadcast share
// them. It returns an *Error, which may be wrapped; the caller sees any other error as an
// internal server error, and Options.OnError is called with it.
//
// A request with a user is for that user's connections. With a client ID it is for that
// connection alone. The user "" stands for anonymous connections. It is not an error if no
// connection matches.
//
// A request is for all nodes. A result is partial if one of them did not answer in time.
type Node interface {
	// Publish publishes to a channel. It returns ErrInternal.Later if the channel has
	// no room or there is no answer in time, and ErrTooManyRequests if the channel's rate is
	// exceeded.
	Publish(context.Context, *PublishRequest) (PublishResult, error)
	// Subscribe subscribes connections to a channel, as if they had asked.
	Subscribe(context.Context, *SubscribeRequest) (ActionResult, error)
	// Unsubscribe ends subscriptions to one channel, or to all if Channel is "".
	Unsubscribe(context.Context, *UnsubscribeRequest) (ActionResult, error)
	// Disconnect closes connections.
	Disconnect(context.Context, *DisconnectRequest) (ActionResult, error)
	// Refresh changes when connections expire: never, if neither Expired nor ExpireAt
	// is set.
	Refresh(context.Context, *RefreshRequest) (ActionResult, error)
	// Presence returns the clients subscribed to a channel, by client ID.
	Presence(ctx context.Context, name string) (PresenceResult, error)
	// PresenceStats returns how many clients, and how many different users, are subscribed to a channel.
	PresenceStats(ctx context.Context, channel string) (PresenceStatsResult, error)
	// History returns publications from a channel's history.
	History(context.Context, *HistoryRequest) (HistoryResult, error)
	// HistoryRemove removes a channel's history. Its epoch and offset stay.
	HistoryRemove(ctx context.Context, channel string) error
	// Channels returns the channels that have subscribers and whose name matches the pattern; ""
	// matches all.
	Channels(ctx context.Context, pattern string) (ChannelsResult, error)
	// ChannelStats returns the busiest channels, or one of them by name.
	ChannelStats(context.Context, *ChannelStatsRequest) (ChannelStatsResult, error)
	// Info returns a description of each node.
	Info(context.Context) (InfoResult, error)
}

// PublishRequest publishes to a channel.
type PublishRequest struct {
	Channel string          `json:"channel"`
	Data    json.RawMessage `json:"data,omitempty"`    // JSON, unchanged
	B64Data string          `json:"b64data,omitempty"` // or bytes in base64, which take precedence over Data

	Tags           map[string]string `json:"tags,omitempty"`
	SkipHistory    bool              `json:"skip_history,omitempty"`
	IdempotencyKey string            `json:"idempotency_key,omitempty"` // the Handler applies it

	Version uint64 `json:"version,omitempty"` // refused

	// Set by the Handler: the bytes to publish, from Data or B64Data, and whether they
	// are binary rather than JSON. Text is UTF-8.
	Payload []byte `json:"-"`
	Binary  bool   `json:"-"`
	// ID is the message's, from Channel and IdempotencyKey; "" without a key. A Node that cannot say
	// whether an earlier call has published the message does not publish it again.
	ID string `json:"-"`
}

// PublishResult is a publication's position in its channel ("" and 0 if it has none), and how
// many subscribers this node had.
type PublishResult struct {
	Offset      uint64 `json:"offset"`
	Epoch       string `json:"epoch"`
	Subscribers int    `json:"subscribers"`
}

// BroadcastRequest publishes the same message to several channels. A Node does not see it:
// its Publish is called for each channel.
type BroadcastRequest struct {
	Channels       []string          `json:"channels"`
	Data           json.RawMessage   `json:"data,omitempty"`
	B64Data        string            `json:"b64data,omitempty"`
	Tags           map[string]string `json:"tags,omitempty"`
	SkipHistory    bool              `json:"skip_history,omitempty"`
	IdempotencyKey string            `json:"idempotency_key,omitempty"` // applies to each channel
	Version        uint64            `json:"version,omitempty"`         // refused

	payload []byte
	binary  bool
}

// BroadcastResult holds a response for each channel, in order.
type BroadcastResult struct {
	Responses []PublishResponse `json:"responses"`
}

// PublishResponse is a broadcast's result or error for one channel.
type PublishResponse struct {
	Result *PublishResult `json:"result,omitempty"`
	Error  *Error         `json:"error,omitempty"`
}

// StreamPosition is a position in a channel: an offset within an epoch.
type StreamPosition struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch"`
}

// SubscribeRequest subscribes a user's connections to a channel.
type SubscribeRequest struct {
	User         string          `json:"user,omitempty"`
	Channel      string          `json:"channel"`
	Client       string          `json:"client,omitempty"`
	Info         json.RawMessage `json:"info,omitempty"`      // shown in presence and joins
	Data         json.RawMessage `json:"data,omitempty"`      // sent to the client with the subscription
	ExpireAt     int64           `json:"expire_at,omitempty"` // Unix seconds, 0 for never
	RecoverSince *StreamPosition `json:"recover_since,omitempty"`

	// Refused.
	Session     string          `json:"session,omitempty"`
	LabelFilter json.RawMessage `json:"label_filter,omitempty"`
	Override    json.RawMessage `json:"override,omitempty"`
	B64Info     string          `json:"b64info,omitempty"`
	B64Data     string          `json:"b64data,omitempty"`
}

// UnsubscribeRequest ends a user's subscriptions.
type UnsubscribeRequest struct {
	User    string `json:"user,omitempty"`
	Channel string `json:"channel,omitempty"` // "" for all
	Client  string `json:"client,omitempty"`

	// Refused.
	Session     string          `json:"session,omitempty"`
	LabelFilter json.RawMessage `json:"label_filter,omitempty"`
}

// DisconnectRequest closes a user's connections.
type DisconnectRequest struct {
	User       string      `json:"user,omitempty"`
	Client     string      `json:"client,omitempty"`
	Whitelist  []string    `json:"whitelist,omitempty"`  // client IDs to leave connected
	Disconnect *Disconnect `json:"disconnect,omitempty"` // nil for the gateway's default

	// Refused.
	Session     string          `json:"session,omitempty"`
	LabelFilter json.RawMessage `json:"label_filter,omitempty"`
}

// Disconnect is the close that a client receives: a WebSocket close code for applications, 3000
// to 4999 (RFC 6455 section 7.4.2), and a reason of at most 123 bytes.
type Disconnect struct {
	Code   uint32 `json:"code"`
	Reason string `json:"reason"`
}

// RefreshRequest changes when a user's connections expire.
type RefreshRequest struct {
	User     string          `json:"user,omitempty"`
	Client   string          `json:"client,omitempty"`
	Expired  bool            `json:"expired,omitempty"`   // now
	ExpireAt int64           `json:"expire_at,omitempty"` // Unix seconds, 0 for never
	Info     json.RawMessage `json:"info,omitempty"`      // replaces the connection's

	// Refused.
	Session     string          `json:"session,omitempty"`
	LabelFilter json.RawMessage `json:"label_filter,omitempty"`
}

// ChannelRequest is the request of methods that need only a channel.
type ChannelRequest struct {
	Channel string `json:"channel"`
}

// PresenceResult holds the clients that are subscribed, by client ID. Infos that are not JSON are
// left out, here and in a history, and Options.OnError is called.
type PresenceResult struct {
	Presence map[string]channel.ClientInfo `json:"presence"`
	Partial  bool                          `json:"partial,omitempty"`
}

// PresenceStatsResult holds how many clients and users are subscribed.
type PresenceStatsResult struct {
	NumClients int `json:"num_clients"`
	NumUsers   int `json:"num_users"` // different ones

	Partial bool `json:"partial,omitempty"`
}

// HistoryRequest asks for publications from a channel's history.
type HistoryRequest struct {
	Channel string          `json:"channel"`
	Limit   int             `json:"limit,omitempty"` // 0: no publications, only the position; negative: all
	Since   *StreamPosition `json:"since,omitempty"` // only publications after (with Reverse: before) it
	Reverse bool            `json:"reverse,omitempty"`
}

// HistoryResult holds a part of a channel's history, and the position of its newest publication.
type HistoryResult struct {
	Publications []Publication `json:"publications"`
	Epoch        string        `json:"epoch"`
	Offset       uint64        `json:"offset"`
}

// Publication is a publication from a channel's history. A Node returns JSON in Data and other
// bytes in B64Data; what is in Data but is not JSON is sent as b64data.
type Publication struct {
	Offset  uint64              `json:"offset"`
	Prev    uint64              `json:"prev"` // offset of the publication before it in the channel, 0 for the first
	Data    json.RawMessage     `json:"data"`
	B64Data []byte              `json:"b64data,omitempty"`
	Info    *channel.ClientInfo `json:"info,omitempty"`
	Tags    map[string]string   `json:"tags,omitempty"`
}

// ChannelsRequest asks for the channels that have subscribers.
type ChannelsRequest struct {
	Pattern string `json:"pattern,omitempty"`
}

// ChannelsResult holds the channels, by name.
type ChannelsResult struct {
	Channels map[string]ChannelInfo `json:"channels"`
	Partial  bool                   `json:"partial,omitempty"`
}

// ChannelInfo describes one channel.
type ChannelInfo struct {
	NumClients int `json:"num_clients"`
}

// ChannelStatsRequest asks for the busiest channels.
type ChannelStatsRequest struct {
	Channel string `json:"channel,omitempty"` // only this one
	Sort    string `json:"sort,omitempty"`    // rate, which is the default, or clients
	Limit   int    `json:"limit,omitempty"`   // 0: 20
}

// ChannelStatsResult holds the busiest channels, the busiest first; none for the name of a channel
// that does not exist.
type ChannelStatsResult struct {
	NumChannels int            `json:"num_channels"` // with subscribers or a history, of the node that has most of them
	Channels    []ChannelStats `json:"channels"`
	Partial     bool           `json:"partial,omitempty"`
}

// ChannelStats is how busy a channel is: its subscribers on all nodes where it is among the busiest,
// and its publications per second over the last ten seconds or so.
type ChannelStats struct {
	Channel    string  `json:"channel"`
	NumClients int     `json:"num_clients"`
	Rate       float64 `json:"publications_per_second"`
}

// InfoRequest asks for the nodes.
type InfoRequest struct{}

// InfoResult holds the nodes.
type InfoResult struct {
	Nodes   []NodeInfo  `json:"nodes"`
	Partial bool        `json:"partial,omitempty"` // there may be more of them
	Engine  *EngineInfo `json:"engine,omitempty"`  // nil for a node without store and servers
}

// EngineInfo is how this node's engine is doing. Counters begin with the process.
type EngineInfo struct {
	Up           bool              `json:"up"`
	Parts        map[string]bool   `json:"parts"`         // up: connection, store, subscriptions
	Away         float64           `json:"away"`          // seconds since all parts were up
	AwayTotal    float64           `json:"away_total"`    // sum of those times
	Pending      int               `json:"pending"`       // publications that are not answered
	PendingBytes int               `json:"pending_bytes"` // their payloads
	Lag          float64           `json:"lag"`           // age of the oldest of them, in seconds
	Waiting      int               `json:"waiting"`       // messages that have arrived, and are not yet in their channels
	Stored       uint64            `json:"stored"`        // publications
	CaughtUp     uint64            `json:"caught_up"`     // channels that were filled from the store
	Resubscribed uint64            `json:"resubscribed"`  // channels
	Gaps         map[string]uint64 `json:"gaps"`          // of channels, by cause
	Unanswered   uint64            `json:"unanswered"`    // questions to other nodes
}

// NodeInfo describes one node.
type NodeInfo struct {
	UID         string   `json:"uid"`
	Name        string   `json:"name"`
	Version     string   `json:"version"`
	NumClients  int      `json:"num_clients"`
	NumUsers    int      `json:"num_users"`
	NumSubs     int      `json:"num_subs"`
	NumChannels int      `json:"num_channels"`       // with subscribers
	Uptime      int      `json:"uptime"`             // seconds
	Away        bool     `json:"away,omitempty"`     // its engine is, at least in part
	Draining    bool     `json:"draining,omitempty"` // it shuts down
	Silent      int      `json:"silent,omitempty"`   // seconds for which it has not been heard: it may have ended
	Process     *Process `json:"process,omitempty"`
}

// Process is what a node's process uses.
type Process struct {
	CPU float64 `json:"cpu"` // percent of one core
	RSS int64   `json:"rss"` // bytes
}

// ActionResult is the result of methods that act on connections.
type ActionResult struct {
	Partial bool `json:"partial,omitempty"`
}

// Empty is the result of methods that return nothing.
type Empty struct{}
