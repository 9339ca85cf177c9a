package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// subRecord is a record of format=json, with the fields that matter here.
type subRecord struct {
	kind    recordKind
	epoch   string
	offset  uint64
	payload []byte // of a publication; valid as long as the record's bytes
}

type recordKind int

const (
	recordOther       recordKind = iota // has no position in the channel: a greeting
	recordPublication                   // a publication
	recordPosition                      // where live publications begin
	recordGap                           // the same, and publications before it are lost
)

// recordReader reads records. There may be millions, so those that look as the gateway
// writes them and need no unescaping are parsed by position; encoding/json reads the
// others.
type recordReader struct{ epoch string } // the last one, which the next record has too

func (d *recordReader) read(p []byte) (subRecord, error) {
	if r, ok := d.plain(p); ok {
		return r, nil
	}
	var j struct {
		Gap    *bool   `json:"gap"`
		Epoch  string  `json:"epoch"`
		Offset *uint64 `json:"offset"`
		Data   *string `json:"data"`
		Base64 []byte  `json:"base64"`
	}
	if err := json.Unmarshal(p, &j); err != nil {
		return subRecord{}, fmt.Errorf("received something other than a format=json record: %w; is --url the address of a gateway of this version?", err)
	}
	if j.Offset == nil {
		return subRecord{}, nil
	}
	r := subRecord{kind: recordPublication, epoch: j.Epoch, offset: *j.Offset, payload: j.Base64}
	switch {
	case j.Gap != nil && *j.Gap:
		r.kind = recordGap
	case j.Gap != nil:
		r.kind = recordPosition
	case j.Data != nil:
		r.payload = []byte(*j.Data)
	}
	return r, nil
}

// plain reads a publication of text without escapes, with its keys in the order
// in which the gateway writes them.
func (d *recordReader) plain(p []byte) (r subRecord, ok bool) {
	_, p, a := plainString(p, `{"channel":"`)
	epoch, p, b := plainString(p, `,"epoch":"`)
	offset, p, c := plainNumber(p, `,"offset":`)
	_, p, e := plainNumber(p, `,"at":`)
	_, p, f := plainString(p, `,"from":"`)
	data, p, g := plainString(p, `,"data":"`)
	if !(a && b && c && e && f && g) || string(p) != "}" {
		return r, false
	}
	if string(epoch) != d.epoch {
		d.epoch = string(epoch)
	}
	return subRecord{recordPublication, d.epoch, offset, data}, true
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

// position is a place in a channel: after the publication with that offset.
type position struct {
	epoch  string // "" if unknown
	offset uint64
}

func (p position) String() string { return p.epoch + ":" + strconv.FormatUint(p.offset, 10) }

// parsePosition reads "EPOCH:OFFSET".
func parsePosition(s string) (p position, err error) {
	i := strings.LastIndexByte(s, ':')
	if i > 0 {
		p.epoch = s[:i]
		p.offset, err = strconv.ParseUint(s[i+1:], 10, 64)
	}
	if i <= 0 || err != nil {
		return position{}, errors.New("must be a position EPOCH:OFFSET, as printed by --json")
	}
	return p, nil
}

// step is what a record means after those before it.
type step int

const (
	stepNothing     step = iota // neither a publication nor a loss
	stepPublication             // the next one
	stepGap                     // the gateway reports that publications are lost
	stepHole                    // a publication, but not the next one
	stepRepeat                  // a publication that has arrived before
)

// advance moves the position to a record and returns what that means; for a gap and a
// hole, lost says what is missing.
func (p *position) advance(r subRecord) (s step, lost string) {
	before, now := *p, position{r.epoch, r.offset}
	known := before.epoch != ""
	switch r.kind {
	case recordOther:
		return stepNothing, ""
	case recordPosition:
		*p = now
		return stepNothing, ""
	case recordGap:
		*p = now
		switch {
		case !known || before.epoch == now.epoch:
			return stepGap, fmt.Sprintf("publications between offset %d and %d of epoch %s were lost: they are no longer in the gateway's history", before.offset, now.offset+1, now.epoch)
		}
		return stepGap, fmt.Sprintf("publications after offset %d of epoch %s may be lost: the channel was restarted with epoch %s, at offset %d", before.offset, before.epoch, now.epoch, now.offset)
	}
	switch {
	case !known || before.epoch == now.epoch && now.offset == before.offset+1:
		*p = now
		return stepPublication, ""
	case before.epoch == now.epoch && now.offset <= before.offset:
		return stepRepeat, ""
	case before.epoch == now.epoch:
		*p = now
		return stepHole, fmt.Sprintf("publications between offset %d and %d of epoch %s are missing, and the gateway did not report a gap", before.offset, now.offset, now.epoch)
	}
	*p = now
	return stepHole, fmt.Sprintf("publications after offset %d of epoch %s may be missing: epoch %s follows at offset %d, and the gateway did not report a gap", before.offset, before.epoch, now.epoch, now.offset)
}

// oneLine returns a record without the line breaks that JSON allows between its parts.
func oneLine(p []byte) []byte {
	if bytes.IndexByte(p, '\n') < 0 {
		return p
	}
	return bytes.ReplaceAll(p, []byte("\n"), []byte(" "))
}
