package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sluice/gateway/setting"
)

// reader reads JSON that is valid, and continues after each fault.
type reader struct {
	faults   []error
	in       Place // what it reads
	readFile func(name string) ([]byte, error)
}

// fault reports what is wrong with the value at a path; "" is the file as a whole.
func (r *reader) fault(where, format string, args ...any) {
	in := r.in
	if strings.HasPrefix(where, "--") {
		in = InFlag
	}
	r.faults = append(r.faults, Fault{in, where, fmt.Errorf(format, args...)})
}

// field is a key that an object may have.
type field struct {
	name string
	read func(where string, raw json.RawMessage)
}

// refused returns a field that sluice does not support.
func (r *reader) refused(name, why string) field {
	return field{name, func(where string, _ json.RawMessage) { r.fault(where, "not supported: %s; remove it", why) }}
}

// syntax reports JSON that is not valid, so that later steps need not look for it.
func (r *reader) syntax(data []byte) {
	if len(bytes.TrimSpace(data)) == 0 {
		r.fault("", "the file is empty; write at least {}")
		return
	}
	err := json.Unmarshal(data, new(json.RawMessage))
	if wrong, ok := errors.AsType[*json.SyntaxError](err); ok {
		before := data[:min(max(int(wrong.Offset)-1, 0), len(data))]
		line, column := bytes.Count(before, []byte("\n"))+1, len(before)-bytes.LastIndexByte(before, '\n')
		r.fault("", "line %d, column %d: invalid JSON: %v. The mistake is at or just before this position", line, column, wrong)
	} else if err != nil {
		r.fault("", "invalid JSON: %v", err)
	}
}

// object reads an object with these fields. Of a repeated key the first value is read. It returns
// which keys there are.
func (r *reader) object(where string, raw json.RawMessage, fields ...field) map[string]bool {
	seen := make(map[string]bool)
	if kind(raw) != "an object" {
		r.fault(where, "it is %s; write an object, {...}", kind(raw))
		return seen
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	repeated := make(map[string]bool)
	r.members(raw, func(key string, value json.RawMessage) {
		at := join(where, key)
		if seen[key] {
			if !repeated[key] {
				r.fault(at, "it appears more than once; remove all but one")
			}
			repeated[key] = true
			return
		}
		seen[key] = true
		for _, f := range fields {
			if f.name == key {
				f.read(at, value)
				return
			}
		}
		if name := setting.Nearest(key, names); name != "" {
			r.fault(at, "the key is unknown: did you mean %q?", name)
			return
		}
		r.fault(at, "the key is unknown; remove it")
	})
	return seen
}

// members calls f for each member of an object, which must be valid.
func (r *reader) members(raw json.RawMessage, f func(key string, value json.RawMessage)) {
	d := json.NewDecoder(bytes.NewReader(raw))
	must(d.Token()) // '{'
	for d.More() {
		key := must(d.Token()).(string)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			panic(err) // syntax has let it pass
		}
		f(key, value)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err) // syntax has let it pass
	}
	return value
}

// array calls f for each element of an array.
func (r *reader) array(where string, raw json.RawMessage, f func(where string, raw json.RawMessage)) {
	var list []json.RawMessage
	if kind(raw) != "an array" || json.Unmarshal(raw, &list) != nil {
		r.fault(where, "it is %s; write an array, [...]", kind(raw))
		return
	}
	for i, value := range list {
		f(fmt.Sprintf("%s[%d]", where, i), value)
	}
}

// The following return fields that read a value of one type into a variable.

func (r *reader) text(name string, to *string) field {
	return field{name, func(where string, raw json.RawMessage) {
		if kind(raw) != "a string" || json.Unmarshal(raw, to) != nil {
			r.fault(where, "it is %s; write a string", kind(raw))
		}
	}}
}

func (r *reader) flag(name string, to *bool) field {
	return field{name, func(where string, raw json.RawMessage) {
		if kind(raw) != "a boolean" || json.Unmarshal(raw, to) != nil {
			r.fault(where, "it is %s; write true or false, without quotes", kind(raw))
		}
	}}
}

func (r *reader) number(name string, to *int, least, most int) field {
	return field{name, func(where string, raw json.RawMessage) {
		n, err := strconv.Atoi(string(raw))
		if kind(raw) != "a number" || err != nil || n < least || n > most {
			r.fault(where, "write an integer from %d to %d, without quotes", least, most)
			return
		}
		*to = n
	}}
}

func (r *reader) duration(name string, to *time.Duration, check func(time.Duration) error) field {
	return field{name, func(where string, raw json.RawMessage) {
		var s string
		if kind(raw) == "a number" {
			r.fault(where, `a number has no unit; write a string with a unit, for example "1s"`)
			return
		}
		if kind(raw) != "a string" || json.Unmarshal(raw, &s) != nil {
			r.fault(where, `it is %s; write a string with a unit, for example "1s"`, kind(raw))
			return
		}
		d, err := time.ParseDuration(s)
		if err != nil {
			r.fault(where, `%s is not a duration with a unit; write, for example, "500ms", "1s" or "2m"`, quoted(s))
			return
		}
		if err := check(d); err != nil {
			r.fault(where, "%w", err)
			return
		}
		*to = d
	}}
}

func (r *reader) texts(name string, to *[]string) field {
	return field{name, func(where string, raw json.RawMessage) {
		r.array(where, raw, func(where string, raw json.RawMessage) {
			var s string
			r.text("", &s).read(where, raw)
			*to = append(*to, s)
		})
	}}
}

// kind returns the kind of a JSON value in words.
func kind(raw json.RawMessage) string {
	switch bytes.TrimSpace(raw)[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// shownMax bounds the bytes of a file that a message repeats.
const shownMax = 64

// quoted returns a name as messages show it.
func quoted(s string) string {
	if len(s) > shownMax {
		s = strings.ToValidUTF8(s[:shownMax], "") + "..."
	}
	return strconv.Quote(s)
}

// join returns the path of a key. One that would be mistaken for several is quoted.
func join(where, key string) string {
	if key == "" || len(key) > shownMax || strings.ContainsFunc(key, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-'
	}) {
		key = quoted(key)
	}
	if where == "" {
		return key
	}
	return where + "." + key
}
