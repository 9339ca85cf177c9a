package loop

import (
	"errors"
	"strings"

	"sluice/gateway/channel"
)

// SlowRule specifies what happens to slow subscribers of channels whose names match
// Pattern, in which * stands for any run of characters.
type SlowRule struct {
	Pattern string
	// Skip: instead of being disconnected with code 1013, a slow subscriber continues with
	// the newest publication and is notified of a gap. Subscribers whose format cannot
	// express that (raw WebSocket without format=json) are disconnected all the same.
	Skip bool
}

// UnmarshalText parses a rule as an operator writes it: PATTERN=close or PATTERN=skip.
func (r *SlowRule) UnmarshalText(text []byte) error {
	pattern, action := string(text), ""
	if at := strings.LastIndexByte(pattern, '='); at > 0 { // a channel's name may contain one too
		pattern, action = pattern[:at], pattern[at+1:]
	}
	if action != "close" && action != "skip" {
		return errors.New("must be a rule PATTERN=close or PATTERN=skip, such as prices.*=skip")
	}
	*r = SlowRule{Pattern: strings.TrimSpace(pattern), Skip: action == "skip"}
	return nil
}

// SlowRules are rules of which the first that matches a channel applies.
type SlowRules []SlowRule

// Skip reports whether slow subscribers of a channel skip.
func (all SlowRules) Skip(name string) bool {
	for _, r := range all {
		if channel.Fits(r.Pattern, name) {
			return r.Skip
		}
	}
	return false
}
