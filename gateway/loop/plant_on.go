//go:build faults

package loop

import (
	"sync/atomic"
)

// Planted is called wherever the work for a connection comes by a place that has a name;
// nil for nothing. Without the build tag nothing is left of these places.
var Planted atomic.Pointer[func(c *Conn, place string)]

// GreetingsPlanted is planted for connections in their handshake.
var GreetingsPlanted atomic.Pointer[func(place string)]

// PlantGreeting comes by a place in a handshake.
func PlantGreeting(place string) {
	if f := GreetingsPlanted.Load(); f != nil {
		(*f)(place)
	}
}

// Plant comes by a place. c is nil where no connection is known.
func (c *Conn) Plant(place string) {
	if f := Planted.Load(); f != nil {
		(*f)(c, place)
	}
}

// PlantDue makes the connections due that are newer than id.
func (l *Loop) PlantDue(id uint64) {
	for _, c := range l.conns {
		if c.id > id {
			l.WakeAt(c, l.now)
			l.checked = 0
		}
	}
	l.poller.Wake()
}
