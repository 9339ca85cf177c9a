package poller

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Detach takes the socket out of a net.Conn: it duplicates the descriptor
// close-on-exec and closes c, so that the Go runtime's poller lets go of it.
// The result is non-blocking (the mode belongs to the open file that both
// descriptors share), is registered nowhere and belongs to the caller. For a
// moment the connection has two descriptors. On error c is as it was, and still
// belongs to the caller.
//
// c must be a connection of package net itself; one that is wrapped (TLS) has
// no descriptor of its own and is refused.
func Detach(c net.Conn) (fd int, err error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("poller: detach: %T has no descriptor", c)
	}
	if fd, err = duplicate(sc); err != nil {
		return -1, fmt.Errorf("poller: detach: %w", err)
	}
	c.Close() // ignored: the duplicate keeps the connection
	return fd, nil
}

// duplicate returns a duplicate of c's descriptor, close-on-exec.
func duplicate(c syscall.Conn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var failed error
	err = raw.Control(func(old uintptr) { fd, failed = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3) })
	return fd, errors.Join(err, failed)
}

// control calls f with c's descriptor.
func control(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = f(int(fd)) })
	return errors.Join(err, failed)
}

// Read reads once into p and returns the number of bytes: zero and no error if there is
// nothing to read now; io.EOF after the peer's FIN; otherwise the socket's error (a
// syscall.Errno), after which the connection is unusable.
//
// Like Write it is a raw system call that does not tell the Go scheduler:
// on a non-blocking descriptor it does not wait.
func Read(fd int, p []byte) (n int, err error) {
	if p, err = fault(CallRead, fd, p); err != nil {
		return made(err)
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		// unsafe: the address of p's bytes, for the time of the call.
		r, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			if r == 0 {
				return 0, io.EOF
			}
			return int(r), nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// Write writes p once and returns the number of bytes that the socket accepted; fewer than
// len(p) and no error means that it is full for now. An error is the socket's (a
// syscall.Errno), after which the connection is unusable. No SIGPIPE is raised.
func Write(fd int, p []byte) (n int, err error) {
	if p, err = fault(CallWrite, fd, p); err != nil {
		return made(err)
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		// unsafe: the address of p's bytes, for the time of the call.
		r, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// wakeEventfd adds one to an eventfd. The counter is never read and cannot
// overflow in the life of a process, so the write cannot fail.
func wakeEventfd(fd int) {
	one := [8]byte{1}
	for {
		// unsafe: the address of one, for the time of the call.
		_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&one)), 8)
		if errno != unix.EINTR {
			return
		}
	}
}

// ShutdownWrite sends the peer a FIN. What the peer still sends can be read.
func ShutdownWrite(fd int) error {
	_, err := fault(CallShutdown, fd, nil)
	if err == nil {
		err = unix.Shutdown(fd, unix.SHUT_WR)
	}
	_, err = made(err)
	return err
}

// Close closes the file descriptor. Its registration must be deleted first. If received
// bytes are unread, the kernel sends a reset, which can destroy what was sent last.
func Close(fd int) error {
	_, err := fault(CallClose, fd, nil)
	if err == nil {
		err = unix.Close(fd)
	}
	_, err = made(err)
	return err
}

// Options are the socket options that Tune sets. Options that are not positive are left
// unchanged.
type Options struct {
	// SendBuffer bounds the bytes that the kernel holds for a peer that does not read
	// (SO_SNDBUF, socket(7)). The kernel doubles it for its own bookkeeping.
	SendBuffer int
	// NotsentLowat bounds those of them that were not sent yet (TCP_NOTSENT_LOWAT,
	// tcp(7)).
	NotsentLowat int
	// UserTimeout bounds how long the kernel goes on offering bytes that the peer does
	// not acknowledge, or has no window for (TCP_USER_TIMEOUT, tcp(7)).
	UserTimeout time.Duration
	// NoDelay sends small writes at once (TCP_NODELAY, tcp(7)), as package net has it on
	// connections that it accepts itself.
	NoDelay bool
}

// Tune sets a socket's options. On a listening socket they hold for every connection
// accepted later. c is anything with a descriptor of package net: a listener or
// connection. A Unix socket has only the first.
func Tune(c syscall.Conn, o Options) error {
	return control(c, func(fd int) error { return TuneFD(fd, o) })
}

// TuneFD is Tune for a bare descriptor.
func TuneFD(fd int, o Options) (err error) {
	set := func(level, option, value int) {
		if value <= 0 {
			return
		}
		if e := unix.SetsockoptInt(fd, level, option, value); e != nil && e != unix.EOPNOTSUPP {
			err = errors.Join(err, os.NewSyscallError("setsockopt", e))
		}
	}
	set(unix.SOL_SOCKET, unix.SO_SNDBUF, o.SendBuffer)
	set(unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, o.NotsentLowat)
	set(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(o.UserTimeout.Milliseconds()))
	if o.NoDelay {
		set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	return err
}

// ReadReady reads from a connection of package net what is there now, without
// waiting: zero and no error when there is nothing.
func ReadReady(c syscall.Conn, p []byte) (n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var readErr error
	err = raw.Read(func(fd uintptr) bool {
		n, readErr = Read(int(fd), p)
		return true
	})
	if err == nil {
		err = readErr
	}
	return n, err
}

// PeerAddr returns the address of the other side (getpeername(2)), the zero
// AddrPort for a Unix socket or a connection that is gone.
func PeerAddr(fd int) netip.AddrPort {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// DescriptorLimit raises the soft limit on open descriptors to the hard one
// (RLIMIT_NOFILE, getrlimit(2)) and returns it.
func DescriptorLimit() (int, error) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 0, fmt.Errorf("poller: getrlimit: %w", err)
	}
	if lim.Cur < lim.Max {
		raised := lim
		raised.Cur = lim.Max
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err == nil { // else: the soft limit stays, and is reported
			lim = raised
		}
	}
	return int(min(lim.Cur, 1<<30)), nil
}

// IsDescriptorLimit reports whether err means that the process (EMFILE) or the
// machine (ENFILE) has no descriptor left.
func IsDescriptorLimit(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}

// SetAbort makes a later Close reset the connection and drop what the peer has
// not taken yet (SO_LINGER of zero, socket(7)).
func SetAbort(fd int) error {
	return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// SetDeferAccept makes a listening TCP socket keep a connection back until its
// client has sent something, for a second at most (TCP_DEFER_ACCEPT, tcp(7)): a
// client that only connects costs the kernel a few hundred bytes and the process
// nothing, and an accepted connection can be read at once. Other sockets refuse
// it.
func SetDeferAccept(l syscall.Conn) error {
	return control(l, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 1) })
}

// SetUserTimeout bounds how long the kernel goes on offering bytes that the peer does
// not acknowledge, also after Close (TCP_USER_TIMEOUT, tcp(7)). Sockets other than
// TCP refuse it.
func SetUserTimeout(fd int, d time.Duration) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
}

// IsSocketError reports whether an error is the socket's own (a system call's), after which
// the connection is unusable.
func IsSocketError(err error) bool {
	var errno unix.Errno
	return errors.As(err, &errno)
}

// RTT returns the round-trip time as TCP knows it (TCP_INFO, tcp(7)), 0 where there is
// none.
func RTT(fd int) time.Duration {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return time.Duration(info.Rtt) * time.Microsecond
}
