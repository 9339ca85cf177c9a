package api

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// BatchRequest is several requests in one. Each command is an object with one field, which is
// named after a method and holds its request.
type BatchRequest struct {
	Commands []json.RawMessage `json:"commands"`
	Parallel bool              `json:"parallel,omitempty"` // else one after the other
}

// BatchResponse holds a reply for each command, in order: an object with one field, which is
// named after the method and holds its result, or is named error. It is not wrapped in "result".
type BatchResponse struct {
	Replies []map[string]any `json:"replies"`
}

// command is a decoded command of a batch. Its call is nil if its method is unknown.
type command struct {
	method string
	call   call
}

// serveBatch carries out a batch. All of it is decoded first: a malformed batch changes nothing.
func (h *Handler) serveBatch(w http.ResponseWriter, r *http.Request, body []byte) {
	commands, err := decodeBatch(body)
	if err != nil {
		// Never with 200: libraries look for replies there, and for nothing else.
		h.refuse(w, r, http.StatusBadRequest, err)
		return
	}
	replies := make([]map[string]any, len(commands.list))
	most := 1
	if commands.parallel {
		most = atOnce
	}
	each(len(commands.list), most, func(i int) {
		c := commands.list[i]
		if c.call == nil {
			replies[i] = map[string]any{"error": ErrMethodNotFound.With(fmt.Sprintf("commands[%d] does not name a method that a batch can call", i))}
			return
		}
		result, err := c.call(r.Context(), h)
		if err != nil {
			replies[i] = map[string]any{"error": h.shown(r.Context(), c.method, err)}
			return
		}
		replies[i] = map[string]any{c.method: result}
	})
	h.write(w, "batch", http.StatusOK, BatchResponse{replies})
}

type commands struct {
	list     []command
	parallel bool
}

func decodeBatch(body []byte) (commands, *Error) {
	var r BatchRequest
	if err := decode(body, &r, ""); err != nil {
		return commands{}, err
	}
	switch n := len(r.Commands); {
	case r.Commands == nil:
		return commands{}, badRequest("commands is required")
	case n > commandsMax:
		return commands{}, ErrLimitExceeded.With(fmt.Sprintf("commands has %d entries; the limit is %d", n, commandsMax))
	}
	list := make([]command, len(r.Commands))
	for i, raw := range r.Commands {
		var err *Error
		if list[i], err = decodeCommand(raw, fmt.Sprintf("commands[%d]", i)); err != nil {
			return commands{}, err
		}
	}
	return commands{list, r.Parallel}, nil
}

func decodeCommand(raw json.RawMessage, at string) (c command, err *Error) {
	var fields map[string]json.RawMessage
	if err := decode(raw, &fields, at); err != nil {
		return command{}, err
	}
	for _, m := range methods {
		request := fields[m.name]
		if !given(request) {
			continue
		}
		if c.call != nil {
			return command{}, badRequest("%s has two methods, %s and %s: send one command per method", at, c.method, m.name)
		}
		if c.call, err = m.decode(request, at+"."+m.name); err != nil {
			return command{}, err
		}
		c.method = m.name
	}
	return c, nil
}
