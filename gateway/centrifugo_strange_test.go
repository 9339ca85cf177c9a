package gateway

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/loop"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// strange makes commands that no library sends: every field of every kind of command with
// nothing, too much, or something that belongs elsewhere.
type strange struct {
	*rand.Rand
	tokens []string
}

func pick[T any](s *strange, of ...T) T { return of[s.IntN(len(of))] }

func (s *strange) channel() string {
	return pick(s, "", "aa:x", "$aa:x", "bb:x", "unknown:x", "a", ":", "::", "#", "aa:x#", "aa:x#42", "aa:x#,", "$", "$$aa:x", "a:\x00", "a: ", strings.Repeat("c", 300), "AA:x", "aa:x")
}

func (s *strange) epoch() string {
	return pick(s, "", "0", "zzzzzzzzzzzzzzzzzzzz", "-1", "3", strings.Repeat("e", 2000))
}

func (s *strange) offset() uint64 {
	return pick(s, uint64(0), 1, 2, math.MaxInt64, math.MaxUint64, math.MaxUint64-1)
}

func (s *strange) since() *protocol.StreamPosition {
	return pick(s, nil, &protocol.StreamPosition{}, &protocol.StreamPosition{Offset: s.offset(), Epoch: s.epoch()})
}

func (s *strange) data() protocol.Raw {
	return pick(s, nil, protocol.Raw(`{}`), protocol.Raw(`null`), protocol.Raw(`"`+strings.Repeat("\u00e9", 200)+`"`), protocol.Raw("\xff\x00"), protocol.Raw("[[[["))
}

func (s *strange) subscribe() *protocol.SubscribeRequest {
	return &protocol.SubscribeRequest{Channel: s.channel(), Token: pick(s, s.tokens...), Recover: s.IntN(2) == 0, Epoch: s.epoch(), Offset: s.offset(), Data: s.data(),
		Positioned: s.IntN(2) == 0, Recoverable: s.IntN(2) == 0, JoinLeave: s.IntN(2) == 0, Delta: pick(s, "", "fossil"),
		Tf: pick(s, nil, nil, nil, &protocol.FilterNode{}, &protocol.FilterNode{Nodes: []*protocol.FilterNode{{}, {Op: "x"}}}), Type: pick(s, int32(0), 0, 0, 1, -1), Flag: pick(s, int64(0), 1, 2, 3, -1)}
}

func (s *strange) command(id uint32) *protocol.Command {
	c := &protocol.Command{Id: pick(s, id, id, id, id, id, id, id, 0, math.MaxUint32)}
	for range pick(s, 1, 1, 1, 1, 1, 2) {
		switch s.IntN(13) {
		case 0:
			c.Connect = &protocol.ConnectRequest{Token: pick(s, s.tokens...), Subs: map[string]*protocol.SubscribeRequest{s.channel(): s.subscribe()}, Flag: s.Int64()}
		case 1, 2, 3:
			c.Subscribe = s.subscribe()
		case 4:
			c.Unsubscribe = &protocol.UnsubscribeRequest{Channel: s.channel()}
		case 5, 6:
			c.Publish = &protocol.PublishRequest{Channel: s.channel(), Data: s.data()}
		case 7:
			c.Presence = &protocol.PresenceRequest{Channel: s.channel()}
		case 8:
			c.PresenceStats = &protocol.PresenceStatsRequest{Channel: s.channel()}
		case 9:
			c.History = &protocol.HistoryRequest{Channel: s.channel(), Limit: pick(s, int32(0), 1, -1, math.MinInt32, math.MaxInt32), Reverse: s.IntN(2) == 0, Since: s.since()}
		case 10:
			c.Send, c.Rpc = &protocol.SendRequest{}, &protocol.RPCRequest{}
		case 11:
			c.Refresh = &protocol.RefreshRequest{Token: pick(s, s.tokens...)}
		case 12:
			c.SubRefresh = &protocol.SubRefreshRequest{Channel: s.channel(), Token: pick(s, s.tokens...)}
		}
	}
	return c
}

// Whatever is in a command costs nobody a panic, and whoever comes behind is served.
func TestStrangeCommandsPanicNowhere(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, `{"namespaces": [
		{"name": "aa", "history_size": 5, "history_ttl": "60s", "force_recovery": true, "presence": true, "join_leave": true, "force_push_join_leave": true,
		 "allow_subscribe_for_client": true, "allow_publish_for_client": true, "allow_presence_for_client": true, "allow_history_for_client": true, "allow_user_limited_channels": true},
		{"name": "bb", "history_size": 5, "history_ttl": "60s", "force_recovery": true, "force_recovery_mode": "cache", "allow_subscribe_for_client": true, "allow_publish_for_client": true}
	]}`)
	s := start(t, cfg)
	good := tokens(t, auth.Claims{User: "42"})
	for seed := range uint64(300) {
		x := &strange{rand.New(rand.NewPCG(seed, 7)), []string{"", good, tokens(t, auth.Claims{User: "42", Channel: "$aa:x"}), tokens(t, auth.Claims{User: "43", Channel: "aa:x"}), "nonsense"}}
		protobuf := seed%2 == 0
		frame := func(c *protocol.Command) string {
			if protobuf {
				body, err := c.MarshalVT()
				if err != nil {
					t.Fatal(err)
				}
				return clienttest.Bin(string(varint(len(body))) + string(body))
			}
			body, err := protocol.NewJSONCommandEncoder().Encode(c)
			if err != nil { // the data is no JSON
				return ""
			}
			return clienttest.Text(string(body))
		}
		c := clienttest.Dial(t, s, pathClient+map[bool]string{true: "?format=protobuf"}[protobuf])
		frames := frame(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{Token: good}})
		for id := range uint32(30) {
			frames += frame(x.command(id + 2))
		}
		c.Send(frames, clienttest.Closing(1000, ""))
		for {
			if op, _, err := c.Next(); err != nil || op == ws.OpClose {
				break
			}
		}
	}
	if got := s.Sum(func(st *loop.Stats) uint64 { return st.Panics.Load() }); got != 0 {
		t.Errorf("%d panics", got)
	}
	c := member(t, s, good)
	c.Joins("aa:x")
}
