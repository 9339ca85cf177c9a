package handover

import (
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/gateway/saved"
	"sluice/poller"
)

// pair returns both ends of a socket pair.
func pair(t testing.TB) (a, b *conn) {
	t.Helper()
	x, y, err := poller.MessagePair()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = newConn(x); err == nil {
		b, err = newConn(y)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.close(); b.close() })
	return a, b
}

// files returns open files, which are closed with the test.
func files(t testing.TB, n int) (fds []int) {
	t.Helper()
	for range n {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		fds = append(fds, int(f.Fd()))
	}
	return fds
}

// descriptors counts those of the process.
func descriptors(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func patience() time.Time { return time.Now().Add(30 * time.Second) }

// TestCutOffDescriptors sends more descriptors than the receiver has room for, as one has that is at its limit of open
// files: recvmsg(2) keeps some of them silent but for a flag.
func TestCutOffDescriptors(t *testing.T) {
	a, b := pair(t)
	fds := files(t, 9)
	b.oob = make([]byte, unix.CmsgSpace(4*2))
	before := descriptors(t)
	if sent, err := (&Out{conn: a}).Pass([]uint64{1, 2, 3, 4, 5, 6, 7, 8, 9}, fds); !sent || err != nil {
		t.Fatal(sent, err)
	}
	if _, err := b.receive(patience()); err == nil || !strings.Contains(err.Error(), "the limit of open files may be too low") {
		t.Errorf("got %v, want that something was cut off", err)
	}
	if now := descriptors(t); now != before {
		t.Errorf("%d descriptors are open, want %d", now, before)
	}
}

// TestMalformedMessages sends what is no message, or one with other descriptors than it names: the new process refuses,
// takes nothing of it, and keeps no descriptor.
func TestMalformedMessages(t *testing.T) {
	f, meta, err := write("test", []byte("records"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	bad := meta
	bad.sum++
	short := meta
	short.size--
	open, err := poller.MemoryFile("test")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	fds := files(t, 3)
	final := int(f.Fd())
	tests := []struct {
		name string
		b    []byte
		fds  []int
		want string
	}{
		{"a byte", []byte{byte(kindGone)}, nil, "cut off"},
		{"longer than a message may be", append(begin(kindGone), make([]byte, messageMax)...), nil, "cut off"},
		{"another version", []byte{byte(kindGone), version + 1, 0}, nil, "unknown version 2"},
		{"of the new process", begin(kindStarted), nil, "got started"},
		{"unknown", begin(99), nil, "got message 99"},
		{"fewer descriptors than connections", appendIDs(begin(kindPassed), []uint64{1, 2}), fds[:1], "came with 1 descriptors, want 2"},
		{"more descriptors than connections", appendIDs(begin(kindPassed), []uint64{1}), fds[:3], "came with 3 descriptors, want 1"},
		{"a list of connections that ends early", append(begin(kindPassed), 2, 1), fds[:2], "truncated or malformed"},
		{"a list of connections that goes on", append(appendIDs(begin(kindGone), []uint64{1}), 7), nil, "truncated or malformed"},
		{"more listeners than descriptors", append(begin(kindListeners), 2, 1, 'a', 1, 'b'), fds[:1], "came with 1 descriptors, want 2"},
		{"complete, with a descriptor", begin(kindComplete), fds[:1], "came with 1 descriptors, want 0"},
		{"complete, of another version", []byte{byte(kindComplete), version + 1}, nil, "unknown version 2"},
		{"records without a file", meta.append(begin(kindFinal)), nil, "came with 0 descriptors, want 1"},
		{"records with another checksum", bad.append(begin(kindFinal)), []int{final}, "has the checksum"},
		{"records with another size", short.append(begin(kindFinal)), []int{final}, "a file of 7 bytes, want 6"},
		{"records that may still change", meta.append(begin(kindFinal)), []int{int(open.Fd())}, "not sealed"},
		{"a piece with another checksum", bad.append(begin(kindPiece)), []int{final}, "has the checksum"},
		{"a piece in no memory file", meta.append(begin(kindPiece)), fds[:1], "F_GET_SEALS"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := pair(t)
			before := descriptors(t)
			if sent, err := a.trySend(test.b, test.fds...); !sent || err != nil {
				t.Fatal(sent, err)
			}
			k := &taking{n: newToy(), conn: b, at: func(string) {}}
			m, err := b.receive(patience())
			if err == nil {
				_, err = k.message(&m)
				m.drop()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			if n := len(k.n.(*toy).conns); n > 0 {
				t.Errorf("%d connections were taken", n)
			}
			if now := descriptors(t); now != before {
				t.Errorf("%d descriptors are open, want %d", now, before)
			}
		})
	}
}

// TestReceive receives messages in their order, and then the end of the other process.
func TestReceive(t *testing.T) {
	a, b := pair(t)
	fds := files(t, RightsMax)
	ids := make([]uint64, RightsMax)
	for i := range ids {
		ids[i] = 1<<63 + uint64(i) // as long as they can be
	}
	out := &Out{conn: a}
	if sent, err := out.Pass(ids, fds); !sent || err != nil {
		t.Fatal(sent, err)
	}
	for b := range 3 {
		if sent, err := out.Gone([]uint64{uint64(b)}); !sent || err != nil {
			t.Fatal(sent, err)
		}
	}
	a.close()
	m, err := b.receive(patience())
	if err != nil || m.kind != kindPassed || len(readIDs(m.body)) != RightsMax || m.end(RightsMax) != nil {
		t.Fatalf("%v with %d descriptors: %v", m.kind, len(m.fds), err)
	}
	for _, fd := range m.fds {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Fatalf("descriptor %d: flags %#x, %v: a program that is executed must not have it", fd, flags, err)
		}
	}
	m.drop()
	for i := range 3 {
		if m, err := b.receive(patience()); err != nil || m.kind != kindGone || readIDs(m.body)[0] != uint64(i) {
			t.Fatalf("message %d: %v, %v", i, m.kind, err)
		}
	}
	if _, err := b.receive(patience()); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
}

// TestMessages compares messages with the form that version 1 has: another one is another version.
func TestMessages(t *testing.T) {
	hello := Hello{Version: "1.2", Least: 1, Most: 300, Descriptors: 1024}
	welcome := Welcome{Version: "1.1", Format: 300, Connections: 10000, Needs: []byte("{}")}
	for _, test := range []struct {
		name string
		got  []byte
		want string
	}{
		{"hello", hello.append(), "0101" + "03312e32" + "01" + "ac02" + "8008"},
		{"welcome", welcome.append(), "0301" + "03312e31" + "ac02" + "904e" + "027b7d"},
		{"passed", appendIDs(begin(kindPassed), []uint64{1, 300}), "0601" + "02" + "01" + "ac02"},
		{"gone", appendIDs(begin(kindGone), nil), "0701" + "00"},
		{"final", file{300, 0xdeadbeef}.append(begin(kindFinal)), "0c01" + "ac02" + "effdb6f50d"},
		{"bye", begin(kindBye), "1201"},
	} {
		if got := hex.EncodeToString(test.got); got != test.want {
			t.Errorf("%s is %s, want %s", test.name, got, test.want)
		}
	}
	body := func(b []byte) *saved.Reader { return saved.Read("a message", b[1:], version) }
	if got := readHello(body(hello.append())); got != hello {
		t.Errorf("%+v, want %+v", got, hello)
	}
	if got := readWelcome(body(welcome.append())); got.Version != welcome.Version || got.Format != welcome.Format || got.Connections != welcome.Connections || string(got.Needs) != string(welcome.Needs) {
		t.Errorf("%+v, want %+v", got, welcome)
	}
}

// FuzzMessage has the new process take any message, with some descriptors.
func FuzzMessage(f *testing.F) {
	meta := file{7, 1}
	f.Add(appendIDs(begin(kindPassed), []uint64{1, 2}), uint8(2))
	f.Add(append(begin(kindListeners), 1, 1, 'a'), uint8(1))
	f.Add(meta.append(begin(kindFinal)), uint8(1))
	f.Add(meta.append(begin(kindPiece)), uint8(1))
	f.Add(begin(kindComplete), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		if len(b) < 2 || len(b) > messageMax {
			return
		}
		x, y := pair(t)
		fds := files(t, int(n%4))
		before := descriptors(t)
		if sent, err := x.trySend(b, fds...); !sent || err != nil {
			t.Fatal(sent, err)
		}
		toy := newToy()
		k := &taking{n: toy, conn: y, at: func(string) {}}
		m, err := y.receive(patience())
		if err == nil {
			if _, err = k.message(&m); err != nil {
				m.drop()
			}
		}
		for _, c := range toy.conns {
			unix.Close(c.fd)
		}
		if now := descriptors(t); now != before {
			t.Errorf("%d descriptors are open, want %d (%v)", now, before, err)
		}
	})
}
