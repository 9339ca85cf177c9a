package proxy

import (
	"encoding/base64"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"sluice/gateway/hook"

	"github.com/google/go-cmp/cmp"
)

// The bytes that a backend is sent, for each event.
func TestBodiesOfRequests(t *testing.T) {
	who := &hook.Identity{ID: "6f0c", Transport: "websocket", Protocol: "json", User: "u7", Meta: []byte(`{ "tenant": 4 }`)}
	nobody := &hook.Identity{ID: "6f0c", Transport: "uni_sse", Protocol: "protobuf"}
	plain, meta, binary := Config{}, Config{Meta: true}, Config{Binary: true}
	const common = `{"client":"6f0c","transport":"websocket","protocol":"json","encoding":"json"`
	const bare = `{"client":"6f0c","transport":"uni_sse","protocol":"protobuf","encoding":"json"`
	const bytes = `{"client":"6f0c","transport":"uni_sse","protocol":"protobuf","encoding":"binary"`
	for _, c := range []struct{ got, want string }{
		{written(t, meta, connectEvent, &hook.ConnectRequest{Client: who, Data: []byte(`{"app": "ios"}`), Name: "js", Version: "3.1", Channels: []string{"news", "a\"b"}}),
			common + `,"data":{"app":"ios"},"name":"js","version":"3.1","channels":["news","a\"b"]}`},
		{written(t, plain, connectEvent, &hook.ConnectRequest{Client: nobody}), bare + `}`},
		{written(t, binary, connectEvent, &hook.ConnectRequest{Client: nobody, Data: []byte{0, 1, 2, 3}, Name: "go"}),
			bytes + `,"b64data":"AAECAw==","name":"go"}`},
		{written(t, meta, refreshEvent, &hook.RefreshRequest{Client: who}), common + `,"user":"u7","meta":{"tenant":4}}`},
		{written(t, plain, refreshEvent, &hook.RefreshRequest{Client: nobody}), bare + `,"user":""}`},
		{written(t, meta, subscribeEvent, &hook.SubscribeRequest{Client: who, Channel: "room:9", Token: "t", Data: []byte(`{"k":1}`)}),
			common + `,"user":"u7","channel":"room:9","token":"t","meta":{"tenant":4},"data":{"k":1}}`},
		{written(t, plain, subscribeEvent, &hook.SubscribeRequest{Client: who, Channel: "room:9"}), common + `,"user":"u7","channel":"room:9"}`},
		{written(t, binary, subscribeEvent, &hook.SubscribeRequest{Client: nobody, Channel: "r", Data: []byte("x")}),
			bytes + `,"user":"","channel":"r","b64data":"eA=="}`},
		{written(t, meta, subRefreshEvent, &hook.SubRefreshRequest{Client: who, Channel: "room:9"}),
			common + `,"user":"u7","channel":"room:9","meta":{"tenant":4}}`},
		{written(t, meta, publishEvent, &hook.PublishRequest{Client: who, Channel: "room:9", Data: []byte(`"<b>"`)}),
			common + `,"user":"u7","channel":"room:9","data":"\u003cb\u003e","meta":{"tenant":4}}`},
		{written(t, binary, publishEvent, &hook.PublishRequest{Client: who, Channel: "room:9", Data: []byte{0, 1, 2}}),
			`{"client":"6f0c","transport":"websocket","protocol":"json","encoding":"binary","user":"u7","channel":"room:9","b64data":"AAEC"}`},
		{written(t, meta, rpcEvent, &hook.RPCRequest{Client: who, Method: "quote:get", Data: []byte(`{"id":3}`)}),
			common + `,"user":"u7","method":"quote:get","data":{"id":3},"meta":{"tenant":4}}`},
		{written(t, plain, rpcEvent, &hook.RPCRequest{Client: nobody}), bare + `,"user":""}`},
		{written(t, plain, rpcEvent, &hook.RPCRequest{Client: nobody, Data: []byte(" null\n")}), bare + `,"user":"","data":null}`},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Error(diff)
		}
	}
}

func written[Q hook.Request, A any](t testing.TB, cfg Config, ev event[Q, A], q Q) string {
	t.Helper()
	b, err := appendRequest(nil, &Endpoint{cfg: cfg}, &ev, q, q.From().ID)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// centrifugoRequest is a request as Centrifugo encodes it: with encoding/json.
type centrifugoRequest struct {
	Client    string         `json:"client,omitempty"`
	Transport string         `json:"transport,omitempty"`
	Protocol  string         `json:"protocol,omitempty"`
	Encoding  string         `json:"encoding,omitempty"`
	User      string         `json:"user"`
	Channel   string         `json:"channel,omitempty"`
	Data      centrifugoData `json:"data,omitempty"`
	B64Data   string         `json:"b64data,omitempty"`
	Meta      centrifugoData `json:"meta,omitempty"`
}

type centrifugoData []byte

func (d centrifugoData) MarshalJSON() ([]byte, error) { return d, nil }

// Whatever a client sends, the bytes are those of encoding/json, or it is refused as it is there.
func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", "room:9", "é\u2028", "\xff", "<&>", "a\"\\\b\f\n\x00\x7f", "\xe2\x80", "\xe2\x80\xa7"} {
		f.Add(s, s, []byte(`{"a": "`+s+`"}`), []byte(`[1, 2]`), false)
		f.Add(s, s, []byte(s), []byte(nil), true)
	}
	f.Add("", "", []byte(`"`+"\xe2\x80\xa8\xe2\x80\xa9 <>&"+`"`), []byte("\n{}\t"), false)
	f.Fuzz(func(t *testing.T, user, channel string, data, meta []byte, binary bool) {
		cfg, want := Config{Meta: true, Binary: binary}, centrifugoRequest{
			Client: "6f0c", Transport: channel, Protocol: "json", Encoding: "json", User: user, Channel: channel, Data: data, Meta: meta,
		}
		if binary {
			want.Encoding, want.Data, want.B64Data = "binary", nil, base64.StdEncoding.EncodeToString(data)
		}
		q := &hook.PublishRequest{Client: &hook.Identity{ID: "6f0c", Transport: channel, Protocol: "json", User: user, Meta: meta}, Channel: channel, Data: data}
		wanted, wantErr := json.Marshal(want)
		got, err := appendRequest([]byte{}, &Endpoint{cfg: cfg}, &publishEvent, q, "6f0c")
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%v, want %v", err, wantErr)
		}
		if err != nil {
			return
		}
		if diff := cmp.Diff(string(wanted), string(got)); diff != "" {
			t.Error(diff)
		}
		if utf8.Valid(data) && utf8.Valid(meta) && !utf8.Valid(got) {
			t.Error("not UTF-8")
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	b.ReportAllocs()
	e := &Endpoint{cfg: Config{}}
	q := &hook.ConnectRequest{Client: someone(), Data: []byte(`{"app":"ios","version":"4.1.0"}`), Name: "js", Version: "3.1"}
	buf := make([]byte, 0, 1024)
	for range b.N {
		if _, err := appendRequest(buf, e, &connectEvent, q, q.Client.ID); err != nil {
			b.Fatal(err)
		}
	}
}
