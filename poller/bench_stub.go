//go:build !linux

package poller

import (
	"net/netip"
	"time"
)

func ProcessCPU(pid int) (time.Duration, error) { return 0, ErrUnsupported }
func Sleep(d time.Duration)                     { time.Sleep(d) }
func ListenBare(addr netip.AddrPort) (fd int, bound netip.AddrPort, err error) {
	return -1, netip.AddrPort{}, ErrUnsupported
}
func AcceptBare(listener int) (fd int, err error)  { return -1, ErrUnsupported }
func ReadBare(fd int, p []byte) (n int, err error) { return 0, ErrUnsupported }

func Hurry() {}
