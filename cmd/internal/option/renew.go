package option

import (
	"cmp"
	"fmt"
	"reflect"
)

// Renew returns the options of another struct of settings of the same type, with the same command line. Resolve then
// reads the environment and the file anew.
func (o *Options) Renew(settings any) *Options {
	n := New(settings)
	n.flags, n.foreign = o.flags, o.foreign
	return n
}

// Same reports whether an option has the value of another one, which is the same option of other settings. Both are
// resolved.
func (o *Option) Same(other *Option) bool { return reflect.DeepEqual(o.value, other.value) }

// A Change is an option that has another value than before, or a file whose content is another one.
type Change struct {
	Before, After *Option
}

// String returns the change as its author knows it: by the place of the new value, or of the old one that is gone.
func (c Change) String() string {
	switch was, is := c.Before, c.After; {
	case was.Text == is.Text:
		return describe(is, is.Text, is.Source) + " (its content has changed)"
	case is.Source.Kind != FromDefault:
		return fmt.Sprintf("%s (now: %s)", describe(is, is.Text, is.Source), cmp.Or(was.Text, "not set"))
	default:
		return fmt.Sprintf("%s = %s is not in the file any more", is.Name, was.Text)
	}
}
