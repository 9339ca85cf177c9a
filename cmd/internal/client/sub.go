package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"sluice/bench/record"
	"sluice/bench/wsclient"
	"sluice/cmd/internal/cli"
)

// `sluice sub` prints what is published and loses nothing when a connection is lost: it
// asks for the gateway's JSON records, which contain each publication's position in the
// channel, and reconnects with the position of the last one. Publications that are no
// longer in the gateway's history are reported as a gap.

// NewSub returns `sluice sub`.
func NewSub(env []string) *cobra.Command {
	var (
		client clientFlags
		since  string
		s      subscriber
	)
	cmd := &cobra.Command{
		Use:   "sub CHANNEL [flags]",
		Short: "Subscribe to a channel and print its publications",
		Example: `  sluice sub news
  sluice sub logs --history 10 --json --url wss://push.example.com`,
		Long: `Prints each new publication, followed by a newline. After a lost connection, sub
continues with the publication after the last one. If publications are lost, for
example because they are no longer in the gateway's history, it reports the gap
on standard error.`,
		DisableFlagsInUseLine: true,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return cli.Usagef("missing channel: specify one, as in 'sluice sub news'")
			case len(args) > 1:
				return cli.Usagef("unexpected argument %q: sub subscribes to one channel", args[1])
			}
			return nil
		},
	}
	client.register(cmd, env, "forever", "try to reconnect for `TIME` after a lost connection; 0: do not reconnect; forever: no limit")
	f := cmd.Flags()
	f.StringVar(&since, "since", "now", "start after this position, `EPOCH:OFFSET`, with the epoch and offset that --json prints; now: start with the next publication")
	f.IntVar(&s.history, "history", 0, "start with the newest `N` publications in the gateway's history")
	f.IntVar(&s.count, "count", 0, "exit after `N` publications")
	f.BoolVar(&s.json, "json", false, "print each record as it arrives, as one line of JSON")
	f.BoolVar(&s.failOnGap, "fail-on-gap", false, "exit with code 1 if publications were lost")
	cli.SetHelp(cmd, addressGroup, cli.Flags("Publications", "since", "history", "count", "json", "fail-on-gap"), retryGroup)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := client.target(args[0])
		if err != nil {
			return err
		}
		for _, name := range []string{"history", "count"} {
			if n, _ := f.GetInt(name); f.Changed(name) && n < 1 { // the flag exists
				return cli.Usagef("--%s %d: must be at least 1, or omitted", name, n)
			}
		}
		if s.history > 0 && since != "" && f.Changed("since") {
			return cli.Usagef("--since and --history cannot be combined: use only one of them")
		}
		if since != "" && since != "now" {
			if s.at, err = parsePosition(since); err != nil {
				return cli.Usagef("--since %s: %w", since, err)
			}
		}
		s.session = client.session(t, cmd)
		s.out = bufio.NewWriterSize(cmd.OutOrStdout(), wsclient.Buffer)
		return s.run(cmd.Context())
	}
	return cmd
}

// subscriber prints a channel.
type subscriber struct {
	session
	history   int // 0: none
	count     int // 0: no end
	json      bool
	failOnGap bool
	out       *bufio.Writer

	records record.Reader
	at      position // of the last publication printed
	printed int
}

// errEnough is returned when as many as --count were printed.
var errEnough = errors.New("enough")

// stopError ends a subscriber, whatever happens to its connection.
type stopError struct{ error }

func (e stopError) Unwrap() error { return e.error }

// run prints until ctx ends, --count is reached or something fails for good.
func (s *subscriber) run(ctx context.Context) error {
	l, err := s.target.dial(ctx, s.query())
	for err == nil {
		err = errors.Join(s.print(ctx, l), s.flush())
		if ctx.Err() != nil || err == nil || errors.As(err, new(stopError)) {
			break
		}
		l, err = s.again(ctx, l, err, s.query())
	}
	if ctx.Err() != nil && !errors.As(err, new(stopError)) {
		return nil // it was asked to stop
	}
	return err
}

// query asks for what comes after the position, or if there is none yet, for the start
// that the user wants.
func (s *subscriber) query() url.Values {
	q := url.Values{"format": {"json"}, "mode": {"subscribe"}}
	switch {
	case s.at.epoch != "":
		q.Set("since", s.at.String())
	case s.history > 0:
		q.Set("history", strconv.Itoa(s.history))
	default:
		q.Set("since", "now")
	}
	return q
}

// print prints what arrives over l. It returns nil when it has printed enough.
func (s *subscriber) print(ctx context.Context, l *wsclient.Conn) error {
	l.OnIdle = s.flush // so that a line never waits in the buffer for the next one
	s.keep(l)
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Leave(s.target.timeout) })()
	for {
		_, p, err := l.Next()
		switch {
		case errors.As(err, new(stopError)):
			return nil // flush in run returns the error again
		case err != nil:
			return endOf(err)
		case ctx.Err() != nil:
			continue // until the gateway answers the Close frame
		}
		if err = s.take(p); err != nil {
			l.Leave(s.target.timeout)
			l.Drain() // error ignored: it is the end of the connection
			if errors.Is(err, errEnough) {
				return nil
			}
			return stopError{err}
		}
	}
}

// take handles one record.
func (s *subscriber) take(p []byte) error {
	r, err := s.records.Read(p)
	if err != nil {
		return fmt.Errorf("received something other than a format=json record: %w; is --url the address of a gateway of this version?", err)
	}
	was := s.at
	what, lost := s.at.advance(r)
	s.progress()
	switch what {
	case stepRepeat:
		s.note("skipped a duplicate: offset %d of epoch %s arrived after %d", r.Offset, r.Epoch, was.offset)
		return nil
	case stepGap, stepHole:
		s.note("gap: %s", lost)
	}
	if s.json {
		s.line(oneLine(p))
	} else if what == stepPublication || what == stepHole {
		s.line(r.Payload)
	}
	if what == stepPublication || what == stepHole {
		s.printed++
	}
	switch {
	case lost != "" && s.failOnGap:
		return errors.New("publications were lost: exiting because of --fail-on-gap")
	case s.printed == s.count && s.count > 0:
		return errEnough
	}
	return nil
}

// line prints p and a newline; flush returns the error if that fails.
func (s *subscriber) line(p []byte) {
	s.out.Write(p)
	s.out.WriteByte('\n')
}

func (s *subscriber) flush() error {
	if err := s.out.Flush(); err != nil {
		return stopError{fmt.Errorf("standard output: %w", cli.BareError(err))}
	}
	return nil
}
