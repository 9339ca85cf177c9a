//go:build !linux

package poller

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Options are what Tune would set.
type Options struct {
	SendBuffer, NotsentLowat int
	UserTimeout              time.Duration
	NoDelay                  bool
}

// Poller is not available here: see ErrUnsupported.
type Poller struct{}

func New(onBatch, onWake func(), onFail func(error)) (*Poller, error) { return nil, ErrUnsupported }

func (p *Poller) Wake()                                                 {}
func (p *Poller) Add(d *Desc, fd int, interest Events, h Handler) error { return ErrUnsupported }
func (p *Poller) Mod(d *Desc, interest Events) error                    { return ErrUnsupported }
func (p *Poller) Del(d *Desc) error                                     { return ErrUnsupported }
func (p *Poller) Close() error                                          { return ErrUnsupported }

// Acceptor is not available here either.
type Acceptor struct{}

func NewAcceptor(l syscall.Conn) (*Acceptor, error)      { return nil, ErrUnsupported }
func (a *Acceptor) Accept() (int, netip.AddrPort, error) { return -1, netip.AddrPort{}, ErrUnsupported }
func (a *Acceptor) Ready() (int, netip.AddrPort, bool)   { return -1, netip.AddrPort{}, false }
func (a *Acceptor) Close() error                         { return ErrUnsupported }
func (a *Acceptor) Pause() error                         { return ErrUnsupported }
func (a *Acceptor) Resume() error                        { return ErrUnsupported }
func NetConn(fd int) (net.Conn, error)                   { return nil, ErrUnsupported }
func TuneFD(fd int, o Options) error                     { return ErrUnsupported }

func Detach(c net.Conn) (fd int, err error) {
	return -1, ErrUnsupported
}

func Read(fd int, p []byte) (n int, err error)        { return 0, ErrUnsupported }
func Write(fd int, p []byte) (n int, err error)       { return 0, ErrUnsupported }
func ReadReady(c syscall.Conn, p []byte) (int, error) { return 0, ErrUnsupported }
func ShutdownWrite(fd int) error                      { return ErrUnsupported }
func Close(fd int) error                              { return ErrUnsupported }
func SetDeferAccept(l syscall.Conn) error             { return ErrUnsupported }
func SetUserTimeout(fd int, d time.Duration) error    { return ErrUnsupported }
func SetAbort(fd int) error                           { return ErrUnsupported }
func Tune(c syscall.Conn, o Options) error            { return ErrUnsupported }
func PeerAddr(fd int) netip.AddrPort                  { return netip.AddrPort{} }
func RTT(fd int) time.Duration                        { return 0 }
func DescriptorLimit() (int, error)                   { return 0, ErrUnsupported }
func IsDescriptorLimit(err error) bool                { return false }
func IsSocketError(err error) bool                    { return false }

func LockFile(f *os.File) error            { return ErrUnsupported }
func UnlockFile(f *os.File) error          { return ErrUnsupported }
func FreeBytes(path string) (int64, error) { return 0, ErrUnsupported }
func FileIdentity(f *os.File) (device, inode uint64, born int64, err error) {
	return 0, 0, 0, ErrUnsupported
}

func MemoryFile(name string) (*os.File, error)                       { return nil, ErrUnsupported }
func Seal(f *os.File) error                                          { return ErrUnsupported }
func Sealed(f *os.File) error                                        { return ErrUnsupported }
func MessagePair() (a, b *os.File, err error)                        { return nil, nil, ErrUnsupported }
func SendMessage(fd int, p []byte, fds []int) (sent bool, err error) { return false, ErrUnsupported }
func Truncated(flags int) bool                                       { return false }
func Monotonic() time.Duration                                       { return 0 }
