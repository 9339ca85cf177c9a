package raw

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"sluice/gateway/access"
	"sluice/gateway/channel"
	"sluice/gateway/hook"
	"sluice/gateway/hook/client"
	"sluice/gateway/loop"
	"sluice/gateway/wire"
)

var update = flag.Bool("update", false, "write the file of testdata anew")

// The form of what travels of a client about which hooks are asked is that of the file, and is read as what it was.
func TestSavedForm(t *testing.T) {
	p := New(Config{Policy: access.New(access.Config{Hooks: &hook.Set{RPC: (*hook.Caller[*hook.RPCRequest, hook.RPCResult])(nil)}})}).Variants[0].Protocol.(*Protocol)
	x := client.New(hook.Header{{Name: "Cookie", Value: "a=1"}, {Name: "Accept-Language", Value: "de"}})
	x.Is("42", []byte(`{"n":1}`), []byte(`{"m":1}`))
	x.Said(hook.Header{{Name: "X-Token", Value: "t"}})
	x.Accepted()
	who := &loop.Identity{ID: loop.ClientID{1, 2, 3}, User: "42", Info: []byte(`{"n":1}`), ExpireAt: 1 << 31}
	o := &opening{connect: true, granted: true, resumes: true, cors: fieldsOf("Vary: Origin\r\n"), rawStart: rawStart{channel: "news", format: wire.Event{JSON: true}, asks: true,
		NoEcho: true, ask: channel.Ask{Kind: channel.AskSince, At: channel.Position{Epoch: 7, Offset: 8}, N: 9}}}
	in, waits := &state{Client: x, until: 1<<31 + 1}, &state{Client: x, opening: o}
	head := byte(2) | savedIdentity
	form := in.append(loop.AppendIdentity([]byte{savedHooked, head}, who))
	n := len(form)
	form = waits.append(loop.AppendIdentity(append(form, savedHooked, head|savedJSON), who))
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
	for i, b := range [][]byte{want[:n], want[n:]} {
		s, err := p.Load(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		st := s.Identity.State.(*state)
		if got := st.append(loop.AppendIdentity(append([]byte(nil), b[:2]...), s.Identity)); !bytes.Equal(got, b) {
			t.Errorf("%q is read as %q", b, got)
		}
		if s.Variant != p.stream || s.Identified != (i == 0) || i == 1 && st.opening.format != o.format {
			t.Errorf("read as %+v, %+v", s, st.opening)
		}
		for n := range b {
			if _, err := p.Load(nil, b[:n]); err == nil {
				t.Errorf("its first %d bytes are read", n)
			}
		}
	}
}

func FuzzLoad(f *testing.F) {
	p := New(Config{Policy: access.New(access.Config{})}).Variants[0].Protocol
	f.Add([]byte{savedVersion, savedFormat | savedJSON})
	f.Add(loop.AppendIdentity([]byte{savedVersion, 1 | savedIdentity}, &loop.Identity{User: "42", Info: []byte("{}"), ExpireAt: 1}))
	f.Add((&state{Client: client.New(hook.Header{{Name: "a", Value: "b"}}), opening: &opening{rawStart: rawStart{channel: "x"}}}).append(
		loop.AppendIdentity([]byte{savedHooked, 1 | savedIdentity}, &loop.Identity{User: "42"})))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := p.Load(new(loop.Loop), b)
		if err == nil && (b[0] != savedVersion && b[0] != savedHooked || s.Variant == nil) {
			t.Errorf("%x is read as %+v", b, s)
		}
	})
}
