package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/spf13/cobra"

	"sluice/bench/wsclient"
	"sluice/cmd/internal/cli"
)

// Delays between two tries to connect: each is twice the one before, less a random part
// of up to half, so that many clients do not reconnect in step.
const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 5 * time.Second
	// steadyAfter is after what time a link without progress has worked. A gateway whose store is away keeps a message for 5 s
	// before it closes.
	steadyAfter = 3 * backoffMax
)

// pingInterval is how often a connection is pinged, and silenceMax the silence after which the
// gateway counts as gone: three of its default ping intervals.
const (
	pingInterval = 20 * time.Second
	silenceMax   = 75 * time.Second
)

// retryForever is the retryBound without a limit.
const retryForever retryBound = -1

// retryBound is how long to try to reconnect after a lost connection; 0: not at all.
type retryBound time.Duration

func (r *retryBound) String() string {
	if *r == retryForever {
		return "forever"
	}
	return time.Duration(*r).String()
}

func (r *retryBound) Type() string { return "TIME" }

func (r *retryBound) Set(text string) error {
	if text == "forever" {
		*r = retryForever
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return errors.New("must be a time such as 30s, 0 for no retry, or forever")
	}
	*r = retryBound(d)
	return nil
}

// session is a link and its successors.
type session struct {
	target  *target
	retry   retryBound
	ping    time.Duration                    // pingInterval
	silence time.Duration                    // silenceMax
	note    func(format string, args ...any) // prints a line for the user on stderr

	lost time.Time     // since when there has been no progress; zero: all is well
	wait time.Duration // before the next try
}

// session returns one to a target.
func (c *clientFlags) session(t *target, cmd *cobra.Command) session {
	return session{target: t, retry: c.retry, ping: pingInterval, silence: silenceMax, note: cli.Notes(cmd.ErrOrStderr())}
}

// keep pings over a link from now on. A read of it fails when the gateway is silent for too long.
func (s *session) keep(l *wsclient.Conn) {
	l.Silence = s.silence
	l.Keep(s.ping)
}

// progress records that the link works, so that its loss starts a new count. A gateway
// that accepts connections and drops them makes no progress.
func (s *session) progress() { s.lost, s.wait = time.Time{}, 0 }

// again returns a new link that replaces l, which ended with why, as endOf returns it. If
// no other try would end differently, it returns why.
func (s *session) again(ctx context.Context, l *wsclient.Conn, why error, query url.Values) (*wsclient.Conn, error) {
	if !isTemporary(why) || s.retry == 0 {
		return nil, fmt.Errorf("connection to %s lost: %w", s.target.name(), why)
	}
	now := time.Now()
	if now.Sub(l.Opened) >= steadyAfter {
		s.progress()
	}
	if s.lost.IsZero() {
		s.lost = now
		s.note("connection lost: %v; reconnecting%s", why, s.boundWords())
	} else if s.spent() {
		return nil, fmt.Errorf("gave up after %v (--retry): %w", s.retry.String(), why)
	}
	for {
		if err := s.pause(ctx); err != nil {
			return nil, err
		}
		next, err := s.target.dial(ctx, query)
		if err == nil {
			s.note("reconnected after %v", time.Since(s.lost).Round(time.Millisecond))
			return next, nil
		}
		if ctx.Err() != nil || !isTemporary(err) {
			return nil, err
		}
		if s.spent() {
			return nil, fmt.Errorf("gave up after %v (--retry): %w", s.retry.String(), err)
		}
	}
}

// spent reports whether there was no progress for as long as it is tried.
func (s *session) spent() bool {
	return s.retry != retryForever && time.Since(s.lost) >= time.Duration(s.retry)
}

func (s *session) boundWords() string {
	if s.retry == retryForever {
		return ""
	}
	return " for " + s.retry.String()
}

// pause waits before a try, at most until the limit.
func (s *session) pause(ctx context.Context) error {
	s.wait = min(max(2*s.wait, backoffMin), backoffMax)
	d := s.wait - rand.N(s.wait/2)
	if s.retry != retryForever {
		d = max(0, min(d, time.Duration(s.retry)-time.Since(s.lost)))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// isTemporary reports whether another try may end differently.
func isTemporary(err error) bool {
	if r := (*refusal)(nil); errors.As(err, &r) {
		return r.temporary()
	}
	return errors.As(err, new(temporary))
}

// closed is the gateway's Close frame.
type closed struct {
	code   ws.StatusCode
	reason string
}

func (c *closed) Error() string {
	s := fmt.Sprintf("closed with %d", c.code)
	if c.reason != "" {
		s += " (" + strings.Map(cli.Printable, c.reason) + ")"
	}
	return s
}

// endOf describes the end of a link.
func endOf(err error) error {
	var close wsutil.ClosedError
	switch {
	case errors.As(err, &close):
		c := &closed{close.Code, close.Reason}
		if c.final() {
			return c
		}
		return temporary{c}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return temporary{errors.New("the gateway was silent for too long")}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return temporary{errors.New("dropped without a Close frame")}
	case wsclient.IsInvalid(err):
		return fmt.Errorf("the server sent invalid WebSocket data: %w", err)
	}
	return temporary{err}
}

// final reports whether the gateway would close the next connection as well. It also uses
// 1008 for a client that did not answer pings, which may have been asleep.
func (c *closed) final() bool {
	switch c.code {
	case ws.StatusProtocolError, ws.StatusUnsupportedData, ws.StatusInvalidFramePayloadData, ws.StatusMessageTooBig, ws.StatusMandatoryExt:
		return true
	case ws.StatusPolicyViolation:
		return !strings.Contains(c.reason, "ping")
	}
	return false
}
