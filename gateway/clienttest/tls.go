package clienttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"math/big"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// With -tls the clients of the tests speak TLS: what they see must be the same.
var OverTLS = flag.Bool("tls", false, "let the tests' clients speak TLS")

// PlainOnly skips a test that looks at the bytes of TCP themselves, or counts on how
// many of them a socket takes or how long a handshake does.
func PlainOnly(t testing.TB) {
	t.Helper()
	if *OverTLS {
		t.Skip("needs plain TCP")
	}
}

// TestCertificate is what the servers of these tests show.
var TestCertificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// TestTLS is the configuration of these servers.
func TestTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{TestCertificate()}}
}

// Link is a client's connection: TCP, or TLS on it.
type Link interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
	SetLinger(seconds int) error
}

// TlsLink is TLS on TCP.
type TlsLink struct {
	*tls.Conn
	Tcp *net.TCPConn
}

func (l *TlsLink) SyscallConn() (syscall.RawConn, error) { return l.Tcp.SyscallConn() }

func (l *TlsLink) SetLinger(seconds int) error { return l.Tcp.SetLinger(seconds) }

func (l *TlsLink) Close() error { return l.Tcp.Close() }

func (l *TlsLink) CloseWrite() error { return errors.Join(l.Conn.CloseWrite(), l.Tcp.CloseWrite()) }

func SecureLink(tcp *net.TCPConn, cfg *tls.Config) *TlsLink {
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg.InsecureSkipVerify = true
	return &TlsLink{tls.Client(tcp, cfg), tcp}
}

// secureOver is secureLink over what tcp is wrapped in.
func secureOver(over net.Conn, tcp *net.TCPConn) Link {
	return &TlsLink{tls.Client(over, &tls.Config{InsecureSkipVerify: true}), tcp}
}

// DialTLS is dial with a TLS configuration.
func DialTLS(t testing.TB, s listening, target string, cfg *tls.Config) (*Client, *tls.Conn) {
	t.Helper()
	nc, err := net.Dial("tcp", s.Endpoint().Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() }) // ignored: it may be closed already
	l := SecureLink(nc.(*net.TCPConn), cfg)
	c := NewClient(t, l)
	c.Upgrade(target)
	return c, l.Conn
}

// prefixed is a TCP connection whose first bytes go out before what is written first:
// in one segment, or byte by byte.
type prefixed struct {
	*net.TCPConn
	first   string
	trickle bool
}

func (c *prefixed) Write(p []byte) (int, error) {
	first := c.first
	c.first = ""
	if c.trickle {
		for i := range len(first) {
			if _, err := c.TCPConn.Write([]byte{first[i]}); err != nil {
				return 0, err
			}
		}
		first = ""
	}
	n, err := c.TCPConn.Write(append([]byte(first), p...))
	return max(n-len(first), 0), err
}
