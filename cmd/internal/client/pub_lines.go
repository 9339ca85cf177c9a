package client

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"sluice/gateway/setting"
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

// lines splits an input into batches of lines. A batch ends where the bytes that have been read
// do, so a line never waits for the next one; a fast input has many lines in each read.
type lines struct {
	input  *bufio.Reader
	max    int   // bytes in a line
	binary bool  // lines need not be UTF-8
	given  int   // lines returned so far
	ended  error // why there is no other line
}

func newLines(input io.Reader, lineMax int, binary bool) *lines {
	return &lines{input: bufio.NewReaderSize(input, batchBytesMax), max: lineMax, binary: binary}
}

// next returns the next batch, or the error after the last one: io.EOF at the end of the
// input.
func (l *lines) next() (*batch, error) {
	b := &batch{first: l.given + 1}
	if l.ended == nil {
		l.read(b)
	}
	b.data = slices.Grow(b.data, l.input.Buffered()) // for the lines that came with it
	for l.ended == nil && l.fits(b) {
		l.read(b)
	}
	if len(b.ends) == 0 {
		return nil, l.ended
	}
	l.given = b.last()
	return b, nil
}

// fits reports whether the next line has been read from the input and fits into b.
func (l *lines) fits(b *batch) bool {
	read, _ := l.input.Peek(l.input.Buffered()) // cannot fail
	n := bytes.IndexByte(read, '\n')
	return n >= 0 && len(b.ends) < batchLinesMax && len(b.data)+n <= batchBytesMax
}

// read appends the next line to b, or sets ended.
func (l *lines) read(b *batch) {
	start, number := len(b.data), b.first+len(b.ends)
	var line []byte
	err := bufio.ErrBufferFull
	for err == bufio.ErrBufferFull && len(line) <= l.max {
		var part []byte
		part, err = l.input.ReadSlice('\n')
		b.data = append(b.data, part...)
		line = bytes.TrimSuffix(b.data[start:], []byte("\n"))
	}
	switch {
	case len(line) > l.max:
		l.ended = fmt.Errorf("line %d is longer than %s: split it, or raise --max-line and the gateway's --max-message", number, setting.FormatSize(l.max))
	case err != nil && err != io.EOF:
		l.ended = fmt.Errorf("standard input: %w", err)
	case err == io.EOF && len(line) == 0:
		l.ended = err
	case !l.binary && !utf8.Valid(line):
		l.ended = fmt.Errorf("line %d is not UTF-8: convert the input, or send it unchanged with --binary", number)
	default:
		l.ended = err // a last line may have no newline
		start += len(line)
		b.ends = append(b.ends, start)
	}
	b.data = b.data[:start]
}
