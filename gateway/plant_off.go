//go:build !faults

package gateway

// plant is where a test with the build tag faults may let a step panic; see plant_on.go.
func (c *conn) plant(string) {}

func (g *greeting) plant(string) {}

func (a *arrival) plant(string) {}

func (j *judgement) plant(string) {}
