package migration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// node is a value of the configuration. A nil node is one that is not there.
type node struct {
	path, key string
	shape     shape
	children  []*node // members of an object, or elements of a list of objects
	value     any     // of a scalar: string, json.Number, bool or nil; of a list of scalars: []any
	fate      *fate   // nil: not decided yet
	dropped   bool    // it is not part of the result
}

type shape int

const (
	scalar shape = iota
	scalars
	object
	objects
)

// depthMax bounds recursion. Centrifugo's own configuration has six levels.
const depthMax = 32

// parse reads a configuration. Keys have no case, as in Centrifugo.
func parse(data []byte) (*node, error) {
	d := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	d.UseNumber()
	root := new(node)
	if err := root.read(d, 0); err != nil {
		return nil, syntax(data, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("there is something behind the JSON object; a configuration is one object")
	}
	if root.shape != object {
		return nil, errors.New("it is not a JSON object, {...}")
	}
	return root, nil
}

// syntax returns an error of reading, with its place.
func syntax(data []byte, err error) error {
	wrong, ok := errors.AsType[*json.SyntaxError](err)
	switch {
	case ok:
		before := data[:min(max(int(wrong.Offset)-1, 0), len(data))]
		err = fmt.Errorf("line %d: %w", bytes.Count(before, []byte("\n"))+1, err)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("it ends too early")
	default:
		return err
	}
	return fmt.Errorf("it is not JSON (%w); convert YAML or TOML first, for example with 'yq -o json config.yaml'", err)
}

// read reads the next value.
func (n *node) read(d *json.Decoder, depth int) error {
	if depth > depthMax {
		return fmt.Errorf("%s: more than %d levels", n.path, depthMax)
	}
	t, err := d.Token()
	if err != nil {
		return err
	}
	switch t {
	case json.Delim('{'):
		n.shape = object
		err = n.readMembers(d, depth)
	case json.Delim('['):
		err = n.readElements(d, depth)
	default:
		n.value = t
	}
	return err
}

func (n *node) readMembers(d *json.Decoder, depth int) error {
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		name := t.(string)
		child := &node{key: name, path: name}
		if known := strings.ToLower(name); !n.free() {
			child.key, child.path = known, known
		}
		if n.path != "" {
			child.path = n.path + "." + child.key
		}
		if err := child.read(d, depth+1); err != nil {
			return err
		}
		if n.get(child.key) != nil {
			return fmt.Errorf("%s is there twice", child.path)
		}
		n.children = append(n.children, child)
	}
	_, err := d.Token()
	return err
}

// free reports whether the members of an object have names of the user's choice.
func (n *node) free() bool { return n.key == "static_headers" || n.key == "static_metadata" }

func (n *node) readElements(d *json.Decoder, depth int) error {
	n.shape = scalars
	for i := 0; d.More(); i++ {
		child := &node{path: fmt.Sprintf("%s[%d]", n.path, i)}
		if err := child.read(d, depth+1); err != nil {
			return err
		}
		if child.shape != scalar {
			n.shape = objects
		}
		n.children = append(n.children, child)
	}
	if n.shape == scalars {
		list := []any{}
		for _, child := range n.children {
			list = append(list, child.value)
		}
		n.children, n.value = nil, list
	}
	_, err := d.Token()
	return err
}

// get returns the node at a path below this one, nil if there is none.
func (n *node) get(path string) *node {
	for name := range strings.SplitSeq(path, ".") {
		if n == nil {
			return nil
		}
		var found *node
		for _, child := range n.children {
			if n.shape == object && child.key == name {
				found = child
			}
		}
		n = found
	}
	return n
}

// each returns the elements of a list of objects.
func (n *node) each() []*node {
	if n == nil || n.shape != objects {
		return nil
	}
	return n.children
}

// leaves calls f for each key below this one, or for this one if there are none.
func (n *node) leaves(f func(*node)) {
	if n == nil {
		return
	}
	if len(n.children) == 0 {
		f(n)
	}
	for _, child := range n.children {
		child.leaves(f)
	}
}

// off reports whether all that is below a node is what Centrifugo's defaults are for most
// options: false, 0, empty or null.
func (n *node) off() bool {
	off := true
	n.leaves(func(leaf *node) {
		switch v := leaf.value.(type) {
		case string:
			d, err := time.ParseDuration(v)
			off = off && (v == "" || err == nil && d == 0)
		case json.Number:
			f, err := v.Float64()
			off = off && err == nil && f == 0
		case bool:
			off = off && !v
		case []any:
			off = off && len(v) == 0
		}
	})
	return off
}

// null reports whether a node is not there, or null, which is the same.
func (n *node) null() bool { return n == nil || n.shape == scalar && n.value == nil }

// The following return values as Centrifugo reads them: numbers can be in quotes, and a number
// is a duration in nanoseconds. A node that is not there is the zero value.

var (
	errText     = errors.New("it is not a text")
	errNumber   = errors.New("it is not an integer")
	errFlag     = errors.New("it is neither true nor false")
	errDuration = errors.New(`it is not a duration with a unit, such as "1s"`)
	errList     = errors.New("it is not a list of texts")
)

func (n *node) text() (string, error) {
	if n.null() {
		return "", nil
	}
	switch v := n.value.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	}
	return "", errText
}

func (n *node) number() (int64, error) {
	s, err := n.text()
	if s == "" && err == nil {
		return 0, nil
	}
	if err != nil {
		return 0, errNumber
	}
	i, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return 0, errNumber
	}
	return i, nil
}

func (n *node) flag() (bool, error) {
	if n.null() {
		return false, nil
	}
	switch v := n.value.(type) {
	case bool:
		return v, nil
	case string:
		if v == "" {
			return false, nil
		}
		if b, err := strconv.ParseBool(v); err == nil {
			return b, nil
		}
	case json.Number:
		return !n.off(), nil
	}
	return false, errFlag
}

// on reports whether a node is true.
func (n *node) on() bool {
	on, err := n.flag()
	return on && err == nil
}

func (n *node) duration() (time.Duration, error) {
	if n.null() {
		return 0, nil
	}
	switch v := n.value.(type) {
	case string:
		if d, err := time.ParseDuration(v); err == nil {
			return d, nil
		}
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return time.Duration(i), nil
		}
	}
	return 0, errDuration
}

func (n *node) texts() (list []string, err error) {
	if n.null() {
		return nil, nil
	}
	if s, ok := n.value.(string); ok {
		return []string{s}, nil
	}
	values, ok := n.value.([]any)
	if !ok {
		return nil, errList
	}
	for _, v := range values {
		s, ok := v.(string)
		if !ok {
			return nil, errList
		}
		list = append(list, s)
	}
	return list, nil
}
