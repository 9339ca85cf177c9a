// Package record reads the JSON records that a gateway sends to clients with format=json
// (gateway/PROTOCOL.md, "Records"). It is a package of its own because clients that share nothing
// else read them: `sluice sub`, the fault programs of bench/chaos and the clients of bench/interop.
// Package bench has a reader of its own, which decodes nothing: it compares how a record begins
// with how the last one began.
//
// The package does not know what records mean one after the other: whether one is missing or
// arrives twice is for its users to find.
package record

import (
	"bytes"
	"encoding/json"
)

// Kind is a kind of record.
type Kind int

const (
	Other       Kind = iota // such as a greeting
	Publication             // a publication
	Position                // where live publications begin
	Gap                     // the same, and publications before it are lost
)

// Record is a record. From and Payload are valid as long as the record's bytes.
type Record struct {
	Kind    Kind
	Epoch   string // "": the record has no position, as of a publication with skip_history
	Offset  uint64
	Prev    uint64 // of a publication: the offset of the one before it
	At      uint64 // of a publication: when it was published, Unix milliseconds by the gateway's clock
	From    []byte // of a publication: the connection that published it, or "api"
	Payload []byte // of a publication
	Binary  bool   // the payload is binary
	Conn    string // of a position or gap: the gateway's ID of this connection
}

// Reader reads records. There may be millions, so those that look as the gateway writes them and
// need no unescaping are parsed by position; encoding/json reads the others.
type Reader struct{ epoch string } // the last one, which the next record has too

// Read reads a record. Its error is one of encoding/json.
func (d *Reader) Read(p []byte) (Record, error) {
	if r, ok := d.plain(p); ok {
		return r, nil
	}
	var j struct {
		Gap    *bool   `json:"gap"`
		Conn   string  `json:"conn"`
		Epoch  string  `json:"epoch"`
		Offset *uint64 `json:"offset"`
		Prev   uint64  `json:"prev"`
		At     uint64  `json:"at"`
		From   string  `json:"from"`
		Data   *string `json:"data"`
		Base64 []byte  `json:"base64"`
	}
	if err := json.Unmarshal(p, &j); err != nil {
		return Record{}, err
	}
	var r Record
	switch {
	case j.Gap != nil:
		r = Record{Kind: Position, Conn: j.Conn}
		if *j.Gap {
			r.Kind = Gap
		}
	case j.Data != nil:
		r = Record{Kind: Publication, From: []byte(j.From), Payload: []byte(*j.Data)}
	case j.Base64 != nil:
		r = Record{Kind: Publication, From: []byte(j.From), Payload: j.Base64, Binary: true}
	}
	if j.Offset != nil {
		r.Epoch, r.Offset, r.Prev = j.Epoch, *j.Offset, j.Prev
	}
	r.At = j.At
	return r, nil
}

// plain reads a publication of text without escapes, with its keys in the order in which the
// gateway writes them.
func (d *Reader) plain(p []byte) (r Record, ok bool) {
	_, p, a := plainString(p, `{"channel":"`)
	epoch, p, b := plainString(p, `,"epoch":"`)
	offset, p, c := plainNumber(p, `,"offset":`)
	prev, p, e := plainNumber(p, `,"prev":`)
	at, p, f := plainNumber(p, `,"at":`)
	from, p, g := plainString(p, `,"from":"`)
	data, p, h := plainString(p, `,"data":"`)
	if !(a && b && c && e && f && g && h) || string(p) != "}" {
		return r, false
	}
	if string(epoch) != d.epoch {
		d.epoch = string(epoch)
	}
	return Record{Kind: Publication, Epoch: d.epoch, Offset: offset, Prev: prev, At: at, From: from, Payload: data}, true
}

// plainString cuts the prefix before and the text up to the next quote off p, if the text
// contains no escape.
func plainString(p []byte, before string) (text, rest []byte, ok bool) {
	if len(p) < len(before) || string(p[:len(before)]) != before {
		return nil, nil, false
	}
	p = p[len(before):]
	end := bytes.IndexByte(p, '"')
	if end < 0 || bytes.IndexByte(p[:end], '\\') >= 0 {
		return nil, nil, false
	}
	return p[:end], p[end+1:], true
}

// plainNumber cuts the prefix before and the digits after it off p.
func plainNumber(p []byte, before string) (n uint64, rest []byte, ok bool) {
	if len(p) < len(before) || string(p[:len(before)]) != before {
		return 0, nil, false
	}
	p = p[len(before):]
	i := 0
	for i < len(p) && i < 19 && '0' <= p[i] && p[i] <= '9' { // 19 digits always fit
		n = 10*n + uint64(p[i]-'0')
		i++
	}
	return n, p[i:], i > 0
}
