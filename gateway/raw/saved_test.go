package raw

import (
	"testing"

	"sluice/gateway/loop"
)

func FuzzLoad(f *testing.F) {
	p := New(Config{}).Variants[0].Protocol
	f.Add([]byte{savedVersion, savedFormat | savedJSON})
	f.Add(loop.AppendIdentity([]byte{savedVersion, 1 | savedIdentity}, &loop.Identity{User: "42", Info: []byte("{}"), ExpireAt: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := p.Load(new(loop.Loop), b)
		if err == nil && (b[0] != savedVersion || s.Variant == nil) {
			t.Errorf("%x is read as %+v", b, s)
		}
	})
}
