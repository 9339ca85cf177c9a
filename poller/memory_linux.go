package poller

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// MemoryFile returns a file that lies in memory only, without a path (memfd_create(2)). name is what
// /proc shows.
func MemoryFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// seals are those of a memory file that nobody changes any more.
const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// Seal ends the writing of a memory file, for all processes that have it.
func Seal(f *os.File) error {
	_, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	return os.NewSyscallError("fcntl(F_ADD_SEALS)", err)
}

// Sealed returns an error if f is not a sealed memory file.
func Sealed(f *os.File) error {
	got, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return os.NewSyscallError("fcntl(F_GET_SEALS)", err)
	}
	if got&seals != seals {
		return fmt.Errorf("poller: a memory file is not sealed (%#x)", got)
	}
	return nil
}

// MessagePair returns two connected sockets that keep messages apart and take descriptors along
// (SOCK_SEQPACKET; unix(7)).
func MessagePair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "handover"), os.NewFile(uintptr(fds[1]), "handover"), nil
}

// SendMessage sends one message with descriptors, at most 253, without waiting (sendmsg(2)). sent is
// false if there is no room for it at present: in the socket or, for the descriptors that are under way,
// within the user's limit (ETOOMANYREFS).
func SendMessage(fd int, p []byte, fds []int) (sent bool, err error) {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		err := unix.Sendmsg(fd, p, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			return true, nil
		case unix.EINTR:
		case unix.EAGAIN, unix.ETOOMANYREFS, unix.ENOBUFS:
			return false, nil
		default:
			return false, os.NewSyscallError("sendmsg", err)
		}
	}
}

// Monotonic returns the time of CLOCK_MONOTONIC (clock_gettime(2)), for programs that compare it.
func Monotonic() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil { // cannot be: every kernel has it
		return 0
	}
	return time.Duration(ts.Nano())
}

// Truncated reports whether recvmsg(2) has lost a part of a message or some of its descriptors.
func Truncated(flags int) bool { return flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 }
