package clienttest

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
)

// Deflated is set by -deflate: the clients of the tests ask for compression, which their servers offer, down to
// the smallest publication. What they see must be the same.
var Deflated = flag.Bool("deflate", false, "let the tests' clients negotiate compression")

// UncompressedOnly skips a test that needs as many bytes on the wire as were published, or looks at them itself.
func UncompressedOnly(t testing.TB) {
	t.Helper()
	if *Deflated {
		t.Skip("needs publications as they are")
	}
}

// What asks for compression.
const (
	Deflate    = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
	AcceptGzip = "Accept-Encoding: gzip, deflate, br"
)

// Inflated returns what a message was before it was compressed.
func Inflated(payload string) (string, error) {
	b, err := io.ReadAll(flate.NewReader(strings.NewReader(payload + "\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	return string(b), err
}

// Compressed returns messages as the payloads of compressed ones. keeps: each may refer to those before it.
func Compressed(keeps bool, messages ...string) (payloads []string) {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression) // its one error is an unknown level
	for _, m := range messages {
		if !keeps {
			w.Reset(&b)
		}
		b.Reset()
		io.WriteString(w, m) // a buffer takes all
		w.Flush()            // likewise
		payloads = append(payloads, strings.TrimSuffix(b.String(), "\x00\x00\xff\xff"))
	}
	return payloads
}

// gunzip reads a gzip member that ends with its connection.
type gunzip struct {
	from io.Reader
	in   *gzip.Reader
}

func (g *gunzip) Read(p []byte) (n int, err error) {
	if g.in == nil {
		if g.in, err = gzip.NewReader(g.from); err != nil {
			return 0, err
		}
	}
	n, err = g.in.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}
