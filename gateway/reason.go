package gateway

import "github.com/gobwas/ws"

// reason is why a connection ends. It is at once the close code that the client sees, the
// label of sluice_connections_closed_total and the value in the log. A new way to end is a new row in reasons, and a test.
type reason uint8

const (
	reasonNone reason = iota
	reasonClientClose
	reasonClientGone
	reasonReset
	reasonAbandoned
	reasonTLS
	reasonProtocol
	reasonText
	reasonTooBig
	reasonFragments
	reasonMessageTimeout
	reasonMessageRate
	reasonControlRate
	reasonNotAllowed
	reasonNoPong
	reasonSlow
	reasonWriteTimeout
	reasonPendingFull
	reasonBudget
	reasonChannels
	reasonShutdown
	reasonPanic
	reasonInternal
	reasonOperator
	reasonRefused
	reasonExpired
	reasonInvalidToken
	reasonBadCommand
	reasonStale
	reasonChannelLimit
	reasonInsufficient
	reasonDisconnected
	reasonUnsubscribed
	reasonCount
)

// reasonInfo is a row of the table.
type reasonInfo struct {
	label string
	// code is sent in the Close frame; 0 if none is sent: the client is gone, or its own
	// Close is answered. A protocol may have codes of its own (connProtocol.closeText).
	code ws.StatusCode
	text string
	// cut: the client is behind, so what was published before is not sent first.
	cut bool
	// waits: after our Close frame the client's own is waited for. Not where it
	// has come, or nothing sensible is to be expected.
	waits bool
	// loud: an operator wants to know without having asked, because the gateway has cut
	// off a client that wanted to stay.
	loud bool
}

var reasons = [reasonCount]reasonInfo{
	reasonNone:           {label: "none"},
	reasonClientClose:    {label: "client_close"},
	reasonClientGone:     {label: "client_gone"},
	reasonReset:          {label: "reset", cut: true},
	reasonAbandoned:      {label: "abandoned", cut: true},
	reasonTLS:            {label: "tls_error", cut: true},
	reasonProtocol:       {label: "protocol_error", code: ws.StatusProtocolError, text: "protocol error"},
	reasonText:           {label: "bad_utf8", code: ws.StatusInvalidFramePayloadData, text: "text is not UTF-8"},
	reasonTooBig:         {label: "message_too_big", code: ws.StatusMessageTooBig, text: "message too big"},
	reasonFragments:      {label: "too_many_fragments", code: ws.StatusPolicyViolation, text: "too many fragments"},
	reasonMessageTimeout: {label: "message_timeout", code: ws.StatusPolicyViolation, text: "message not finished in time", loud: true},
	reasonMessageRate:    {label: "message_rate", code: ws.StatusPolicyViolation, text: "too many messages", waits: true, loud: true},
	reasonControlRate:    {label: "control_rate", code: ws.StatusPolicyViolation, text: "too many control frames", waits: true, loud: true},
	reasonNotAllowed:     {label: "not_allowed", code: ws.StatusPolicyViolation, text: "publishing is not allowed here", waits: true},
	reasonNoPong:         {label: "no_pong", code: ws.StatusPolicyViolation, text: "no response to ping", cut: true},
	reasonSlow:           {label: "slow", code: statusTryAgainLater, text: "too slow: the channel's buffer ran out", cut: true, waits: true, loud: true},
	reasonWriteTimeout:   {label: "write_timeout", code: statusTryAgainLater, text: "too slow: no data accepted in time", cut: true, waits: true, loud: true},
	reasonPendingFull:    {label: "pending_full", code: statusTryAgainLater, text: "too slow: too many pending replies", cut: true, waits: true, loud: true},
	reasonBudget:         {label: "budget", code: statusTryAgainLater, text: "out of buffer memory", cut: true, loud: true},
	reasonChannels:       {label: "too_many_channels", code: statusTryAgainLater, text: "too many channels", waits: true, loud: true},
	reasonShutdown:       {label: "shutdown", code: ws.StatusGoingAway, text: "server is shutting down", waits: true},
	reasonPanic:          {label: "panic", code: ws.StatusInternalServerError, text: "internal error"},
	reasonInternal:       {label: "internal", code: ws.StatusInternalServerError, text: "internal error", cut: true},
	reasonOperator:       {label: "operator", code: ws.StatusPolicyViolation, text: "closed by an operator", cut: true, waits: true, loud: true},
	reasonRefused:        {label: "refused", code: statusTryAgainLater, text: "over a limit: try again later", cut: true, waits: true},
	reasonExpired:        {label: "expired", code: statusExpired, text: "connection expired", waits: true},
	reasonInvalidToken:   {label: "invalid_token", waits: true, loud: true},
	reasonBadCommand:     {label: "bad_command", waits: true},
	reasonStale:          {label: "stale", waits: true},
	reasonChannelLimit:   {label: "channel_limit", waits: true},
	reasonInsufficient:   {label: "insufficient_state", cut: true, waits: true},
	reasonDisconnected:   {label: "disconnected", code: ws.StatusPolicyViolation, text: "closed by the server's API", waits: true},
	reasonUnsubscribed:   {label: "unsubscribed"}, // of publications that a subscription did not get any more: no connection ends so
}

// statusTryAgainLater is 1013 of the IANA registry of close codes, which
// gobwas/ws does not name.
const statusTryAgainLater ws.StatusCode = 1013

// statusExpired is for applications (RFC 6455 section 7.4.2), and means the same in the
// Centrifugo protocol.
const statusExpired ws.StatusCode = 3005

// String returns the label.
func (r reason) String() string { return reasons[r].label }
