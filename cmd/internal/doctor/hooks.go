package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/serve"
)

// reachMax bounds how long check waits for backends.
const reachMax = 5 * time.Second

// hooks connects to the backends of hooks. One that is away keeps nothing from starting.
func (f *findings) hooks(p serve.Plan) {
	set, err := p.Hooks.Build()
	if f.faults(err); set == nil {
		return
	}
	defer set.Close()
	ctx, cancel := context.WithTimeout(context.Background(), reachMax)
	defer cancel()
	for _, r := range set.Reach(ctx) {
		what := r.Where + " " + r.Endpoint
		if !strings.HasPrefix(r.Where, "--") {
			what = fmt.Sprintf("hooks: %s: %s", r.Where, r.Endpoint)
		}
		if r.Err != nil {
			f.add(isWarning, "%s: cannot be reached: %v; while it is away, clients are asked to try again", what, cli.BareNetError(r.Err))
			continue
		}
		f.add(isOK, "%s: can be reached", what)
	}
}
