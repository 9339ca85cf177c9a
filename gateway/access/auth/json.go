package auth

import (
	"bytes"
	"encoding/json"
	"iter"
	"unicode/utf8"
)

// Package encoding/json accepts names in any case, the last of two equal names, and null
// for everything; in a token each of these would let two readers see different things. So
// it only checks the syntax here, and the few members are walked over by hand, which is
// also several times faster. What is walked over is valid, so there are no errors.

// membersMax bounds the members of a header and of the claims. Identity providers send
// about thirty.
const membersMax = 64

// object reports whether b is a JSON object in UTF-8.
func object(b []byte) bool {
	return utf8.Valid(b) && json.Valid(b) && first(b) == '{'
}

// first returns the first byte of a valid JSON text that is not white space.
func first(b []byte) byte {
	for _, c := range b {
		if !space(c) {
			return c
		}
	}
	return 0
}

func space(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// members yields the members of a valid JSON object: the name, unquoted, and the value as it
// is in the text. The name may share memory with the text.
func members(b []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		var name []byte
		for value := range elements(b) {
			if name == nil {
				name = value
			} else if !yield(unquote(name), value) {
				return
			} else {
				name = nil
			}
		}
	}
}

// elements yields the values in a valid JSON array as they are in the text, or the names and
// values of an object in turn.
func elements(b []byte) iter.Seq[[]byte] {
	return func(yield func(value []byte) bool) {
		for b = b[bytes.IndexAny(b, "{[")+1:]; ; {
			for len(b) > 0 && (space(b[0]) || b[0] == ',' || b[0] == ':') {
				b = b[1:]
			}
			if len(b) == 0 || b[0] == '}' || b[0] == ']' {
				return
			}
			n := span(b)
			value := b[:n:n]
			if b = b[n:]; !yield(value) {
				return
			}
		}
	}
}

// span is the length of the value that b begins with.
func span(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
			if depth < 0 {
				return i // it ended a number or a word
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

// unquote returns a string's value, which shares memory with it if there are no escapes.
func unquote(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		panic("auth: a valid string does not decode: " + err.Error())
	}
	return []byte(s)
}

// text returns a value that is a string.
func text(value []byte) (string, bool) {
	if value[0] != '"' {
		return "", false
	}
	return string(unquote(value)), true
}

// names finds repeated names.
type names struct {
	seen [membersMax][]byte
	n    int
}

func (s *names) add(name []byte) *InvalidError {
	if s.n == membersMax {
		return errMany
	}
	for _, old := range s.seen[:s.n] {
		if bytes.Equal(old, name) {
			return errDuplicate
		}
	}
	s.seen[s.n] = name
	s.n++
	return nil
}

// keep copies a value out of the token, in one line as the Centrifugo protocol needs it.
// It returns nil for null.
func keep(value []byte) []byte {
	if string(value) == "null" {
		return nil
	}
	if bytes.IndexByte(value, '\n') < 0 && bytes.IndexByte(value, '\r') < 0 {
		return bytes.Clone(value)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, value); err != nil {
		panic("auth: a valid value cannot be compacted: " + err.Error())
	}
	return line.Bytes()
}
