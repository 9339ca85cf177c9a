package centrifugo

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	stdjson "encoding/json"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"sluice/gateway/channel"
	"sluice/gateway/wire"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
)

// formats are all that there are.
func formats() []Format {
	var all []Format
	for bits := range 16 {
		f := Format{Encoding: Encoding(bits & 1), Uni: bits&2 != 0, Framing: wire.Framing(bits >> 2 & 1), Joins: bits&8 != 0}
		if f.Encoding == JSON || f.Framing != wire.SSE {
			all = append(all, f)
		}
	}
	return all
}

// unwrap takes the frame, or the event, off what was appended, and for Protobuf the
// length.
func unwrap(t *testing.T, f Format, b []byte) []byte {
	t.Helper()
	if f.Framing == wire.SSE {
		text, ok := bytes.CutPrefix(b, []byte("data: "))
		text, ended := bytes.CutSuffix(text, []byte("\n\n"))
		if !ok || !ended || bytes.ContainsAny(text, "\r\n") {
			t.Fatalf("not one event: %q", b)
		}
		return text
	}
	r := bytes.NewReader(b)
	h, err := ws.ReadHeader(r)
	if err != nil || ws.CheckHeader(h, ws.StateClientSide) != nil || int64(r.Len()) != h.Length || !h.Fin {
		t.Fatalf("not one frame: %v, %v, %q", h, err, b)
	}
	payload := b[len(b)-r.Len():]
	if f.Encoding == JSON {
		if h.OpCode != ws.OpText || !utf8.Valid(payload) {
			t.Fatalf("not a text: %v %q", h, b)
		}
		return payload
	}
	size, n := binary.Uvarint(payload)
	if h.OpCode != ws.OpBinary || n <= 0 || size != uint64(len(payload)-n) {
		t.Fatalf("not one message: %v %q", h, b)
	}
	return payload[n:]
}

// official gives what the official encoder makes of a push.
func official(t *testing.T, f Format, push *protocol.Push) []byte {
	t.Helper()
	var b []byte
	var err error
	kind := protocol.TypeJSON
	if f.Encoding == Protobuf {
		kind = protocol.TypeProtobuf
	}
	if f.Uni {
		b, err = protocol.GetPushEncoder(kind).Encode(push)
	} else {
		b, err = protocol.GetReplyEncoder(kind).Encode(&protocol.Reply{Push: push})
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// escaped makes the escapes of JSON the same: those that encoding/json would make for HTML.
func escaped(f Format, b []byte) string {
	if f.Encoding == Protobuf {
		return string(b)
	}
	var out bytes.Buffer
	stdjson.HTMLEscape(&out, b)
	return out.String()
}

// dataInJSON says the table of the package's comment a second time.
func dataInJSON(payload []byte, binary bool) []byte {
	var value any
	switch {
	case binary:
		value = map[string]string{"base64": base64.StdEncoding.EncodeToString(payload)}
	case stdjson.Valid(payload) && depth(payload) <= nestingMax:
		return bytes.ReplaceAll(bytes.ReplaceAll(payload, []byte("\n"), nil), []byte("\r"), nil)
	default:
		value = string(payload)
	}
	b, err := stdjson.Marshal(value)
	if err != nil {
		panic(err)
	}
	return longEscapes(b)
}

// longEscapes writes \b and \f, for which RFC 8259 has two escapes each, as the protocol's
// encoder does.
func longEscapes(b []byte) (out []byte) {
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			out = append(out, b[i])
			continue
		}
		i++
		switch b[i] {
		case 'b':
			out = append(out, `\u0008`...)
		case 'f':
			out = append(out, `\u000c`...)
		default:
			out = append(out, '\\', b[i])
		}
	}
	return out
}

// depth tells how deep JSON nests.
func depth(b []byte) int {
	deepest, at := 0, 0
	d := stdjson.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // any number is one, also 1e999
	for {
		token, err := d.Token()
		if err != nil {
			return deepest
		}
		if delim, ok := token.(stdjson.Delim); ok {
			if delim == '{' || delim == '[' {
				at++
			} else {
				at--
			}
			deepest = max(deepest, at)
		}
	}
}

// pushOf gives the push that a publication is to be.
func pushOf(f Format, p *channel.Publication, info *protocol.ClientInfo, tags map[string]string) *protocol.Push {
	if f.Encoding == JSON && info != nil {
		raw := func(b []byte) []byte {
			if len(b) == 0 {
				return nil
			}
			return dataInJSON(b, !utf8.Valid(b))
		}
		info = &protocol.ClientInfo{User: info.User, Client: info.Client, ConnInfo: raw(info.ConnInfo), ChanInfo: raw(info.ChanInfo)}
	}
	switch p.Kind {
	case channel.KindJoin:
		return &protocol.Push{Channel: p.Channel, Join: &protocol.Join{Info: info}}
	case channel.KindLeave:
		return &protocol.Push{Channel: p.Channel, Leave: &protocol.Leave{Info: info}}
	}
	data := p.Payload
	if f.Encoding == JSON {
		data = dataInJSON(p.Payload, p.Binary)
	}
	return &protocol.Push{Channel: p.Channel, Pub: &protocol.Publication{Data: data, Info: info, Offset: p.Offset, Tags: tags}}
}

// extraOf returns the Extra of a publication.
func extraOf(info *protocol.ClientInfo, tags map[string]string) (b []byte) {
	if info != nil {
		b = channel.AppendWho(nil, &channel.ClientInfo{User: info.User, Client: info.Client, ConnInfo: []byte(info.ConnInfo), ChanInfo: []byte(info.ChanInfo)})
	}
	return channel.AppendTags(b, tags)
}

// check compares with the official encoder what all formats make of a publication.
func check(t *testing.T, p channel.Publication, info *protocol.ClientInfo, tags map[string]string) {
	t.Helper()
	p.Extra = extraOf(info, tags)
	for _, f := range formats() {
		b := f.Append([]byte("before"), &p)
		if !bytes.HasPrefix(b, []byte("before")) {
			t.Fatal("what stood before is gone")
		}
		b = b[len("before"):]
		if p.Kind != channel.KindMessage && !f.Joins {
			if len(b) > 0 {
				t.Errorf("%+v: %q where joins are not wanted", f, b)
			}
			continue
		}
		push := pushOf(f, &p, info, tags)
		got, want := unwrap(t, f, b), official(t, f, push)
		if len(tags) < 2 { // else the official order is any
			if diff := cmp.Diff(escaped(f, want), escaped(f, got)); diff != "" {
				t.Fatalf("%+v: (-official +ours):\n%s", f, diff)
			}
		}
		if diff := cmp.Diff(decoded(t, f, want), decoded(t, f, got)); diff != "" {
			t.Fatalf("%+v: (-official +ours):\n%s", f, diff)
		}
		if p.Kind == channel.KindMessage {
			want, got := decoded(t, f, official(t, f, push)), decoded(t, f, official(t, f, &protocol.Push{Channel: p.Channel, Pub: Publication(f.Encoding, &p)}))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%+v: in a list (-official +ours):\n%s", f, diff)
			}
		}
	}
}

// decoded gives what a client reads, as a text: of values that nest deep cmp.Diff
// takes time without end.
func decoded(t *testing.T, f Format, b []byte) string {
	t.Helper()
	if f.Encoding == JSON {
		var v any
		d := stdjson.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%v: %q", err, b)
		}
		sorted, err := stdjson.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(sorted)
	}
	reply := new(protocol.Reply)
	var err error
	if f.Uni {
		reply.Push = new(protocol.Push)
		err = reply.Push.UnmarshalVT(b)
	} else {
		err = reply.UnmarshalVT(b)
	}
	if err != nil {
		t.Fatalf("%v: %q", err, b)
	}
	return reply.String()
}

// The rows of the table in the package's comment, and their edges.
var dataRows = []struct {
	payload string
	binary  bool
	json    string
}{
	{`{"input":"hi"}`, false, `{"input":"hi"}`},
	{`[1,2]`, false, `[1,2]`},
	{`12.5e3`, false, `12.5e3`},
	{`true`, false, `true`},
	{`null`, false, `null`},
	{`"text"`, false, `"text"`},
	{"{\n\t\"a\": 1,\r\n\t\"b\": \"\\n\"\r}\n", false, "{\t\"a\": 1,\t\"b\": \"\\n\"}"},
	{`{"a":"<b>&</b>"}`, false, `{"a":"<b>&</b>"}`},
	{"\"\u2028\"", false, "\"\u2028\""},
	{strings.Repeat("[", 500) + strings.Repeat("]", 500), false, strings.Repeat("[", 500) + strings.Repeat("]", 500)},

	{`hello`, false, `"hello"`},
	{`{"a":1`, false, `"{\"a\":1"`},
	{`{"a":1} {"b":2}`, false, `"{\"a\":1} {\"b\":2}"`},
	{`01`, false, `"01"`},
	{"\"a\nb\"", false, `"\"a\nb\""`},
	{"two\r\nlines\tand \x00\x1f", false, `"two\r\nlines\tand \u0000\u001f"`},
	{"\ufeff{}", false, "\"\ufeff{}\""},
	{`it's <b>"bold"</b> & 界`, false, `"it's <b>\"bold\"</b> & 界"`},
	{" ", false, `" "`},
	{strings.Repeat("[", 501) + strings.Repeat("]", 501), false, `"` + strings.Repeat("[", 501) + strings.Repeat("]", 501) + `"`},

	{"", false, `""`},

	{`{"input":"hi"}`, true, `{"base64":"eyJpbnB1dCI6ImhpIn0="}`},
	{"\x00\xff\n", true, `{"base64":"AP8K"}`},

	{"", true, `{"base64":""}`},
}

func TestWhatBecomesOfAPayload(t *testing.T) {
	for _, row := range dataRows {
		p := channel.Publication{Payload: []byte(row.payload), Binary: row.binary, Channel: "c"}
		b := unwrap(t, Format{}, Format{}.Append(nil, &p))
		if diff := cmp.Diff(`{"push":{"channel":"c","pub":{"data":`+row.json+`}}}`, string(b)); diff != "" {
			t.Errorf("%.60q, binary %t (-want +got):\n%s", row.payload, row.binary, diff)
		}
		if diff := cmp.Diff(row.json, string(Publication(JSON, &p).Data)); diff != "" {
			t.Errorf("%.60q, binary %t, in a list (-want +got):\n%s", row.payload, row.binary, diff)
		}
		f := Format{Encoding: Protobuf}
		var r protocol.Reply
		if err := r.UnmarshalVT(unwrap(t, f, f.Append(nil, &p))); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(row.payload, string(r.Push.Pub.Data)); diff != "" {
			t.Errorf("%.60q, binary %t, as Protobuf (-want +got):\n%s", row.payload, row.binary, diff)
		}
		if diff := cmp.Diff(row.payload, string(Publication(Protobuf, &p).Data)); diff != "" {
			t.Errorf("%.60q, binary %t, as Protobuf in a list (-want +got):\n%s", row.payload, row.binary, diff)
		}
	}
}

func TestFramesAreThoseOfTheOfficialEncoder(t *testing.T) {
	infos := []*protocol.ClientInfo{
		nil, {}, {User: "42"}, {Client: "c-1"},
		{User: "4\"2", Client: "c<1>", ConnInfo: protocol.Raw(`{"name":"Ann"}`), ChanInfo: protocol.Raw("[1,\n2]")},
		{ConnInfo: protocol.Raw("not JSON"), ChanInfo: protocol.Raw("\xff")},
		{User: strings.Repeat("u", 200)},
	}
	tagSets := []map[string]string{nil, {}, {"k": "v"}, {"": ""}, {"a\n": "\"", "b": "\u2028", "c": strings.Repeat("v", 300)}}
	channels := []string{"", "chat:1", "a\"\\\x01\u2029<&>", strings.Repeat("界", 85)}
	payloads := []string{"", "{}", strings.Repeat("x", 100), strings.Repeat("x", 127), strings.Repeat("x", 20000), strings.Repeat("x", 1<<16)}
	for _, row := range dataRows {
		payloads = append(payloads, row.payload)
	}
	for i, payload := range payloads {
		for _, offset := range []uint64{0, 1, 127, 128, math.MaxUint64} {
			info, tags, name := infos[i%len(infos)], tagSets[i%len(tagSets)], channels[i%len(channels)]
			check(t, channel.Publication{Payload: []byte(payload), Channel: name, Offset: offset}, info, tags)
			check(t, channel.Publication{Payload: []byte(payload), Binary: true, Channel: name, Offset: offset}, info, tags)
		}
	}
	for _, info := range infos {
		for _, tags := range tagSets {
			for _, name := range channels {
				check(t, channel.Publication{Payload: []byte("{}"), Channel: name, Offset: 1}, info, tags)
			}
		}
		if info != nil {
			check(t, channel.Publication{Kind: channel.KindJoin, Channel: "chat:1"}, info, nil)
			check(t, channel.Publication{Kind: channel.KindLeave, Channel: "chat:1"}, info, nil)
		}
	}
}

func FuzzAppend(f *testing.F) {
	f.Add("chat:1", []byte(`{"a":1}`), false, uint8(0), uint64(13), "42", "c", []byte(`{"name":1}`), []byte("x"), "k", "v", true, uint8(2))
	for _, row := range dataRows {
		f.Add("c", []byte(row.payload), row.binary, uint8(0), uint64(1), "", "", []byte(nil), []byte(row.payload), "", "", false, uint8(0))
	}
	f.Fuzz(func(t *testing.T, name string, payload []byte, binary bool, kind uint8, offset uint64,
		user, client string, conn, chann []byte, key, value string, hasInfo bool, tagCount uint8) {
		valid := func(s string) string { return strings.ToValidUTF8(s, "\ufffd") }
		name = valid(name)
		info := &protocol.ClientInfo{User: valid(user), Client: valid(client), ConnInfo: conn, ChanInfo: chann}
		p := channel.Publication{Kind: channel.Kind(kind % 3), Payload: payload, Binary: binary, Channel: name, Offset: offset}
		if p.Kind != channel.KindMessage {
			p.Offset = 0
			check(t, p, info, nil)
			return
		}
		if !utf8.Valid(payload) {
			p.Binary = true
		}
		var tags map[string]string
		for i := range int(tagCount % 4) {
			if tags == nil {
				tags = map[string]string{}
			}
			tags[valid(key)+strings.Repeat("x", i)] = valid(value)
		}
		if !hasInfo {
			info = nil
		}
		check(t, p, info, tags)
	})
}

// Whatever an Extra holds, the frames that it stands in can be read.
func FuzzForeignBytesDoNotBreakFrames(f *testing.F) {
	f.Add(extraOf(&protocol.ClientInfo{User: "u", ConnInfo: protocol.Raw("{}")}, map[string]string{"a": "b", "c": ""}))
	f.Add([]byte("w\x01\xff\x00\x01{\x00t\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, f := range formats() {
			for kind := range channel.KindLeave + 1 {
				if p := (channel.Publication{Kind: kind, Payload: []byte("{}"), Channel: "c", Extra: b}); kind == channel.KindMessage || f.Joins {
					decoded(t, f, unwrap(t, f, f.Append(nil, &p)))
					official(t, f, &protocol.Push{Pub: Publication(f.Encoding, &p)})
				}
			}
		}
	})
}

func TestAppendAllocatesNothing(t *testing.T) {
	extra := extraOf(&protocol.ClientInfo{User: "42", Client: "c", ConnInfo: protocol.Raw(`{"a":1}`)}, map[string]string{"k": "v\xff"})
	buf := make([]byte, 0, 1<<16)
	for _, f := range formats() {
		for _, payload := range []string{`{"a":[1,2,"text"]}`, "not JSON, 界 \n", "{\n}"} {
			for _, p := range []channel.Publication{
				{Payload: []byte(payload), Channel: "chat:1", Offset: 13},
				{Payload: []byte(payload), Binary: true, Channel: "chat:1", Offset: 13},
				{Payload: []byte(payload), Channel: "chat:1", Offset: 13, Extra: extra},
			} {
				if n := testing.AllocsPerRun(100, func() { f.Append(buf, &p) }); n != 0 {
					t.Errorf("%+v, %q, extra of %d bytes: %v allocations", f, payload, len(p.Extra), n)
				}
			}
		}
	}
}

func TestSharedFormatsAreThoseAskedFor(t *testing.T) {
	for i := range 16 {
		f := Format{Encoding: Encoding(i & 1), Uni: i&2 != 0, Framing: wire.Framing(i >> 2 & 1), Joins: i&8 != 0}
		var got channel.Format
		if n := testing.AllocsPerRun(10, func() { got = f.Shared() }); n != 0 || got != channel.Format(f) {
			t.Errorf("%+v: got %+v, %v allocations", f, got, n)
		}
	}
}
