package centrifugo

import (
	"testing"
	"unsafe"

	"sluice/gateway/loop"
)

// A command that waits costs little beside itself. The loop's part is 64 bytes, and what continues
// a verdict captures up to 64.
func TestSizeOfWhatWaits(t *testing.T) {
	const loops = 64
	for name, n := range map[string]uintptr{
		"a verdict":      unsafe.Sizeof(waiting{}) + unsafe.Sizeof(verdict{}) + 64,
		"a subscription": unsafe.Sizeof(waiting{}) + unsafe.Sizeof(doing{}) + unsafe.Sizeof(verdict{}) + 64,
		"a publication":  unsafe.Sizeof(waiting{}) + unsafe.Sizeof(loop.Publishing{}) + unsafe.Sizeof(publication{}),
	} {
		if t.Logf("%s: %d bytes", name, n+loops); n+loops > 512 {
			t.Errorf("%s takes %d bytes, want 512 at most", name, n+loops)
		}
	}
}
