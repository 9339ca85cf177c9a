package migration

import (
	"fmt"
	"io"
	"strings"
)

// fate is what happened to a key, or to all keys below one.
type fate struct {
	verdict verdict
	at      *node
	text    string
}

type verdict int

const (
	lost    verdict = iota // the result lacks it
	changed                // the result has it, and it is not the same
	kept                   // the result has it
	idle                   // it has no effect, or sluice does so anyway
)

// headings are those of the report, by verdict.
var headings = [...]string{
	lost:    "Not carried over",
	changed: "Carried over with a difference",
	kept:    "Carried over",
	idle:    "Without effect, or always so in sluice",
}

// mark decides about a node and all that is below it, as far as nothing has been decided yet.
func (n *node) mark(v verdict, format string, args ...any) {
	if n == nil {
		return
	}
	f := &fate{v, n, fmt.Sprintf(format, args...)}
	n.leaves(func(leaf *node) {
		if leaf.fate == nil {
			leaf.fate = f
		}
	})
}

// lose is mark with lost, unless it is off.
func (n *node) lose(format string, args ...any) {
	if n.off() {
		n.mark(idle, "off")
		return
	}
	n.mark(lost, format, args...)
}

// drop is lose, and takes the node out of the result.
func (n *node) drop(v verdict, format string, args ...any) {
	if n != nil {
		n.dropped = true
		n.mark(v, format, args...)
	}
}

// report prints what happened to each key, and what an operator has to look at.
func (c *conversion) report(w io.Writer) error {
	var b strings.Builder
	groups := make([][]*fate, len(headings))
	keys := make(map[*fate][]string)
	c.root.leaves(func(leaf *node) {
		f := leaf.fate
		if leaf == c.root {
			return // the configuration is empty
		}
		if keys[f] == nil {
			groups[f.verdict] = append(groups[f.verdict], f)
		}
		keys[f] = append(keys[f], strings.TrimPrefix(strings.TrimPrefix(leaf.path, f.at.path), "."))
	})
	if len(c.advice) > 0 {
		fmt.Fprintf(&b, "Decide about these (%d)\n", len(c.advice))
		for _, text := range c.advice {
			fmt.Fprintf(&b, "  %s\n", text)
		}
		b.WriteByte('\n')
	}
	for v, group := range groups {
		if len(group) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s (%d)\n", headings[v], len(group))
		for _, f := range group {
			b.WriteString("  " + printable(f.at.path))
			if below := keys[f]; len(below) > 1 || below[0] != "" {
				fmt.Fprintf(&b, " (%s)", printable(strings.Join(below, ", ")))
			}
			fmt.Fprintf(&b, ": %s\n", printable(f.text))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}
