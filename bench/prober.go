package bench

import (
	"context"
	"fmt"

	"github.com/gobwas/ws"
)

// prober measures how long clients wait for the server: each of some connections sends messages that come back to
// it alone.
type prober struct {
	fleet *fleet
	conns []*conn
}

const (
	probeConnections = 10
	probeRate        = 1000 // messages a second, of all of them
)

// newProber connects to the path /echo of a target.
func newProber(ctx context.Context, run *Run, t target, c clock) (*prober, error) {
	u := *t.url
	u.Path, u.RawPath, u.RawQuery = "/echo", "", ""
	t.url, t.protocol, t.audience = &u, Raw, nil
	f, err := newFleetAt(c, []target{t}, 1)
	if err != nil {
		return nil, err
	}
	p := &prober{fleet: f}
	if err := run.dial(ctx, f, "connected: probes", &dialing{connections: probeConnections, outstanding: 1}); err != nil {
		f.close() // ignored: the error that matters is err
		return nil, err
	}
	f.loops[0].do(func() {
		for i, k := range f.loops[0].conns {
			k.stream = i
		}
		p.conns = f.loops[0].conns
	})
	return p, nil
}

// send implements publisher.
func (p *prober) send(_ context.Context, stream int, payload []byte) (retries int, err error) {
	k := p.conns[stream]
	p.fleet.loops[0].do(func() {
		if k.fd < 0 {
			err = fmt.Errorf("the server closed a connection to /echo")
			return
		}
		err = k.write(maskedFrame(ws.OpText, append([]byte(nil), payload...)))
	})
	return 0, err
}

func (p *prober) close() { p.fleet.close() } // ignored: the figures have been taken
