package clienttest

import (
	"encoding/json"
	"strings"
)

// Record is what a client of format=json gets.
type Record struct {
	Gap      *bool   `json:"gap"`
	Channel  string  `json:"channel"`
	Epoch    string  `json:"epoch"`
	Offset   uint64  `json:"offset"`
	Prev     uint64  `json:"prev"`
	At       int64   `json:"at"`
	From     string  `json:"from"`
	Conn     string  `json:"conn"`
	Data     *string `json:"data"`
	Base64   []byte  `json:"base64"`
	Greeting string  `json:"greeting"`
}

// Record reads one.
func (c *Client) Record(why string) (r Record) {
	c.T.Helper()
	_, p, err := c.Next()
	if err == nil {
		d := json.NewDecoder(strings.NewReader(p))
		d.DisallowUnknownFields()
		err = d.Decode(&r)
	}
	if err != nil {
		c.T.Fatalf("%s: want a record, got %q, %v", why, Brief(p), err)
	}
	return r
}

// WantData reads the record of a publication.
func (c *Client) WantData(why string, offset uint64, text string) Record {
	c.T.Helper()
	r := c.Record(why)
	if r.Gap != nil || r.Offset != offset || r.Data == nil || *r.Data != text {
		c.T.Fatalf("%s: got %+v, want %q at offset %d", why, r, Brief(text), offset)
	}
	return r
}

// WantPosition reads the record that tells where the client begins.
func (c *Client) WantPosition(why string, gap bool, offset uint64) Record {
	c.T.Helper()
	r := c.Record(why)
	if r.Gap == nil || *r.Gap != gap || r.Offset != offset || r.Epoch == "" || r.Conn == "" {
		c.T.Fatalf("%s: got %+v, want gap %t and offset %d", why, r, gap, offset)
	}
	return r
}
