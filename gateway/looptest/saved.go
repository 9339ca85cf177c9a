package looptest

import (
	"reflect"
	"strings"

	"sluice/gateway/loop"

	"github.com/google/go-cmp/cmp"
)

// WantSaved fails unless what each connection's protocol saves of it is read again as it is, and
// fails to be read in another version, in part, and with more behind it. It returns how many
// connections there are, and how many formats of subscriptions were read.
func (s *Gauges) WantSaved() (n, formats int) {
	s.T.Helper()
	s.Each(func(c *loop.Conn) {
		n++
		v := c.Variant()
		saved := v.Protocol.Save([]byte("before"), c)[len("before"):]
		got, err := v.Protocol.Load(c.Loop(), saved)
		want := loop.Saved{Variant: v, Identity: c.Identity(), Identified: c.Identified()}
		for i := range c.Refs() {
			want.Formats = append(want.Formats, c.Ref(i).Group().Format())
		}
		if f := c.Format(); f != nil && want.Formats == nil {
			want.Formats = append(want.Formats, f) // it is catching up
		}
		formats += len(got.Formats)
		same := cmp.Options{
			cmp.Exporter(func(reflect.Type) bool { return true }),
			cmp.Comparer(func(a, b *loop.Variant) bool { return a == b }),
			cmp.Comparer(func(a, b *loop.Conn) bool { return true }), // of the same user
			cmp.FilterPath(func(p cmp.Path) bool { // keys of tokens do not travel
				f, ok := p.Last().(cmp.StructField)
				return ok && strings.EqualFold(f.Name(), "key")
			}, cmp.Ignore()),
		}
		if diff := cmp.Diff(want, got, same); err != nil || diff != "" {
			s.T.Errorf("%s: %v (-saved +read):\n%s", v.Name, err, diff)
		}
		for i := range saved {
			if _, err := v.Protocol.Load(c.Loop(), saved[:i]); err == nil {
				s.T.Errorf("%s: %d bytes of %d are read", v.Name, i, len(saved))
			}
		}
		if _, err := v.Protocol.Load(c.Loop(), append(saved, 0)); err == nil {
			s.T.Errorf("%s: a byte too many is read", v.Name)
		}
		saved[0] += 100
		if _, err := v.Protocol.Load(c.Loop(), saved); err == nil || !strings.Contains(err.Error(), "version 1") {
			s.T.Errorf("%s: another version is read: %v", v.Name, err)
		}
	})
	return n, formats
}
