//go:build !nonats

package backing

import (
	"context"
	"errors"
	"time"

	"sluice/gateway/engine/nats"
	"sluice/gateway/engine/nats/datadir"
	"sluice/gateway/setting"
)

const built = true // with NATS

// openNATS starts the engine that stores in a data directory, or that shares channels over servers.
func (s *Store) openNATS(ctx context.Context, g *Gateway, takes bool) (Engine, error) {
	cfg := nats.Config{
		Space: g.Space, Present: g.Present, Keep: g.Keep, NamespaceOf: g.NamespaceOf,
		DataDir: s.DataDir, DataMax: int64(s.DataMax), Sync: s.HistorySync.String(),
		Name: g.Name, NodeID: g.ID, MaxMessage: g.MessageMax, ChannelRate: g.Rate, Describe: g.Describe, After: g.After, Logger: g.Logger, Clock: time.Now,
	}
	for _, n := range g.Namespaces {
		cfg.Histories = append(cfg.Histories, nats.HistoryOf{Namespace: n.Name, Size: n.Size, TTL: n.TTL, Durable: n.Durable})
	}
	if s.form() == Servers {
		cfg.Servers, cfg.Takes = s.servers(), takes
		if cfg.Name == "" {
			cfg.Name = drawName()
		}
	}
	e, err := nats.New(ctx, cfg)
	if f := (*datadir.Fault)(nil); errors.As(err, &f) {
		err = setting.Faults{{Field: "DataDir", Value: f.Dir, Why: ": " + setting.Literal(f.Err.Error())}}
	}
	if err != nil {
		return Engine{}, err
	}
	g.Space.Remote(e, e.Remote)
	return Engine{Engine: e, Name: e.NodeName(), ready: e.Ready, failed: e.Failed(), close: e.Close}, nil
}
