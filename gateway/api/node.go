package api

import (
	"context"
	"encoding/json"
)

// Node does what the API asks for. Its methods are called from many goroutines. Requests
// are checked: what is required is there. They, and the bytes in them, are the Node's to read
// until it returns, not to change; a broadcast's calls share them. Errors are *Error, also wrapped; any other is
// an internal error to the caller, and told to Options.OnError.
//
// Where a request has a user and a client, it is for the connections of that user, and
// of these only for the one with that client ID unless it is "". The user "" is
// that of connections which did not say who they are. None that fits is no error.
type Node interface {
	// Publish publishes into a channel. Where the channel keeps pushing back it
	// returns ErrInternal.Later, where it has a rate, ErrTooManyRequests.
	Publish(context.Context, *PublishRequest) (PublishResult, error)
	// Subscribe subscribes connections to a channel, as if they had asked.
	Subscribe(context.Context, *SubscribeRequest) error
	// Unsubscribe ends subscriptions: of one channel, or of all where it is "".
	Unsubscribe(context.Context, *UnsubscribeRequest) error
	// Disconnect closes connections.
	Disconnect(context.Context, *DisconnectRequest) error
	// Refresh changes when connections expire: never, where neither Expired nor
	// ExpireAt is set.
	Refresh(context.Context, *RefreshRequest) error
	// Presence gives who is subscribed to a channel, by client ID.
	Presence(ctx context.Context, channel string) (map[string]ClientInfo, error)
	// PresenceStats counts who is subscribed to a channel.
	PresenceStats(ctx context.Context, channel string) (clients, users int, err error)
	// History gives what a channel has kept.
	History(context.Context, *HistoryRequest) (HistoryResult, error)
	// HistoryRemove forgets what a channel has kept. Its order goes on.
	HistoryRemove(ctx context.Context, channel string) error
	// Channels gives the channels with subscribers whose names fit the pattern ("" is
	// all), and how many subscribers each has.
	Channels(ctx context.Context, pattern string) (map[string]int, error)
	// Info tells of the nodes.
	Info(context.Context) (InfoResult, error)
}

// PublishRequest publishes into a channel.
type PublishRequest struct {
	Channel string          `json:"channel"`
	Data    json.RawMessage `json:"data,omitempty"`    // JSON, as the caller wrote it
	B64Data string          `json:"b64data,omitempty"` // or bytes in base64, which go before data

	Tags           map[string]string `json:"tags,omitempty"`
	SkipHistory    bool              `json:"skip_history,omitempty"`
	IdempotencyKey string            `json:"idempotency_key,omitempty"` // the Handler sees to it

	Version uint64 `json:"version,omitempty"` // refused

	// Set by the Handler: what is to be published, from Data or B64Data, and
	// whether it is bytes and not JSON. Text is UTF-8.
	Payload []byte `json:"-"`
	Binary  bool   `json:"-"`
}

// PublishResult is a publication's place in the channel's order ("" and 0 where it has none),
// and how many subscribers this node had.
type PublishResult struct {
	Offset      uint64 `json:"offset"`
	Epoch       string `json:"epoch"`
	Subscribers int    `json:"subscribers"`
}

// BroadcastRequest publishes the same into several channels. A Node does not see it: it is
// asked to Publish for each.
type BroadcastRequest struct {
	Channels       []string          `json:"channels"`
	Data           json.RawMessage   `json:"data,omitempty"`
	B64Data        string            `json:"b64data,omitempty"`
	Tags           map[string]string `json:"tags,omitempty"`
	SkipHistory    bool              `json:"skip_history,omitempty"`
	IdempotencyKey string            `json:"idempotency_key,omitempty"` // of each channel
	Version        uint64            `json:"version,omitempty"`         // refused

	payload []byte
	binary  bool
}

// BroadcastResult has a response for each channel, in order.
type BroadcastResult struct {
	Responses []PublishResponse `json:"responses"`
}

// PublishResponse is a broadcast's result or error for one channel.
type PublishResponse struct {
	Result *PublishResult `json:"result,omitempty"`
	Error  *Error         `json:"error,omitempty"`
}

// StreamPosition is a place in a channel's order.
type StreamPosition struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch"`
}

// SubscribeRequest subscribes a user's connections to a channel.
type SubscribeRequest struct {
	User         string          `json:"user,omitempty"`
	Channel      string          `json:"channel"`
	Client       string          `json:"client,omitempty"`
	Info         json.RawMessage `json:"info,omitempty"`      // for presence and joins
	Data         json.RawMessage `json:"data,omitempty"`      // for the client, with the subscription
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
	Whitelist  []string    `json:"whitelist,omitempty"`  // client IDs that stay
	Disconnect *Disconnect `json:"disconnect,omitempty"` // nil for the gateway's own

	// Refused.
	Session     string          `json:"session,omitempty"`
	LabelFilter json.RawMessage `json:"label_filter,omitempty"`
}

// Disconnect is what a client is told when it is closed: a WebSocket close code of those for
// applications, 3000 to 4999 (RFC 6455 section 7.4.2), and at most 123 bytes of text.
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
	Info     json.RawMessage `json:"info,omitempty"`      // replaces that of the connection

	// Refused.
	Session     string          `json:"session,omitempty"`
	LabelFilter json.RawMessage `json:"label_filter,omitempty"`
}

// ClientInfo tells who a subscriber or publisher is. ConnInfo and ChanInfo are JSON, or
// empty; what is not JSON is left out, and told to Options.OnError.
type ClientInfo struct {
	User     string          `json:"user"`
	Client   string          `json:"client"`
	ConnInfo json.RawMessage `json:"conn_info,omitempty"`
	ChanInfo json.RawMessage `json:"chan_info,omitempty"`
}

// ChannelRequest is the request of methods that want a channel and nothing else.
type ChannelRequest struct {
	Channel string `json:"channel"`
}

// PresenceResult has who is subscribed, by client ID.
type PresenceResult struct {
	Presence map[string]ClientInfo `json:"presence"`
}

// PresenceStatsResult counts who is subscribed.
type PresenceStatsResult struct {
	NumClients int `json:"num_clients"`
	NumUsers   int `json:"num_users"` // that are different
}

// HistoryRequest asks for what a channel has kept.
type HistoryRequest struct {
	Channel string          `json:"channel"`
	Limit   int             `json:"limit,omitempty"` // 0: only the position; negative: all
	Since   *StreamPosition `json:"since,omitempty"` // only what is after (with Reverse: before) it
	Reverse bool            `json:"reverse,omitempty"`
}

// HistoryResult is a part of a channel's history, and the position of its newest publication.
type HistoryResult struct {
	Publications []Publication `json:"publications"`
	Epoch        string        `json:"epoch"`
	Offset       uint64        `json:"offset"`
}

// Publication is one that was kept. A Node gives what is JSON in Data and what is not in B64Data; what
// is in Data and is no JSON goes out as B64Data.
type Publication struct {
	Offset  uint64            `json:"offset"`
	Data    json.RawMessage   `json:"data"`
	B64Data []byte            `json:"b64data,omitempty"`
	Info    *ClientInfo       `json:"info,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
}

// ChannelsRequest asks for the channels that have subscribers.
type ChannelsRequest struct {
	Pattern string `json:"pattern,omitempty"`
}

// ChannelsResult has the channels by name.
type ChannelsResult struct {
	Channels map[string]ChannelInfo `json:"channels"`
}

// ChannelInfo tells of one channel.
type ChannelInfo struct {
	NumClients int `json:"num_clients"`
}

// InfoRequest asks for the nodes.
type InfoRequest struct{}

// InfoResult has the nodes.
type InfoResult struct {
	Nodes []NodeInfo `json:"nodes"`
}

// NodeInfo tells of one node.
type NodeInfo struct {
	UID         string   `json:"uid"`
	Name        string   `json:"name"`
	Version     string   `json:"version"`
	NumClients  int      `json:"num_clients"`
	NumUsers    int      `json:"num_users"`
	NumSubs     int      `json:"num_subs"`
	NumChannels int      `json:"num_channels"` // with subscribers
	Uptime      int      `json:"uptime"`       // seconds
	Process     *Process `json:"process,omitempty"`
}

// Process tells what a node's process uses.
type Process struct {
	CPU float64 `json:"cpu"` // percent of one core
	RSS int64   `json:"rss"` // bytes
}

// Empty is the result of methods that have nothing to tell.
type Empty struct{}
