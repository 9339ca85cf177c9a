package gateway

import (
	"strings"
	"testing"

	"sluice/gateway/access/auth"
	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/loop"
)

// appendAfterGap adds a publication as an engine does that has lost the one before it.
func (s *server) appendAfterGap(name, text string) {
	ch := s.space.Find(name)
	at := ch.Newest()
	ch.Append(&channel.Publication{Channel: name, Payload: []byte(text), At: 1, Epoch: at.Epoch, Offset: at.Offset + 3, Prev: at.Offset + 2}, new(channel.Scratch))
}

// A client is notified of a gap in its place in the order: after what was published before it,
// and before what follows.
func TestGapIsToldByEachProtocol(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, `{"namespaces":[{"name":"nn","presence":true,"allow_subscribe_for_client":true,"allow_subscribe_for_anonymous":true,
		"allow_presence_for_subscriber":true}]}`))
	raw, records, stream := clienttest.Dial(t, s, "/ws/nn:x"), clienttest.Dial(t, s, "/ws/nn:x?format=json"), clienttest.Stream(t, s, "/sse/nn:x")
	c := member(t, s, tokens(t, auth.Claims{User: "42"}))
	c.Joins("nn:x")
	c.Joins("nn:y")
	server := member(t, s, tokens(t, auth.Claims{User: "7", Channels: []string{"nn:x"}}))
	s.publish("nn:x", "one")
	s.appendAfterGap("nn:x", "four")

	raw.WantText("raw: before the gap", "one")
	raw.WantClose("raw: the gap", 1012)
	s.WantClosed(loop.ReasonGap, 1)

	at := `"epoch":"` + s.space.Find("nn:x").Epoch().String() + `","offset":`
	for _, want := range []string{at + "1,", `{"gap":true,"channel":"nn:x",` + at + "3}", at + "4,"} {
		if _, p, err := records.Next(); err != nil || !strings.Contains(p, want) {
			t.Errorf("records: got %s, %v, want %s", p, err, want)
		}
	}
	stream.Event() // where it begins
	for _, want := range []string{"data: one\n", "event: gap\ndata: {\"gap\":true,\"channel\":\"nn:x\"," + at + "3}\n", "data: four\n"} {
		if got := stream.Event(); !strings.HasSuffix(got, want) {
			t.Errorf("SSE: got %q, want %q", got, want)
		}
	}
	one := `{"push":{"channel":"nn:x","pub":{"data":"one","offset":1}}}`
	c.WantTold("Centrifugo: before the gap", one)
	c.WantTold("Centrifugo: the gap", `{"push":{"channel":"nn:x","unsubscribe":{"code":2500,"reason":"insufficient state"}}}`)
	s.publish("nn:y", "other")
	c.WantTold("Centrifugo: another channel", `{"push":{"channel":"nn:y","pub":{"data":"other","offset":1}}}`)
	server.WantTold("subscribed by its token: before the gap", one)
	server.WantClose("subscribed by its token: the gap", 3010)
	if n := s.present.Len(); n != 1 {
		t.Errorf("%d subscriptions are present, want the one to nn:y", n)
	}
}
