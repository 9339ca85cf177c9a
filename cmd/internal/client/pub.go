package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"sluice/bench/wsclient"
	"sluice/cmd/internal/cli"
	"sluice/gateway/setting"
)

// `sluice pub` sends messages and knows which of them have arrived: the gateway
// answers a ping after it has processed everything before it, so the pong confirms
// what was sent before the ping. Unconfirmed messages are kept, within bounds, and
// sent again over the next connection. Some of them may have arrived the first time;
// pub reports that, because the gateway cannot tell.

const (
	// The most that may be unconfirmed; the input is not read beyond it.
	windowLinesMax = 10_000
	windowBytesMax = 1 << 20
	// batchesAhead is how many batches are read from the input before they are sent.
	batchesAhead = 4
)

// NewPub returns `sluice pub`.
func NewPub(env []string) *cobra.Command {
	var (
		client   clientFlags
		isBinary bool
		maxLine  = 1 << 20
	)
	cmd := &cobra.Command{
		Use:   "pub CHANNEL [MESSAGE] [flags]",
		Short: "Publish a message, or every line of standard input",
		Example: `  sluice pub news 'goal!'
  tail -F app.log | sluice pub logs --url wss://push.example.com`,
		Long: `Without MESSAGE, every line of standard input is a message, without its newline;
a CR before the newline is kept. pub publishes as a WebSocket client, so the
gateway must allow clients to publish (see --raw in 'sluice serve --help'). It
exits with 0 only after the gateway has confirmed every message.`,
		DisableFlagsInUseLine: true,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return cli.Usagef("missing channel: specify one, as in 'sluice pub news'")
			case len(args) > 2:
				return cli.Usagef("unexpected argument %q: put a message with spaces in quotes", args[2])
			}
			return nil
		},
	}
	client.register(cmd, env, "30s", "try to reconnect for `TIME` after a lost connection; 0: do not reconnect; forever: no limit")
	f := cmd.Flags()
	f.BoolVar(&isBinary, "binary", false, "send binary messages, which need not be UTF-8, instead of text")
	f.Func("max-line", "stop with an error if a line is longer than `SIZE`", func(text string) (err error) {
		maxLine, err = setting.ParseSize(text)
		return err
	})
	f.Lookup("max-line").DefValue = setting.FormatSize(maxLine)
	cli.SetHelp(cmd, addressGroup, cli.Flags("Messages", "binary", "max-line"), retryGroup)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := client.target(args[0])
		if err != nil {
			return err
		}
		if maxLine < 1 {
			return cli.Usagef("--max-line %d: must be greater than 0, such as 1MiB", maxLine)
		}
		p := &publisher{
			session: client.session(t, cmd),
			op:      ws.OpText, query: url.Values{"echo": {"off"}}, batches: make(chan *batch, batchesAhead),
		}
		if isBinary {
			p.op = ws.OpBinary
		}
		if len(args) == 1 {
			input := newLines(cmd.InOrStdin(), maxLine, isBinary)
			return p.run(cmd.Context(), input.next)
		}
		message := args[1]
		if !isBinary && !utf8.ValidString(message) {
			return cli.Usagef("the message is not UTF-8: send it with --binary")
		}
		b := &batch{first: 1, data: []byte(message), ends: []int{len(message)}}
		return p.run(cmd.Context(), func() (*batch, error) {
			if b == nil {
				return nil, io.EOF
			}
			one := b
			b = nil
			return one, nil
		})
	}
	return cmd
}

// publisher sends batches until all are confirmed.
type publisher struct {
	session
	op    ws.OpCode
	query url.Values

	batches  chan *batch // closed at the end of the input
	inputErr error       // why reading the input failed; set before batches is closed
	ended    bool        // nothing more is read from batches

	// The window: what was written to a link and is not confirmed, oldest first.
	// Batches are numbered from 1.
	window      []*batch
	windowBytes int
	windowLines int
	confirmed   uint64 // number of the last batch that left the window
	repeated    uint64 // number of the last batch that an earlier link has carried too
	taken       int    // lines, of all batches

	asked uint64           // number of the last batch for which this link has sent a ping
	pings *rate.Limiter    // limits these pings
	due   <-chan time.Time // when the next ping may be sent; nil if none is pending
}

// pings limits how often a gateway is pinged for confirmations: it closes clients that send too
// many pings (--control-rate), by default 10 per second with a burst of 20, of which keep-alive needs
// some. One on this machine has no limit.
func pings(host string) *rate.Limiter {
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(8, 15)
}

// run connects, publishes what next returns until it fails, and waits until everything is
// confirmed.
func (p *publisher) run(ctx context.Context, next func() (*batch, error)) error {
	l, err := p.target.dial(ctx, p.query)
	if err != nil {
		return err
	}
	p.pings = pings(p.target.base.Hostname())
	gone := make(chan struct{})
	defer close(gone)
	go p.feed(next, gone)
	for {
		err = p.publish(ctx, l)
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			l, err = p.again(ctx, l, err, p.query)
		}
		if ctx.Err() != nil && len(p.window) == 0 {
			break
		}
		if err != nil {
			return p.failed(err)
		}
	}
	if ctx.Err() != nil {
		p.note("stopped (%v): %s published and confirmed", context.Cause(ctx), plural(p.taken, "line"))
		return nil
	}
	return p.inputErr
}

// feed reads the input. It can outlive run while the input is silent: a read of standard
// input cannot be canceled.
func (p *publisher) feed(next func() (*batch, error), gone <-chan struct{}) {
	defer close(p.batches)
	for {
		b, err := next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.inputErr = err
			}
			return
		}
		select {
		case p.batches <- b:
		case <-gone:
			return
		}
	}
}

// publish sends over l until everything is confirmed. It then closes l and returns nil.
func (p *publisher) publish(ctx context.Context, l *wsclient.Conn) error {
	var confirmed atomic.Uint64 // by the pongs read from l so far
	progress := make(chan struct{}, 1)
	l.OnPong = func(payload []byte) {
		n, err := strconv.ParseUint(string(payload), 10, 64)
		if err != nil {
			return // the pong to a keep-alive ping
		}
		confirmed.Store(n)
		select {
		case progress <- struct{}{}:
		default: // already notified
		}
	}
	ended := make(chan error, 1)
	p.keep(l)
	go func() {
		err := l.Drain()
		l.Net.SetWriteDeadline(time.Now().Add(time.Second)) // error ignored: a write that waits is useless now
		ended <- err
	}()

	err := p.exchange(ctx, l, progress, &confirmed, ended)
	if err != nil {
		// Read the last confirmations, and the gateway's close reason: it says more than a
		// failed write.
		l.Net.SetReadDeadline(time.Now().Add(time.Second))
		stop := time.AfterFunc(time.Second, func() { l.Net.Close() })
		if why := <-ended; !errors.Is(err, errInterrupted) {
			err = endOf(why)
		}
		stop.Stop()
		p.confirm(confirmed.Load())
		if p.ended && len(p.window) == 0 {
			err = nil // the link ended early, but everything has arrived
		}
	} else {
		l.Leave(p.target.timeout)
		<-ended // whatever the reason: everything is confirmed
	}
	l.Close()
	return err
}

var errInterrupted = errors.New("interrupted")

// exchange writes batches and handles confirmations until none is missing.
func (p *publisher) exchange(ctx context.Context, l *wsclient.Conn, progress <-chan struct{}, confirmed *atomic.Uint64, ended chan error) error {
	if err := p.resend(l); err != nil {
		return err
	}
	var patience <-chan time.Time
	interrupted := ctx.Done()
	for !p.ended || len(p.window) > 0 {
		input := p.batches
		if p.ended || p.windowBytes >= windowBytesMax || p.windowLines >= windowLinesMax {
			input = nil
		}
		select {
		case b, ok := <-input:
			if err := p.send(l, b, ok); err != nil {
				return err
			}
		case <-progress:
			p.confirm(confirmed.Load())
		case <-p.due:
			p.due = nil
			if err := p.send(l, nil, true); err != nil {
				return err
			}
		case err := <-ended:
			ended <- err
			return err
		case <-interrupted:
			// Wait for what is on its way, read nothing more.
			interrupted, p.ended = nil, true
			patience = time.After(p.target.timeout)
		case <-patience:
			return errInterrupted
		}
	}
	return nil
}

// send writes b, unless the input has ended (!ok) or b is nil, and the batches that are
// ready after it, in as few writes as possible, and asks for their confirmation.
func (p *publisher) send(l *wsclient.Conn, b *batch, ok bool) error {
	return l.Write(func() error {
		for {
			p.ended = p.ended || !ok
			if b == nil {
				return p.ask(l)
			}
			p.window = append(p.window, b)
			p.windowBytes += len(b.data)
			p.windowLines += len(b.ends)
			p.taken = b.last()
			if err := p.put(l, b); err != nil {
				return err
			}
			if p.windowBytes >= windowBytesMax || p.windowLines >= windowLinesMax {
				return p.ask(l)
			}
			select {
			case b, ok = <-p.batches:
			default:
				return p.ask(l)
			}
		}
	})
}

// put puts a batch into l's buffer.
func (p *publisher) put(l *wsclient.Conn, b *batch) error {
	return b.messages(func(payload []byte) error { return l.Put(p.op, payload) })
}

// ask puts a ping into l's buffer whose pong confirms all that was put before, now or when the
// limit allows.
func (p *publisher) ask(l *wsclient.Conn) error {
	newest := p.confirmed + uint64(len(p.window))
	if newest > p.asked && p.due == nil {
		if r := p.pings.Reserve(); r.Delay() > 0 {
			p.due = time.After(r.Delay())
			r.Cancel()
		} else if err := l.Put(ws.OpPing, strconv.AppendUint(nil, newest, 10)); err != nil {
			return err
		} else {
			p.asked = newest
		}
	}
	return nil
}

// resend writes what is unconfirmed to a new link.
func (p *publisher) resend(l *wsclient.Conn) error {
	p.asked, p.due = p.confirmed, nil
	if len(p.window) == 0 {
		return nil
	}
	p.repeated = p.confirmed + uint64(len(p.window))
	p.note("resent what was not confirmed, %s: some may have arrived twice", plural(p.windowLines, "line"))
	return l.Write(func() error {
		for _, b := range p.window {
			if err := p.put(l, b); err != nil {
				return err
			}
		}
		return p.ask(l)
	})
}

// confirm removes the batches up to number n from the window.
func (p *publisher) confirm(n uint64) {
	if n <= p.confirmed || n-p.confirmed > uint64(len(p.window)) {
		return // nothing new, or a pong to a ping that was not ours
	}
	k := int(n - p.confirmed)
	for _, b := range p.window[:k] {
		p.windowBytes -= len(b.data)
		p.windowLines -= len(b.ends)
	}
	clear(p.window[:k]) // frees the batches
	p.window = p.window[k:]
	p.confirmed = n
	p.progress()
}

// failed adds to the error that ends pub what it means for the messages.
func (p *publisher) failed(err error) error {
	var c *closed
	refused := false // the gateway has rejected everything that the last link carried
	if errors.As(err, &c) && c.final() {
		switch {
		case c.code == ws.StatusPolicyViolation && strings.Contains(c.reason, "publish"):
			refused = true // the gateway closes at the first message and reads no other
			err = fmt.Errorf("%w: pub publishes as a client; allow clients to publish with --raw publish (with namespaces: allow_raw_publish for the channel), "+
				"or publish through the internal listener, with its API key if it has one: curl -d MESSAGE http://127.0.0.1:9000/publish/CHANNEL", err)
		case c.code == ws.StatusPolicyViolation && strings.Contains(c.reason, "too many messages"):
			err = fmt.Errorf("%w: the gateway limits the messages of a client (--message-rate); send more slowly, raise the limit, or publish through the internal listener", err)
		case c.code == ws.StatusMessageTooBig:
			refused = p.windowLines == 1 // if there are several, those before the one that is too big may have arrived
			line, size := p.longest()
			err = fmt.Errorf("%w: the longest unconfirmed message is line %d with %d bytes; shorten it, or raise the gateway's --max-message", err, line, size)
		}
	}
	if len(p.window) == 0 {
		return err
	}
	first, last := p.window[0].first, p.window[len(p.window)-1].last()
	which, arrived := fmt.Sprintf("lines %d to %d are", first, last), "some or all of them may have arrived"
	if first == last {
		which, arrived = fmt.Sprintf("line %d is", first), "it may have arrived"
	}
	switch {
	case refused && p.repeated <= p.confirmed:
		return fmt.Errorf("%w\n%s not published: rejected by the gateway", err, which)
	case refused:
		return fmt.Errorf("%w\n%s not confirmed: rejected now, but %s over the previous connection", err, which, arrived)
	}
	return fmt.Errorf("%w\n%s not confirmed: %s", err, which, arrived)
}

// longest returns the longest message in the window.
func (p *publisher) longest() (line, bytes int) {
	for _, b := range p.window {
		if l, n := b.longest(); n > bytes || line == 0 {
			line, bytes = l, n
		}
	}
	return line, bytes
}

// plural returns "1 line" or "2,000 lines".
func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return cli.FormatCount(n) + " " + noun
}
