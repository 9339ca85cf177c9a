package nats

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"sluice/gateway/channel"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var messages = map[string]message{
	"empty": {},
	"text":  {Publication: channel.Publication{Payload: []byte("payload"), Extra: []byte("extra"), From: 7, At: 1_700_000_000_000}},
	"largest numbers": {Publication: channel.Publication{Binary: true, From: math.MaxUint64, At: math.MaxInt64}, core: true, node: math.MaxUint64,
		counter: math.MaxUint64, previous: math.MaxUint64, age: math.MaxUint64},
	"before 1970": {Publication: channel.Publication{At: math.MinInt64}},
	"join":        {Publication: channel.Publication{Kind: channel.KindJoin, Extra: []byte("who")}, core: true, node: 1, counter: 2},
	"leave":       {Publication: channel.Publication{Kind: channel.KindLeave, Extra: []byte("who")}, core: true, node: 1, counter: 3, previous: 2, age: 17},
	"passing":     {Publication: channel.Publication{Passing: true, Payload: []byte("now")}, core: true, node: 1, counter: 3},
	"tombstone":   {tombstone: true, removed: 300},
	"probe":       {probe: true},
}

func TestMessages(t *testing.T) {
	for name, m := range messages {
		got, err := parseMessage(appendMessage(nil, &m))
		if len(got.Payload) == 0 {
			got.Payload = nil
		}
		if len(got.Extra) == 0 {
			got.Extra = nil
		}
		if diff := cmp.Diff(m, got, cmp.AllowUnexported(message{})); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
		b := appendMessage(nil, &m)
		if n := len(b) - len(m.Payload) - len(m.Extra); n > messageOverhead {
			t.Errorf("%s has %d bytes beside the payload, and at most %d were promised", name, n, messageOverhead)
		}
		for n := range b[:len(b)-len(m.Payload)] {
			if _, err := parseMessage(b[:n]); err == nil {
				t.Errorf("%s: the first %d bytes of %d are taken for a message", name, n, len(b))
			}
		}
	}
}

// What a newer version writes is not taken for something else.
func TestMessagesOfOtherVersions(t *testing.T) {
	b := appendMessage(nil, &message{})
	for name, change := range map[string]func(){
		"version 0": func() { b[0] = 0 },
		"version 2": func() { b[0] = 2 },
		"a flag":    func() { b[1] |= 1 << 7 },
		"a kind":    func() { b[1] |= 3 },
	} {
		b = appendMessage(nil, &message{})
		if change(); parse(b) != errMessageVersion {
			t.Errorf("%s: %v", name, parse(b))
		}
	}
}

// Formats take text for UTF-8.
func TestTextThatIsNone(t *testing.T) {
	bad := "\xffx"
	who := func(who channel.ClientInfo) []byte {
		b := channel.AppendWho(nil, &who)
		for i := range b {
			if b[i] == '?' {
				b[i] = 0xff
			}
		}
		return b
	}
	tags := channel.AppendTags(nil, map[string]string{"a": "?"})
	tags[len(tags)-1] = 0xff
	for name, p := range map[string]channel.Publication{
		"payload": {Payload: []byte(bad)}, "of a join": {Kind: channel.KindJoin, Payload: []byte(bad)}, "user": {Extra: who(channel.ClientInfo{User: "?"})},
		"client": {Extra: who(channel.ClientInfo{Client: "?"})}, "tag": {Extra: tags},
	} {
		if err := parse(appendMessage(nil, &message{Publication: p})); err != errText {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, p := range map[string]channel.Publication{
		"binary": {Binary: true, Payload: []byte(bad)}, "text": {Payload: []byte("\u00e9")}, "information": {Extra: who(channel.ClientInfo{ConnInfo: []byte("?")})},
	} {
		if err := parse(appendMessage(nil, &message{Publication: p})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkParseMessage(b *testing.B) {
	for _, size := range []int{200, 1 << 10} {
		m := appendMessage(nil, &message{Publication: channel.Publication{Payload: bytes.Repeat([]byte("x"), size), At: 1_700_000_000_000}})
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := parseMessage(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func parse(b []byte) error {
	_, err := parseMessage(b)
	return err
}

func FuzzParseMessage(f *testing.F) {
	for _, m := range messages {
		f.Add(appendMessage(nil, &m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			return
		}
		again, err := parseMessage(appendMessage(nil, &m))
		if diff := cmp.Diff(m, again, cmp.AllowUnexported(message{})); diff != "" || err != nil {
			t.Errorf("written again: %v (-want +got):\n%s", err, diff)
		}
	})
}

func TestAcknowledgements(t *testing.T) {
	for text, want := range map[string]acknowledgement{
		`{"stream":"SLUICE_a_0","seq":17}`:                                   {stream: []byte("SLUICE_a_0"), seq: 17},
		`{"stream":"SLUICE_a_0", "seq":17}`:                                  {stream: []byte("SLUICE_a_0"), seq: 17},
		`{"stream":"S","domain":"d","seq":17}`:                               {stream: []byte("S"), seq: 17},
		`{"stream":"S","seq":17,"duplicate":true}`:                           {stream: []byte("S"), seq: 17, duplicate: true},
		`{"stream":"S","seq":18446744073709551615}`:                          {stream: []byte("S"), seq: math.MaxUint64},
		`{"error":{"code":503,"description":"no"},"stream":"S","seq":0}`:     {stream: []byte("S"), code: 503, text: "no"},
		`{"error":{"code":400,"err_code":10071,"description":"wrong"}}`:      {code: 10071, text: "wrong"},
		`{"error":{"code":0},"stream":"S","seq":0}`:                          {stream: []byte("S"), code: 1},
		`{"type":"x","error":{"code":400,"err_code":10054},"stream":"S"}   `: {stream: []byte("S"), code: 10054},
	} {
		if got, ok := parseAcknowledgement([]byte(text)); !ok || cmp.Diff(got, want, cmp.AllowUnexported(got), cmpopts.EquateEmpty()) != "" {
			t.Errorf("%s: got %+v, %v; want %+v", text, got, ok, want)
		}
	}
	for _, text := range []string{``, `{`, `{}`, `{"stream":"S"}`, `{"stream":"S","seq":0}`, `{"stream":"S","seq":99999999999999999999}`, `{"stream":"S","seq":1}x`, `null`, `+OK`} {
		if got, ok := parseAcknowledgement([]byte(text)); ok {
			t.Errorf("%s: is taken for %+v", text, got)
		}
	}
	usual := []byte(`{"stream":"SLUICE_a_0","seq":17}`)
	if n := testing.AllocsPerRun(100, func() { parseAcknowledgement(usual) }); n > 0 {
		t.Errorf("the usual one allocates %v times", n)
	}
}
