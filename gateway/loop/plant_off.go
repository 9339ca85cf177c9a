//go:build !faults

package loop

// Plant is where a test with the build tag faults may let a step panic; see plant_on.go.
func (c *Conn) Plant(string) {}

// PlantGreeting is the same for handshakes.
func PlantGreeting(string) {}
