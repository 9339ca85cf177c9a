package gateway

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// ahead is a connection whose next bytes can be looked at before they are read.
type ahead struct {
	net.Conn
	in *bufio.Reader
}

func (a *ahead) Read(p []byte) (int, error) { return a.in.Read(p) }

// keyUpdate makes the record of a client that asks for new keys: its number under a
// traffic secret of TLS_AES_128_GCM_SHA256 (RFC 8446 sections 4.6.3, 5.2, 7.3).
func keyUpdate(t *testing.T, secret []byte, number uint64) []byte {
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

// What TLS itself has to say goes out at once, and does not wait for a publication.
func TestKeyUpdateIsAnsweredAtOnce(t *testing.T) {
	s := startTLS(t, Config{PingInterval: -1})
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() }) // ignored: it may be closed already
	var keys strings.Builder
	wire := &ahead{nc, bufio.NewReader(nc)}
	l := &tlsLink{tls.Client(wire, &tls.Config{InsecureSkipVerify: true, KeyLogWriter: &keys}), nc.(*net.TCPConn)}
	c := &client{t: t, conn: l, in: bufio.NewReader(l)}
	c.upgrade("/ws/x") // the first record under this secret
	if l.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("without AES in hardware another cipher is chosen")
	}
	found := regexp.MustCompile(`CLIENT_TRAFFIC_SECRET_0 \w+ (\w+)`).FindStringSubmatch(keys.String())
	secret, err := hex.DecodeString(found[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Write(keyUpdate(t, secret, 1)); err != nil {
		t.Fatal(err)
	}
	nc.SetReadDeadline(time.Now().Add(patience)) // ignored: then Peek fails
	if _, err := wire.in.Peek(5); err != nil {
		t.Fatalf("no answer to a key update: %v", err)
	}
	s.publish("x", "under the new key")
	c.wantText("both sides have it", "under the new key")
}
