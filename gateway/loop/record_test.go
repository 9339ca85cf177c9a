package loop

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/wire"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the records of testdata anew")

// recordsFile is what this version saves of recordedLoop.
var recordsFile = filepath.Join("testdata", fmt.Sprintf("records-%d.bin", recordVersion))

// recordedLoop returns a loop with a connection in each state that travels.
func recordedLoop(t testing.TB) *Loop {
	l := loopBare(t, loopsConfig{PingInterval: -1, WriteTimeout: -1})
	l.set.loops = []*Loop{l}
	l.set.lastID.Store(7 << idBits)
	add := func(channels ...string) *Conn {
		c := loopConn(l)
		c.bits |= bitPassed
		c.heard, c.pinged = l.now-3, l.now-2
		loopJoin(t, c, channels...)
		return c
	}
	behind, cut, lost := add("news"), add("news"), add("news", "sport")
	for i := range 3 {
		if err := loopPublish(l, "news", fmt.Sprintf("news %d", i), uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	frame := uint64(len(ws.MustCompileFrame(ws.NewTextFrame([]byte("news 0")))))
	behind.block()
	cut.block()
	lost.block()
	behind.sub.sub().cursor, cut.sub.sub().cursor = frame, 2*frame
	cut.sub.cut, cut.since = 3, l.now-4
	lost.sub.sub().cursor = lostCursor + uint64(channel.KindGap)
	lost.bits |= bitLost
	l.lost.push(lost)
	l.paceLater()
	lost.mark()

	add("news").sub.sub().cursor = l.groups[lost.sub.group.key].Log().Head()
	half, kept, out, known := add("sport"), add(), add("sport"), add("sport")
	half.feed([]byte(clienttest.Part(0x01, "the first part, ") + clienttest.Part(0x00, "and more"))[:30])
	half.In.begun = l.now - 1
	kept.bits |= bitGone | bitPeerShut
	kept.putOff([]byte(clienttest.Text("later")))
	out.block()
	out.output().buf = append(out.Out.buf, "sent, not sent"...)
	out.Out.sent, out.Out.pong = len("sent, "), append(out.Out.pong, "pong"...)
	out.mark()
	client := netip.MustParseAddrPort("[2001:db8::1]:4711")
	known.extra().client = &client
	known.extra().identity = &Identity{ID: ClientID{1, 2, 3}, User: "42", Info: []byte(`{"a":1}`), ExpireAt: math.MaxInt32}
	l.Identify(known, "42")
	stream := loopConn(l)
	stream.variant = l.variantIndex(plainStream)
	stream.bits |= bitPassed | bitListen
	stream.beginCatchUp(&catchUp{channel: "old", format: wire.Event{}, flags: 1, blind: true, begun: true,
		ask: channel.Ask{Kind: channel.AskSince, At: channel.Position{Epoch: 77, Offset: 5}}})
	return l
}

// savedLoop returns what is saved of a recordedLoop. The order of logs is any: this is one of them.
func savedLoop(l *Loop) []byte {
	for {
		b := (&Giving{set: l.set}).Save(nil)
		if bytes.Index(b, []byte("news")) < bytes.Index(b, []byte("sport")) {
			return b
		}
	}
}

// describedLoop returns what there is of a loop's connections that travels, a line for each.
func describedLoop(l *Loop) string {
	var all []string
	for _, c := range l.conns {
		var b strings.Builder
		fmt.Fprintf(&b, "%d %s bits %#x heard %d pinged %d", c.id, c.Variant().Name, c.bits&bitsTravel, l.now-c.heard, l.now-c.pinged)
		if c.bits&(bitBlocked|bitMuted) != 0 {
			fmt.Fprintf(&b, " since %d", l.now-c.since)
		}
		if c.ext != nil && c.ext.client != nil {
			fmt.Fprintf(&b, " client %v", *c.ext.client)
		}
		if who := c.Identity(); who != nil {
			fmt.Fprintf(&b, " %v %s %s %d %v", who.ID, who.User, who.Info, who.ExpireAt, c.Identified())
		}
		if c.midMessage() {
			fmt.Fprintf(&b, " message %x begun %d", c.In.frame.Append(nil), l.now-c.In.begun)
		}
		if c.In != nil {
			fmt.Fprintf(&b, " kept %q", c.In.kept.Bytes())
		}
		if o := c.Out; o != nil {
			fmt.Fprintf(&b, " out %q pong %q", o.buf[o.sent:], o.pong)
			if cu := o.catch; cu != nil {
				fmt.Fprintf(&b, " catches up with %q %T %+v blind %v begun %v flags %d", cu.channel, cu.format, cu.ask, cu.blind, cu.begun, cu.flags)
			}
		}
		for i := range c.Refs() {
			r := c.Ref(i)
			s := r.sub()
			fmt.Fprintf(&b, "\n  %q %T lost %d cut %d flags %d direct %v blocked %v", r.Channel(), r.Group().Format(), s.lost(), r.cut, s.flags, s.direct, s.blocked)
			if s.lost() == channel.KindMessage {
				v, ok := r.group.View(s.cursor)
				first, second := v.Bytes(s.cursor, r.group.Log().Head())
				fmt.Fprintf(&b, " due %v %q", ok, append(slices.Clone(first), second...))
			}
		}
		all = append(all, b.String())
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// takingLoop returns a loop that takes connections over, whose IDs begin with those of a recordedLoop.
func takingLoop(t testing.TB, connections int) (*Taking, *Loop) {
	l := loopBare(t, loopsConfig{PingInterval: -1, WriteTimeout: -1})
	l.set.loops = []*Loop{l}
	k := &Taking{set: l.set, do: []chan func(){make(chan func())}, conns: make(map[uint64]added), copied: make(map[uint64][]byte)}
	go func() {
		for do := range k.do[0] {
			do()
		}
	}()
	t.Cleanup(func() { close(k.do[0]) })
	for i := range uint64(connections) {
		id := 7<<idBits + 1 + i
		k.conns[id] = added{c: &Conn{loop: l, id: id, place: place{slot: -1}}}
	}
	return k, l
}

// TestRecords saves a connection in each state, and builds the same ones from that. The form of it is that of the file
// in testdata, as long as its version is the same.
func TestRecords(t *testing.T) {
	from := recordedLoop(t)
	b := savedLoop(from)
	if *update {
		if err := os.WriteFile(recordsFile, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(recordsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, want) {
		t.Errorf("records have another form than version %d has had: raise recordVersion, and write a file for it with -update.\n%s", recordVersion, cmp.Diff(fmt.Sprintf("%q", want), fmt.Sprintf("%q", b)))
	}
	k, to := takingLoop(t, len(from.conns))
	if n, err := k.Load(b); n != len(from.conns) || err != nil {
		t.Fatalf("%d connections (%v), want %d", n, err, len(from.conns))
	}
	if diff := cmp.Diff(describedLoop(from), describedLoop(to)); diff != "" {
		t.Errorf("(- is the old loop)\n%s", diff)
	}
	if err := to.check(); err != nil {
		t.Error(err)
	}
	if got, want := to.set.lastID.Load(), from.set.lastID.Load(); got != want {
		t.Errorf("the last ID is %d, want %d", got, want)
	}
}

// TestRecordsOfOtherVersions has records of another version, of another handover, and damaged ones.
func TestRecordsOfOtherVersions(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "records-*.bin"))
	if err != nil || !slices.Contains(files, recordsFile) {
		t.Fatal(files, err)
	}
	refuse := func(why string, b []byte, connections int, want string) {
		t.Helper()
		k, _ := takingLoop(t, connections)
		if n, err := k.Load(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %d connections, %v; want an error with %q", why, n, err, want)
		}
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if file != recordsFile {
			refuse(file, b, 9, fmt.Sprintf("the unknown version %d", b[0]))
			continue
		}
		for i := range len(b) - 1 {
			refuse(fmt.Sprintf("%d bytes of %d", i, len(b)), b[:i], 9, "")
		}
		refuse("a byte too many", append(slices.Clone(b), 0), 9, "")
		refuse("too few connections", b, 8, "was not passed")
		refuse("too many connections", b, 10, "10 connections were passed, and 9 have records")
		for _, version := range []byte{recordVersion - 1, recordVersion + 1} {
			b[0] = version
			refuse("another version", b, 9, fmt.Sprintf("the unknown version %d; version %d can be read", version, recordVersion))
		}
	}
}

// TestDamagedRecords changes each byte of records: what is taken nevertheless is in order.
func TestDamagedRecords(t *testing.T) {
	b, err := os.ReadFile(recordsFile)
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for i := range b {
		for _, to := range []byte{0, 1, 2, b[i] ^ 1, b[i] ^ 4, b[i] ^ 0x80, 0xff} {
			damaged := slices.Clone(b)
			damaged[i] = to
			k, l := takingLoop(t, 9)
			if _, err := k.Load(damaged); err != nil {
				continue
			}
			taken++
			if err := l.check(); err != nil {
				t.Errorf("byte %d is %#x, and was %#x: %v", i, to, b[i], err)
			}
			for _, c := range l.conns {
				if c.unanswered() { // the protocol cannot open it again
					t.Errorf("byte %d is %#x, and was %#x: a response is held back for ever", i, to, b[i])
				}
			}
		}
	}
	if taken == 0 {
		t.Error("nothing was taken")
	}
}

// FuzzTake has a loop take connections that nobody has saved: an error at most, and what is taken is in order.
func FuzzTake(f *testing.F) {
	from := recordedLoop(f)
	b := savedLoop(from)
	f.Add(b, uint8(len(from.conns)))
	f.Add(append([]byte{recordVersion}, make([]byte, 20)...), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, connections uint8) {
		k, l := takingLoop(t, int(connections))
		n, err := k.Load(b)
		if err != nil {
			return
		}
		if n != int(connections) {
			t.Errorf("%d connections, want %d", n, connections)
		}
		if err := l.check(); err != nil {
			t.Error(err)
		}
	})
}

// FuzzReadRecord reads a record that nobody has saved.
func FuzzReadRecord(f *testing.F) {
	from := recordedLoop(f)
	logs, _ := from.set.savedLogs()
	for _, c := range from.conns {
		f.Add(c.save(nil, logs))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := readRecord(b, 3, 2)
		if err != nil {
			return
		}
		if x.id != recordID(b) || x.variant >= 2 {
			t.Errorf("connection %d, %+v", recordID(b), x)
		}
		for _, r := range x.refs {
			if r.log < 0 || r.log >= 3 {
				t.Errorf("log %d of 3", r.log)
			}
		}
	})
}
