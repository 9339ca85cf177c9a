package hook

import (
	"errors"

	"sluice/gateway/hook/queue"
)

// Times are in Unix seconds, 0 for never. Info, Data and Meta are nil for none.

// ConnectResult accepts a client.
type ConnectResult struct {
	User     string // "" for an anonymous client
	ExpireAt int64
	Info     []byte   // JSON, which others see in presence and publications
	Data     []byte   // for the client
	Meta     []byte   // JSON, which is sent with later requests if they include it
	Channels []string // to which the client is subscribed, with the options of their namespaces
	Subs     map[string]SubscribeOptions
}

// SubscribeOptions are those of a subscription that a connect hook makes.
type SubscribeOptions struct {
	ExpireAt     int64
	Info         []byte // JSON
	Data         []byte // for the client
	Override     Override
	CacheRecover bool // send the newest publication, if the channel's recovery mode is "cache"
}

// Override replaces options of a channel's namespace. nil leaves one as it is.
type Override struct {
	Presence, JoinLeave, ForceRecovery, ForcePositioning, ForcePushJoinLeave *bool
}

// RefreshResult says how long a connection may go on.
type RefreshResult struct {
	Expired  bool
	ExpireAt int64  // 0: the old time stays
	Info     []byte // JSON, replaces the connection's; nil: it stays
	Meta     []byte // JSON, replaces the connection's; nil: it stays
}

// SubscribeResult allows a subscription.
type SubscribeResult struct {
	ExpireAt int64
	Info     []byte // JSON
	Data     []byte // for the client
	Override Override
}

// SubRefreshResult says how long a subscription may go on.
type SubRefreshResult struct {
	Expired  bool
	ExpireAt int64  // 0: never again
	Info     []byte // JSON, replaces the subscription's; nil: it stays
}

// PublishResult allows a publication.
type PublishResult struct {
	Data           []byte // to publish instead; nil: what the client has sent
	SkipHistory    bool
	Tags           map[string]string
	IdempotencyKey string // not supported: see Check
	Delta          bool   // allows deltas, which no client receives: publications are sent whole
	Version        uint64 // not supported: see Check
	VersionEpoch   string // of Version
}

// Check returns what the gateway cannot do of what a result asks for, as an error that is a failure; nil for nothing.
func (r *PublishResult) Check() error {
	switch {
	case r == nil:
	case r.Version != 0:
		return errVersion
	case r.IdempotencyKey != "":
		return errIdempotency
	}
	return nil
}

// Publishing regardless would be worse than a failure: an old version over a new one, and repetitions.
var (
	errVersion     error = &Failure{Outcome: queue.Failed, Err: errors.New("the publish hook sets a version, and versions of publications are not supported")}
	errIdempotency error = &Failure{Outcome: queue.Failed, Err: errors.New("the publish hook sets idempotency_key, which only publications by the server API can have")}
)

// RPCResult is the reply to a request of a client.
type RPCResult struct{ Data []byte }

// MessageResult is nothing: the client gets no reply.
type MessageResult struct{}

// DisconnectResult is nothing.
type DisconnectResult struct{}
