//go:build !faults

package gateway

// plant is where a test with the build tag faults may let a step panic; see plant_on.go.
func (c *conn) plant(string) {}

func (g *greeting) plant(string) {}

func (a *arrival) plant(string) {}

// plantVerifier is called before each verification of a token; nil for nothing.
var plantVerifier func()
