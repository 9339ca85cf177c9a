//go:build !linux

package sys

import (
	"errors"
	"net/netip"
	"time"
)

// Listener is not available here.
type Listener struct{}

func CPU(pid int) (time.Duration, error) { return 0, errors.ErrUnsupported }
func Sleep(d time.Duration)              { time.Sleep(d) }
func Hurry()                             {}
func Listen() (*Listener, netip.AddrPort, error) {
	return nil, netip.AddrPort{}, errors.ErrUnsupported
}
func (l *Listener) Accept() (int, error)       { return -1, errors.ErrUnsupported }
func Read(fd int, p []byte) (n int, err error) { return 0, errors.ErrUnsupported }
