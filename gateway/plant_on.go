//go:build faults

package gateway

import "sync/atomic"

// planted is called wherever the work for a connection comes by a place that has a name;
// nil for nothing. Without the build tag nothing is left of these places.
var planted atomic.Pointer[func(c *conn, place string)]

// greetingsPlanted is planted for connections in their handshake.
var greetingsPlanted atomic.Pointer[func(place string)]

func (g *greeting) plant(place string) { plantGreeting(place) }

func (a *arrival) plant(place string) { plantGreeting(place) }

// plantVerifier is called before each verification of a token.
func plantVerifier() { plantGreeting("verify") }

func plantGreeting(place string) {
	if f := greetingsPlanted.Load(); f != nil {
		(*f)(place)
	}
}

// plant comes by a place. c is nil where no connection is known.
func (c *conn) plant(place string) {
	if f := planted.Load(); f != nil {
		(*f)(c, place)
	}
}
