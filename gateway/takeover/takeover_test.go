package takeover

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"sluice/gateway/channel"
	"sluice/gateway/handover"
	"sluice/gateway/saved"
)

// What the new process's configuration would not accept is named, all at once.
func TestAccepts(t *testing.T) {
	fits := Parts{MaxConnections: 30, MaxChannels: 5, Compression: true, Backing: "memory",
		Off: map[string]string{"bidirectional": "", "unidirectional": ""}}
	live := needs{Plain: map[string]int{"websocket": 10, "event_stream": 15, "bidirectional": 5}, Compressed: 3, Channels: 5, Backing: "memory"}
	tests := []struct {
		name   string
		change func(p *Parts)
		want   []string // nothing: it accepts
	}{
		{"as much as there is", func(*Parts) {}, nil},
		{"a protocol that is off", func(p *Parts) {
			p.Off = map[string]string{"websocket": "{Raw} off", "event_stream": "{Raw} off", "unidirectional": "{NoClients}"}
		}, []string{"Raw off, and 25 of its clients are connected"}},
		{"fewer connections", func(p *Parts) { p.MaxConnections = 29 }, []string{"MaxConnections 29: 30 are connected"}},
		{"fewer channels", func(p *Parts) { p.MaxChannels = 4 }, []string{"MaxChannels 4: there are 5"}},
		{"no compression", func(p *Parts) { p.Compression = false }, []string{"Compression off: 3 clients"}},
		{"another store", func(p *Parts) { p.Backing = "a data directory" }, []string{"backed by a data directory, and not by memory"}},
		{"several", func(p *Parts) { p.MaxConnections, p.MaxChannels = 1, 1 }, []string{"MaxConnections 1: 30 are connected; MaxChannels 1"}},
	}
	for _, test := range tests {
		p := fits
		test.change(&p)
		err := p.accepts(&live)
		if test.want == nil {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want an error with %q", test.name, err, want)
			}
		}
	}
}

// newNew returns a process that takes over, with these parts.
func newNew(t *testing.T, others ...Part) *New {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	o := newOld(t, l)
	o.giving.Thaw()
	o.MaxConnections, o.MaxChannels, o.Others = 10, 100, others
	n := &New{Build: func(map[string]string, string, uint64) (*Parts, error) { return &o.Parts, nil }, Serve: func(map[string]net.Listener, int, bool) {}, Freed: func() {}}
	if err := n.Agree(handover.Welcome{Needs: []byte(`{"Backing":"","ofALaterVersion":1}`)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.taking.Abandon)
	return n
}

// What the old process has saved is taken as a whole, part by part; nothing else is.
func TestLoad(t *testing.T) {
	records := []byte{1, 42, 0, 0, 0} // version, last ID, no variants, no logs, nothing of loops
	rest := channel.NewSpace(64<<10, 100, channel.NewBudget(1<<20)).Snapshot().Rest(nil)
	state := func(version byte, parts ...string) []byte {
		b := append(saved.AppendBytes([]byte{version}, rest), byte(len(parts)/2))
		for _, p := range parts {
			b = saved.AppendBytes(b, p)
		}
		return saved.AppendBytes(b, records)
	}
	whole := state(savedVersion, "counters", "1 2 3", "of a later version", "?")
	got := ""
	counters := Part{Name: "counters", Load: func(b []byte) error { got = string(b); return nil }}
	if n, err := newNew(t, counters).Load(whole); n != 0 || err != nil || got != "1 2 3" {
		t.Errorf("%d connections, %v; the part is %q", n, err, got)
	}
	failing := Part{Name: "counters", Load: func([]byte) error { return errors.New("cannot be read") }}
	for _, test := range []struct {
		name string
		b    []byte
		part Part
		want string
	}{
		{"another version", state(savedVersion + 1), counters, "unknown version 2; version 1 can be read"},
		{"an older version", state(savedVersion - 1), counters, "unknown version 0; version 1 can be read"},
		{"a part that cannot be read", whole, failing, "counters: cannot be read"},
		{"a byte too many", append(state(savedVersion), 0), counters, "truncated or malformed"},
		{"a byte too few", whole[:len(whole)-1], counters, "truncated or malformed"},
		{"nothing", nil, counters, "truncated or malformed"},
	} {
		if n, err := newNew(t, test.part).Load(test.b); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %d connections, %v; want an error with %q", test.name, n, err, test.want)
		}
	}
}

// Pieces of a kind that is not known are refused.
func TestRestore(t *testing.T) {
	got := ""
	n := newNew(t, Part{Name: "counters", Load: func(b []byte) error { got = string(b); return nil }})
	part := saved.AppendBytes(saved.AppendBytes([]byte{piecePart}, "counters"), "1 2 3")
	if err := n.Restore(part); err != nil || got != "1 2 3" {
		t.Errorf("%v, the part is %q", err, got)
	}
	for name, b := range map[string][]byte{"nothing": nil, "a kind": {99}, "half a part": part[:len(part)-1], "half a log": {pieceLogs, 1, 5, 0}, "another snapshot": {pieceChannels, 99}} {
		if err := n.Restore(b); err == nil {
			t.Errorf("%s is restored", name)
		}
	}
}

// A new process with too few descriptors learns how many it needs.
func TestWelcome(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := newOld(t, l)
	defer o.giving.Thaw()
	o.Passed = map[string]net.Listener{"internal": l}
	if _, err := o.Welcome(handover.Hello{Descriptors: descriptorSpare - 1}); err == nil || !strings.Contains(err.Error(), "may open 63 files, and needs 64") {
		t.Errorf("got %v, want how many it needs", err)
	}
	w, err := o.Welcome(handover.Hello{Descriptors: descriptorSpare})
	if err != nil || w.Format != Format || !strings.Contains(string(w.Needs), l.Addr().String()) {
		t.Errorf("%+v, %v", w, err)
	}
	names, files, err := o.Listeners()
	if err != nil || len(names) != 1 || names[0] != "internal" {
		t.Fatal(names, err)
	}
	defer o.Close()
	n := newNew(t)
	dup, err := os.Open("/proc/self/fd/" + "0")
	if err == nil { // no socket
		if err := n.Listener("internal", dup); err == nil {
			t.Error("a file that is no socket is taken as a listener")
		}
	}
	if err := n.Listener("internal", files[0]); err != nil {
		t.Error(err)
	}
	if got := n.listeners["internal"]; got == nil || got.Addr().String() != l.Addr().String() {
		t.Errorf("%v, want a listener at %v", got, l.Addr())
	} else {
		got.Close()
	}
}
