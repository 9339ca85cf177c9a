package handshake

import "sluice/gateway/route"

// Defects of any request: its size and its syntax. After these, two parsers might
// disagree about where a field or the head ends.
var (
	rejectHeadBytes = route.NewReject(431, "head_too_large", "The request head is larger than 8 KiB.")
	rejectHeadLines = route.NewReject(431, "too_many_fields", "The request head has more than 64 lines.")
	rejectURILength = route.NewReject(414, "uri_too_long", "The request target is longer than 4 KiB.")

	rejectIncomplete  = route.NewReject(400, "incomplete", "The request head does not end with exactly one empty line.")
	rejectLineFeed    = route.NewReject(400, "bare_lf", "A line of the request head ends in LF instead of CRLF.")
	rejectCR          = route.NewReject(400, "bare_cr", "The request head has a CR inside a line.")
	rejectControl     = route.NewReject(400, "control_byte", "The request head contains a control character.")
	rejectRequestLine = route.NewReject(400, "request_line", "The request line must be a method, a target and a version, separated by single spaces.")
	rejectMethodToken = route.NewReject(400, "method_token", "The request method is not a token.")
	rejectTarget      = route.NewReject(400, "target", "The request target must be a path that begins with a slash, or an http or https URL.")
	rejectTargetByte  = route.NewReject(400, "target_byte", "The request target has a fragment, or a byte that must be percent-encoded.")
	rejectEscape      = route.NewReject(400, "target_escape", "The path has a percent sign that is not followed by two hexadecimal digits.")
	rejectHTTPSyntax  = route.NewReject(400, "http_version", "The HTTP version is malformed.")
	rejectHTTPVersion = route.NewReject(505, "http_version", "Only HTTP/1.1 is supported.")
	rejectFold        = route.NewReject(400, "obs_fold", "A header field is continued on a second line.")
	rejectFieldName   = route.NewReject(400, "field_name", "A header line has no colon, or no valid field name before it.")
)

// Defects of any request: fields that say who is asked and where the request ends.
var (
	rejectHostMissing   = route.NewReject(400, "missing_host", "The request has no Host header field.")
	rejectHostTwice     = route.NewReject(400, "duplicate_host", "The request has more than one Host header field.")
	rejectHost          = route.NewReject(400, "bad_host", "The Host header field must be a host name or address with an optional port.")
	rejectOriginTwice   = route.NewReject(400, "duplicate_origin", "The request has more than one Origin header field.")
	rejectLengthTwice   = route.NewReject(400, "duplicate_content_length", "The request has more than one Content-Length header field.")
	rejectLength        = route.NewReject(400, "bad_content_length", "The Content-Length header field is not a number.")
	rejectFraming       = route.NewReject(400, "ambiguous_length", "The request has Content-Length and Transfer-Encoding, or Transfer-Encoding in HTTP/1.0.")
	rejectEncodingTwice = route.NewReject(400, "duplicate_transfer_encoding", "The request has more than one Transfer-Encoding header field.")
	rejectEncoding      = route.NewReject(501, "transfer_encoding", "The only supported transfer coding is chunked.")
	rejectExpect        = route.NewReject(417, "expect", "The only supported expectation is 100-continue.")
	rejectTrailer       = route.NewReject(400, "trailer", "Trailer fields are not supported.")
)

// Defects of an upgrade: RFC 6455 section 4.2.1, in its order.
var (
	rejectMethod = route.NewReject(405, "method", "A WebSocket handshake must be a GET request.").
			WithHeader("Allow: GET\r\n")
	rejectHTTP10          = route.NewReject(400, "http_version", "A WebSocket handshake requires HTTP/1.1.")
	rejectBody            = route.NewReject(400, "body", "A WebSocket handshake must not have a body: remove Content-Length and Transfer-Encoding.")
	rejectUpgradeTwice    = route.NewReject(400, "duplicate_upgrade", "The request has more than one Upgrade header field.")
	rejectUpgrade         = route.NewReject(400, "bad_upgrade", "The Upgrade header field must be a list of protocols that includes websocket, without a version.")
	rejectConnectionTwice = route.NewReject(400, "duplicate_connection", "The request has more than one Connection header field.")
	rejectConnection      = route.NewReject(400, "bad_connection", "The Connection header field must be a list that includes Upgrade.")
	rejectVersionTwice    = route.NewReject(400, "duplicate_version", "The request has more than one Sec-WebSocket-Version header field.")
	// RFC 6455 section 4.4: the answer to a version that is not spoken names those
	// that are. No version at all gets the same answer, because it comes from
	// drafts older than the field, whose clients are helped most by it.
	rejectVersion = route.NewReject(426, "version", "Only WebSocket version 13 (RFC 6455) is supported.").
			WithHeader("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
	rejectKeyMissing = route.NewReject(400, "missing_key", "The request has no Sec-WebSocket-Key header field.")
	rejectKeyTwice   = route.NewReject(400, "duplicate_key", "The request has more than one Sec-WebSocket-Key header field.")
	rejectKey        = route.NewReject(400, "bad_key", "The Sec-WebSocket-Key header field is not 16 bytes encoded in base64.")
	rejectProtocol   = route.NewReject(400, "bad_protocol", "The Sec-WebSocket-Protocol header field is not a list of tokens.")

	// rejectUpgrader is a fault of this package, not of the client: a head that
	// Parse accepts and ws.Upgrader does not.
	rejectUpgrader = route.NewReject(500, "upgrader", "The WebSocket handshake failed.")
)
