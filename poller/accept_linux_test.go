package poller

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// acceptor returns an Acceptor on a listener of package net, which are closed at the end.
func acceptor(t *testing.T, network, address string) (*Acceptor, net.Listener) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // ignored: it may be closed already
	a, err := NewAcceptor(l.(syscall.Conn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() }) // ignored: it may be closed already
	return a, l
}

func TestAcceptGivesBareDescriptors(t *testing.T) {
	for network, address := range map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": filepath.Join(t.TempDir(), "socket")} {
		t.Run(network, func(t *testing.T) {
			a, l := acceptor(t, network, address)
			if network != "unix" {
				if err := Tune(l.(syscall.Conn), Options{NoDelay: true}); err != nil {
					t.Fatal(err)
				}
			}
			if _, _, ok := a.Ready(); ok {
				t.Fatal("nobody is there")
			}
			fds := newFDs(t)
			for range 3 { // one that waits, one that has waited, one for who does not wait
				clients := make(chan net.Conn, 1)
				go func() {
					c, err := net.Dial(network, l.Addr().String())
					if err != nil {
						t.Error(err)
					}
					clients <- c
				}()
				fd, peer, err := a.Accept()
				client := <-clients
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				fds.keep(fd)
				if want := client.LocalAddr(); network != "unix" && peer.String() != want.String() || network == "unix" && peer.IsValid() {
					t.Errorf("peer %v, want %v", peer, want)
				}
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("flags %#x, %v: not close-on-exec", flags, err)
				}
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
					t.Errorf("flags %#x, %v: it blocks", flags, err)
				}
				wantOptions(t, network, fd)
				if n, err := Write(fd, []byte("hello")); n != 5 || err != nil {
					t.Errorf("write: %d, %v", n, err)
				}
				hello := make([]byte, 5)
				if _, err := io.ReadFull(client, hello); err != nil || string(hello) != "hello" {
					t.Errorf("read %q, %v", hello, err)
				}
			}
		})
	}
}

// wantOptions sees that a connection has what package net sets, as far as that is wanted.
func wantOptions(t *testing.T, network string, fd int) {
	t.Helper()
	if network == "unix" {
		return
	}
	if v, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY); err != nil || v == 0 {
		t.Errorf("TCP_NODELAY is %d, %v", v, err)
	}
	if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE); err != nil || v != 0 {
		t.Errorf("SO_KEEPALIVE is %d, %v", v, err)
	}
}

func TestAcceptEndsAndThePortIsFree(t *testing.T) {
	a, l := acceptor(t, "tcp", "127.0.0.1:0")
	ended := make(chan error, 1)
	accept := func() {
		fd, _, err := a.Accept()
		if err == nil {
			Close(fd) // ignored: nobody uses it
		}
		ended <- err
	}
	go accept()
	l.Close() // ignored: nothing has happened
	if c, err := net.Dial("tcp", l.Addr().String()); err != nil {
		t.Errorf("one of both is open: %v", err)
	} else {
		c.Close() // ignored: it was there
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("one of both is open: %v", err)
			}
		case <-time.After(patience):
			t.Fatal("it was not accepted")
		}
		go accept()
	}
	a.Close() // ignored: what comes of it is seen
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("got %v", err)
		}
	case <-time.After(patience):
		t.Fatal("it waits for ever")
	}
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) { // somebody else's connection may have the port for a moment
		again, err := net.Listen("tcp", l.Addr().String())
		if err == nil {
			again.Close() // ignored: nobody knew of it
			return
		}
		if time.Since(begun) > patience {
			t.Fatal(err)
		}
	}
}

func TestNetConnIsOneOfPackageNet(t *testing.T) {
	a, l := acceptor(t, "tcp", "127.0.0.1:0")
	if err := Tune(l.(syscall.Conn), Options{NoDelay: true}); err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	fd, _, err := a.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, err := NetConn(fd)
	if err != nil {
		t.Fatal(err)
	}
	tcp := c.(*net.TCPConn)
	defer tcp.Close()
	if got, want := tcp.RemoteAddr().String(), client.LocalAddr().String(); got != want {
		t.Errorf("peer %s, want %s", got, want)
	}
	tcp.SetReadDeadline(time.Now().Add(time.Millisecond)) // ignored: then it waits for ever
	if _, err := tcp.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a deadline that holds", err)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { wantOptions(t, "tcp", int(fd)) }) // ignored: it is open
	if _, err := NetConn(-1); err == nil {
		t.Error("no descriptor, and a connection")
	}
}

func TestAcceptAllocatesNothing(t *testing.T) {
	a, l := acceptor(t, "tcp", "127.0.0.1:0")
	const n = 50
	for range n + 1 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	fds := make([]int, 0, n+1)
	if got := testing.AllocsPerRun(n, func() {
		fd, _, err := a.Accept()
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
	for _, fd := range fds {
		Close(fd) // ignored: nobody uses it
	}
}
