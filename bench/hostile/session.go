package hostile

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/gobwas/ws"
)

// A session is what a client sends after its upgrade. Its class says what is wrong
// with it, and with which code it must end.
type sessionClass struct {
	name string
	code ws.StatusCode // 0: it depends on the bytes
	make func(d *draft)
}

// draft is a session in the making.
type draft struct {
	*rand.Rand
	b          []byte
	messageMax int
}

const finBit = 0x80

// raw appends a frame with anything in its header: the form of the length (7, 16 or
// 64 bits), the length itself, and whether there is a mask.
func (d *draft) raw(b0 byte, bits int, length uint64, masked bool, payload []byte) {
	var mask [4]byte
	maskBit := byte(0)
	if masked {
		maskBit = 0x80
		binary.BigEndian.PutUint32(mask[:], d.Uint32())
	}
	switch d.b = append(d.b, b0); bits {
	case 64:
		d.b = binary.BigEndian.AppendUint64(append(d.b, maskBit|127), length)
	case 16:
		d.b = binary.BigEndian.AppendUint16(append(d.b, maskBit|126), uint16(length))
	default:
		d.b = append(d.b, maskBit|byte(length))
	}
	if masked {
		d.b = append(d.b, mask[:]...)
	}
	at := len(d.b)
	d.b = append(d.b, payload...)
	ws.Cipher(d.b[at:], mask, 0)
}

// frame appends a frame as it should be.
func (d *draft) frame(b0 byte, payload []byte) {
	bits := 7
	switch n := len(payload); {
	case n >= 1<<16:
		bits = 64
	case n > 125:
		bits = 16
	}
	d.raw(b0, bits, uint64(len(payload)), true, payload)
}

// text returns n bytes of UTF-8, about.
func (d *draft) text(n int) []byte {
	const words = "goal! κόσμε 订阅者在线 購読者 구독자 𠮷🀄 µ@ß "
	s := strings.Repeat(words, 1+n/len(words))
	return []byte(strings.ToValidUTF8(s[:n], ""))
}

func (d *draft) bytes(n int) []byte {
	p := make([]byte, 0, n+8)
	for len(p) < n {
		p = binary.LittleEndian.AppendUint64(p, d.Uint64())
	}
	return p[:n]
}

func (d *draft) size() int { return [...]int{0, 5, 60, 125, 126, 127, 700}[d.IntN(7)] }

// chat appends a few things that are right.
func (d *draft) chat(most int) {
	for range d.IntN(most + 1) {
		switch d.IntN(6) {
		case 0, 1:
			d.frame(finBit|byte(ws.OpText), d.text(d.size()))
		case 2:
			d.frame(finBit|byte(ws.OpBinary), d.bytes(d.size()))
		case 3:
			d.frame(finBit|byte(ws.OpPing), d.bytes(d.IntN(126)))
		case 4:
			d.frame(finBit|byte(ws.OpPong), d.bytes(d.IntN(126)))
		case 5:
			d.fragments(d.text(d.size()+20), 2+d.IntN(6), true)
		}
	}
}

// fragments appends a text in n frames, cut anywhere, with control frames between;
// the last one ends it or not.
func (d *draft) fragments(text []byte, n int, fin bool) {
	op := byte(ws.OpText)
	for i := range n {
		part := text[:d.IntN(len(text)+1)]
		if i == n-1 {
			part = text
			if fin {
				op |= finBit
			}
		}
		d.frame(op, part)
		text, op = text[len(part):], byte(ws.OpContinuation)
		if i < n-1 && d.IntN(4) == 0 {
			d.frame(finBit|byte(ws.OpPing), d.bytes(d.IntN(20)))
		}
	}
}

func (d *draft) close(code ws.StatusCode, reason string) {
	d.frame(finBit|byte(ws.OpClose), append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
}

// oneOf returns one of some opcodes with the bit of a whole message.
func (d *draft) oneOf(ops ...ws.OpCode) byte { return finBit | byte(ops[d.IntN(len(ops))]) }

// badText are bytes that no UTF-8 has: surrogates, too long forms, beyond the last
// code point, lone and missing continuations.
var badText = []string{"\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80", "\x80", "\xfe", "\xe4\xbd!", "\xf0\x80\x80\xaf", "\xed\xbf\xbf"}

// spoiled returns a text with a fault inside.
func (d *draft) spoiled() []byte {
	text := d.text(d.size() + 40)
	for at := d.IntN(len(text)); ; at++ {
		if at == len(text) || text[at]&0xc0 != 0x80 { // between code points
			return slices.Insert(text, at, []byte(badText[d.IntN(len(badText))])...)
		}
	}
}

var sessionClasses = []sessionClass{
	{"reserved_bits", 1002, func(d *draft) { d.frame(d.oneOf(1, 2, 8, 9, 10)|byte(1+d.IntN(7))<<4, d.text(20)) }},
	{"reserved_opcode", 1002, func(d *draft) { d.frame(d.oneOf(3, 4, 5, 6, 7, 11, 12, 13, 14, 15), d.text(d.IntN(50))) }},
	{"unmasked", 1002, func(d *draft) { d.raw(d.oneOf(1, 2, 8, 9, 10), 7, 20, false, d.text(20)) }},
	{"fragmented_control", 1002, func(d *draft) { d.frame(d.oneOf(8, 9, 10)&^finBit, nil) }},
	{"long_control", 1002, func(d *draft) { d.frame(d.oneOf(8, 9, 10), d.bytes(126+d.IntN(300))) }},
	{"lone_continuation", 1002, func(d *draft) { d.frame(byte(d.IntN(2))<<7, d.text(20)) }},
	{"message_in_message", 1002, func(d *draft) {
		d.fragments(d.text(60), 1+d.IntN(3), false)
		d.frame(d.oneOf(1, 2)&^(byte(d.IntN(2))<<7), d.text(20))
	}},
	{"length_sign", 1002, func(d *draft) { d.raw(d.oneOf(1, 2), 64, 1<<63|d.Uint64(), true, d.bytes(20)) }},
	{"length_not_minimal", 1002, func(d *draft) {
		if n := d.IntN(126); d.IntN(2) == 0 {
			d.raw(d.oneOf(1, 2), 16, uint64(n), true, d.text(n))
		} else {
			d.raw(d.oneOf(1, 2), 64, uint64(n*500), true, d.text(n*500))
		}
	}},
	{"too_big", 1009, func(d *draft) {
		d.raw(d.oneOf(1, 2), 64, max(1<<16, uint64(d.messageMax)+1)+d.Uint64()>>(1+d.IntN(63)), true, d.bytes(d.IntN(200)))
	}},
	{"fragments_too_big", 1009, func(d *draft) {
		d.frame(byte(ws.OpBinary), make([]byte, d.messageMax-d.IntN(100)))
		d.frame(byte(ws.OpContinuation), make([]byte, 100+d.IntN(100)))
	}},
	{"too_many_fragments", 1008, func(d *draft) { d.fragments(d.text(d.size()), fragmentsMax+1+d.IntN(10), true) }},
	{"bad_text", 1007, func(d *draft) { d.frame(finBit|byte(ws.OpText), d.spoiled()) }},
	{"bad_text_in_fragments", 1007, func(d *draft) { d.fragments(d.spoiled(), 2+d.IntN(6), true) }},
	{"text_cut_in_a_code_point", 1007, func(d *draft) {
		d.fragments(append(d.text(d.size()), "\xf0\x9f\x80"[:1+d.IntN(3)]...), 1+d.IntN(4), true)
	}},
	{"close_of_one_byte", 1002, func(d *draft) { d.frame(finBit|byte(ws.OpClose), d.bytes(1)) }},
	{"close_bad_code", 1002, func(d *draft) {
		codes := []ws.StatusCode{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535}
		d.close(codes[d.IntN(len(codes))], string(d.text(d.IntN(100))))
	}},
	{"close_bad_reason", 1007, func(d *draft) { d.close(1000, string(d.text(d.IntN(80)))+badText[d.IntN(len(badText))]) }},
	{"close_without_code", 1005, func(d *draft) { d.frame(finBit|byte(ws.OpClose), nil) }},
	{"close_with_code", 0, func(d *draft) {
		codes := []ws.StatusCode{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999}
		d.close(codes[d.IntN(len(codes))], string(d.text(d.IntN(124))))
	}},
	{"messages", 1000, func(d *draft) {
		d.chat(12)
		d.close(1000, "")
	}},
	{"longest_message", 1000, func(d *draft) {
		n := d.messageMax - d.IntN(2)
		if d.IntN(2) == 0 {
			d.frame(finBit|byte(ws.OpBinary), d.bytes(n))
		} else {
			d.frame(byte(ws.OpBinary), d.bytes(n/2))
			d.frame(finBit, d.bytes(n-n/2))
		}
		d.close(1000, "")
	}},
	{"cut_off", 0, func(d *draft) {
		d.chat(4)
		d.frame(finBit|byte(ws.OpText), d.text(60))
		d.b = d.b[:len(d.b)-1-d.IntN(60)]
	}},
	{"changed", 0, func(d *draft) {
		d.chat(6)
		d.close(1000, "")
		d.change()
	}},
	{"changed_twice", 0, func(d *draft) {
		d.chat(6)
		d.close(1000, "")
		d.change()
		d.change()
	}},
}

// change changes bytes without knowing what they mean.
func (d *draft) change() {
	i := d.IntN(len(d.b))
	j := min(i+1+d.IntN(20), len(d.b))
	switch d.IntN(6) {
	case 0, 1:
		d.b[i] ^= 1 << d.IntN(8)
	case 2:
		d.b[i] = byte(d.Uint32())
	case 3:
		if d.b = slices.Delete(d.b, i, j); len(d.b) == 0 {
			d.b = []byte{finBit}
		}
	case 4:
		d.b = slices.Insert(d.b, i, d.bytes(1+d.IntN(4))...)
	case 5:
		d.b = slices.Insert(d.b, j, slices.Clone(d.b[i:j])...)
	}
}

// newSession returns a session: something right, what its class is for, and often more
// behind it.
func newSession(r *rand.Rand, class sessionClass, messageMax int) []byte {
	d := &draft{Rand: r, messageMax: messageMax}
	if class.code != 0 {
		d.chat(3)
	}
	class.make(d)
	if class.code != 0 && r.IntN(2) == 0 {
		d.chat(3)
	}
	return d.b
}
