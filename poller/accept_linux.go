package poller

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Acceptor takes connections from a listening socket of package net as bare
// descriptors. A net.Conn would cost more than the rest of a handshake: a registration
// with the Go runtime's poller, which is undone right away, two objects with
// finalizers, and the duplicate that takes the descriptor out again.
//
// It works on a duplicate of the listener's descriptor, because the RawConn of a
// listener does not wait (its Read is EINVAL). So the socket listens until both are
// closed. The mode of the open file, which is non-blocking, belongs to both as well:
// File and Fd, which change it, must not be called on either.
//
// What package net sets on each connection is inherited from the listening socket on
// Linux, and has to be set there: see Tune.
type Acceptor struct {
	file *os.File
	raw  syscall.RawConn
	take func(fd uintptr) bool // made once: it is what Accept waits with

	closed atomic.Bool

	// Of the call of Accept that runs.
	fd   int
	err  error
	addr unix.RawSockaddrAny
}

// NewAcceptor returns an Acceptor for a *net.TCPListener or a *net.UnixListener, which stays
// open.
func NewAcceptor(l syscall.Conn) (*Acceptor, error) {
	fd, err := duplicate(l)
	if err != nil {
		return nil, fmt.Errorf("poller: acceptor: %w", err)
	}
	a := &Acceptor{}
	a.file = os.NewFile(uintptr(fd), "listener") // non-blocking, so that it is the runtime's to wait for
	if a.raw, err = a.file.SyscallConn(); err != nil {
		a.file.Close() // ignored: the error that matters is err
		return nil, fmt.Errorf("poller: acceptor: %w", err)
	}
	a.take = func(fd uintptr) bool {
		a.fd, a.err = a.accept(int(fd))
		return a.err != unix.EAGAIN
	}
	return a, nil
}

// Accept waits for a connection and returns its file descriptor, which is non-blocking and
// close-on-exec and belongs to the caller, and the peer's address, which is the zero AddrPort
// for a Unix socket. Only one goroutine may call it at a time. An error of the socket is an
// os.SyscallError; after Close the error is os.ErrClosed.
func (a *Acceptor) Accept() (fd int, peer netip.AddrPort, err error) {
	return a.result(a.raw.Read(a.take))
}

// Ready is Accept without waiting: ok is false if no connection is waiting, or if it cannot be
// accepted.
func (a *Acceptor) Ready() (fd int, peer netip.AddrPort, ok bool) {
	fd, peer, err := a.result(a.raw.Read(func(fd uintptr) bool {
		a.take(fd)
		return true
	}))
	return fd, peer, err == nil
}

func (a *Acceptor) result(err error) (int, netip.AddrPort, error) {
	switch {
	case err != nil && a.closed.Load():
		return -1, netip.AddrPort{}, os.ErrClosed // the file's own error has no name outside of its package
	case err != nil:
		return -1, netip.AddrPort{}, fmt.Errorf("poller: accept: %w", err)
	case a.err != nil:
		return -1, netip.AddrPort{}, os.NewSyscallError("accept4", a.err)
	}
	return a.fd, peerOf(&a.addr), nil
}

// accept is accept4(2), past connections that were aborted before they were taken.
func (a *Acceptor) accept(listener int) (int, error) {
	for {
		size := uint32(unix.SizeofSockaddrAny)
		// unsafe: the addresses of what the call fills in, for its time. It does not wait.
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener),
			uintptr(unsafe.Pointer(&a.addr)), uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EINTR, unix.ECONNABORTED:
			continue
		}
		return -1, errno
	}
}

// peerOf reads the address that a system call has filled in.
func peerOf(sa *unix.RawSockaddrAny) netip.AddrPort {
	port := func(p *uint16) uint16 { return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:]) } // unsafe: its bytes are in network order
	switch sa.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa)) // unsafe: the family says what it is
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), port(&in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa)) // unsafe: likewise
		return netip.AddrPortFrom(netip.AddrFrom16(in.Addr).Unmap(), port(&in.Port))
	}
	return netip.AddrPort{}
}

// Pause ends a running Accept, and makes later ones fail at once with os.ErrDeadlineExceeded, until Resume.
// Connections wait in the kernel's queue meanwhile.
func (a *Acceptor) Pause() error { return a.file.SetReadDeadline(time.Unix(1, 0)) }

// Resume ends a pause.
func (a *Acceptor) Resume() error { return a.file.SetReadDeadline(time.Time{}) }

// Close ends a running Accept. It does not close the listener.
func (a *Acceptor) Close() error {
	a.closed.Store(true)
	return a.file.Close()
}

// NetConn returns a connection of package net for a bare file descriptor, for callers that
// have to wait. It takes ownership of the descriptor, also on error. For a moment there are
// two. The options that package net sets on its own connections are as on the listening
// socket.
func NetConn(fd int) (net.Conn, error) {
	if fd < 0 {
		return nil, unix.EBADF
	}
	f := os.NewFile(uintptr(fd), "connection")
	c, err := net.FileConn(f)
	f.Close() // ignored: c has a duplicate
	if err != nil {
		return nil, fmt.Errorf("poller: connection: %w", err)
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetKeepAlive(false) // ignored: FileConn has just turned it on, and the connection may be gone
	}
	return c, nil
}
