package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Before v5 Centrifugo had one path for all methods, POST /api, and libraries of that time
// (such as gocent v3) use no other. The body holds one command or several, one on each line; the
// answer has a line for each.

// line is a command of POST /api.
type line struct {
	ID     uint32          `json:"id"` // comes back with the reply
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`

	call call // nil if the method is unknown
}

// lineReply is the answer to one.
type lineReply struct {
	ID uint32 `json:"id,omitempty"`
	reply
}

// serveLines carries out the commands of POST /api, one after the other. All of them are decoded
// first: a malformed body changes nothing.
func (h *Handler) serveLines(w http.ResponseWriter, r *http.Request, body []byte) {
	lines, refusal := decodeLines(body)
	if refusal != nil {
		h.refuse(w, r, http.StatusBadRequest, refusal)
		return
	}
	replies := make([]any, len(lines))
	for i, l := range lines {
		answer := lineReply{ID: l.ID}
		if l.call == nil {
			answer.Error = ErrMethodNotFound.With("unknown method: " + methodNames())
		} else if result, err := l.call(r.Context(), h); err != nil {
			answer.Error = h.shown(r.Context(), l.Method, err)
		} else {
			answer.Result = result
		}
		replies[i] = answer
	}
	h.write(w, "", http.StatusOK, replies...)
}

func decodeLines(body []byte) (lines []line, refusal *Error) {
	for d := json.NewDecoder(bytes.NewReader(body)); ; {
		var l line
		switch err := d.Decode(&l); {
		case err == io.EOF && len(lines) > 0:
			return lines, nil
		case err != nil:
			return nil, badRequest(`each line of the body must be {"method":"...","params":{}}; alternatively, send only the params as the body of POST /api/{method}`)
		case len(lines) == commandsMax:
			return nil, ErrLimitExceeded.With(fmt.Sprintf("the body has more than %d commands", commandsMax))
		}
		if m := find(l.Method); m != nil {
			if l.call, refusal = m.decode(l.Params, "params"); refusal != nil {
				return nil, refusal
			}
		}
		lines = append(lines, l)
	}
}
