//go:build !faults

package gateway

// plant is where a test with the build tag faults may let a step panic; see plant_on.go.
func (c *conn) plant(string) {}
