package interop

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
)

// schemes are the two ways in; every client does everything on both.
var schemes = []string{"ws", "wss"}

func trustFor(scheme string, g *gateway) *tls.Config {
	if scheme == "ws" {
		return nil
	}
	return g.trust
}

// testCase is what a client does on a connection of its own.
type testCase struct {
	name   string
	path   string
	needs  ability // "" for none
	do     func(ctx context.Context, o *conn) error
	reason string // of the end, as the gateway counts it
}

var testCases = []testCase{
	echoes("text", message{payload: "hello"}, message{payload: "gr\u00fc\u00dfe \u4f60\u597d \U0001f30d \x00 \u2028"}),
	echoes("binary", message{true, allBytes}, message{true, strings.Repeat(allBytes, 256)[:65535]}),
	echoes("empty", message{payload: ""}, message{true, ""}, message{payload: "behind"}),
	echoes("lengths 125 126 127", message{payload: strings.Repeat("a", 125)}, message{true, strings.Repeat("b", 126)}, message{payload: strings.Repeat("c", 127)}),
	echoes("64 KiB", message{payload: fullText}, message{true, strings.Repeat(allBytes, maxMessage/256)}),
	{name: "fragments", path: "/echo", needs: fragments, reason: "client_close", do: func(ctx context.Context, o *conn) error {
		for _, m := range fragmented {
			if err := o.sendParts(m); err != nil {
				return err
			}
			if err := o.expect(ctx, heard{what: "message", message: m}); err != nil {
				return err
			}
		}
		return o.leave(ctx, 1000, "")
	}},
	{name: "ping, pong", path: "/echo", needs: pings, reason: "client_close", do: func(ctx context.Context, o *conn) error {
		for _, payload := range []string{"", "beat", strings.Repeat("p", 125)} {
			if err := o.ping(payload); err != nil {
				return err
			}
			if err := o.expect(ctx, heard{what: "pong", message: message{payload: payload}}); err != nil {
				return err
			}
		}
		return o.leave(ctx, 1000, "")
	}},
	closes("close 1000", 1000, ""),
	closes("close 4001, reason", 4001, "gr\u00fc\u00dfe"),
	{name: "close without code", path: "/echo", needs: emptyClose, reason: "client_close", do: func(ctx context.Context, o *conn) error {
		return o.leave(ctx, noCode, "")
	}},
	isClosed("too big: 1009", "/echo", "message_too_big", "", message{true, strings.Repeat("x", maxMessage+1)}, 1009, "message too big"),
	isClosed("bad UTF-8: 1007", "/echo", "bad_utf8", badText, message{payload: "ab\xff"}, 1007, "text is not UTF-8"),
	isClosed("only listens: 1008", "/ws/quiet?mode=subscribe", "not_allowed", "", message{payload: "hello"}, 1008, "publishing is not allowed here"),
}

var (
	allBytes   = bytesInOrder()
	fullText   = strings.Repeat("\u20ac", maxMessage/3) + "a"
	fragmented = []message{
		{payload: strings.Repeat("\u20ac", 4001)}, // characters of three bytes, cut by the fragments
		{true, strings.Repeat(allBytes, 64)},
		{payload: fullText},
	}
)

func bytesInOrder() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}

// echoes: each message comes back as it was.
func echoes(name string, messages ...message) testCase {
	return testCase{name: name, path: "/echo", reason: "client_close", do: func(ctx context.Context, o *conn) error {
		for _, m := range messages {
			if err := o.send(m); err != nil {
				return err
			}
			if err := o.expect(ctx, heard{what: "message", message: m}); err != nil {
				return err
			}
		}
		return o.leave(ctx, 1000, "")
	}}
}

// closes: what was sent before comes back, then the client's code.
func closes(name string, code int, reason string) testCase {
	return testCase{name: name, path: "/echo", needs: closeAnswer, reason: "client_close", do: func(ctx context.Context, o *conn) error {
		return o.leave(ctx, code, reason)
	}}
}

// isClosed: the gateway ends the connection, with a code and a reason.
func isClosed(name, path, counted string, needs ability, m message, code int, reason string) testCase {
	return testCase{name: name, path: path, needs: needs, reason: counted, do: func(ctx context.Context, o *conn) error {
		// Ignored: the gateway may hang up before all of it was written. What counts is
		// what the client is told.
		_ = o.send(m)
		return o.expect(ctx, heard{what: "closed", code: code, reason: reason})
	}}
}

// leave closes a connection. The gateway answers with the code that it got.
func (o *conn) leave(ctx context.Context, code int, reason string) error {
	if err := o.close(code, reason); err != nil {
		return err
	}
	got, err := o.next(ctx)
	if err != nil {
		return fmt.Errorf("%w: no reply to Close %d", err, code)
	}
	if _, deaf := o.lacks[closeAnswer]; deaf && got.what == "closed" {
		return nil
	}
	if want := (heard{what: "closed", code: code}); got != want {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	return nil
}

// doCases takes a client through all cases on both schemes.
func doCases(ctx context.Context, t *testing.T, c *client, g *gateway, ends *ends) {
	for _, scheme := range schemes {
		for _, k := range testCases {
			if why, lacking := c.lacks[k.needs]; lacking {
				t.Run(c.name+" "+scheme+": "+k.name, func(t *testing.T) { t.Skip(why) })
				continue
			}
			ends.expect(k.reason)
			o, err := c.open(ctx, g.URL(scheme, k.path), trustFor(scheme, g))
			if err == nil {
				err = k.do(ctx, o)
			}
			result(t, c, scheme, k.name, err)
		}
	}
}
