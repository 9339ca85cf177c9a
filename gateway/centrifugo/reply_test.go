package centrifugo

import (
	"testing"

	"sluice/gateway/channel"
	"sluice/gateway/wire"

	"github.com/centrifugal/protocol"
	"github.com/google/go-cmp/cmp"
)

func TestReplies(t *testing.T) {
	for _, r := range []*protocol.Reply{
		{},
		{Id: 7, Error: ErrorTooManyRequests},
		{Id: 1, Connect: &protocol.ConnectResult{Client: "c", Ping: 25, Pong: true, Data: protocol.Raw("{}")}},
		{Id: 2, Subscribe: &protocol.SubscribeResult{Publications: []*protocol.Publication{{Data: protocol.Raw(`"x"`), Offset: 1}}}},
	} {
		for _, f := range []Format{{}, {Encoding: Protobuf}} {
			b, err := AppendReply([]byte("before"), f, r)
			if err != nil || string(b[:6]) != "before" {
				t.Fatalf("%v %q", err, b)
			}
			var want []byte
			if f.Encoding == JSON {
				want, err = protocol.DefaultJsonReplyEncoder.Encode(r)
			} else {
				want, err = protocol.DefaultProtobufReplyEncoder.Encode(r)
			}
			if diff := cmp.Diff(string(want), string(unwrap(t, f, b[6:]))); diff != "" || err != nil {
				t.Errorf("%+v: %v (-want +got):\n%s", f, err, diff)
			}
		}
	}
}

func TestPushes(t *testing.T) {
	for _, push := range []*protocol.Push{
		{},
		{Channel: "c", Unsubscribe: UnsubscribeInsufficientState},
		{Disconnect: DisconnectShutdown},
		{Connect: &protocol.Connect{Client: "c", Data: protocol.Raw("{\"a\":\n1}")}},
	} {
		for _, f := range formats() {
			b, err := AppendPush([]byte("before"), f, push)
			if err != nil || string(b[:6]) != "before" {
				t.Fatalf("%v %q", err, b)
			}
			if diff := cmp.Diff(string(official(t, f, push)), string(unwrap(t, f, b[6:]))); diff != "" {
				t.Errorf("%+v (-want +got):\n%s", f, diff)
			}
		}
	}
}

func TestACarriageReturnDoesNotCutAnEvent(t *testing.T) {
	f := Format{Uni: true, Framing: wire.SSE}
	b, err := AppendPush(nil, f, &protocol.Push{Message: &protocol.Message{Data: protocol.Raw("[1,\r\n\r2]")}})
	if want := "data: {\"message\":{\"data\":[1,2]}}\n\n"; err != nil || string(b) != want {
		t.Errorf("%q, %v, want %q", b, err, want)
	}
}

func TestAReplyThatIsNotJSONChangesNothing(t *testing.T) {
	for _, f := range []Format{{}, {Uni: true}, {Uni: true, Framing: wire.SSE}} {
		b, err := AppendPush([]byte("before"), f, &protocol.Push{Pub: &protocol.Publication{Data: protocol.Raw("{")}})
		if err == nil || string(b) != "before" {
			t.Errorf("%+v: %q, %v", f, b, err)
		}
	}
	b, err := AppendReply([]byte("before"), Format{}, &protocol.Reply{Id: 1, Rpc: &protocol.RPCResult{Data: protocol.Raw("\xff")}})
	if err == nil || string(b) != "before" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestPings(t *testing.T) {
	for _, c := range []struct {
		f    Format
		want string
	}{
		{Format{}, "\x81\x02{}"},
		{Format{Uni: true}, "\x81\x02{}"},
		{Format{Encoding: Protobuf}, "\x82\x01\x00"},
		{Format{Encoding: Protobuf, Uni: true}, "\x82\x01\x00"},
		{Format{Uni: true, Framing: wire.SSE}, "data: {}\n\n"},
	} {
		if diff := cmp.Diff("before"+c.want, string(c.f.AppendPing([]byte("before")))); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.f, diff)
		}
	}
}

func TestAListedPublicationIsACopy(t *testing.T) {
	for _, enc := range []Encoding{JSON, Protobuf} {
		p := channel.Publication{Payload: []byte(`{"a":1}`), Extra: extraOf(&protocol.ClientInfo{User: "u", ConnInfo: protocol.Raw("{}"), ChanInfo: protocol.Raw("[]")}, map[string]string{"k": "v"})}
		pub := Publication(enc, &p)
		want := pub.String()
		clear(p.Payload)
		clear(p.Extra)
		if diff := cmp.Diff(want, pub.String()); diff != "" {
			t.Errorf("encoding %d (-before +after):\n%s", enc, diff)
		}
	}
}

func TestCodes(t *testing.T) {
	temporary := map[uint32]bool{100: true, 111: true}
	for i, e := range []*protocol.Error{
		ErrorInternal, ErrorUnauthorized, ErrorUnknownChannel, ErrorPermissionDenied, ErrorMethodNotFound, ErrorAlreadySubscribed,
		ErrorLimitExceeded, ErrorBadRequest, ErrorNotAvailable, ErrorTokenExpired, ErrorExpired, ErrorTooManyRequests, ErrorUnrecoverablePosition,
	} {
		if want := uint32(100 + i); e.Code != want || e.Temporary != temporary[want] {
			t.Errorf("%v, want the code %d, temporary: %t", e, want, temporary[want])
		}
	}
	for code, want := range map[uint32]bool{
		DisconnectConnectionClosed.Code: true, DisconnectTooManyRequests.Code: true, 3499: true, 4000: true, 4499: true, 5000: true,
		DisconnectInvalidToken.Code: false, DisconnectTooManyErrors.Code: false, 3999: false, 4500: false, 4999: false,
	} {
		if Reconnects(code) != want {
			t.Errorf("Reconnects(%d) = %t", code, !want)
		}
	}
}
