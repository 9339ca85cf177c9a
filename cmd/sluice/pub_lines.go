package main

import (
	"bytes"
	"fmt"
	"io"
	"unicode/utf8"
)

const (
	// A batch is confirmed as a whole, so it is small compared with the window of
	// unconfirmed messages.
	batchLinesMax = 1000
	batchBytesMax = 64 << 10
)

// batch is a run of consecutive messages. It is never changed.
type batch struct {
	first int    // number of its first line, from 1
	data  []byte // the messages, with nothing between them
	ends  []int  // where each ends in data
}

// last is the number of its last line.
func (b *batch) last() int { return b.first + len(b.ends) - 1 }

// messages calls f with each until f fails.
func (b *batch) messages(f func(p []byte) error) error {
	start := 0
	for _, end := range b.ends {
		if err := f(b.data[start:end]); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// longest returns the number and the length of the longest message.
func (b *batch) longest() (line, bytes int) {
	start := 0
	for i, end := range b.ends {
		if i == 0 || end-start > bytes {
			line, bytes = b.first+i, end-start
		}
		start = end
	}
	return line, bytes
}

// lines splits an input into batches of lines. Each read of the input that completes a
// line makes a batch of what there is, so a line never waits for the next one; a fast
// input has many lines in each read.
type lines struct {
	input   io.Reader
	max     int  // bytes in a line
	binary  bool // lines need not be UTF-8
	buf     []byte
	begin   int // buf[begin:end] has been read and not returned yet
	end     int
	scanned int   // no newline lies in buf[begin:scanned]
	given   int   // lines returned so far
	ended   error // why the input ended
	refused error // why the next line was rejected
}

func newLines(input io.Reader, lineMax int, binary bool) *lines {
	return &lines{input: input, max: lineMax, binary: binary, buf: make([]byte, batchBytesMax)}
}

// next returns the next batch, or the error after the last one: io.EOF at the end of the
// input.
func (l *lines) next() (*batch, error) {
	for {
		if b := l.take(); len(b.ends) > 0 {
			return b, nil
		}
		if l.refused != nil {
			return nil, l.refused
		}
		if l.ended != nil {
			return nil, l.ended
		}
		l.read()
	}
}

// take returns the complete lines that have been read, up to the limits of a batch.
func (l *lines) take() *batch {
	b := &batch{first: l.given + 1}
	if l.refused != nil {
		return b
	}
	size := 0
	at := l.begin
	for len(b.ends) < batchLinesMax {
		from := max(at, l.scanned)
		n := bytes.IndexByte(l.buf[from:l.end], '\n')
		next := from + n + 1
		line := l.buf[at:max(at, next-1)]
		if n < 0 {
			l.scanned = l.end
			if l.ended != io.EOF || at == l.end {
				if l.end-at > l.max {
					l.tooLong(len(b.ends))
				}
				break
			}
			next, line = l.end, l.buf[at:l.end] // the input ends without a newline
		}
		if len(b.ends) > 0 && size+len(line) > batchBytesMax {
			break
		}
		if !l.good(line, len(b.ends)) {
			break
		}
		size += len(line)
		b.ends = append(b.ends, size)
		at = next
	}
	b.data = make([]byte, 0, size)
	at = l.begin
	start := 0
	for _, end := range b.ends {
		n := end - start
		b.data = append(b.data, l.buf[at:at+n]...)
		at, start = at+n+1, end
	}
	l.begin = min(at, l.end)
	l.given += len(b.ends)
	return b
}

// good checks the line after taken others.
func (l *lines) good(line []byte, taken int) bool {
	switch {
	case len(line) > l.max:
		l.tooLong(taken)
	case !l.binary && !utf8.Valid(line):
		l.refused = fmt.Errorf("line %d is not UTF-8: convert the input, or send it unchanged with --binary", l.given+taken+1)
	default:
		return true
	}
	return false
}

// tooLong rejects the line after taken others.
func (l *lines) tooLong(taken int) {
	l.refused = fmt.Errorf("line %d is longer than %s: split it, or raise --max-line and the gateway's --max-message", l.given+taken+1, formatSize(l.max))
}

// read makes room and reads once.
func (l *lines) read() {
	if l.begin > 0 {
		copy(l.buf, l.buf[l.begin:l.end])
		l.end -= l.begin
		l.scanned = max(0, l.scanned-l.begin)
		l.begin = 0
	}
	if l.end == len(l.buf) {
		l.buf = append(l.buf, make([]byte, len(l.buf))...)
	}
	n, err := l.input.Read(l.buf[l.end:])
	l.end += n
	l.ended = err
	if err != nil && err != io.EOF {
		l.ended = fmt.Errorf("standard input: %w", err)
	}
}
