package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
)

// object returns the payload of a publication of a phase as a JSON object.
func object(p phase, seq uint32, size int) []byte {
	payload, at := blank(size, true)
	stamp{seq: seq}.put(payload[at:], p.mark)
	return payload
}

// clientTranscript has a bit of everything that a server of Centrifugo's protocol may
// send to a client of "news", which stands before the offset 7.
func clientTranscript(proto Protocol, p phase, long int) []byte {
	var b bytes.Buffer
	push := func(offset uint64, data []byte) *protocol.Reply {
		return &protocol.Reply{Push: &protocol.Push{Channel: "news", Pub: &protocol.Publication{Data: data, Offset: offset}}}
	}
	frame := func(replies ...*protocol.Reply) { b.Write(clientFrame(proto.dialect(), replies...)) }
	frame(push(7, object(p, 0, 64)))
	frame(&protocol.Reply{})
	b.Write(ws.MustCompileFrame(ws.NewPingFrame([]byte("are you there?"))))
	frame(push(8, object(p, 1, 64)), &protocol.Reply{}, push(9, []byte(`{"offset":9}`)), push(10, object(p, 2, long)))
	frame(push(11, object(p, 3, 400)))
	frame(push(14, object(p, 4, 64)), push(13, object(p, 5, 64)), push(14, object(p, 5, 64))) // 12 and 13 are missing
	frame(push(15, object(phase{mark: p.mark.inPhase(2)}, 0, 64)))
	tagged := push(16, object(p, 6, 64))
	tagged.Push.Pub.Tags = map[string]string{"offset": "17"}
	frame(tagged)
	frame(push(0, object(p, 7, 64)))
	frame(&protocol.Reply{Push: &protocol.Push{Channel: "news", Join: &protocol.Join{Info: &protocol.ClientInfo{User: "u"}}}})
	frame(push(17, object(p, 9, 64)), &protocol.Reply{Push: &protocol.Push{Channel: "news", Unsubscribe: &protocol.Unsubscribe{Code: 2500, Reason: "go"}}})
	frame(push(18, object(p, 8, 64))) // nobody reads this
	return b.Bytes()
}

func TestClientMessagesAreReadHoweverTheyAreCut(t *testing.T) {
	for _, proto := range clientProtocols {
		pong := "{}"
		if proto == CentrifugoProtobuf {
			pong = "\x00"
		}
		p := testPhase()
		testCuts(t, proto, p, clientTranscript(proto, p, 3000), heard{
			Delivered: 9, Lost: 1, Repeated: 1, Stale: 1, Foreign: 1,
			Holes:   1, // a publication without an offset
			Repeats: 2, Pongs: []string{pong, "are you there?", pong},
			Closes: map[ws.StatusCode]int64{2500: 1}, Err: "the server ended a subscription to news: 2500, go",
		})
	}
}

func TestBrokenClientProtocolEndsTheConnection(t *testing.T) {
	frame := func(op ws.OpCode, fin bool, text string) []byte {
		return ws.MustCompileFrame(ws.NewFrame(op, fin, []byte(text)))
	}
	for _, tc := range []struct {
		name  string
		proto Protocol
		frame []byte
	}{
		{"no JSON", Centrifugo, frame(ws.OpText, true, "hello")},
		{"binary in JSON", Centrifugo, frame(ws.OpBinary, true, "{}")},
		{"in fragments", Centrifugo, frame(ws.OpText, false, "{}")},
		{"another channel", Centrifugo, frame(ws.OpText, true, `{"push":{"channel":"other","pub":{"data":{},"offset":1}}}`)},
		{"an answer to nothing", Centrifugo, frame(ws.OpText, true, `{"id":7,"connect":{}}`)},
		{"text in Protobuf", CentrifugoProtobuf, frame(ws.OpText, true, "\x00")},
		{"a length beyond the end", CentrifugoProtobuf, frame(ws.OpBinary, true, "\x05ab")},
		{"a length without an end", CentrifugoProtobuf, frame(ws.OpBinary, true, "\xff\xff")},
		{"no Protobuf", CentrifugoProtobuf, frame(ws.OpBinary, true, "\x01\xff")},
	} {
		r := newReceiver(tc.proto, 1, nil)
		if err := r.feed(subscriberOf(tc.proto), tc.frame, 0); !errors.Is(err, errProtocol) {
			t.Errorf("%s: got %v, want %v", tc.name, err, errProtocol)
		}
	}
}

// FuzzPublication checks that what is read where it lies is what package protocol decodes.
func FuzzPublication(f *testing.F) {
	sub := func(data string, offset uint64) *protocol.Reply {
		return &protocol.Reply{Push: &protocol.Push{Channel: "news", Pub: &protocol.Publication{Data: []byte(data), Offset: offset}}}
	}
	for _, r := range []*protocol.Reply{sub(`{"s":"x"}`, 13), sub(`{"offset":13}`, 0), sub(`{"x":{"y":[1,{"offset":5}]}}`, 1<<63), sub(`"x"`, 1), {Id: 1}} {
		b, err := protocol.NewProtobufReplyEncoder().Encode(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encodeReplies(false, r))
		f.Add(b)
	}
	f.Add([]byte(`{"push":{"channel":"news","pub":{"data":{},"offset":5,"tags":{"a":"b","offset":7}}}}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		s := subscriberOf(Centrifugo).session
		check := func(data []byte, offset uint64, reply *protocol.Reply) {
			pub := reply.Push.GetPub()
			if got, want := fmt.Sprintf("%q %d", data, offset), fmt.Sprintf("%q %d", pub.GetData(), pub.GetOffset()); got != want || reply.Push.Channel != "news" {
				t.Errorf("%q: read %s, decoded %s in %q", p, got, want, reply.Push.Channel)
			}
		}
		var reply protocol.Reply
		if sub, data, offset := (inJSON{}).publication(s, p); sub != nil && json.Valid(data) && json.Unmarshal(p, &reply) == nil {
			check(bytes.TrimSpace(data), offset, &reply)
		}
		reply = protocol.Reply{}
		if sub, data, offset := (inProtobuf{}).publication(s, p); sub != nil && reply.UnmarshalVT(p) == nil {
			check(data, offset, &reply)
		}
	})
}

func TestPublicationsOfAStreamAreThoseOfItsPublisher(t *testing.T) {
	for _, s := range []schedule{
		{phase: phase{streams: 1}, publishers: 1}, {phase: phase{streams: 3}, publishers: 3},
		{phase: phase{streams: 6, apart: true}, publishers: 1}, {phase: phase{streams: 6, apart: true}, publishers: 3},
	} {
		for sent := range uint32(20) {
			want, got := make([]uint32, s.streams), make([]uint32, s.streams)
			for publisher := range s.publishers {
				for n := range int(sent) {
					want[(publisher+n*s.publishers)%s.streams]++
				}
			}
			for i := range got {
				got[i] = s.of(i, sent)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%d publishers of %d streams sent %d each: want -, got +:\n%s", s.publishers, s.streams, sent, diff)
			}
		}
	}
}
