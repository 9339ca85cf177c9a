package proxy

import (
	"errors"
	"net/netip"
	"syscall"
)

// metadata are the addresses at which clouds serve credentials to whatever runs on a machine.
var metadata = []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("fd00:ec2::254")}

var errMetadata = errors.New("this is an address at which clouds serve credentials, and is never called")

// refuseMetadata is a net.Dialer's Control: it sees the address that is connected to, after all
// names were resolved.
func refuseMetadata(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if isMetadata(to.Addr()) {
		return errMetadata
	}
	return nil
}

// Networks whose addresses hold an IPv4 address: that of NAT64 (RFC 6052) and "IPv4-compatible"
// ones (RFC 4291) in the last four bytes, those of 6to4 (RFC 3056) behind the first two.
var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	compatible = netip.MustParsePrefix("::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
)

func isMetadata(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		b := addr.As16()
		switch {
		case nat64.Contains(addr), compatible.Contains(addr):
			addr = netip.AddrFrom4([4]byte(b[12:]))
		case sixToFour.Contains(addr):
			addr = netip.AddrFrom4([4]byte(b[2:6]))
		}
	}
	for _, m := range metadata {
		if addr == m {
			return true
		}
	}
	return false
}

func isMetadataHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && isMetadata(addr)
}
