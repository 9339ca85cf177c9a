package namespace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Parse reads a namespaces file. Its error lists all errors in the file, each with its
// namespace and option, what is wrong, why, and how to fix it. The Set does not retain data.
func Parse(data []byte) (*Set, error) {
	if err := syntax(data); err != nil {
		return nil, err
	}
	p := parser{set: Default(Options{})}
	p.file(string(bytes.TrimSpace(data)))
	if p.faults != nil {
		return nil, errors.Join(p.faults...)
	}
	return p.set, nil
}

// syntax checks that data is one JSON value, so that later steps need not look for
// syntax errors.
func syntax(data []byte) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New(`the file is empty; write at least {"namespaces": []}`)
	}
	err := json.Unmarshal(data, new(json.RawMessage))
	if wrong, ok := errors.AsType[*json.SyntaxError](err); ok {
		before := data[:min(max(int(wrong.Offset)-1, 0), len(data))]
		line := bytes.Count(before, []byte("\n")) + 1
		column := len(before) - (bytes.LastIndexByte(before, '\n') + 1) + 1
		return fmt.Errorf("line %d, column %d: invalid JSON: %v. The mistake is at or just before this position", line, column, wrong)
	}
	return err
}

// A member is a key of a JSON object and its value, not yet read.
type member struct{ key, raw string }

// members returns the members of a JSON object, which must be valid.
func members(object string) []member {
	var list []member
	d := json.NewDecoder(strings.NewReader(object))
	d.Token() // '{': the caller has looked
	for d.More() {
		key, err := d.Token()
		var raw json.RawMessage
		if err == nil {
			err = d.Decode(&raw)
		}
		if err != nil {
			panic(err) // syntax has let it pass
		}
		list = append(list, member{key.(string), string(raw)})
	}
	return list
}

// elements returns the first limit elements of a JSON array, which must be valid, and
// whether these are all.
func elements(array string, limit int) (list []string, all bool) {
	d := json.NewDecoder(strings.NewReader(array))
	d.Token() // '[': the caller has looked
	for d.More() {
		if len(list) == limit {
			return list, false
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			panic(err) // syntax has let it pass
		}
		list = append(list, string(raw))
	}
	return list, true
}

// kind returns the kind of a JSON value in words.
func kind(raw string) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "an empty value"
	}
	return "a number"
}

// text reads a JSON string.
func text(raw string) (string, bool) {
	var s string
	if kind(raw) != "a string" || json.Unmarshal([]byte(raw), &s) != nil {
		return "", false
	}
	return s, true
}

// shownMax bounds the bytes of the file that a message repeats.
const shownMax = 64

// shown returns a value as messages show it.
func shown(raw string) string {
	raw = strings.Join(strings.Fields(raw), " ")
	if len(raw) > shownMax {
		return strings.ToValidUTF8(raw[:shownMax], "") + "..."
	}
	return raw
}

// quoted returns a key or a name as messages show it.
func quoted(s string) string {
	if len(s) > shownMax {
		return strconv.Quote(strings.ToValidUTF8(s[:shownMax], "") + "...")
	}
	return strconv.Quote(s)
}

func readFlag(raw string) (bool, error) {
	switch raw {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%s is %s; write true or false without quotes", shown(raw), kind(raw))
}

func readHistorySize(o *Options, raw string) error {
	if kind(raw) != "a number" {
		return fmt.Errorf("%s is %s; write the number of publications to keep, without quotes, for example 100",
			shown(raw), kind(raw))
	}
	n, err := strconv.Atoi(raw)
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%s is out of range; write an integer from 0 to %d", shown(raw), historySizeMax)
	}
	if err != nil {
		return fmt.Errorf("%s is not an integer; write one from 0 to %d", shown(raw), historySizeMax)
	}
	o.HistorySize = n
	return nil
}

func readHistoryTTL(o *Options, raw string) error {
	if kind(raw) == "a number" {
		return fmt.Errorf(`%s is a number without a unit; write a string with a unit, for example "300s"`, shown(raw))
	}
	s, ok := text(raw)
	if !ok {
		return fmt.Errorf(`%s is %s; write a string with a unit, for example "300s"`, shown(raw), kind(raw))
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf(`%s is not a duration with a unit: write, for example, "90s", "5m" or "24h"`, quoted(s))
	}
	o.HistoryTTL = d
	return nil
}

func readDurable(o *Options, raw string) error {
	durable, err := readFlag(raw)
	o.Durable = &durable
	return err
}

// readName returns the reader of a hook's name.
func readName(at func(*Options) *string) func(o *Options, raw string) error {
	return func(o *Options, raw string) error {
		s, ok := text(raw)
		if !ok {
			return fmt.Errorf(`%s is not a name; write that of a hook, for example "default"`, shown(raw))
		}
		*at(o) = s
		return nil
	}
}

func readRegex(o *Options, raw string) error {
	s, ok := text(raw)
	if !ok {
		return fmt.Errorf(`%s is %s; write a regular expression in quotes, for example "^[a-z0-9]+$"`, shown(raw), kind(raw))
	}
	if s == "" {
		return nil
	}
	var err error
	if o.ChannelRegex, err = regexp.Compile(s); err != nil {
		return fmt.Errorf("%s is not a regular expression of Go (RE2): %w", quoted(s), err)
	}
	return nil
}

func readRecoveryMode(o *Options, raw string) error {
	s, ok := text(raw)
	switch {
	case ok && (s == "" || s == Stream.String()):
		o.ForceRecoveryMode = Stream
	case ok && s == Cache.String():
		o.ForceRecoveryMode = Cache
	default:
		return fmt.Errorf(`%s is not a recovery mode; write "stream" for everything missed, or "cache" for the newest publication only`, shown(raw))
	}
	return nil
}
