package centrifugo

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"sluice/gateway/access"
	"sluice/gateway/hook"
	"sluice/gateway/hook/client"
	"sluice/gateway/loop"
)

var update = flag.Bool("update", false, "write the file of testdata anew")

// The form of what travels of a client about which hooks are asked is that of the file, and is read as what it was.
func TestSavedForm(t *testing.T) {
	p := New(Config{Policy: access.New(access.Config{Hooks: &hook.Set{RPC: (*hook.Caller[*hook.RPCRequest, hook.RPCResult])(nil)}})}).Variants[0].Protocol.(*Protocol)
	x := client.New(hook.Header{{Name: "Cookie", Value: "a=1"}})
	x.Is("42", []byte(`{"n":1}`), []byte(`{"m":1}`))
	x.Said(hook.Header{{Name: "X-Token", Value: "t"}})
	form := loop.AppendIdentity([]byte{savedHooked, 2}, &loop.Identity{ID: loop.ClientID{1, 2, 3}, User: "42", Info: []byte(`{"n":1}`), ExpireAt: 1 << 31})
	form = (&hooked{x, []byte(`{"data":1}`)}).append(append(form, 5, 0))
	file := filepath.Join("testdata", "saved-2.bin")
	if *update {
		if err := os.WriteFile(file, form, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(form, want) {
		t.Errorf("what is saved has another form than version %d has had: give it another version, and write a file for it with -update.\n got %q\nwant %q", savedHooked, form, want)
	}
	s, err := p.Load(new(loop.Loop), want)
	if err != nil {
		t.Fatal(err)
	}
	ses := s.Identity.State.(*session)
	if got := ses.hooked.append(nil); !bytes.HasSuffix(want, got) || string(ses.hooked.request) != `{"data":1}` || s.Variant != p.variants[2] {
		t.Errorf("%q is read as %q, %+v", want, got, s)
	}
	for n := range want {
		if _, err := p.Load(new(loop.Loop), want[:n]); err == nil {
			t.Errorf("its first %d bytes are read", n)
		}
	}
}

func FuzzLoad(f *testing.F) {
	p := New(Config{Policy: access.New(access.Config{})}).Variants[0].Protocol
	who := loop.AppendIdentity([]byte{savedVersion, 1 | savedIdentified | savedDisconnect}, &loop.Identity{User: "42", Info: []byte("{}"), ExpireAt: 1})
	f.Add(append(who, 1, 3, 1, 'x', 2, savedJoins, savedDetail, 1, 'y', 0, 2))
	known := loop.AppendIdentity([]byte{savedHooked, 1}, &loop.Identity{User: "42"})
	f.Add((&hooked{client.New(hook.Header{{Name: "a", Value: "b"}}), []byte("{}")}).append(append(known, 1, 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := p.Load(new(loop.Loop), b)
		if err == nil && (b[0] != savedVersion && b[0] != savedHooked || s.Variant == nil || s.Identity.State == nil || len(s.Formats) > len(b)) {
			t.Errorf("%x is read as %+v", b, s)
		}
	})
}
