package loop

import (
	"testing"
	"unsafe"
)

// A million idle connections are a million of these records.
func TestSizesOfRecords(t *testing.T) {
	for _, r := range []struct {
		name      string
		got, want uintptr
	}{
		{"a connection", unsafe.Sizeof(Conn{}), 112},
		{"what few connections have", unsafe.Sizeof(extra{}), 64},
		{"a subscription in its group", unsafe.Sizeof(sub{}), 24},
	} {
		if r.got != r.want {
			t.Errorf("%s has %d bytes, want %d", r.name, r.got, r.want)
		}
	}
}
