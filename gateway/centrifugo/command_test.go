package centrifugo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/centrifugal/protocol"
	"github.com/google/go-cmp/cmp"
)

// all decodes a whole payload with Next. The payload is overwritten before the
// commands are looked at.
func all(enc Encoding, data []byte) (cmds []string, err error) {
	data = bytes.Clone(data)
	var read []*protocol.Command
	for rest := data; ; {
		cmd, n, err := Next(enc, rest)
		if err != nil {
			return nil, err
		}
		if n <= 0 || n > len(rest) {
			return nil, errors.New("Next used more than there is, or nothing")
		}
		read = append(read, cmd)
		if rest = rest[n:]; len(rest) == 0 {
			break
		}
	}
	for i := range data {
		data[i] = 'X'
	}
	for _, cmd := range read {
		cmds = append(cmds, text(cmd))
	}
	return cmds, nil
}

// text gives all that a command says.
func text(cmd *protocol.Command) string {
	b, err := cmd.MarshalVT()
	if err != nil {
		panic(err)
	}
	if len(cmd.GetConnect().GetSubs()) > 1 || len(cmd.GetConnect().GetHeaders()) > 1 { // maps are encoded in any order
		return cmd.String()
	}
	return string(b)
}

// allOfficial decodes a whole payload with the official decoders.
func allOfficial(enc Encoding, data []byte) (cmds []string, err error) {
	kind := protocol.TypeJSON
	if enc == Protobuf {
		kind = protocol.TypeProtobuf
	}
	d := protocol.GetCommandDecoder(kind, data)
	for {
		cmd, err := d.Decode()
		if cmd != nil {
			cmds = append(cmds, text(cmd))
		}
		if err == io.EOF {
			return cmds, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func message1(t testing.TB, cmd *protocol.Command) string {
	b, err := protocol.NewProtobufCommandEncoder().Encode(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func someCommands() []*protocol.Command {
	return []*protocol.Command{
		{Id: 1, Connect: &protocol.ConnectRequest{Token: "t\"\\", Data: protocol.Raw(`{"a":1}`), Name: "js", Subs: map[string]*protocol.SubscribeRequest{"user#42": {Recover: true, Offset: 5, Epoch: "e"}}}},
		{Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: "chat:1", Token: "<JWT>", Tf: &protocol.FilterNode{Op: "and", Nodes: []*protocol.FilterNode{{Key: "a", Cmp: "eq", Val: "1"}}}}},
		{Id: 3, Publish: &protocol.PublishRequest{Channel: "chat:1", Data: protocol.Raw(`"x"`)}},
		{Id: 4, History: &protocol.HistoryRequest{Channel: "chat:1", Limit: -1, Since: &protocol.StreamPosition{Offset: 1, Epoch: "e"}}},
		{Id: 5, Presence: &protocol.PresenceRequest{Channel: "chat:1"}},
		{Id: 6, Rpc: &protocol.RPCRequest{Method: "m", Data: protocol.Raw("[]")}},
		{Send: &protocol.SendRequest{Data: protocol.Raw("1")}},
		{Id: 4294967295, Refresh: &protocol.RefreshRequest{Token: "t"}},
	}
}

func TestCommandsComeOutAsTheOfficialDecodersHaveThem(t *testing.T) {
	var lines, binaries []string
	for _, cmd := range someCommands() {
		b, err := protocol.NewJSONCommandEncoder().Encode(cmd)
		if err != nil {
			t.Fatal(err)
		}
		lines, binaries = append(lines, string(b)), append(binaries, message1(t, cmd))
	}
	payloads := map[Encoding][]string{
		JSON:     {strings.Join(lines, "\n"), strings.Join(lines, "\n") + "\n", "{}", "{}\n", " {\"id\" : 1 } \r\n{ }"},
		Protobuf: {strings.Join(binaries, ""), "\x00", "\x00\x00", "\x80\x00"},
	}
	for i := range lines {
		payloads[JSON], payloads[Protobuf] = append(payloads[JSON], lines[i]), append(payloads[Protobuf], binaries[i])
	}
	for enc, list := range payloads {
		for _, payload := range list {
			want, err := allOfficial(enc, []byte(payload))
			if err != nil {
				t.Fatal(err)
			}
			got, err := all(enc, []byte(payload))
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%q: %v (-official +ours):\n%s", payload, err, diff)
			}
		}
	}
}

func TestMalformedCommandsAreRefused(t *testing.T) {
	deep := func(levels int) string {
		node := &protocol.FilterNode{}
		for range levels - 1 {
			node = &protocol.FilterNode{Nodes: []*protocol.FilterNode{node}}
		}
		return message1(t, &protocol.Command{Subscribe: &protocol.SubscribeRequest{Tf: node}})
	}
	deepSubs := func(levels int) string {
		node := &protocol.FilterNode{}
		for range levels - 1 {
			node = &protocol.FilterNode{Nodes: []*protocol.FilterNode{node}}
		}
		return message1(t, &protocol.Command{Connect: &protocol.ConnectRequest{Subs: map[string]*protocol.SubscribeRequest{"a": {Tf: node}}}})
	}
	any := errors.New("any")
	for _, c := range []struct {
		enc     Encoding
		payload string
		want    error
	}{
		{JSON, "", ErrJSON},
		{JSON, "\n", ErrJSON},
		{JSON, "{}\n\n", ErrJSON},
		{JSON, "{}\n\n{}", ErrJSON},
		{JSON, " ", ErrJSON},
		{JSON, "null", ErrJSON},
		{JSON, "[]", ErrJSON},
		{JSON, "1", ErrJSON},
		{JSON, "{", ErrJSON},
		{JSON, "{}{}", ErrJSON},
		{JSON, "{} x", ErrJSON},
		{JSON, `{"id":1,}`, ErrJSON},
		{JSON, `{"id":01}`, ErrJSON},
		{JSON, "{\"id\":\n1}", ErrJSON},
		{JSON, "{\"x\":\"\x01\"}", ErrJSON},
		{JSON, `{"x":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`, ErrJSON},
		{JSON, `{"id":-1}`, any},
		{JSON, `{"id":4294967296}`, any},
		{JSON, `{"id":"1"}`, any},
		{JSON, `{"subscribe":[]}`, any},

		{Protobuf, "", ErrLength},
		{Protobuf, "\x80", ErrLength},
		{Protobuf, "\x02\x08", ErrLength},
		{Protobuf, "\x00\x01", ErrLength},
		{Protobuf, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", ErrLength},
		{Protobuf, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", ErrLength},
		{Protobuf, "\xff\xff\xff\xff\xff\xff\xff\xff\x7f", ErrLength},
		{Protobuf, "\x01\x08", any},
		{Protobuf, "\x02\x22\x05", any},
		{Protobuf, deep(33), ErrNesting},
		{Protobuf, deepSubs(33), ErrNesting},
		{Protobuf, message1(t, &protocol.Command{Subscribe: &protocol.SubscribeRequest{Channel: "\xff"}}), ErrText},
		{Protobuf, message1(t, &protocol.Command{Unsubscribe: &protocol.UnsubscribeRequest{Channel: "\xff"}}), ErrText},
		{Protobuf, message1(t, &protocol.Command{Publish: &protocol.PublishRequest{Channel: "\xff"}}), ErrText},
		{Protobuf, message1(t, &protocol.Command{Presence: &protocol.PresenceRequest{Channel: "\xff"}}), ErrText},
		{Protobuf, message1(t, &protocol.Command{PresenceStats: &protocol.PresenceStatsRequest{Channel: "\xff"}}), ErrText},
		{Protobuf, message1(t, &protocol.Command{History: &protocol.HistoryRequest{Channel: "\xff"}}), ErrText},
		{Protobuf, message1(t, &protocol.Command{SubRefresh: &protocol.SubRefreshRequest{Channel: "\xff"}}), ErrText},
		{Protobuf, message1(t, &protocol.Command{Rpc: &protocol.RPCRequest{Method: "\xff"}}), ErrText},
		{Protobuf, message1(t, &protocol.Command{Connect: &protocol.ConnectRequest{Name: "\xff"}}), ErrText},
		{Protobuf, message1(t, &protocol.Command{Connect: &protocol.ConnectRequest{Version: "\xff"}}), ErrText},
		{Protobuf, message1(t, &protocol.Command{Connect: &protocol.ConnectRequest{Subs: map[string]*protocol.SubscribeRequest{"\xff": {}}}}), ErrText},
	} {
		cmds, err := all(c.enc, []byte(c.payload))
		if err == nil || c.want != any && err != c.want {
			t.Errorf("%.60q: %q, %v, want %v", c.payload, cmds, err, c.want)
		}
	}
	for _, payload := range []string{deep(32), deepSubs(32)} {
		if _, err := all(Protobuf, []byte(payload)); err != nil {
			t.Error(err)
		}
	}
}

func TestCommandsAreTakenOneByOne(t *testing.T) {
	cmd, n, err := Next(JSON, []byte("{\"id\":1}\n{\"id\":"))
	if err != nil || cmd.Id != 1 || n != 9 {
		t.Errorf("%v, %d, %v", cmd, n, err)
	}
	cmd, n, err = Next(Protobuf, []byte("\x02\x08\x01\x05"))
	if err != nil || cmd.Id != 1 || n != 3 {
		t.Errorf("%v, %d, %v", cmd, n, err)
	}
}

func TestPongs(t *testing.T) {
	for _, c := range []struct {
		enc     Encoding
		payload string
		want    bool
	}{
		{JSON, "{}", true}, {JSON, "{}\n", true}, {JSON, " { }\t\r\n", true},
		{JSON, "", false}, {JSON, "{", false}, {JSON, "}", false}, {JSON, "{}{}", false}, {JSON, "{}\n\n", false}, {JSON, "\n{}", false},
		{JSON, "{}\n{}", false}, {JSON, `{"id":1}`, false}, {JSON, "[]", false}, {JSON, "\x00", false}, {JSON, "{\n}", false},
		{Protobuf, "\x00", true},
		{Protobuf, "", false}, {Protobuf, "{}", false}, {Protobuf, "\x00\x00", false}, {Protobuf, "\x01", false},
	} {
		if got := IsPong(c.enc, []byte(c.payload)); got != c.want {
			t.Errorf("%d %q: %t", c.enc, c.payload, got)
		}
		if data := []byte(c.payload); testing.AllocsPerRun(10, func() { IsPong(c.enc, data) }) != 0 {
			t.Errorf("%q: it allocates", c.payload)
		}
	}
}

func TestConnectOfAUnidirectionalClient(t *testing.T) {
	data := []byte("{\"token\":\"t\",\n\"subs\":{\"a\":{\"recover\":true}},\"data\":{\"x\":1}}\n")
	req, err := DecodeConnect(data)
	for i := range data {
		data[i] = 'X'
	}
	if err != nil || req.Token != "t" || !req.Subs["a"].GetRecover() || string(req.Data) != `{"x":1}` {
		t.Errorf("%v, %v", req, err)
	}
	for _, text := range []string{"", "null", "[]", `{"token":1}`, "{}x", "{\"token\":\"a\x00\"}"} {
		if req, err := DecodeConnect([]byte(text)); err == nil {
			t.Errorf("%q: %v", text, req)
		}
	}
}

// FuzzNext checks that what Next takes the official decoders take too, with the same
// commands, and that nothing of them lies in the payload.
func FuzzNext(f *testing.F) {
	for _, cmd := range someCommands() {
		b, err := protocol.NewJSONCommandEncoder().Encode(cmd)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(false, b)
		f.Add(false, append(append(b, '\n'), b...))
		f.Add(true, []byte(message1(f, cmd)))
		f.Add(true, []byte(message1(f, cmd)+message1(f, cmd)))
	}
	f.Add(false, []byte("{}\n\n"))
	f.Add(true, binary.AppendUvarint(nil, 1<<62))
	f.Fuzz(func(t *testing.T, binary bool, data []byte) {
		enc := JSON
		if binary {
			enc = Protobuf
		}
		got, err := all(enc, data)
		if err == nil {
			want, err := allOfficial(enc, data)
			if err != nil {
				t.Fatalf("%q: Next takes it, the official decoder says %v", data, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%q (-official +ours):\n%s", data, diff)
			}
		}
		if IsPong(enc, data) && (err != nil || len(got) != 1 || got[0] != "") {
			t.Fatalf("%q: a pong, and %q, %v", data, got, err)
		}
		if enc == JSON {
			_, _ = DecodeConnect(data) // must not panic
		}
	})
}
