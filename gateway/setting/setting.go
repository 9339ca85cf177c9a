// Package setting reads a program's settings from the tags of a struct, and describes errors in
// them in messages that use the reader's name for each setting.
//
// A setting is declared once, as a field with tags: its name, default, bounds and help. [Rows]
// returns the table of them, from which a command makes its flags and its reference. [Defaults]
// and [Bounds] do the same for programs that fill in the struct themselves.
//
// A program that embeds the gateway knows settings as fields of a struct, an operator as
// flags, variables or keys of a file. Messages contain field names in braces, such as
// {MaxMessage}, which [Names] replaces.
//
// It is a separate package because the packages that accept settings and the parts of the
// gateway that write messages about them do not import each other. It does not know any
// particular setting.
package setting

import (
	"errors"
	"fmt"
	"strings"
)

// Names returns the name that readers of a message use for a field. If it is nil, the field's
// own name is used.
type Names func(field string) string

// Of returns what a field is called.
func (n Names) Of(field string) string {
	if n == nil {
		return field
	}
	return n(field)
}

// Text replaces the fields in braces. Braces with anything but letters after a capital stay,
// and two opening ones stand for one.
func (n Names) Text(text string) string {
	var named strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "{")
		if !ok {
			named.WriteString(text)
			return named.String()
		}
		field, after, _ := strings.Cut(rest, "}")
		named.WriteString(before)
		if isField(field) && len(field) < len(rest) {
			named.WriteString(n.Of(field))
			text = after
		} else {
			named.WriteByte('{')
			text = strings.TrimPrefix(rest, "{")
		}
	}
}

// Literal returns text, such as a user's, as it must be in one with fields in braces.
func Literal(text string) string { return strings.ReplaceAll(text, "{", "{{") }

func isField(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'A' || c > 'Z') && (i == 0 || c < 'a' || c > 'z') {
			return false
		}
	}
	return s != ""
}

// ErrorText returns an error's text. If it wraps an Error, that is the whole text.
func (n Names) ErrorText(err error) string {
	var named Error
	if errors.As(err, &named) {
		return n.Text(string(named))
	}
	return err.Error()
}

// An Error is an error whose text has fields in braces.
type Error string

// Error returns the text with the fields' own names.
func (e Error) Error() string { return Names(nil).Text(string(e)) }

// A Fault describes one error in a setting, or one warning: what is wrong, why, and how to fix
// it.
type Fault struct {
	Field string // name of the field; "" if the fault is not about one
	Value string // the field's value as text; "" if Why does not need it
	Why   string // continues Field and Value; names of other fields are in braces
	Fix   string // likewise
}

// Text returns the fault as a line.
func (f Fault) Text(names Names) string {
	var text strings.Builder
	if f.Field != "" {
		text.WriteString(names.Of(f.Field))
	}
	if f.Value != "" {
		text.WriteString(" " + f.Value)
	}
	if text.Len() > 0 && !strings.HasPrefix(f.Why, ":") {
		text.WriteByte(' ')
	}
	text.WriteString(names.Text(f.Why))
	if f.Fix != "" {
		separator := ": "
		if strings.Contains(f.Why, ":") {
			separator = "; " // one colon is enough for a line
		}
		text.WriteString(separator + names.Text(f.Fix))
	}
	return text.String()
}

// Error returns the fault as a line, with the fields' own names.
func (f Fault) Error() string { return f.Text(nil) }

// Faults are all faults of some settings.
type Faults []Fault

// Add adds a fault. The value is printed; a size is given as text.
func (f *Faults) Add(field string, value any, why, fix string) {
	*f = append(*f, Fault{Field: field, Value: fmt.Sprint(value), Why: why, Fix: fix})
}

// Text returns the faults, a line each.
func (f Faults) Text(names Names) string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Text(names)
	}
	return strings.Join(lines, "\n")
}

// Error returns the faults with the fields' own names.
func (f Faults) Error() string { return f.Text(nil) }

// Unwrap returns each fault as an error.
func (f Faults) Unwrap() []error {
	errs := make([]error, len(f))
	for i := range f {
		errs[i] = f[i]
	}
	return errs
}
