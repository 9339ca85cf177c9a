package client

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"sluice/bench/record"
)

// position is where a subscriber is in a channel: after the publication with that offset.
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
		return position{}, errors.New("must be EPOCH:OFFSET, with the epoch and offset that --json prints")
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
func (p *position) advance(r record.Record) (s step, lost string) {
	before, now := *p, position{r.Epoch, r.Offset}
	known := before.epoch != ""
	switch r.Kind {
	case record.Other:
		return stepNothing, ""
	case record.Position:
		*p = now
		return stepNothing, ""
	case record.Gap:
		*p = now
		if before.epoch == now.epoch && now.offset < before.offset {
			return stepGap, fmt.Sprintf("publications may be lost: the gateway does not know offset %d of epoch %s, and continues after offset %d", before.offset, before.epoch, now.offset)
		}
		if !known || before.epoch == now.epoch {
			return stepGap, fmt.Sprintf("publications after offset %d and up to %d of epoch %s were lost: they are no longer in the gateway's history", before.offset, now.offset, now.epoch)
		}
		return stepGap, fmt.Sprintf("publications after offset %d of epoch %s may be lost: the channel has a new epoch, %s, and continues after offset %d", before.offset, before.epoch, now.epoch, now.offset)
	}
	switch same := before.epoch == now.epoch; {
	case now.epoch == "":
		return stepPublication, ""
	case same && now.offset <= before.offset:
		return stepRepeat, ""
	case !known || same && r.Prev <= before.offset:
		*p = now
		return stepPublication, ""
	case same:
		*p = now
		return stepHole, fmt.Sprintf("publications after offset %d and up to %d of epoch %s are missing, and the gateway did not report a gap", before.offset, r.Prev, now.epoch)
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
