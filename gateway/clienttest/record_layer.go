package clienttest

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"net"
	"strings"
	"testing"
)

// tap is a TCP connection that keeps what is written, when it is told to, instead of
// sending it.
type tap struct {
	*net.TCPConn
	kept *bytes.Buffer
}

func (c *tap) Write(p []byte) (int, error) {
	if c.kept != nil {
		return c.kept.Write(p)
	}
	return c.TCPConn.Write(p)
}

// Sealed returns the records of some frames without sending them.
func (p *tap) Sealed(c *Client, frames string) string {
	p.kept = new(bytes.Buffer)
	defer func() { p.kept = nil }()
	c.Send(frames)
	return p.kept.String()
}

// SealedTo returns records of exactly n bytes: messages, and frames at their end.
func (p *tap) SealedTo(c *Client, n int, end string) string {
	c.T.Helper()
	const perRecord, perFrame, size = 5 + 1 + 16, 4 + 4, 1000 // RFC 8446 section 5.2; a masked frame of 126 bytes and more
	var b strings.Builder
	last := perRecord + len(end)
	for left := n - last; left > 0; left = n - last - b.Len() {
		payload := min(left-perRecord-perFrame, size)
		if rest := left - payload - perRecord - perFrame; rest > 0 && rest < 200 {
			payload -= 200
		}
		b.WriteString(p.Sealed(c, Text(Stars(payload))))
	}
	b.WriteString(p.Sealed(c, end))
	if b.Len() != n {
		c.T.Fatalf("%d bytes of records, want %d", b.Len(), n)
	}
	return b.String()
}

// Tapped is a TLS client whose records the test can take apart.
func Tapped(t testing.TB, s listening, target string) (*Client, *tap) {
	t.Helper()
	nc, err := net.DialTimeout("tcp", s.Endpoint().Addr, Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() }) // ignored: it may be closed already
	p := &tap{TCPConn: nc.(*net.TCPConn)}
	l := secureOver(p, p.TCPConn)
	c := NewClient(t, l)
	c.Upgrade(target)
	return c, p
}

// keys are a client's side of TLS 1.3 below crypto/tls.
type keys struct {
	Secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

func NewKeys(t testing.TB, secret []byte) *keys {
	t.Helper()
	expand := func(label string, n int) []byte {
		info := string(binary.BigEndian.AppendUint16(nil, uint16(n))) + string(rune(6+len(label))) + "tls13 " + label + "\x00"
		out, err := hkdf.Expand(sha256.New, secret, info, n)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	block, err := aes.NewCipher(expand("key", 16))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return &keys{Secret: expand("traffic upd", 32), aead: aead, iv: expand("iv", 12)}
}

// Record seals a record (RFC 8446 section 5.2).
func (k *keys) Record(kind byte, content string) string {
	nonce := bytes.Clone(k.iv)
	for i, b := range binary.BigEndian.AppendUint64(nil, k.seq) {
		nonce[4+i] ^= b
	}
	k.seq++
	head := []byte{23, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(content)+1+k.aead.Overhead()))
	return string(head) + string(k.aead.Seal(nil, nonce, append([]byte(content), kind), head))
}

// Keyed is a client with its keys, behind its upgrade.
func Keyed(t testing.TB, s listening, target string) (*Client, *keys) {
	t.Helper()
	var log bytes.Buffer
	c, conn := DialTLS(t, s, target, &tls.Config{KeyLogWriter: &log, MinVersion: tls.VersionTLS13})
	if suite := conn.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skipf("this machine speaks %s", tls.CipherSuiteName(suite))
	}
	for line := range strings.Lines(log.String()) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			k := NewKeys(t, secret)
			k.seq = 1 // the upgrade
			return c, k
		}
	}
	t.Fatal("no secret in the key log")
	return nil, nil
}

const (
	TlsHandshake, TlsData  = 22, 23
	UpdateKey, UpdateAsked = "\x18\x00\x00\x01\x00", "\x18\x00\x00\x01\x01"
)

// Gathered is a connection that keeps what is written, when told so.
type Gathered struct {
	net.Conn
	Keeps bool
	Kept  []byte
}

func (g *Gathered) Write(p []byte) (int, error) {
	if !g.Keeps {
		return g.Conn.Write(p)
	}
	g.Kept = append(g.Kept, p...)
	return len(p), nil
}

// Ahead is a connection whose next bytes can be looked at before they are read.
type Ahead struct {
	net.Conn
	In *bufio.Reader
}

func (a *Ahead) Read(p []byte) (int, error) { return a.In.Read(p) }

// KeyUpdate makes the record of a client that asks for new keys: its number under a
// traffic secret of TLS_AES_128_GCM_SHA256 (RFC 8446 sections 4.6.3, 5.2, 7.3).
func KeyUpdate(t *testing.T, secret []byte, number uint64) []byte {
	t.Helper()
	expand := func(label string, n int) []byte {
		label = "tls13 " + label
		info := string(binary.BigEndian.AppendUint16(nil, uint16(n))) + string(rune(len(label))) + label + "\x00"
		out, err := hkdf.Expand(sha256.New, secret, info, n)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	block, err := aes.NewCipher(expand("key", 16))
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := expand("iv", sealer.NonceSize())
	for i, b := range binary.BigEndian.AppendUint64(nil, number) {
		nonce[len(nonce)-8+i] ^= b
	}
	const inner = "\x18\x00\x00\x01\x01" + "\x16" // update_requested; a handshake message
	head := []byte{0x17, 3, 3, 0, byte(len(inner) + sealer.Overhead())}
	return sealer.Seal(head, nonce, []byte(inner), head)
}
