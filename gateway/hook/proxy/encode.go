package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"

	"sluice/gateway/hook"
)

// writer writes a JSON object with the bytes of encoding/json, which Centrifugo uses: HTML is
// escaped, and empty fields are left out.
type writer struct {
	buf []byte
	err error // the first one
}

func (w *writer) key(name string) {
	if w.buf[len(w.buf)-1] != '{' {
		w.buf = append(w.buf, ',')
	}
	w.buf = append(w.buf, '"')
	w.buf = append(w.buf, name...)
	w.buf = append(w.buf, '"', ':')
}

// string writes a field unless it is empty.
func (w *writer) string(name, value string) {
	if value != "" {
		w.always(name, value)
	}
}

// always writes a field even if it is empty.
func (w *writer) always(name, value string) {
	w.key(name)
	w.buf = appendString(w.buf, value)
}

// json writes a field whose value is JSON, unless it is empty.
func (w *writer) json(name string, value []byte) {
	if len(value) == 0 || w.err != nil {
		return
	}
	w.key(name)
	start := len(w.buf)
	b := bytes.NewBuffer(w.buf)
	if w.err = json.Compact(b, value); w.err != nil {
		return
	}
	w.buf = b.Bytes()
	if compact := w.buf[start:]; hasHTML(compact) {
		var escaped bytes.Buffer
		json.HTMLEscape(&escaped, compact)
		w.buf = append(w.buf[:start], escaped.Bytes()...)
	}
}

// payload writes what a client has sent.
func (w *writer) payload(data []byte, binary bool) {
	if !binary {
		w.json("data", data)
		return
	}
	if len(data) > 0 {
		w.key("b64data")
		w.buf = append(w.buf, '"')
		w.buf = base64.StdEncoding.AppendEncode(w.buf, data)
		w.buf = append(w.buf, '"')
	}
}

func (w *writer) strings(name string, list []string) {
	for i, s := range list {
		if i == 0 {
			w.key(name)
			w.buf = append(w.buf, '[')
		} else {
			w.buf = append(w.buf, ',')
		}
		w.buf = appendString(w.buf, s)
	}
	if len(list) > 0 {
		w.buf = append(w.buf, ']')
	}
}

// hasHTML reports whether json.HTMLEscape would change JSON.
func hasHTML(b []byte) bool {
	for i, c := range b {
		switch c {
		case '<', '>', '&':
			return true
		case 0xe2: // U+2028 and U+2029 are E2 80 A8 and E2 80 A9
			if i+2 < len(b) && b[i+1] == 0x80 && b[i+2]&^1 == 0xa8 {
				return true
			}
		}
	}
	return false
}

// appendString appends a JSON string. Most of them need no escapes.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			escaped, err := json.Marshal(s)
			if err != nil {
				panic(err) // a string is always JSON
			}
			return append(dst, escaped...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// begin writes what all requests have in common. id is the client's.
func (w *writer) begin(e *Endpoint, id string, who *hook.Identity) {
	w.buf = append(w.buf, '{')
	w.string("client", id)
	w.string("transport", who.Transport)
	w.string("protocol", who.Protocol)
	if e.cfg.Binary {
		w.string("encoding", "binary")
	} else {
		w.string("encoding", "json")
	}
}

// meta writes the connection's meta, if it is wanted.
func (w *writer) meta(e *Endpoint, who *hook.Identity) {
	if e.cfg.Meta {
		w.json("meta", who.Meta)
	}
}
