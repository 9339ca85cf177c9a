package poller

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// What the load tester needs beyond bare sockets: exact CPU times, exact sleep, and
// a server that costs nothing but its system calls.

// ProcessCPU returns the CPU time, user and system, that a process has used so far, including
// threads that have ended (clock_getcpuclockid(3)). It is more precise than /proc/PID/stat. A
// pid of zero is the calling process.
func ProcessCPU(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED: what the scheduler counted, in nanoseconds
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|sched, &ts); err != nil {
		return 0, fmt.Errorf("poller: cpu clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// Sleep pauses the calling thread by nanosleep(2), to within the kernel's timer
// slack of about 50 microseconds. time.Sleep is rounded up to a millisecond
// when the process is otherwise idle. It may return early.
func Sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	ts := unix.NsecToTimespec(int64(d))
	unix.Nanosleep(&ts, nil) // ignored: EINTR ends it early, as documented
}

// Hurry raises the calling thread's priority (setpriority(2)) if the process has the right to;
// otherwise nothing changes. The goroutine should be locked to its thread.
func Hurry() {
	unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -15) // ignored: as documented
}

// ListenBare opens a blocking listening socket at an IPv4 address, and returns its file
// descriptor and the bound address. The Go runtime does not know of it.
func ListenBare(addr netip.AddrPort) (fd int, bound netip.AddrPort, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, netip.AddrPort{}, fmt.Errorf("poller: socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())})
	if err == nil {
		err = unix.Listen(fd, 4096)
	}
	var sa unix.Sockaddr
	if err == nil {
		sa, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd) // ignored: the error that matters is err
		return -1, netip.AddrPort{}, fmt.Errorf("poller: listen %v: %w", addr, err)
	}
	in := sa.(*unix.SockaddrInet4) // what an AF_INET socket has
	return fd, netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)), nil
}

// AcceptBare waits for a connection at a socket of ListenBare and returns its file descriptor,
// which is blocking too: one thread, one system call.
func AcceptBare(listener int) (fd int, err error) {
	for {
		fd, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err != unix.EINTR && err != unix.ECONNABORTED {
			return fd, err
		}
	}
}

// ReadBare is Read on a blocking descriptor: it waits for bytes or the peer's FIN,
// which is zero bytes and no error here.
func ReadBare(fd int, p []byte) (n int, err error) {
	for {
		n, err = unix.Read(fd, p)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}
