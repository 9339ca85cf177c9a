package poller

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inode gives the number by which the kernel knows a socket.
func inode(t *testing.T, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// watchers counts the registrations of a socket in all epolls of this process.
func watchers(t *testing.T, inode uint64) (n int) {
	t.Helper()
	for fd, what := range descriptors() {
		if what != "anon_inode:[eventpoll]" {
			continue
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, fmt.Sprintf(" ino:%x ", inode)) {
				n++
			}
		}
	}
	return n
}

func TestDetachLeavesOneBareDescriptor(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			l := newLoop(t)
			server, client := connect(t, network)
			var ino uint64
			raw, err := server.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			raw.Control(func(fd uintptr) { ino = inode(t, int(fd)) })
			if got := watchers(t, ino); got != 1 {
				t.Skipf("%d epolls watch a connection of package net: this kernel does not show it", got)
			}

			fd := detach(t, server)
			if got := inode(t, fd); got != ino {
				t.Errorf("inode %d, want %d: another socket", got, ino)
			}
			count := 0
			for _, what := range descriptors() {
				if what == fmt.Sprintf("socket:[%d]", ino) {
					count++
				}
			}
			if count != 1 {
				t.Errorf("the socket has %d descriptors, want 1", count)
			}
			if got := watchers(t, ino); got != 0 {
				t.Errorf("%d epolls still watch the socket", got)
			}
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("it outlives exec: flags %#x, %v", flags, err)
			}
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
				t.Errorf("it blocks: flags %#x, %v", flags, err)
			}
			if _, err := server.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("writing to the net.Conn: %v, want %v", err, net.ErrClosed)
			}

			// The connection lives on.
			var buf [64]byte
			if n, err := Read(fd, buf[:]); n != 0 || err != nil {
				t.Errorf("nothing to read, but %d, %v", n, err)
			}
			mustWrite(t, fd, "from the gateway")
			if n, err := client.Read(buf[:]); string(buf[:n]) != "from the gateway" {
				t.Errorf("the client read %q, %v", buf[:n], err)
			}
			if _, err := client.Write([]byte("from the client")); err != nil {
				t.Fatal(err)
			}
			awaitReadable(t, l, fd)
			if n, err := Read(fd, buf[:]); string(buf[:n]) != "from the client" || err != nil {
				t.Errorf("the gateway read %q, %v", buf[:n], err)
			}
			want := netip.AddrPort{}
			if a, ok := client.LocalAddr().(*net.TCPAddr); ok {
				want = a.AddrPort()
			}
			if got := PeerAddr(fd); got != want {
				t.Errorf("the peer is %v, want %v", got, want)
			}
		})
	}
}

func TestDetachRefusesWhatHasNoDescriptorOfItsOwn(t *testing.T) {
	before := descriptors()
	t.Run("refused", func(t *testing.T) {
		server, _ := connect(t, "tcp")
		inMemory, other := net.Pipe()
		defer other.Close()
		again, _ := connect(t, "tcp")
		gone, _ := connect(t, "tcp")
		gone.Close()
		for _, c := range []net.Conn{tls.Server(server, &tls.Config{}), inMemory, struct{ net.Conn }{again}, gone} {
			if fd, err := Detach(c); err == nil || fd != -1 {
				t.Errorf("%T: descriptor %d, %v", c, fd, err)
			}
			if err := c.SetDeadline(time.Now().Add(patience)); c != gone && err != nil {
				t.Errorf("%T is no longer the caller's: %v", c, err)
			}
			c.Close()
		}
	})
	if left := opened(before, descriptors()); len(left) != 0 {
		t.Errorf("left open: %v", left)
	}
}
