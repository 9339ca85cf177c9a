package poller

import "errors"

// ErrUnsupported is returned by New and Detach on systems other than Linux.
var ErrUnsupported = errors.New("poller: sluice needs Linux (epoll); run it in a Linux machine or container")

// ErrDeleted is returned for a Desc that is not, or no longer, registered.
var ErrDeleted = errors.New("poller: descriptor is not registered")

// ErrLocked is returned by LockFile if another process holds the file's lock.
var ErrLocked = errors.New("poller: file is locked by another process")

// Events is what a file descriptor is ready for, or what its owner waits for.
type Events uint32

const (
	// Readable: bytes, a FIN or an error can be read.
	Readable Events = 1 << iota
	// Writable: the socket takes bytes again.
	Writable
	// Hangup: both directions are shut, or the socket has an error
	// (EPOLLHUP, EPOLLERR). Never asked for, always reported.
	Hangup
	// PeerShut: the peer has sent its FIN, perhaps behind bytes that are not read yet
	// (EPOLLRDHUP).
	PeerShut
)

// String returns the events as in "readable|hangup".
func (e Events) String() string {
	s := ""
	for i, name := range [...]string{"readable", "writable", "hangup", "peer shut"} {
		if e&(1<<i) == 0 {
			continue
		}
		if s != "" {
			s += "|"
		}
		s += name
	}
	if s == "" {
		return "none"
	}
	return s
}

// Handler is called when its file descriptor is ready. It runs on the poller's loop.
type Handler interface {
	Ready(Events)
}

// Desc is one registration of one descriptor. It lies inside the record of
// its owner, so that a registration costs no memory of its own beyond
// easygo's map entry and a 16-byte closure.
//
// A Desc serves once: after Del it stays dead, and a later descriptor, even one
// with the same number, needs a new Desc. That is what makes an event for an
// old descriptor harmless: it reaches the old, dead Desc.
type Desc struct {
	handler  Handler // nil before Add and after Del
	fd       int32
	interest Events
}

// FD returns the file descriptor that was given to Add.
func (d *Desc) FD() int { return int(d.fd) }

// Active reports whether the file descriptor is registered.
func (d *Desc) Active() bool { return d.handler != nil }

// Interest returns what the owner currently waits for.
func (d *Desc) Interest() Events { return d.interest }
