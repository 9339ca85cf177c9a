package poller

import (
	"bytes"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// connect gives both sides of a connection of package net.
func connect(t *testing.T, network string) (server, client net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial(network, ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	client.SetDeadline(time.Now().Add(patience))
	return server, client
}

// detach is Detach of a connection that the test closes at its end.
func detach(t *testing.T, c net.Conn) int {
	t.Helper()
	fd, err := Detach(c)
	if err != nil {
		t.Fatal(err)
	}
	return newFDs(t).keep(fd)
}

// awaitReadable waits until fd is readable, by a poller.
func awaitReadable(t *testing.T, l *loop, fd int) {
	t.Helper()
	ready := make(chan Events, 1)
	d := new(Desc)
	var err error
	l.do(func() {
		err = l.Add(d, fd, Readable, handlerFunc(func(e Events) {
			if err := l.Del(d); err != nil {
				t.Error(err)
			}
			ready <- e
		}))
	})
	if err != nil {
		t.Fatal(err)
	}
	receive(t, ready, "the socket to become readable")
}

func TestReadTellsNothingFromEndFromError(t *testing.T) {
	l := newLoop(t)
	server, client := connect(t, "tcp")
	fd := detach(t, server)
	var buf [64]byte
	if n, err := Read(fd, buf[:]); n != 0 || err != nil {
		t.Errorf("nothing there: %d, %v", n, err)
	}
	if _, err := client.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	awaitReadable(t, l, fd)
	if n, err := Read(fd, buf[:0]); n != 0 || err != nil {
		t.Errorf("no room to read: %d, %v", n, err)
	}
	if n, err := Read(fd, buf[:]); string(buf[:n]) != "last words" || err != nil {
		t.Errorf("before the FIN: %q, %v", buf[:n], err)
	}
	awaitReadable(t, l, fd)
	for range 2 {
		if n, err := Read(fd, buf[:]); n != 0 || err != io.EOF {
			t.Errorf("at the FIN: %d, %v, want %v", n, err, io.EOF)
		}
	}
	mustWrite(t, fd, "still heard")
	if n, err := client.Read(buf[:]); string(buf[:n]) != "still heard" {
		t.Errorf("the client read %q, %v", buf[:n], err)
	}
}

func TestErrorsOfASocketComeOut(t *testing.T) {
	l := newLoop(t)
	server, client := connect(t, "tcp")
	fd := detach(t, server)
	if err := client.(*net.TCPConn).SetLinger(0); err != nil { // its Close resets
		t.Fatal(err)
	}
	client.Close()
	events := make(chan Events, 1)
	d := new(Desc)
	l.do(func() {
		if err := l.Add(d, fd, Readable, handlerFunc(func(e Events) {
			if err := l.Del(d); err != nil {
				t.Error(err)
			}
			events <- e
		})); err != nil {
			t.Error(err)
		}
	})
	if e := receive(t, events, "the reset"); e&Hangup == 0 {
		t.Errorf("a reset is told as %v, want hangup", e)
	}
	var buf [8]byte
	if _, err := Read(fd, buf[:]); err != unix.ECONNRESET {
		t.Errorf("reading: %v, want %v", err, unix.ECONNRESET)
	}
	if _, err := Write(fd, []byte("x")); err != unix.EPIPE {
		t.Errorf("writing: %v, want %v", err, unix.EPIPE)
	}
	if got := PeerAddr(fd); got.IsValid() {
		t.Errorf("the peer of a connection that is gone is %v", got)
	}
}

func TestAbortResetsThePeer(t *testing.T) {
	server, client := connect(t, "tcp")
	fd, err := Detach(server)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(SetAbort(fd), Close(fd)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the peer reads: %v, want %v", err, unix.ECONNRESET)
	}
}

func TestShutdownWriteIsAFIN(t *testing.T) {
	server, client := connect(t, "tcp")
	fd := detach(t, server)
	mustWrite(t, fd, "bye")
	if err := ShutdownWrite(fd); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(client); string(b) != "bye" || err != nil {
		t.Errorf("the peer read %q, %v", b, err)
	}
}

func TestFullSocketTakesPartAndTellsWhenItTakesMore(t *testing.T) {
	l := newLoop(t)
	fds := newFDs(t)
	a, b := fds.pair(t)
	payload := make([]byte, 1<<22)
	for i := range payload {
		payload[i] = byte(i * 7 >> 3)
	}
	sent, err := Write(a, payload)
	if err != nil || sent == 0 || sent == len(payload) {
		t.Fatalf("%d of %d bytes written: %v", sent, len(payload), err)
	}
	for { // a few more may fit
		n, err := Write(a, payload[sent:])
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		sent += n
	}
	if n, err := Write(a, nil); n != 0 || err != nil {
		t.Errorf("writing nothing: %d, %v", n, err)
	}

	// The rest goes out as the peer reads, both on one loop.
	var got []byte
	var buf [1 << 16]byte
	done := make(chan struct{})
	var in, out Desc
	writable := 0
	l.do(func() {
		if err := l.Add(&out, a, Writable, handlerFunc(func(e Events) {
			writable++
			n, err := Write(a, payload[sent:])
			if err != nil {
				t.Error(err)
			}
			if sent += n; sent == len(payload) {
				if err := errors.Join(l.Mod(&out, 0), ShutdownWrite(a)); err != nil {
					t.Error(err)
				}
			}
		})); err != nil {
			t.Error(err)
		}
	})
	l.settle()
	l.do(func() {
		if writable != 0 {
			t.Error("a full socket is told as writable")
		}
		if err := l.Add(&in, b, Readable, handlerFunc(func(Events) {
			n, err := Read(b, buf[:])
			got = append(got, buf[:n]...)
			if err != nil {
				if err != io.EOF {
					t.Error(err)
				}
				if err := l.Del(&in); err != nil {
					t.Error(err)
				}
				close(done)
			}
		})); err != nil {
			t.Error(err)
		}
	})
	receive(t, done, "the peer to read everything")
	if !bytes.Equal(got, payload) {
		t.Errorf("%d bytes arrived of %d, or other ones", len(got), len(payload))
	}
	l.del(&out)
}

func TestSendBufferOfAListenerHoldsForItsConnections(t *testing.T) {
	const size = 32 << 10
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := Tune(ln.(*net.TCPListener), Options{SendBuffer: size}); err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	fd := detach(t, server)
	if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF); got != 2*size || err != nil {
		t.Errorf("SO_SNDBUF is %d, %v, want %d", got, err, 2*size)
	}
	total := 0
	for chunk := make([]byte, 1<<16); ; {
		n, err := Write(fd, chunk)
		if err != nil {
			t.Fatal(err)
		}
		if total += n; n == 0 {
			break
		}
	}
	t.Logf("a peer that does not read has swallowed %d bytes", total)
	if err := Tune(server.(*net.TCPConn), Options{SendBuffer: size}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("of a closed connection: %v, want %v", err, net.ErrClosed)
	}
}

func TestReadReadyDoesNotWait(t *testing.T) {
	l := newLoop(t)
	server, client := connect(t, "tcp")
	c := server.(*net.TCPConn)
	var buf [64]byte
	if n, err := ReadReady(c, buf[:]); n != 0 || err != nil {
		t.Errorf("nothing there: %d, %v", n, err)
	}
	for _, want := range []string{"GET / HTTP/1.1", ""} {
		if want != "" {
			_, err := client.Write([]byte(want))
			if err != nil {
				t.Fatal(err)
			}
		} else {
			client.Close()
		}
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { awaitReadable(t, l, int(fd)) })
		n, err := ReadReady(c, buf[:])
		if string(buf[:n]) != want || want != "" && err != nil || want == "" && err != io.EOF {
			t.Errorf("read %q, %v, want %q", buf[:n], err, want)
		}
	}
	server.Close()
	if _, err := ReadReady(c, buf[:]); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v, want %v", err, net.ErrClosed)
	}
}

func TestDescriptorLimitIsRaisedToTheHardOne(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 256, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := DescriptorLimit()
		if err != nil || got != int(min(old.Max, 1<<30)) {
			t.Errorf("%d, %v, want %d", got, err, old.Max)
		}
		var now unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil || now.Cur != old.Max {
			t.Errorf("the soft limit is %d, %v, want %d", now.Cur, err, old.Max)
		}
	}
}

func TestIsDescriptorLimit(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	_, err := net.Listen("tcp", "127.0.0.1:0")
	if !IsDescriptorLimit(err) {
		t.Errorf("%v is not seen as a limit", err)
	}
	if _, err := New(func() {}, func() {}, func(error) {}); !IsDescriptorLimit(err) {
		t.Errorf("New at the limit: %v", err)
	}
	for err, want := range map[error]bool{nil: false, unix.ENFILE: true, unix.EMFILE: true, unix.EPERM: false} {
		if got := IsDescriptorLimit(err); got != want {
			t.Errorf("%v: %t, want %t", err, got, want)
		}
	}
}

func TestReadAndWriteDoNotAllocate(t *testing.T) {
	fds := newFDs(t)
	a, b := fds.pair(t)
	p, buf := []byte("sixty-four bytes or so"), make([]byte, 64)
	if got := testing.AllocsPerRun(1000, func() {
		Write(a, p)
		Read(b, buf)
		Read(b, buf) // EAGAIN
	}); got != 0 {
		t.Errorf("%g allocations", got)
	}
}
