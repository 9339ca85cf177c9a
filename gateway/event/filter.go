package event

import (
	"slices"

	"sluice/gateway/channel"
)

// Filter selects events. Digest, Reset and Resync come with every selection.
type Filter struct {
	Types Types // 0 for Levels
	// Channels are patterns, in which * stands for any run of bytes; one must fit the channel. None
	// means all channels. Events without a channel pass.
	Channels []string
}

func (f *Filter) orDefault() {
	if f.Types == 0 {
		f.Types = Levels
	}
}

// fits reports whether the events of a channel are selected.
func (f *Filter) fits(name string) bool {
	return len(f.Channels) == 0 || name == "" || slices.ContainsFunc(f.Channels, func(p string) bool { return channel.Fits(p, name) })
}

// Accepts reports whether an event is selected.
func (f *Filter) Accepts(t Type, name string) bool { return (f.Types | always).Has(t) && f.fits(name) }
