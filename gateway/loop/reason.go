package loop

import "github.com/gobwas/ws"

// Reason is why a connection ends. It is at once the close code that the client sees, the
// label of sluice_connections_closed_total and the value in the log. A new way to end is a new row in reasons, and a test.
type Reason uint8

const (
	ReasonNone Reason = iota
	ReasonClientClose
	ReasonClientGone
	ReasonReset
	reasonAbandoned
	reasonTLS
	ReasonProtocol
	ReasonText
	ReasonDeflate
	ReasonContext
	ReasonTooBig
	ReasonFragments
	ReasonMessageTimeout
	ReasonMessageRate
	ReasonControlRate
	ReasonNotAllowed
	ReasonNoPong
	ReasonSlow
	ReasonGap
	ReasonWriteTimeout
	ReasonPendingFull
	ReasonBudget
	ReasonChannels
	ReasonUnavailable
	ReasonShutdown
	ReasonMoved
	ReasonPanic
	ReasonInternal
	ReasonOperator
	ReasonRefused
	ReasonAnswered
	ReasonHook
	ReasonExpired
	ReasonInvalidToken
	ReasonBadCommand
	ReasonStale
	ReasonChannelLimit
	ReasonInsufficient
	ReasonDisconnected
	ReasonForbidden
	ReasonUnsubscribed
	ReasonCount
)

// reasonInfo is a row of the table.
type reasonInfo struct {
	label string
	// code is sent in the Close frame; 0 if none is sent: the client is gone, or its own
	// Close is answered. A protocol may have codes of its own (Protocol.CloseText).
	code ws.StatusCode
	text string
	// cut: the client is behind, so what was published before is not sent first.
	cut bool
	// waits: after our Close frame the client's own is waited for. Not where it
	// has come, or nothing sensible is to be expected.
	waits bool
	// back: the client is told to come back, as all clients are.
	back bool
	// loud: an operator wants to know without having asked, because the gateway has cut
	// off a client that wanted to stay.
	loud bool
}

// reasons is the table of reasons.
var reasons = [ReasonCount]reasonInfo{
	ReasonNone:           {label: "none"},
	ReasonClientClose:    {label: "client_close"},
	ReasonClientGone:     {label: "client_gone"},
	ReasonReset:          {label: "reset", cut: true},
	reasonAbandoned:      {label: "abandoned", cut: true},
	reasonTLS:            {label: "tls_error", cut: true},
	ReasonProtocol:       {label: "protocol_error", code: ws.StatusProtocolError, text: "protocol error"},
	ReasonText:           {label: "bad_utf8", code: ws.StatusInvalidFramePayloadData, text: "text is not UTF-8"},
	ReasonDeflate:        {label: "bad_deflate", code: ws.StatusInvalidFramePayloadData, text: "compressed message is corrupt"},
	ReasonContext:        {label: "deflate_context", code: ws.StatusInvalidFramePayloadData, text: "compressed message refers to those before it", loud: true},
	ReasonTooBig:         {label: "message_too_big", code: ws.StatusMessageTooBig, text: "message too big"},
	ReasonFragments:      {label: "too_many_fragments", code: ws.StatusPolicyViolation, text: "too many fragments"},
	ReasonMessageTimeout: {label: "message_timeout", code: ws.StatusPolicyViolation, text: "message not finished in time", loud: true},
	ReasonMessageRate:    {label: "message_rate", code: ws.StatusPolicyViolation, text: "too many messages", waits: true, loud: true},
	ReasonControlRate:    {label: "control_rate", code: ws.StatusPolicyViolation, text: "too many control frames", waits: true, loud: true},
	ReasonNotAllowed:     {label: "not_allowed", code: ws.StatusPolicyViolation, text: "publishing is not allowed here", waits: true},
	ReasonNoPong:         {label: "no_pong", code: ws.StatusPolicyViolation, text: "no response to ping", cut: true},
	ReasonSlow:           {label: "slow", code: statusTryAgainLater, text: "too slow: the channel's buffer ran out", cut: true, waits: true, loud: true},
	ReasonGap:            {label: "gap", code: statusServiceRestart, text: "messages were lost: reconnect", waits: true},
	ReasonWriteTimeout:   {label: "write_timeout", code: statusTryAgainLater, text: "too slow: no data accepted in time", cut: true, waits: true, loud: true},
	ReasonPendingFull:    {label: "pending_full", code: statusTryAgainLater, text: "too slow: too many pending replies", cut: true, waits: true, loud: true},
	ReasonBudget:         {label: "budget", code: statusTryAgainLater, text: "out of buffer memory", cut: true, loud: true},
	ReasonChannels:       {label: "too_many_channels", code: statusTryAgainLater, text: "too many channels", waits: true, loud: true},
	ReasonUnavailable:    {label: "unavailable", code: statusTryAgainLater, text: "unavailable: try again later", waits: true, loud: true},
	ReasonShutdown:       {label: "shutdown", code: ws.StatusGoingAway, text: "server is shutting down", waits: true, back: true},
	ReasonMoved:          {label: "moved", code: statusServiceRestart, text: "the server was upgraded: reconnect", waits: true, back: true},
	ReasonPanic:          {label: "panic", code: ws.StatusInternalServerError, text: "internal error"},
	ReasonInternal:       {label: "internal", code: ws.StatusInternalServerError, text: "internal error", cut: true},
	ReasonOperator:       {label: "operator", code: ws.StatusPolicyViolation, text: "closed by an operator", cut: true, waits: true, loud: true},
	ReasonRefused:        {label: "refused", code: statusTryAgainLater, text: "over a limit: try again later", cut: true, waits: true},
	ReasonAnswered:       {label: "answered"},          // with a response of HTTP, in place of the one that opens it
	ReasonHook:           {label: "hook", waits: true}, // with the code and the text of the application
	ReasonExpired:        {label: "expired", code: statusExpired, text: "connection expired", waits: true},
	ReasonInvalidToken:   {label: "invalid_token", waits: true, loud: true},
	ReasonBadCommand:     {label: "bad_command", waits: true},
	ReasonStale:          {label: "stale", waits: true},
	ReasonChannelLimit:   {label: "channel_limit", waits: true},
	ReasonInsufficient:   {label: "insufficient_state", cut: true, waits: true},
	ReasonDisconnected:   {label: "disconnected", code: ws.StatusPolicyViolation, text: "closed by the server's API", waits: true},
	ReasonForbidden:      {label: "forbidden", code: ws.StatusPolicyViolation, text: "this channel is not allowed any more", waits: true},
	ReasonUnsubscribed:   {label: "unsubscribed"}, // of publications that a subscription did not get any more: no connection ends so
}

// statusServiceRestart is 1012 of the same registry: the client is to reconnect.
const statusServiceRestart ws.StatusCode = 1012

// statusTryAgainLater is 1013 of the IANA registry of close codes, which
// gobwas/ws does not name.
const statusTryAgainLater ws.StatusCode = 1013

// statusExpired is for applications (RFC 6455 section 7.4.2), and means the same in the
// Centrifugo protocol.
const statusExpired ws.StatusCode = 3005

// String returns the label.
func (r Reason) String() string { return reasons[r].label }

// CloseText returns the code and the text of the table.
func (r Reason) CloseText() (ws.StatusCode, string) { return reasons[r].code, reasons[r].text }
