package loop

import (
	"bufio"
	"crypto/tls"
	"encoding/hex"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"
)

// What TLS itself has to say goes out at once, and does not wait for a publication.
func TestKeyUpdateIsAnsweredAtOnce(t *testing.T) {
	s := startLoopsTLS(t, loopsConfig{PingInterval: -1})
	nc, err := net.Dial("tcp", s.Endpoint().Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() }) // ignored: it may be closed already
	var keys strings.Builder
	wire := &clienttest.Ahead{Conn: nc, In: bufio.NewReader(nc)}
	l := &clienttest.TlsLink{Conn: tls.Client(wire, &tls.Config{InsecureSkipVerify: true, KeyLogWriter: &keys}), Tcp: nc.(*net.TCPConn)}
	c := clienttest.NewClient(t, l)
	c.Upgrade("/ws/x") // the first record under this secret
	if l.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("without AES in hardware another cipher is chosen")
	}
	found := regexp.MustCompile(`CLIENT_TRAFFIC_SECRET_0 \w+ (\w+)`).FindStringSubmatch(keys.String())
	secret, err := hex.DecodeString(found[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Write(clienttest.KeyUpdate(t, secret, 1)); err != nil {
		t.Fatal(err)
	}
	nc.SetReadDeadline(time.Now().Add(clienttest.Patience)) // ignored: then Peek fails
	if _, err := wire.In.Peek(5); err != nil {
		t.Fatalf("no answer to a key update: %v", err)
	}
	s.publish("x", "under the new key")
	c.WantText("both sides have it", "under the new key")
}
