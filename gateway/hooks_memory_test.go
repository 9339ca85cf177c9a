package gateway

import (
	"context"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/hook"
	"sluice/gateway/hook/queue"
)

// A client that waits for a hook takes little beside its connection at rest: its request, and its place in the hook's line. Not
// parallel: it measures the process's memory.
func TestMemoryOfClientsThatWaitForHooks(t *testing.T) {
	const (
		clients = 400
		cookie  = "Cookie: session=0123456789abcdef0123456789abcdef"
	)
	stream := 1024
	if *clienttest.Deflated {
		stream += 512 // its response is held for it alone: the time after which it comes again is packed with the rest
	}
	for _, test := range []struct {
		name       string
		most       int // without the connection itself
		rest, wait func(s *server) *clienttest.Client
	}{
		{"raw", 1024, func(s *server) *clienttest.Client { return clienttest.Dial(t, s, "/echo", cookie) }, func(s *server) *clienttest.Client {
			c := clienttest.Connect(t, s)
			c.Write(clienttest.UpgradeTo("/ws/x", cookie))
			return c
		}},
		{"SSE", stream, func(s *server) *clienttest.Client { return clienttest.Dial(t, s, "/echo", cookie) }, func(s *server) *clienttest.Client {
			c := clienttest.Connect(t, s)
			c.AskForStream("/sse/x", cookie)
			return c
		}},
		{"Centrifugo", 900, func(s *server) *clienttest.Client { return clienttest.Dial(t, s, pathClient, cookie) }, func(s *server) *clienttest.Client {
			c := clienttest.Dial(t, s, pathClient, cookie)
			c.Does(`{"id":1,"connect":{"data":{"app":"ios","build":1234},"name":"js"}}`)
			return c
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := hook.Func(func(ctx context.Context, _ *hook.ConnectRequest) (*hook.ConnectResult, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}, hook.Options{Timeout: clienttest.Patience, Queue: queue.Config{InFlight: 1, Wait: clienttest.Patience, Budget: queue.NewBudget(10*clients, 10*clients)}})
			s := start(t, Config{Hooks: &hook.Set{Connect: h, HeaderNames: []string{"Cookie"}}, PingInterval: -1, Loops: 1})
			memory := func(open func(*server) *clienttest.Client, waiting int) int {
				before := heap()
				all := make([]*clienttest.Client, 0, clients)
				for i := range clients {
					all = append(all, open(s))
					clienttest.WaitFor(t, "it to be there", func() bool { // not more at a time than are admitted
						stats := h.Stats()
						return stats.Queued+stats.InFlight == min(i+1, waiting) && s.connections() == int64(i+1)
					})
				}
				s.Quiet()
				after := heap()
				for _, c := range all {
					c.Vanish()
				}
				clienttest.WaitFor(t, "all to be gone", func() bool { return s.connections() == 0 })
				return int(after-before) / clients
			}
			memory(test.wait, clients) // what grows once is there
			more := 0
			for range 5 { // something else in the process may have allocated meanwhile
				if more = memory(test.wait, clients) - memory(test.rest, 0); more <= test.most {
					t.Logf("a client that waits takes %d bytes more than one at rest", more)
					return
				}
			}
			t.Errorf("a client that waits takes %d bytes more than one at rest, want %d at most", more, test.most)
		})
	}
}
