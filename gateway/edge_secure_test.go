package gateway

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
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
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

// tapped is a TLS client whose records the test can take apart.
func tapped(t testing.TB, s *server, target string) (*client, *tap) {
	t.Helper()
	nc, err := net.DialTimeout("tcp", s.addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() }) // ignored: it may be closed already
	p := &tap{TCPConn: nc.(*net.TCPConn)}
	l := secureOver(p, p.TCPConn)
	c := &client{t: t, conn: l, in: bufio.NewReader(l)}
	c.upgrade(target)
	return c, p
}

// sealed gives the records of some frames without sending them.
func (p *tap) sealed(c *client, frames string) string {
	p.kept = new(bytes.Buffer)
	defer func() { p.kept = nil }()
	c.send(frames)
	return p.kept.String()
}

func TestRecordsMayComeByteByByte(t *testing.T) {
	s := startTLS(t, Config{PingInterval: 25 * time.Second, PongTimeout: 10 * time.Second, MessageTimeout: 10 * time.Second})
	c, p := tapped(t, s, "/echo")
	record := p.sealed(c, text("in pieces")+text("two in a record"))
	for i := range len(record) { // not its runes
		if _, err := p.TCPConn.Write([]byte{record[i]}); err != nil {
			t.Fatal(err)
		}
		s.quiet()
	}
	c.wantText("first", "in pieces")
	c.wantText("second", "two in a record")
	// A message in two records, with time between: it has begun with the first.
	whole := text(stars(1000))
	first, second := p.sealed(c, whole[:400]), p.sealed(c, whole[400:])
	p.TCPConn.Write([]byte(first)) // ignored: then nothing comes back
	s.pass(8)
	p.TCPConn.Write([]byte(second)) // ignored: likewise
	c.wantText("in time", stars(1000))
	// Half a record is half a message.
	record = p.sealed(c, text("never whole"))
	p.TCPConn.Write([]byte(record[:len(record)/2])) // ignored: likewise
	s.quiet()
	s.pass(13)
	c.wantCloseFrame("not finished", 1008)
	c.vanish()
	s.wantClosed(reasonMessageTimeout, 1)
}

func TestMessageTimeoutOfHalfAMessageInAWholeRecord(t *testing.T) {
	s := startTLS(t, Config{PingInterval: -1, MessageTimeout: 10 * time.Second})
	c, _ := tapped(t, s, "/echo")
	whole := text(stars(1000))
	c.write(whole[:400])
	waitFor(t, "it to come", func() bool { return s.bytesIn() > 0 })
	s.pass(12)
	c.wantClose("not finished", 1008)
	s.wantClosed(reasonMessageTimeout, 1)
}

// keys are a client's side of TLS 1.3 below crypto/tls.
type keys struct {
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

func newKeys(t testing.TB, secret []byte) *keys {
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
	return &keys{secret: expand("traffic upd", 32), aead: aead, iv: expand("iv", 12)}
}

// record seals a record (RFC 8446 section 5.2).
func (k *keys) record(kind byte, content string) string {
	nonce := bytes.Clone(k.iv)
	for i, b := range binary.BigEndian.AppendUint64(nil, k.seq) {
		nonce[4+i] ^= b
	}
	k.seq++
	head := []byte{23, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(content)+1+k.aead.Overhead()))
	return string(head) + string(k.aead.Seal(nil, nonce, append([]byte(content), kind), head))
}

// keyed is a client with its keys, behind its upgrade.
func keyed(t testing.TB, s *server, target string) (*client, *keys) {
	t.Helper()
	var log bytes.Buffer
	c, conn := dialTLS(t, s, target, &tls.Config{KeyLogWriter: &log, MinVersion: tls.VersionTLS13})
	if suite := conn.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skipf("this machine speaks %s", tls.CipherSuiteName(suite))
	}
	for line := range strings.Lines(log.String()) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(f[2])
			if err != nil {
				t.Fatal(err)
			}
			k := newKeys(t, secret)
			k.seq = 1 // the upgrade
			return c, k
		}
	}
	t.Fatal("no secret in the key log")
	return nil, nil
}

const (
	tlsHandshake, tlsData  = 22, 23
	updateKey, updateAsked = "\x18\x00\x00\x01\x00", "\x18\x00\x00\x01\x01"
)

func TestKeysMayBeUpdated(t *testing.T) {
	s := startTLS(t, Config{PingInterval: -1})
	c, k := keyed(t, s, "/echo")
	tcp := c.conn.(*tlsLink).tcp
	for i := range 30 { // with data in between there may be any number
		update := updateKey
		if i%2 == 0 {
			update = updateAsked
		}
		out := k.record(tlsHandshake, update)
		k = newKeys(t, k.secret)
		out += k.record(tlsData, text(fmt.Sprint("key ", i)))
		if _, err := tcp.Write([]byte(out)); err != nil {
			t.Fatal(err)
		}
		c.wantText("with the next key", fmt.Sprint("key ", i))
	}
	s.quiet()
	waitFor(t, "nothing to be held", func() bool { return s.held() == 0 })
}

func TestFloodOfKeyUpdatesEndsTheConnection(t *testing.T) {
	s := startTLS(t, Config{PingInterval: -1})
	c, k := keyed(t, s, "/echo")
	other, _ := tapped(t, s, "/echo")
	var flood strings.Builder
	for range 200 {
		flood.WriteString(k.record(tlsHandshake, updateAsked))
		k = newKeys(t, k.secret)
	}
	c.conn.(*tlsLink).tcp.Write([]byte(flood.String())) // ignored: it may be cut meanwhile
	s.wantClosed(reasonTLS, 1)
	other.send(text("still here"))
	other.wantText("others go on", "still here")
}

func TestTLSReaderThatStallsIsCutByTheWriteTimeout(t *testing.T) {
	s := startTLS(t, Config{Loops: 1, SendBuffer: 4 << 10, PingInterval: -1})
	slow := dialSmall(t, s, "/ws/x")
	n := uint64(0)
	for ; s.blocked() == 0 || n < 40; n++ {
		s.publish("x", stars(2000))
		s.quiet()
	}
	encrypted := 0
	s.do(func(l *loop) {
		for _, c := range l.conns {
			encrypted = len(c.secure().wire.rest)
		}
	})
	if encrypted == 0 || s.held() == 0 {
		t.Errorf("%d encrypted bytes wait, %d are accounted for", encrypted, s.held())
	}
	for range 100 { // the kernel may still move some bytes
		if s.pass(1); s.closing(reasonWriteTimeout) == 1 {
			break
		}
	}
	if d := s.dropped(reasonWriteTimeout); d == 0 || d+s.deliveries() != n {
		t.Errorf("%d publications: %d deliveries, %d dropped", n, s.deliveries(), d)
	}
	for range 20 { // it never reads the Close either
		s.pass(1)
	}
	s.wantClosed(reasonWriteTimeout, 1)
	waitFor(t, "nothing to be held", func() bool { return s.held() == 0 })
	slow.vanish()
}

func TestTLSClientEndsItsSide(t *testing.T) {
	s := startTLS(t, Config{PingInterval: -1})
	other, _ := tapped(t, s, "/ws/x")
	ways := map[string]func(l *tlsLink){
		"close_notify":             func(l *tlsLink) { l.Conn.CloseWrite() }, // ignored, all three: then it does not end
		"FIN without close_notify": func(l *tlsLink) { l.tcp.CloseWrite() },
		"both":                     func(l *tlsLink) { l.CloseWrite() },
	}
	for why, end := range ways {
		c, _ := tapped(t, s, "/ws/x?echo=off")
		c.send(text("before " + why))
		end(c.conn.(*tlsLink))
		other.wantText("what came before is taken", "before "+why)
		c.wantEOF(why)
		c.conn.Close()
	}
	s.wantClosed(reasonClientGone, uint64(len(ways)))
}

func TestTLSMessagesLargerThanASocketGoBothWays(t *testing.T) {
	s := startTLS(t, Config{Loops: 1, MaxMessage: 1 << 20, ChannelBuffer: 32 << 20, MaxBuffered: 512 << 20, MaxPending: 4 << 20, SendBuffer: 16 << 10, PingInterval: -1, WriteTimeout: -1})
	a, _ := tapped(t, s, "/ws/x")
	b, _ := tapped(t, s, "/ws/x")
	const each = 8
	sent := make(chan struct{}, 2)
	for _, c := range []*client{a, b} {
		go func() {
			defer func() { sent <- struct{}{} }()
			for range each {
				c.send(text(stars(1 << 20)))
			}
		}()
	}
	waitFor(t, "both to be blocked", func() bool { return s.blocked() == 2 })
	for range 2 * each {
		a.wantText("all of it", stars(1<<20))
		b.wantText("all of it", stars(1<<20))
	}
	<-sent
	<-sent
	s.quiet()
	waitFor(t, "nothing to be held", func() bool { return s.held() == 0 })
}

// A record that ends the connection, the first byte of another, and a reset: the write of
// the Close frame fails, and the connection is dead before the read has ended. The first
// records use up what may be read in a turn, so that the reset is not seen by the read.
func TestDeadTLSConnectionIsLeftAlone(t *testing.T) {
	for name, end := range map[string]string{"Close": closing(1000, ""), "unmasked": "\x81\x01x"} {
		t.Run(name, func(t *testing.T) {
			s := startTLS(t, Config{Loops: 1, PingInterval: -1, MessageTimeout: 10 * time.Second})
			other := dial(t, s, "/ws/y")
			for range 3 {
				c, p := tapped(t, s, "/ws/x?echo=off")
				s.quiet()
				release := s.hold(0)
				p.TCPConn.Write([]byte(p.sealedTo(c, scratchBytes-1, end) + "\x15")) // ignored: then it does not end as expected
				c.vanish()
				release()
				s.wantConnections(1)
			}
			s.publish("y", "still there")
			other.wantText("the others' loop", "still there")
		})
	}
}

// sealedTo returns records of exactly n bytes: messages, and frames at their end.
func (p *tap) sealedTo(c *client, n int, end string) string {
	c.t.Helper()
	const perRecord, perFrame, size = 5 + 1 + 16, 4 + 4, 1000 // RFC 8446 section 5.2; a masked frame of 126 bytes and more
	var b strings.Builder
	last := perRecord + len(end)
	for left := n - last; left > 0; left = n - last - b.Len() {
		payload := min(left-perRecord-perFrame, size)
		if rest := left - payload - perRecord - perFrame; rest > 0 && rest < 200 {
			payload -= 200
		}
		b.WriteString(p.sealed(c, text(stars(payload))))
	}
	b.WriteString(p.sealed(c, end))
	if b.Len() != n {
		c.t.Fatalf("%d bytes of records, want %d", b.Len(), n)
	}
	return b.String()
}
