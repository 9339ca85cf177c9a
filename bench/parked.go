package bench

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/gobwas/ws"
)

// parked is clients whose publications wait: all of them publish into one channel, as fast as they may, and
// the server accepts only so many a second there. One more client checks that each publication comes once,
// and in its publisher's order.
type parked struct {
	publishers, reader *fleet
	options            *UpgradeOptions
}

// parkedChannel is theirs alone.
const parkedChannel = "parked"

// parkedRate is how many publications a second a channel accepts where there are parked publishers.
func (o *UpgradeOptions) parkedRate() int { return max(200, int(2*o.Rate)) }

// newParked connects n publishers. t is a target whose publishers get nothing.
func (u *upgradeRun) newParked(ctx context.Context, t target, n int) (*parked, error) {
	p := &parked{options: &u.UpgradeOptions}
	at := func(query string) target {
		to := t
		to.url = &url.URL{Scheme: t.url.Scheme, Host: t.url.Host, Path: "/ws/" + parkedChannel, RawQuery: query}
		to.protocol = Raw
		return to
	}
	for _, f := range []struct {
		fleet *(*fleet)
		at    target
		n     int
	}{{&p.publishers, at("mode=publish"), n}, {&p.reader, at(""), 1}} {
		var err error
		if *f.fleet, err = newFleetAt(u.clock, []target{f.at}, 1); err == nil {
			err = u.dial(ctx, *f.fleet, "connected: parked publishers", &dialing{connections: f.n, outstanding: u.Dialing})
		}
		if err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

func (p *parked) close() {
	for _, f := range []*fleet{p.publishers, p.reader} {
		if f != nil {
			f.close() // ignored: the figures have been taken
		}
	}
}

// begin has all publishers send everything, which the server accepts by and by, with so many upgrades: each process
// begins with a burst of a second's publications.
func (p *parked) begin(c clock, m mark, upgrades int) (*account, error) {
	l := p.publishers.loops[0]
	n := len(l.conns)
	each := 1 + int(float64(p.options.parkedRate())*(p.options.length().Seconds()+float64(1+upgrades)))/n
	s := schedule{phase: phase{mark: m, streams: n, count: n * each}, clock: c, publishers: n, start: c.now()}
	a := &account{schedule: s, sendings: make([]sending, n), published: s.count}
	p.reader.begin(s.phase, 0)
	p.publishers.begin(phase{mark: m, streams: 1}, 0)
	var err error
	l.do(func() {
		payload, at := blank(SizeMin, false)
		for seq := range each {
			for i, k := range l.conns {
				stamp{uint16(i), uint32(seq), s.start}.put(payload[at:], m)
				if e := k.write(maskedFrame(ws.OpText, append([]byte(nil), payload...))); e != nil && err == nil {
					err = fmt.Errorf("a parked publisher: %w", e)
				}
			}
		}
	})
	for i := range a.sendings {
		a.sendings[i].published = uint32(each)
	}
	return a, err
}

// end waits until all have come, and returns how many publishers have lost their connection.
func (p *parked) end(ctx context.Context, a *account, catchUp time.Duration) (cut int64) {
	p.reader.await(ctx, a, catchUp, 0)
	p.reader.settle(a)
	return int64(len(p.publishers.loops[0].conns)) - p.publishers.live()
}
