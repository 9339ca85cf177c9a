package centrifugo

import (
	"testing"

	"sluice/gateway/loop"
)

func FuzzLoad(f *testing.F) {
	p := New(Config{}).Variants[0].Protocol
	who := loop.AppendIdentity([]byte{savedVersion, 1 | savedIdentified | savedDisconnect}, &loop.Identity{User: "42", Info: []byte("{}"), ExpireAt: 1})
	f.Add(append(who, 1, 3, 1, 'x', 2, savedJoins, savedDetail, 1, 'y', 0, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := p.Load(new(loop.Loop), b)
		if err == nil && (b[0] != savedVersion || s.Variant == nil || s.Identity.State == nil || len(s.Formats) > len(b)) {
			t.Errorf("%x is read as %+v", b, s)
		}
	})
}
