package gateway

import (
	"encoding/json"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
)

// What protocols save of their connections makes the same ones in another process.
func TestSavedConnections(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	cfg := guarded(t, `{"namespaces":[{"name":"nn","history_size":5,"history_ttl":"1m","join_leave":true,"presence":true,"allow_presence_for_subscriber":true,"allow_subscribe_for_client":true,
		"allow_subscribe_for_anonymous":true,"allow_history_for_subscriber":true,"allow_history_for_anonymous":true}]}`)
	cfg.SendBuffer = 4 << 10
	s := start(t, cfg)
	for range 5 {
		s.publish("nn:old", clienttest.Stars(60<<10))
	}
	clienttest.DialSmall(t, s, "/ws/nn:old?history=5&format=json") // it is catching up for as long as the test takes
	soon := time.Now().Add(time.Hour).Unix()
	info := json.RawMessage(`{"a":1}`)
	known := tokens(t, auth.Claims{User: "42", Info: info, ExpiresAt: soon})
	for _, target := range []string{"/ws/nn:x", "/ws/nn:x?format=json&since=now", "/ws/nn:x?token=" + known, "/echo"} {
		clienttest.Dial(t, s, target)
	}
	clienttest.Lines(t, s, pathUniHTTP, "{}")
	e := clienttest.Emulate(t, s, known)
	e.Does(`{"id":2,"subscribe":{"channel":"nn:x"}}`)
	e.Told("subscribe")
	for _, target := range []string{"/sse/nn:x", "/sse/nn:x?format=json&token=" + known, "/connection/uni_sse"} {
		clienttest.Stream(t, s, target)
	}
	clienttest.Dial(t, s, pathClient) // it has not said who it is
	clienttest.Dial(t, s, pathClient+"?format=protobuf")
	clienttest.Dial(t, s, "/connection/uni_websocket")
	c := member(t, s, known)
	c.Joins("nn:y")
	c.Joins("nn:z", `"token":"`+tokens(t, auth.Claims{User: "42", Channel: "nn:z", Info: info, ExpiresAt: soon})+`"`)
	c.Joins("nn:x", `"join_leave":true`) // it is notified of joins from here on
	s.Quiet()
	if n, formats := s.WantSaved(); n != 14 || formats != 10 {
		t.Errorf("there are %d connections with %d formats, want 14 with 10", n, formats)
	}
}
