package nats

import (
	"net"
	"strings"
	"sync"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/enginetest"
	"sluice/gateway/engine/nats/natstest"
)

// tcpProxy is the only way from a node to its server.
type tcpProxy struct {
	t      testing.TB
	to     string
	listen net.Listener
	ended  sync.WaitGroup

	mu sync.Mutex
	// Guarded by mu.
	links map[[2]net.Conn]bool // the client's connection, and the server's
	still [2]chan struct{}     // of each direction: closed when bytes go on
}

// Directions of a proxy.
const (
	toServer = iota
	fromServer
)

func startProxy(t testing.TB, url string) *tcpProxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tcpProxy{t: t, to: strings.TrimPrefix(url, "nats://"), listen: l, links: make(map[[2]net.Conn]bool)}
	p.ended.Go(p.accept)
	t.Cleanup(func() {
		p.goOn()
		l.Close() // ignored: it is open
		p.cut()
		p.ended.Wait()
	})
	return p
}

func (p *tcpProxy) url() string { return "nats://" + p.listen.Addr().String() }

func (p *tcpProxy) accept() {
	for {
		client, err := p.listen.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close() // ignored: the node tries again
			continue
		}
		link := [2]net.Conn{client, server}
		p.mu.Lock()
		p.links[link] = true
		p.mu.Unlock()
		p.ended.Go(func() { p.carry(link, server, client, toServer) })
		p.ended.Go(func() { p.carry(link, client, server, fromServer) })
	}
}

// carry copies what comes in one direction, while it is not still.
func (p *tcpProxy) carry(link [2]net.Conn, to, from net.Conn, direction int) {
	defer func() {
		p.mu.Lock()
		delete(p.links, link)
		p.mu.Unlock()
		to.Close()   // ignored: one of the two has ended
		from.Close() // ignored: as above
	}()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		still := p.still[direction]
		p.mu.Unlock()
		if still != nil {
			<-still
		}
		if _, wrong := to.Write(buffer[:n]); err != nil || wrong != nil {
			return
		}
	}
}

// cut ends all connections.
func (p *tcpProxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for link := range p.links {
		link[0].Close() // ignored: it may have ended
		link[1].Close() // ignored: as above
	}
}

// stop lets nothing through in one direction, until goOn is called.
func (p *tcpProxy) stop(direction int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.still[direction] = make(chan struct{})
}

func (p *tcpProxy) goOn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, still := range p.still {
		if still != nil {
			close(still)
		}
		p.still[i] = nil
	}
}

// seam is two nodes, of which the first is connected through a proxy.
type seam struct {
	*cluster
	t      *testing.T
	server *natstest.Server
	proxy  *tcpProxy
}

func newSeam(t *testing.T, o natstest.Options) *seam {
	t.Helper()
	o.JetStream = true
	s := natstest.Start(t, o)
	p := startProxy(t, s.URL())
	c := startCluster(t, 1, s.URL())
	far := newNode(t, func(cfg *Config) {
		cfg.Servers, cfg.NodeID = Servers{URLs: []string{p.url()}, Prefix: c.prefix}, 99
	})
	ready(t, far)
	c.nodes = []*enginetest.Node{far, c.nodes[0]}
	return &seam{c, t, s, p}
}

// engine returns that of the node behind the proxy.
func (s *seam) engine() *Engine { return s.nodes[0].Engine.(*Engine) }

// connections waits until the node's connection was lost so often, and is there again.
func (s *seam) connections(before uint64) {
	s.t.Helper()
	clienttest.WaitFor(s.t, "the connection to break and to be there again", func() bool {
		return s.engine().connection.Load() > before && s.engine().connected.Load()
	})
}

// overflow has the receiving goroutines of the node stand still, with full channels, until messages of one
// of its channels were dropped.
func (s *seam) overflow() {
	var still sync.WaitGroup
	goOn := make(chan struct{})
	defer close(goOn)
	for _, l := range s.engine().lanes {
		still.Add(1)
		l.post(func() {
			still.Done()
			<-goOn
		})
	}
	still.Wait()
	dropped := func() (n int) {
		for _, l := range s.engine().lanes {
			for _, r := range l.list {
				if r.sub != nil {
					d, _ := r.sub.Dropped() // ignored: it may have ended
					n += d
				}
			}
		}
		return n
	}
	before := dropped()
	for _, l := range s.engine().lanes {
		for len(l.live) < cap(l.live) { // with what nobody reads
			select {
			case l.live <- &natsgo.Msg{Subject: s.engine().live + "!nobody"}:
			default:
			}
		}
	}
	clienttest.WaitFor(s.t, "dropped messages", func() bool { return dropped() > before })
}

// flood has the server send more to the node than it may leave unread, until it closes the connection.
func (s *seam) flood() {
	sub, err := s.engine().link.main.ChanSubscribe("flood", make(chan *natsgo.Msg, 1))
	if err != nil {
		s.t.Error(err)
		return
	}
	before := s.engine().connection.Load()
	s.proxy.stop(fromServer)
	nc, large := natstest.Connect(s.t, s.server.URL()), make([]byte, 128<<10)
	clienttest.WaitFor(s.t, "a connection that the server closes", func() bool {
		if err := nc.Publish("flood", large); err != nil {
			s.t.Error(err)
		}
		return s.server.SlowConsumers() > 0
	})
	s.proxy.goOn()
	s.connections(before)
	_ = sub.Unsubscribe() // ignored: nothing comes any more
}

// unsent has the server store what is published, and not send it on, while do runs.
func (s *seam) unsent(do func()) {
	js, err := natstest.Connect(s.t, s.server.URL()).JetStream()
	if err != nil {
		s.t.Error(err)
		return
	}
	for _, name := range []string{"a", "b"} {
		info, err := js.StreamInfo(s.engine().stream(name).name)
		if err != nil {
			s.t.Error(err)
			return
		}
		without := info.Config
		without.RePublish = nil
		if _, err := js.UpdateStream(&without); err != nil {
			s.t.Error(err)
		}
		defer func() {
			if _, err := js.UpdateStream(&info.Config); err != nil {
				s.t.Error(err)
			}
		}()
	}
	do()
}

// stored waits until streams have stored more.
func (s *seam) stored(n uint64) {
	for _, node := range s.nodes {
		e := node.Engine.(*Engine)
		before := e.counts.stored.Load()
		clienttest.WaitFor(s.t, "more publications", func() bool { return e.counts.stored.Load() >= before+n })
	}
}

// Wherever a message is lost on its way, subscribers get it later, or a gap, and each publisher's
// publications in their order.
func TestWhatIsLostAtASeam(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		tune  func(*natsserver.Options)
		fault func(s *seam)
	}{
		"a lane's channel is full": {nil, (*seam).overflow},
		"the connection is cut": {nil, func(s *seam) {
			for range 3 {
				before := s.engine().connection.Load()
				s.proxy.cut()
				s.connections(before)
			}
		}},
		"the node does not read": {func(o *natsserver.Options) { o.MaxPending, o.MaxPayload = 256<<10, 256<<10 }, (*seam).flood},
		"nothing goes to the server": {nil, func(s *seam) {
			before := s.engine().connection.Load()
			s.proxy.stop(toServer)
			e := s.nodes[1].Engine.(*Engine)
			stored := e.counts.stored.Load()
			clienttest.WaitFor(s.t, "publications of the other node", func() bool { return e.counts.stored.Load() >= stored+20 })
			s.proxy.cut()
			s.proxy.goOn()
			s.connections(before)
		}},
		"nothing comes from the server": {nil, func(s *seam) {
			before := s.engine().connection.Load()
			s.proxy.stop(fromServer)
			e := s.nodes[1].Engine.(*Engine)
			stored := e.counts.stored.Load()
			clienttest.WaitFor(s.t, "publications of the other node", func() bool { return e.counts.stored.Load() >= stored+20 })
			s.proxy.cut() // with what was on its way
			s.proxy.goOn()
			s.connections(before)
		}},
		"the server is restarted": {nil, func(s *seam) {
			for range 2 {
				before := s.engine().connection.Load()
				s.server.Stop()
				s.server.Restart()
				s.connections(before)
			}
		}},
		"nothing is sent on": {nil, func(s *seam) { s.unsent(func() { s.stored(20) }) }},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newSeam(t, natstest.Options{Tune: test.tune})
			rig := s.rig()
			rig.During = func() { test.fault(s) }
			enginetest.Order(t, rig)
		})
	}
}

// A leader that goes may not have sent on what it has stored.
func TestLeaderMoves(t *testing.T) {
	t.Parallel()
	servers := natstest.StartCluster(t, 3, natstest.Options{JetStream: true})
	c := startClusterWith(t, 2, func(c *Config) { c.test.patience = 0 }, servers.URLs()...) // what a leader takes with it is not acknowledged
	nc := natstest.Connect(t, servers.URL())
	rig := c.rig()
	rig.During = func() {
		for range clienttest.Scaled(2, 1) {
			for _, name := range []string{"a", "b"} {
				e := c.nodes[0].Engine.(*Engine)
				stream := e.stream(name).name
				leader := servers.Leader(stream)
				m, err := nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, clienttest.Patience)
				if err != nil || !strings.Contains(string(m.Data), `"success":true`) {
					t.Errorf("%v, %s", err, m.Data)
				}
				clienttest.WaitFor(t, "another leader", func() bool { return servers.Leader(stream) != leader })
				before := e.counts.stored.Load()
				clienttest.WaitFor(t, "publications", func() bool { return e.counts.stored.Load() >= before+10 })
			}
		}
	}
	enginetest.Order(t, rig)
}
