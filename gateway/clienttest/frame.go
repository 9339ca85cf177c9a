package clienttest

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/gobwas/ws"
)

// Part returns a client's frame with the given first byte.
func Part(b0 byte, payload string) string {
	head := []byte{b0}
	switch n := len(payload); {
	case n < 126:
		head = append(head, 0x80|byte(n))
	case n < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, 0x80|126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x12, 0xa5, 0x7f, 0xe0}
	head = append(head, mask[:]...)
	body := []byte(payload)
	ws.Cipher(body, mask, 0)
	return string(head) + string(body)
}

func Text(p string) string { return Part(0x81, p) }

func Bin(p string) string { return Part(0x82, p) }

func Ping(p string) string { return Part(0x89, p) }

func Pong(p string) string { return Part(0x8a, p) }

// Closing returns a Close frame; without a code for 0.
func Closing(code ws.StatusCode, why string) string {
	if code == 0 {
		return Part(0x88, "")
	}
	return Part(0x88, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+why)
}

func Brief(p string) string {
	if len(p) <= 64 {
		return strings.ToValidUTF8(p, "?")
	}
	return strings.ToValidUTF8(p[:48], "?") + "..."
}

// Numbered returns texts that begin with their number, each of size bytes.
func Numbered(n, size int) (all []string) {
	for i := range n {
		var b bytes.Buffer
		b.WriteString(filler("0", max(size-8, 0)))
		for d := 10_000_000; d > 0; d /= 10 {
			b.WriteByte('0' + byte(i/d%10))
		}
		all = append(all, b.String()[b.Len()-size:])
	}
	return all
}

// Stars returns a text of n bytes.
func Stars(n int) string { return filler("*", n) }

// filler returns n bytes: the same all over, or such as do not shrink where that matters.
func filler(c string, n int) string {
	if *Deflated {
		return Noise(n)
	}
	return strings.Repeat(c, n)
}
