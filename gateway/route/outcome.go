package route

import "slices"

// An Outcome is what a connection's first request came to: a label of metrics and logs. Only
// NewOutcome makes one, so that each has a label, and an array of 256 counters has one for it.
type Outcome uint8

// labels holds each outcome's label. The zero Outcome stands for what is not counted. It is
// filled while packages are initialised and never changes.
var labels = []string{""}

// NewOutcome returns the outcome with this label, a few lower-case words joined by "_". It is
// for package variables: calls after the packages' initialisation are data races.
func NewOutcome(label string) Outcome {
	if i := slices.Index(labels, label); i > 0 {
		return Outcome(i)
	}
	if len(labels) > 255 {
		panic("route: more than 255 outcomes")
	}
	labels = append(labels, label)
	return Outcome(len(labels) - 1)
}

// String returns the label.
func (o Outcome) String() string { return labels[o] }

// Outcomes returns all outcomes that packages of the program have made.
func Outcomes() []Outcome {
	all := make([]Outcome, 0, len(labels)-1)
	for i := range labels[1:] {
		all = append(all, Outcome(i+1))
	}
	return all
}
