package hostile

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/gobwas/ws"

	"sluice/bench"
)

// Frames opens sessions with a server that echoes every message, most of them with
// one protocol violation of a known class. An answer is wrong unless it is, frame by frame
// and with the right close code, the one that RFC 6455 and the server's limits demand. The
// error says that an answer was wrong, or is as of [bench.Fanout].
func Frames(ctx context.Context, o Options) (*bench.Result, error) {
	o.Path = cmp.Or(o.Path, "/echo")
	return measure(ctx, "frames", o, func(k *attack, r *rand.Rand, n int) error {
		class := sessionClasses[n%len(sessionClasses)]
		return k.session(r, n, class, newSession(r, class, k.MessageMax))
	})
}

// session upgrades, sends b and judges what comes back.
func (k *attack) session(r *rand.Rand, n int, class sessionClass, b []byte) error {
	want, cut := echoes(b, k.MessageMax)
	if code := class.code; code != 0 && (cut || closeCode(want[len(want)-1]) != code) {
		return wrongf("the checker itself does not expect %[2]d for %[1]s: %[3]s", class.name, code, quoted(b))
	}
	c, err := k.dial(n)
	if err != nil {
		return err
	}
	defer c.Close()
	head := []byte(upgradeHead(k.run.URL().RequestURI(), k.run.URL().Host, ""))
	var early []byte
	if r.IntN(2) == 0 { // all at once, or the 101 first
		writeCut(c, r, append(head, b...))
	} else {
		c.Write(head) // ignored: then there is no 101
		if early, err = readHead(c); err != nil {
			return wrongf("%s: %v", class.name, err)
		}
		writeCut(c, r, b)
	}
	if cut {
		c.CloseWrite() // ignored: then the server has ended it
	}
	answer, err := io.ReadAll(c)
	if answer = append(early, answer...); err != nil {
		return wrongf("%s: the connection did not end as it should: %v, after %s; sent %s", class.name, err, quoted(answer), quoted(b))
	}
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 101 ")) {
		return wrongf("%s: got %s instead of a 101", class.name, quoted(answer))
	}
	_, answer, _ = bytes.Cut(answer, []byte("\r\n\r\n"))
	got, whole := serverFrames(answer)
	if cut && len(got) == len(want)+1 && slices.Contains(faultCodes, closeCode(got[len(want)])) && got[len(want)].op == ws.OpClose {
		want = append(want, got[len(want)])
	}
	if !whole || !slices.Equal(got, want) {
		return wrongf("%s: sent %s, want the response %s, got %s", class.name, quoted(b), described(want), quoted(answer))
	}
	k.count("class_" + class.name)
	if n := len(got); n > 0 && got[n-1].op == ws.OpClose {
		k.mu.Lock()
		k.codes[strconv.Itoa(int(closeCode(got[n-1])))]++
		k.mu.Unlock()
	}
	return nil
}

// faultCodes may end a session whose last frame is not whole.
var faultCodes = []ws.StatusCode{ws.StatusProtocolError, ws.StatusInvalidFramePayloadData, ws.StatusPolicyViolation, ws.StatusMessageTooBig}

// described shows frames in a report.
func described(frames []wsFrame) string {
	var b []byte
	for _, f := range frames {
		b = fmt.Appendf(b, "[opcode %d, %.60q]", f.op, f.payload)
	}
	return string(b)
}

// readHead reads up to the end of a response's head.
func readHead(c net.Conn) (b []byte, err error) {
	p := make([]byte, 512)
	for !bytes.Contains(b, []byte("\r\n\r\n")) {
		n, err := c.Read(p)
		if b = append(b, p[:n]...); err != nil {
			return nil, errors.New("got " + quoted(b) + " instead of a 101")
		}
	}
	return b, nil
}

func init() {
	var classes [][2]string
	for _, c := range sessionClasses {
		label := "depends on the bytes"
		if c.code != 0 {
			label = strconv.Itoa(int(c.code))
		}
		classes = append(classes, [2]string{"class_" + c.name, strings.ReplaceAll(c.name, "_", " ") + ": " + label})
	}
	register("frames", "hostile sessions", "sessions", nil, bench.Table{Title: "correct responses, by class and expected close code", Rows: classes})
}
