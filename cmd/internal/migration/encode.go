package migration

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"

	"sluice/cmd/internal/cli"
)

// encode returns a node as JSON without what was dropped. Values have the type that sluice
// wants, where Centrifugo accepts several.
func (n *node) encode() json.RawMessage {
	var b bytes.Buffer
	switch n.shape {
	case object:
		b.WriteByte('{')
		for _, child := range n.present() {
			comma(&b)
			b.Write(encoded(child.key))
			b.WriteByte(':')
			b.Write(child.encode())
		}
		b.WriteByte('}')
	case objects:
		b.WriteByte('[')
		for _, child := range n.present() {
			comma(&b)
			b.Write(child.encode())
		}
		b.WriteByte(']')
	default:
		return n.encodeValue()
	}
	return b.Bytes()
}

// present returns the children that were not dropped.
func (n *node) present() (list []*node) {
	for _, child := range n.children {
		if !child.dropped {
			list = append(list, child)
		}
	}
	return list
}

// encodeValue returns a value without children. One that cannot be read stays as it is: what reads
// the result says what is wrong.
func (n *node) encodeValue() json.RawMessage {
	switch {
	case n.key == "history_size" || n.key == "code" || n.key == "status_code":
		if i, err := n.number(); err == nil {
			return json.RawMessage(strconv.FormatInt(i, 10))
		}
	case n.key == "timeout" || n.key == "history_ttl":
		if d, err := n.duration(); err == nil {
			return encoded(cli.FormatDuration(d))
		}
	case n.key == "http_headers" || n.key == "emulated_headers":
		if list, err := n.texts(); err == nil {
			return encoded(append([]string{}, list...)) // never null
		}
	case n.key == "cert_pem" || n.key == "key_pem" || n.key == "server_ca_pem":
		if s, err := n.text(); err == nil {
			return encoded(absolute(s))
		}
	case isText(n.key):
		if s, err := n.text(); err == nil {
			return encoded(s)
		}
	case n.shape == scalar:
		if b, err := n.flag(); err == nil {
			return encoded(b)
		}
	}
	return encoded(n.value)
}

func isText(key string) bool {
	switch key {
	case "name", "endpoint", "message", "reason", "server_name", "channel_regex", "force_recovery_mode", "namespace_boundary", "personal_channel_namespace", "publication_data_format":
		return true
	}
	return strings.HasSuffix(key, "_name")
}

// absolute returns the value of a certificate with an absolute path, if it is a path.
func absolute(s string) string {
	const begin = "-----BEGIN"
	if b, err := base64.StdEncoding.DecodeString(s); s == "" || strings.Contains(s, begin) || err == nil && strings.Contains(string(b), begin) {
		return s
	}
	if path, err := filepath.Abs(s); err == nil {
		return path
	}
	return s
}

func comma(b *bytes.Buffer) {
	if last := b.Bytes()[b.Len()-1]; last != '{' && last != '[' {
		b.WriteByte(',')
	}
}

// encoded returns a value as JSON.
func encoded(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // it is made of what JSON can express
	}
	return bytes.TrimSpace(b.Bytes())
}

// objectOf writes a JSON object.
type objectOf struct{ b bytes.Buffer }

func (o *objectOf) add(key string, value json.RawMessage) {
	if o.b.Len() == 0 {
		o.b.WriteByte('{')
	}
	comma(&o.b)
	o.b.Write(encoded(key))
	o.b.WriteByte(':')
	o.b.Write(value)
}

func (o *objectOf) json() json.RawMessage {
	if o.b.Len() == 0 {
		return json.RawMessage("{}")
	}
	return append(bytes.Clone(o.b.Bytes()), '}')
}

func (o *objectOf) empty() bool { return o.b.Len() == 0 }

// indented returns JSON for people.
func indented(raw json.RawMessage) []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		panic(err) // it was made here
	}
	b.WriteByte('\n')
	return b.Bytes()
}
