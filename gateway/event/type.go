package event

import (
	"fmt"
	"strings"

	"sluice/gateway/setting"
)

// Type is what has happened.
type Type uint8

const (
	Occupied     Type = iota + 1 // a channel has its first subscriber
	Vacated                      // a channel has had no subscriber for Config.VacatedDelay
	Connected                    // a client has connected
	Disconnected                 // a client is gone
	Subscribed                   // a client has subscribed to a channel
	Unsubscribed                 // a client has left a channel
	Publication                  // something was published to a channel
	CacheEmpty                   // a client asked for the last publication of a channel that has none

	// Receivers get the following ones whatever they have selected.

	// Digest is a page of a list of all channels of a partition that are occupied. It is asked for
	// by Options.Digest.
	Digest
	// Reset means that nothing is known any more about a partition: all its channels are vacated,
	// except those of which an Occupied follows.
	Reset
	// Resync means that events of a channel were dropped.
	Resync

	typeEnd
)

var typeNames = [typeEnd]string{
	"", "occupied", "vacated", "connected", "disconnected", "subscribed", "unsubscribed", "publication", "cache_empty",
	"digest", "reset", "resync",
}

// String returns the name of the type.
func (t Type) String() string {
	if t == 0 || t >= typeEnd {
		return fmt.Sprintf("event.Type(%d)", uint8(t))
	}
	return typeNames[t]
}

// MarshalText implements encoding.TextMarshaler.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Type) UnmarshalText(text []byte) error {
	for i, name := range typeNames {
		if i > 0 && name == string(text) {
			*t = Type(i)
			return nil
		}
	}
	return fmt.Errorf("unknown event type %q", text)
}

// level reports whether events of the type say what state a channel is in, so that a later one
// makes an earlier one superfluous.
func (t Type) level() bool { return t == Occupied || t == Vacated }

// Types is a set of types.
type Types uint16

// Levels are the types of events that are sent by default.
const Levels = Types(1<<Occupied | 1<<Vacated)

// All are the types that can be selected.
const All = Types(1<<Digest - 1<<Occupied)

// always are the types that cannot be selected, because every receiver gets them.
const always = Types(1<<typeEnd - 1<<Digest)

// Has reports whether a type is in the set.
func (s Types) Has(t Type) bool { return s>>t&1 == 1 }

// ParseTypes returns the set of the types with these names. Its error suggests the nearest name.
func ParseTypes(names []string) (s Types, err error) {
	known := typeNames[Occupied:Digest]
	for _, name := range names {
		var t Type
		if err := t.UnmarshalText([]byte(name)); err != nil || !All.Has(t) {
			if nearest := setting.Nearest(name, known); nearest != "" {
				return 0, fmt.Errorf("unknown event %q: did you mean %q?", name, nearest)
			}
			return 0, fmt.Errorf("unknown event %q; there are %s", name, strings.Join(known, ", "))
		}
		s |= 1 << t
	}
	return s, nil
}
