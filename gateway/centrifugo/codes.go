package centrifugo

import "github.com/centrifugal/protocol"

// Errors in the reply to a client's command, with Centrifugo's codes and texts. After a
// temporary one a client may try again. They are shared and must not be changed.
var (
	ErrorInternal              = &protocol.Error{Code: 100, Message: "internal server error", Temporary: true}
	ErrorUnauthorized          = &protocol.Error{Code: 101, Message: "unauthorized"}
	ErrorUnknownChannel        = &protocol.Error{Code: 102, Message: "unknown channel"}
	ErrorPermissionDenied      = &protocol.Error{Code: 103, Message: "permission denied"}
	ErrorMethodNotFound        = &protocol.Error{Code: 104, Message: "method not found"}
	ErrorAlreadySubscribed     = &protocol.Error{Code: 105, Message: "already subscribed"}
	ErrorLimitExceeded         = &protocol.Error{Code: 106, Message: "limit exceeded"}
	ErrorBadRequest            = &protocol.Error{Code: 107, Message: "bad request"}
	ErrorNotAvailable          = &protocol.Error{Code: 108, Message: "not available"}
	ErrorTokenExpired          = &protocol.Error{Code: 109, Message: "token expired"}
	ErrorExpired               = &protocol.Error{Code: 110, Message: "expired"}
	ErrorTooManyRequests       = &protocol.Error{Code: 111, Message: "too many requests", Temporary: true}
	ErrorUnrecoverablePosition = &protocol.Error{Code: 112, Message: "unrecoverable position"}
)

// FlagRejectUnrecovered is the bit of a subscribe command's flag with which a client asks for
// ErrorUnrecoverablePosition, instead of a subscription, if it cannot recover everything.
const FlagRejectUnrecovered = 2

// Reasons for closing a connection, with Centrifugo's codes and texts. Code and Reason are
// those of the Close frame; the whole value goes into the push to an SSE client. They are
// shared and must not be changed.
var (
	DisconnectConnectionClosed      = &protocol.Disconnect{Code: 3000, Reason: "connection closed"}
	DisconnectShutdown              = &protocol.Disconnect{Code: 3001, Reason: "shutdown"}
	DisconnectServerError           = &protocol.Disconnect{Code: 3004, Reason: "internal server error"}
	DisconnectExpired               = &protocol.Disconnect{Code: 3005, Reason: "connection expired"}
	DisconnectSubExpired            = &protocol.Disconnect{Code: 3006, Reason: "subscription expired"}
	DisconnectSlow                  = &protocol.Disconnect{Code: 3008, Reason: "slow"}
	DisconnectWriteError            = &protocol.Disconnect{Code: 3009, Reason: "write error"}
	DisconnectInsufficientState     = &protocol.Disconnect{Code: 3010, Reason: "insufficient state"}
	DisconnectForceReconnect        = &protocol.Disconnect{Code: 3011, Reason: "force reconnect"}
	DisconnectNoPong                = &protocol.Disconnect{Code: 3012, Reason: "no pong"}
	DisconnectTooManyRequests       = &protocol.Disconnect{Code: 3013, Reason: "too many requests"}
	DisconnectInvalidToken          = &protocol.Disconnect{Code: 3500, Reason: "invalid token"}
	DisconnectBadRequest            = &protocol.Disconnect{Code: 3501, Reason: "bad request"}
	DisconnectStale                 = &protocol.Disconnect{Code: 3502, Reason: "stale"}
	DisconnectForceNoReconnect      = &protocol.Disconnect{Code: 3503, Reason: "force disconnect"}
	DisconnectConnectionLimit       = &protocol.Disconnect{Code: 3504, Reason: "connection limit"}
	DisconnectChannelLimit          = &protocol.Disconnect{Code: 3505, Reason: "channel limit"}
	DisconnectInappropriateProtocol = &protocol.Disconnect{Code: 3506, Reason: "inappropriate protocol"}
	DisconnectPermissionDenied      = &protocol.Disconnect{Code: 3507, Reason: "permission denied"}
	DisconnectNotAvailable          = &protocol.Disconnect{Code: 3508, Reason: "not available"}
	DisconnectTooManyErrors         = &protocol.Disconnect{Code: 3509, Reason: "too many errors"}
)

// Reconnects reports whether clients reconnect automatically after a disconnect with this
// code.
func Reconnects(code uint32) bool {
	return code < 3500 || code >= 4000 && code < 4500 || code >= 5000
}

// Reasons for which the server ends a subscription, in the push to the client, with
// Centrifugo's codes and texts. From code 2500 on clients resubscribe automatically. They are
// shared and must not be changed.
var (
	UnsubscribeServer            = &protocol.Unsubscribe{Code: 2000, Reason: "server unsubscribe"}
	UnsubscribeInsufficientState = &protocol.Unsubscribe{Code: 2500, Reason: "insufficient state"}
	UnsubscribeExpired           = &protocol.Unsubscribe{Code: 2501, Reason: "subscription expired"}
)
