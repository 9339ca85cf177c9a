package serve

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/cmd/internal/cli"
	"sluice/gateway"
)

// drainReport is how often the progress of a shutdown is reported.
const drainReport = time.Second

// stop shuts the server down. It returns an error unless all connections have ended, or were cut off when the time was
// over.
func (s *service) stop(timeout time.Duration) error {
	until, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.server.Shutdown(until) }()
	tick := time.NewTicker(drainReport)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.reportDrain(s.server.Drain())
			continue
		case err := <-ended:
			switch {
			case err == context.DeadlineExceeded: // and nothing else has failed
				s.log.Warn("forced stop: connections were still open", "after", timeout.String(), "hint", "raise --shutdown-timeout")
			case errors.Is(err, gateway.ErrLoopStuck):
				s.log.Error("forced stop: an event loop is stuck", "error", err)
				return cli.ExitCode(cli.ExitFailed)
			case err != nil:
				s.log.Error("the gateway has not stopped in order", "error", err)
				return cli.ExitCode(cli.ExitFailed)
			}
			return nil
		}
	}
}

// reportDrain tells people and the service manager how far the shutdown has come.
func (s *service) reportDrain(d gateway.Drain) {
	if d.Total == 0 {
		return
	}
	s.log.Info("draining", "open", d.Open, "closing", d.Closing, "of", d.Total)
	s.supervisor.tell(fmt.Sprintf("STATUS=draining: %s of %s connections are left", cli.FormatCount(int(d.Open+d.Closing)), cli.FormatCount(int(d.Total))))
}
