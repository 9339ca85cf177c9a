package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/enginetest"
)

// What the server's API asks of connections and channels holds on all nodes, whichever of them is asked.
func TestServerAPIReachesAllNodes(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, rightsFile)
	cfg.PingInterval = -1
	_, servers := startLate(t, 3, cfg, 1, enginetest.Trouble{Delay: time.Millisecond}, false)
	first, done := servers[0], `{"result":{}}`
	user := tokens(t, auth.Claims{User: "42"})
	var clients []*clienttest.Client
	for _, s := range servers {
		clients = append(clients, member(t, s, user))
	}
	first.wantAPI("subscribe", `{"user":"42","channel":"look:x"}`, done)
	for _, c := range clients {
		if got := c.Told("the server subscribes it"); !strings.HasPrefix(got, `{"push":{"channel":"look:x","subscribe":`) {
			t.Errorf("subscribe: got %s", got)
		}
	}
	for _, s := range servers {
		clienttest.WaitFor(t, "everybody to be present", func() bool {
			return s.api("presence_stats", `{"channel":"look:x"}`) == `{"result":{"num_clients":3,"num_users":1}}`
		})
		s.wantAPI("channels", `{"pattern":"look:*"}`, `{"result":{"channels":{"look:x":{"num_clients":3}}}}`)
		s.wantAPI("channel_stats", `{"channel":"look:x"}`, `{"result":{"num_channels":1,"channels":[{"channel":"look:x","num_clients":3,"publications_per_second":0}]}}`)
		s.wantAPI("channel_stats", `{"sort":"clients","limit":1}`, `{"result":{"num_channels":1,"channels":[{"channel":"look:x","num_clients":3,"publications_per_second":0}]}}`)
		if got := s.api("presence", `{"channel":"look:x"}`); strings.Count(got, `"user":"42"`) != 3 || strings.Contains(got, "partial") {
			t.Errorf("presence: got %s", got)
		}
		if got := s.api("info", ``); strings.Count(got, `"uid":`) != 3 {
			t.Errorf("info: got %s", got)
		}
	}
	first.wantAPI("refresh", `{"user":"42","expire_at":`+fmt.Sprint(time.Now().Unix()+3600)+`}`, done)
	for _, c := range clients {
		if got := c.Told("refresh"); !strings.HasPrefix(got, `{"push":{"refresh":{"expires":true`) {
			t.Errorf("refresh: got %s", got)
		}
	}
	first.wantAPI("unsubscribe", `{"user":"42","channel":"look:x"}`, done)
	for _, c := range clients {
		c.WantTold("unsubscribe", `{"push":{"channel":"look:x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`)
	}

	// A node that does not answer.
	servers[2].node.Engine.Answer(func([]byte, func([]byte)) {})
	for method, body := range map[string]string{
		"unsubscribe": `{"user":"42"}`, "channels": `{}`, "channel_stats": `{"sort":"rate"}`, "disconnect": `{"user":"42","disconnect":{"code":4000,"reason":"x"}}`,
	} {
		if got := first.api(method, body); !strings.HasSuffix(got, `"partial":true}}`) {
			t.Errorf("%s: got %s, want that it is partial", method, got)
		}
	}
	for _, c := range clients[:2] {
		c.WantClose("on the nodes that answer", 4000)
	}
	servers[2].node.Engine.Answer(servers[2].node.Answer)
	first.wantAPI("disconnect", `{"user":"42","disconnect":{"code":4001,"reason":"x"}}`, done)
	clients[2].WantClose("on the last one", 4001)

	// A question of a newer node, and one while the loops are stopped.
	for _, question := range []string{`{"method":"new"}`, `{"method":"refresh","request":[]}`, `{"method":"channel_stats","request":{"sort":"new"}}`, `x`} {
		answers := make(chan []byte, 1)
		servers[1].node.Answer([]byte(question), func(b []byte) { answers <- b })
		if got := clienttest.Receive(t, "an answer", answers); string(got) != "failed" {
			t.Errorf("%s is answered with %s", question, got)
		}
	}
}

// reporting is an engine that says how it is doing.
type reporting struct {
	engine.Engine
	stats engine.Stats
}

func (r reporting) Stats() engine.Stats { return r.stats }

func TestInfoSaysThatTheEngineIsAway(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	s.node.Engine = reporting{away{s.engine, true}, engine.Stats{
		Parts: []engine.Part{{Name: "connection", Up: true}, {Name: "store"}}, Away: 1500 * time.Millisecond, AwayTotal: 3 * time.Second,
		Pending: 1, PendingBytes: 2, Lag: 250 * time.Millisecond, Waiting: 3, Stored: 4, CaughtUp: 5, Resubscribed: 6, Gaps: map[string]uint64{"slow": 7}, Unanswered: 8,
	}}
	want := `"away":true}],"partial":true,"engine":{"up":false,"parts":{"connection":true,"store":false},"away":1.5,"away_total":3,"pending":1,"pending_bytes":2,` +
		`"lag":0.25,"waiting":3,"stored":4,"caught_up":5,"resubscribed":6,"gaps":{"slow":7},"unanswered":8}}}`
	if got := s.api("info", ``); !strings.HasSuffix(got, want) {
		t.Errorf("got %s\nwant it to end with %s", got, want)
	}
	if info := s.node.Describe(); !info.Away {
		t.Errorf("what other nodes show: %+v", info)
	}
}
