package poller

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/mailru/easygo/netpoll"
	"golang.org/x/sys/unix"
)

// easygo's goroutine waits in epoll_wait(2), as a system call that the Go scheduler
// knows of. Each such wait that lasts costs more than the sends of a medium rate: the
// runtime's monitor thread polls every 20 microseconds for it, takes the processor away from
// it in the end, and is woken again by its return. A goroutine that waits in the Go runtime's own
// poller costs none of that.
//
// The gate moves the wait there. It is an eventfd that is always readable, and armed for one
// event at a time (EPOLLONESHOT), so that every epoll_wait returns at once: with the gate,
// and with whatever else is ready. The gate's callback runs what Wake asked for, parks in the
// runtime's poller until the epoll descriptor is readable, which it is when one of
// its descriptors is ready, and arms the gate for the next epoll_wait.
//
// What shares a batch with the gate does no harm, wherever it stands. A descriptor whose
// callback is still due is level-triggered and keeps the epoll descriptor readable. The
// waker is edge-triggered, and its edge may be gone with the batch; so parking also
// asks for the flag that Wake raises.
type gate struct {
	// Set at construction.
	eventfd int // always readable
	waker   int // eventfd, registered edge-triggered, written by wake, never read
	epoll   int // of file: a non-blocking duplicate of easygo's epoll descriptor
	file    *os.File
	raw     syscall.RawConn          // of file
	ready   func(epoll uintptr) bool // look, once for all: a method value is allocated
	armed   unix.EpollEvent          // what arms the gate; here, because a call would allocate it

	// Atomic. They are a Dekker pair: wake raises awake and then asks for parked, the
	// loop raises parked and then asks for awake. So at least one of the two sees the
	// other, and wake has to write only while the loop sleeps, or is about to.
	awake  atomic.Bool // from a wake until the loop has seen it: a thousand wakes are one
	parked atomic.Bool // the loop sleeps, unless awake is up

	busy bool // owned by the loop: it has not slept since it called for a thread
}

// open makes the gate's descriptors.
func (g *gate) open(epoll int) (err error) {
	if g.epoll, err = unix.FcntlInt(uintptr(epoll), unix.F_DUPFD_CLOEXEC, 3); err != nil {
		return fmt.Errorf("poller: duplicate epoll: %w", err)
	}
	// The mode makes NewFile register the descriptor with the runtime's poller. easygo shares
	// it, and does not notice: epoll_wait does not look at it.
	nonblockErr := unix.SetNonblock(g.epoll, true)
	g.file = os.NewFile(uintptr(g.epoll), "epoll")
	if nonblockErr != nil {
		return fmt.Errorf("poller: epoll: %w", nonblockErr)
	}
	if err := g.file.SetReadDeadline(time.Time{}); err != nil { // refused where the runtime's poller does not know it
		return fmt.Errorf("poller: wait for epoll: %w", err)
	}
	if g.raw, err = g.file.SyscallConn(); err != nil {
		return fmt.Errorf("poller: wait for epoll: %w", err)
	}
	if g.eventfd, err = unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("poller: eventfd: %w", err)
	}
	if g.waker, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("poller: eventfd: %w", err)
	}
	g.ready = g.look
	g.armed = unix.EpollEvent{Events: gateEvents, Fd: int32(g.eventfd)}
	return nil
}

// close gives the descriptors back. easygo's goroutine has ended.
func (g *gate) close() {
	if g.file != nil {
		g.file.Close() // ignored: a duplicate
	}
	for _, fd := range [...]int{g.eventfd, g.waker} {
		if fd >= 0 {
			unix.Close(fd) // ignored: an eventfd's close cannot fail in a way that matters
		}
	}
}

// wake makes the loop pass the gate soon, with the flag up.
func (g *gate) wake() {
	if !g.awake.Swap(true) && g.parked.Load() {
		wakeEventfd(g.waker)
	}
}

// woken takes the flag down and reports whether it was up. Swap and not Store: reading what
// wake wrote orders behind us what its caller did before.
func (g *gate) woken() bool { return g.awake.Load() && g.awake.Swap(false) }

// goOn is called when the loop has more to do and does not park. No thread waits in the
// runtime's poller then, if the one that did runs this loop: what other loops wait for would
// be seen after 10 ms, by the runtime's monitor. A goroutine that has become
// runnable wakes a thread, which will wait there once it finds nothing more to run.
func (g *gate) goOn() {
	if !g.busy {
		g.busy = true
		go func() {}()
	}
}

// park returns when there is something to do.
func (g *gate) park() error { return g.raw.Read(g.ready) }

// look reports whether there is something to do. The runtime's poller asks before it
// puts the goroutine to sleep, and whenever the epoll descriptor has become readable.
func (g *gate) look(epoll uintptr) bool {
	g.parked.Store(true)
	if g.awake.Load() || readable(epoll) {
		g.parked.Store(false)
		return true
	}
	g.busy = false
	return false
}

// arm makes the next epoll_wait report the gate.
func (g *gate) arm() error {
	return unix.EpollCtl(g.epoll, unix.EPOLL_CTL_MOD, g.eventfd, &g.armed)
}

// gateEvents is what the gate is armed with.
const gateEvents = netpoll.EPOLLIN | netpoll.EPOLLONESHOT

// readable reports whether a descriptor can be read without waiting (ppoll(2)). It is a raw
// system call, like Read.
func readable(fd uintptr) bool {
	set := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	var now unix.Timespec
	// unsafe: the addresses of set and now, for the time of the call.
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&set)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return n > 0 || errno != 0 // epoll_wait will tell what is wrong
}
