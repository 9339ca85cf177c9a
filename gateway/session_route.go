package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"

	"sluice/gateway/centrifugo"
	"sluice/gateway/edge/handshake"
)

// Paths of the Centrifugo protocol, as its libraries and its users know them.
const (
	pathClient    = "/connection/websocket"
	pathUniClient = "/connection/uni_websocket"
	pathUniSSE    = "/connection/uni_sse"
)

// connectParameter is the parameter of a URL in which a client that is only sent to says
// who it is.
const connectParameter = "cf_connect"

var clientRoute = &route{
	serves: func(_ *Server, path, _ string) bool { return path == pathClient || path == pathUniClient },
	parse:  (*Server).settleClient,
	handle: func(s *Server, mux *http.ServeMux) { mux.HandleFunc(pathUniSSE, s.handleUniSSE) },
}

// settleClient reads an upgrade of the Centrifugo protocol into a target.
func (s *Server) settleClient(t *target, req *handshake.Request) *handshake.Reject {
	if s.cfg.NoClients {
		return s.named(rejectClientOff)
	}
	t.variant, t.upgrader = clientWebSocket, s.clientUpgrader
	t.listen = t.listen && s.policy.Open() // else tokens and namespaces say what clients may
	f := centrifugo.Format{Uni: req.RawPath == pathUniClient}
	values, err := url.ParseQuery(req.RawQuery)
	if err != nil {
		return rejectQuery
	}
	switch format := values.Get("format"); {
	case format == "protobuf", format == "" && chosen(req.Protocols) == subprotocolProtobuf:
		f.Encoding = centrifugo.Protobuf
	case format != "" && format != "json":
		return rejectClientFormat
	}
	if f.Uni && f.Encoding != centrifugo.JSON {
		return rejectUniFormat
	}
	t.identity = newSession(f)
	if f.Uni && values.Has(connectParameter) {
		t.connect = []byte(values.Get(connectParameter))
	}
	return nil
}

// chosen returns the subprotocol that the upgrader will agree to.
func chosen(offered []string) string {
	for _, p := range offered {
		if p == subprotocolJSON || p == subprotocolProtobuf {
			return p
		}
	}
	return ""
}

// handleUniSSE serves /connection/uni_sse: an event stream of the Centrifugo protocol.
func (s *Server) handleUniSSE(w http.ResponseWriter, r *http.Request) {
	conn, ok := s.admitStream(w, r, "GET, POST, OPTIONS", s.cfg.NoClients, rejectClientOff)
	if !ok {
		return
	}
	t := target{variant: clientStream, listen: true, identity: newSession(pushFormat)}
	t.connect = []byte(r.URL.Query().Get(connectParameter))
	if r.Method == http.MethodPost {
		body, err := readBody(w, r, s.cfg.MaxMessage)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.refuseHTTP(w, conn, rejectLate)
			return
		case err != nil:
			s.refuseHTTP(w, conn, rejectConnect)
			return
		}
		t.connect = body
	}
	if len(t.connect) == 0 {
		t.connect = []byte("{}")
	}
	if _, err := centrifugo.DecodeConnect(t.connect); err != nil {
		s.refuseHTTP(w, conn, rejectConnect)
		return
	}
	if reject := s.stream(w, conn, t); reject != nil {
		s.refuseHTTP(w, conn, reject)
	}
}

var (
	rejectClientOff = handshake.NewReject(http.StatusNotFound, "client_off",
		"The Centrifugo protocol is turned off ({NoClients}).")
	rejectClientFormat = handshake.NewReject(http.StatusBadRequest, "bad_client_format",
		"Invalid format: use json or protobuf.")
	rejectUniFormat = handshake.NewReject(http.StatusBadRequest, "one_way_format",
		"Unidirectional connections support only JSON.")
	rejectConnect = handshake.NewReject(http.StatusBadRequest, "bad_connect",
		"Invalid connect request: use a JSON object in "+connectParameter+" or as the body, such as {\"token\":\"...\"}.")
	rejectLate = handshake.NewReject(http.StatusRequestTimeout, "timeout",
		"The request body did not arrive in time.")
)

// readBody reads a request's body of at most so many bytes.
func readBody(w http.ResponseWriter, r *http.Request, most int) ([]byte, error) {
	return io.ReadAll(http.MaxBytesReader(w, r.Body, int64(most)))
}
