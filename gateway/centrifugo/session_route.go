package centrifugo

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"

	"sluice/gateway/loop"
	"sluice/gateway/route"
)

// Paths of the Centrifugo protocol, as its libraries and its users know them.
const (
	pathClient    = "/connection/websocket"
	pathUniClient = "/connection/uni_websocket"
	PathUniSSE    = "/connection/uni_sse"
)

// connectParameter is the parameter of a URL in which a client that is only sent to says
// who it is.
const connectParameter = "cf_connect"

// routes returns where clients are served.
func (p *Protocol) routes() []*route.Route {
	return []*route.Route{{
		Paths:        []string{pathClient, pathUniClient},
		Subprotocols: []string{subprotocolJSON, SubprotocolProtobuf},
		Parse:        p.parse,
		Streams:      []route.Stream{{Path: PathUniSSE, Methods: "GET, POST, OPTIONS", BodyMax: p.MaxMessage, Off: p.Off, Parse: p.parseStream}},
	}}
}

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

// parseStream reads the request for an event stream.
func (p *Protocol) parseStream(h *loop.Hello, r *http.Request) (route.Later, *route.Reject) {
	connect := []byte(r.URL.Query().Get(connectParameter))
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(r.Body)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, rejectLate
		case err != nil:
			return nil, rejectConnect
		}
		connect = body
	}
	if len(connect) == 0 {
		connect = []byte("{}")
	}
	if _, err := DecodeConnect(connect); err != nil {
		return nil, rejectConnect
	}
	h.Variant, h.Identity = p.newClient(pushFormat, route.Fields(r.Header))
	h.Start = connect
	return nil, nil
}

var (
	RejectClientOff = route.NewReject(http.StatusNotFound, "client_off",
		"The Centrifugo protocol is turned off ({NoClients}).")
	rejectClientFormat = route.NewReject(http.StatusBadRequest, "bad_client_format",
		"Invalid format: use json or protobuf.")
	rejectUniFormat = route.NewReject(http.StatusBadRequest, "one_way_format",
		"Unidirectional connections support only JSON.")
	rejectConnect = route.NewReject(http.StatusBadRequest, "bad_connect",
		"Invalid connect request: use a JSON object in "+connectParameter+" or as the body, such as {\"token\":\"...\"}.")
	rejectLate = route.NewReject(http.StatusRequestTimeout, "timeout",
		"The request body did not arrive in time.")
)
