package doctor

import (
	"context"
	"time"

	"sluice/cmd/internal/option"
	"sluice/gateway"
	"sluice/gateway/engine/backing"
	"sluice/gateway/setting"
)

// storeTimeout bounds the questions to NATS servers.
const storeTimeout = 10 * time.Second

// store reports on the data directory or the NATS servers.
func (f *findings) store(g gateway.Config, opts *option.Options) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	for _, one := range backing.Check(ctx, &g.Store, g.MaxMessage, storesHistories(g)) {
		f.add([...]verdict{backing.Fine: isOK, backing.Unknown: isUnknown, backing.Doubtful: isWarning, backing.Broken: isFault}[one.Verdict],
			"%s", setting.Names(opts.FlagOf).Text(one.Text))
	}
}

// storesHistories reports whether some channels have a history that is stored.
func storesHistories(g gateway.Config) bool {
	if g.Namespaces == nil {
		return g.History > 0
	}
	for o := range g.Namespaces.All() {
		if o.Stored() {
			return true
		}
	}
	return false
}
