package nats

import (
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/engine/nats/natstest"

	natsgo "github.com/nats-io/nats.go"
)

// A history is removed although the replica that answers direct gets has none of it yet.
func TestRemoveBesideAReplicaThatIsBehind(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, natstest.Options{JetStream: true})
	n := startCluster(t, 1, srv.URL()).nodes[0]
	newSender(t, n).publishes("x", "a", "b")

	direct, nc := "$JS.API.DIRECT.GET."+n.Engine.(*Engine).stream("x").name, srv.Connect(t)
	if _, err := nc.Subscribe("behind", func(m *natsgo.Msg) {
		none := natsgo.NewMsg(m.Reply)
		none.Header.Set("Status", "404")
		_ = nc.PublishMsg(none) // ignored: then nothing is answered
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	account := srv.Server().GlobalAccount()
	if err := account.AddMapping(direct, "behind"); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Wait(t.Context(), func(done func(struct{}, error)) {
		n.Engine.Remove("x", func(err error) { done(struct{}{}, err) })
	}); err != nil {
		t.Fatal(err)
	}
	account.RemoveMapping(direct)
	got, err := engine.Wait(t.Context(), func(done func(channel.Collected, error)) {
		n.Engine.History(engine.HistoryQuery{Channel: "x", Most: channel.Bounds{Count: -1}, Now: time.Now().UnixMilli()}, done)
	})
	if err != nil || len(got.Publications) > 0 {
		t.Errorf("%d publications are left (%v)", len(got.Publications), err)
	}
}
