package centrifugo

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"unicode/utf8"

	"sluice/gateway/frame"
	"sluice/gateway/loop"
	"sluice/gateway/route"
	"sluice/gateway/wire"
)

// Paths of the Centrifugo protocol, as its libraries and its users know them.
const (
	pathClient    = "/connection/websocket"
	pathUniClient = "/connection/uni_websocket"
	PathUniSSE    = "/connection/uni_sse"
	pathUniHTTP   = "/connection/uni_http_stream"
	pathHTTP      = "/connection/http_stream"
	pathSSE       = "/connection/sse"
	pathEmulation = "/emulation"
)

// connectParameter is the parameter of a URL in which a client that is only sent to says
// who it is.
const connectParameter = "cf_connect"

// routes returns where clients are served.
func (p *Protocol) routes() []*route.Route {
	stream := func(path, methods string, sends bool, parse func(*loop.Hello, *http.Request) (route.Later, *route.Reject)) route.Stream {
		return route.Stream{Path: path, Methods: methods, BodyMax: p.MaxMessage, Off: p.Off, Sends: sends, Parse: parse}
	}
	return []*route.Route{{
		Paths:        []string{pathClient, pathUniClient},
		Subprotocols: []string{subprotocolJSON, SubprotocolProtobuf},
		Parse:        p.parse,
		Streams: []route.Stream{
			stream(PathUniSSE, "GET, POST, OPTIONS", false, p.parseUniSSE),
			stream(pathUniHTTP, "POST, OPTIONS", false, p.parseUniHTTP),
			stream(pathHTTP, "POST, OPTIONS", true, p.parseHTTP),
			stream(pathSSE, "GET, POST, OPTIONS", true, p.parseSSE),
		},
		// The commands of a request are a string in JSON, in which a character may take twice its size.
		Posts: []route.Post{{Path: pathEmulation, BodyMax: 2*p.MaxMessage + emulationSpace, Off: p.Off, Serve: p.emulate}},
	}}
}

// emulationSpace is more than a request for a session takes beside the session's commands.
const emulationSpace = 1 << 10

// parse reads an upgrade.
func (p *Protocol) parse(h *loop.Hello, req *route.Request, _ string) (route.Later, *route.Reject) {
	if p.Off != nil {
		return nil, p.Off
	}
	h.ListenOnly = h.ListenOnly && p.Policy.Open() // else tokens and namespaces say what clients may
	f := Format{Uni: req.RawPath == pathUniClient}
	values, err := url.ParseQuery(req.RawQuery)
	if err != nil {
		return nil, route.BadQuery
	}
	switch format := values.Get("format"); {
	case format == "protobuf", format == "" && chosen(req.Protocols) == SubprotocolProtobuf:
		f.Encoding = Protobuf
	case format != "" && format != "json":
		return nil, rejectClientFormat
	}
	if f.Uni && f.Encoding != JSON {
		return nil, rejectUniFormat
	}
	h.Variant, h.Identity = p.newClient(f, req.Header())
	if f.Uni && values.Has(connectParameter) {
		h.Start = []byte(values.Get(connectParameter))
	}
	return nil, nil
}

// chosen returns the subprotocol that the upgrader will agree to.
func chosen(offered []string) string {
	for _, p := range offered {
		if p == subprotocolJSON || p == SubprotocolProtobuf {
			return p
		}
	}
	return ""
}

// parseUniSSE reads the request of a unidirectional client for events. Without a word it connects as nobody.
func (p *Protocol) parseUniSSE(h *loop.Hello, r *http.Request) (route.Later, *route.Reject) {
	connect, reject := p.said(r)
	if reject != nil {
		return nil, reject
	}
	if len(connect) == 0 {
		connect = []byte("{}")
	}
	return nil, p.connects(h, r, eventFormat, connect)
}

// parseUniHTTP reads the request of a unidirectional client for lines.
func (p *Protocol) parseUniHTTP(h *loop.Hello, r *http.Request) (route.Later, *route.Reject) {
	connect, reject := p.said(r)
	if reject != nil {
		return nil, reject
	}
	if string(bytes.TrimSpace(connect)) == "null" {
		connect = []byte("{}")
	}
	h.ContentType = contentLines
	return nil, p.connects(h, r, lineFormat, connect)
}

// connects takes what a unidirectional client connects with.
func (p *Protocol) connects(h *loop.Hello, r *http.Request, f Format, connect []byte) *route.Reject {
	if _, err := DecodeConnect(connect); err != nil {
		return rejectConnect
	}
	h.Variant, h.Identity = p.newClient(f, route.Fields(r.Header))
	h.Start = connect
	return nil
}

// parseHTTP reads the request of an emulated client for lines, or for what takes their place in Protobuf.
func (p *Protocol) parseHTTP(h *loop.Hello, r *http.Request) (route.Later, *route.Reject) {
	f := Format{Framing: wire.Lines}
	h.ContentType = contentLines
	if isProtobuf(r.Header.Get("Content-Type")) {
		f.Encoding, h.ContentType = Protobuf, contentProtobuf
	}
	return nil, p.parseEmulated(h, r, f)
}

// parseSSE reads the request of an emulated client for events.
func (p *Protocol) parseSSE(h *loop.Hello, r *http.Request) (route.Later, *route.Reject) {
	return nil, p.parseEmulated(h, r, Format{Framing: wire.SSE})
}

// parseEmulated takes the first commands of an emulated client, which are in its request.
func (p *Protocol) parseEmulated(h *loop.Hello, r *http.Request, f Format) *route.Reject {
	commands, reject := p.said(r)
	switch {
	case reject != nil:
		return reject
	case len(commands) == 0:
		return rejectNoCommand
	case f.Encoding == JSON && !utf8.Valid(commands):
		return rejectConnect
	case r.Method == http.MethodGet && !onlyConnect(commands):
		return rejectNoCommand
	}
	h.ListenOnly = h.ListenOnly && p.Policy.Open() // else tokens and namespaces say what clients may
	h.Variant, h.Identity = p.newClient(f, route.Fields(r.Header))
	h.Sent = frame.AppendMasked(nil, f.op(), commands)
	return nil
}

// onlyConnect reports whether commands are a connect command and nothing else. Nothing else may be in a URL: any page can have a
// browser open one, with the client's cookies and without an Origin.
func onlyConnect(commands []byte) bool {
	cmd, n, err := Next(JSON, commands)
	return err == nil && n == len(commands) && cmd.Connect != nil
}

// said returns what the request for a stream says: in its body or, without one, in a parameter.
func (p *Protocol) said(r *http.Request) ([]byte, *route.Reject) {
	if r.Method != http.MethodPost {
		if text := r.URL.Query().Get(connectParameter); len(text) <= p.MaxMessage {
			return []byte(text), nil
		}
		return nil, rejectTooLarge
	}
	body, err := io.ReadAll(r.Body)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, rejectLate
	case errors.As(err, new(*http.MaxBytesError)):
		return nil, rejectTooLarge
	case err != nil:
		return nil, rejectConnect
	}
	return body, nil
}

// contentLines is the type of a stream of JSON texts, each in a line.
const contentLines = "application/x-ndjson"

var (
	RejectClientOff = route.NewReject(http.StatusNotFound, "client_off",
		"The Centrifugo protocol is turned off ({NoClients}).")
	rejectClientFormat = route.NewReject(http.StatusBadRequest, "bad_client_format",
		"Invalid format: use json or protobuf.")
	rejectUniFormat = route.NewReject(http.StatusBadRequest, "one_way_format",
		"Unidirectional connections support only JSON.")
	rejectConnect = route.NewReject(http.StatusBadRequest, "bad_connect",
		"Invalid connect request: use a JSON object in "+connectParameter+" or as the body, such as {\"token\":\"...\"}.")
	rejectNoCommand = route.NewReject(http.StatusBadRequest, "bad_connect",
		"Begin with a connect command, such as {\"id\":1,\"connect\":{\"token\":\"...\"}}, in "+connectParameter+", which may have no other command, or as the body.")
	rejectTooLarge = route.NewReject(http.StatusRequestEntityTooLarge, "body_too_large",
		"The request is larger than a message may be.")
	rejectLate = route.NewReject(http.StatusRequestTimeout, "timeout",
		"The request body did not arrive in time.")
)
