package proxy

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

func TestAddressesOfCredentials(t *testing.T) {
	for addr, want := range map[string]bool{
		"169.254.169.254": true, "fd00:ec2::254": true, "::ffff:169.254.169.254": true, "::ffff:a9fe:a9fe": true, "::169.254.169.254": true,
		"64:ff9b::a9fe:a9fe": true, "2002:a9fe:a9fe::1": true, "fd00:ec2::254%eth0": true,
		"169.254.169.253": false, "127.0.0.1": false, "10.0.0.1": false, "fd00:ec2::253": false, "::1": false, "64:ff9b::7f00:1": false,
	} {
		if got := isMetadata(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %t", addr, got)
		}
	}
}

// A name that resolves to such an address, in any form, is not connected to.
func TestNamesThatResolveToAddressesOfCredentials(t *testing.T) {
	for _, addr := range []string{"169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"} {
		h := endpoint(t, Config{Endpoint: "http://backend.test", resolver: names(t, addr)}).Subscribe()
		_, err := call(t, h, subscribing("news"))
		if err == nil || !strings.Contains(err.Error(), errMetadata.Error()) {
			t.Errorf("%s: %v", addr, err)
		}
		h.Close()
	}
}

// names returns a resolver for which all names have one address.
func names(t *testing.T, addr string) *net.Resolver {
	to := netip.MustParseAddr(addr)
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		var serving sync.WaitGroup
		serving.Go(func() { serveNames(server, to) })
		t.Cleanup(func() {
			client.Close()
			serving.Wait()
		})
		return client, nil
	}}
}

// serveNames answers questions of DNS over TCP (RFC 1035 section 4), for addresses in the family
// of one.
func serveNames(conn net.Conn, to netip.Addr) {
	defer conn.Close()
	for {
		var length [2]byte
		if _, err := readFull(conn, length[:]); err != nil {
			return
		}
		q := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := readFull(conn, q); err != nil {
			return
		}
		end := 12
		for q[end] != 0 {
			end += int(q[end]) + 1
		}
		end += 5 // the root label, type and class
		kind := binary.BigEndian.Uint16(q[end-4:])
		a := append([]byte{q[0], q[1], 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:end]...)
		if kind == 1 && to.Is4() || kind == 28 && to.Is6() {
			a[7] = 1
			a = append(a, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(to.BitLen()/8))
			a = append(a, to.AsSlice()...)
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)); err != nil {
			return
		}
	}
}

func readFull(conn net.Conn, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var more int
		more, err = conn.Read(p[n:])
		n += more
	}
	return n, err
}
