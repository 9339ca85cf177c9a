package main

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
)

// `sluice pub` sends messages and knows which of them have arrived: the gateway
// answers a ping after it has processed everything that came before, so the pong
// confirms what was sent before the ping. What is not confirmed is kept, within
// bounds, and sent again over the next connection. Some of it may have arrived the
// first time: that is said, because the gateway cannot tell.

const (
	// What may be unconfirmed; the input is not read beyond that.
	windowLinesMax = 10_000
	windowBytesMax = 1 << 20
	// batchesAhead is how many batches are read from the input before they are sent.
	batchesAhead = 4
)

// newPubCommand gives `sluice pub`.
func newPubCommand(env []string) *cobra.Command {
	var (
		client   clientFlags
		isBinary bool
		lineMax  = sizeFlag{text: "1MiB"}
	)
	maxLine := 1 << 20
	lineMax.n = &maxLine
	cmd := &cobra.Command{
		Use:   "pub CHANNEL [MESSAGE] [flags]",
		Short: "Publish a message, or each line of standard input",
		Example: `  sluice pub news 'goal!'
  tail -F app.log | sluice pub logs --url wss://push.example.com`,
		Long: `Without MESSAGE each line of standard input is a message, without its newline; a
CR before the newline is kept. It publishes as a WebSocket client does, so the
gateway's --raw must allow that. It ends with 0 only when the gateway has
confirmed everything.`,
		DisableFlagsInUseLine: true,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("no channel is named: give one, as in 'sluice pub news'")
			case len(args) > 2:
				return usagef("unexpected argument %q: put a message with spaces in quotes", args[2])
			}
			return nil
		},
	}
	client.register(cmd, env, "30s", "`TIME` for which a lost connection is tried again; 0 for no retry, or forever")
	f := cmd.Flags()
	f.BoolVar(&isBinary, "binary", false, "send binary messages, which need not be UTF-8")
	f.Var(&lineMax, "max-line", "`SIZE` of the longest line that is taken")
	setHelp(cmd, addressGroup, flagGroup{"Messages", []string{"binary", "max-line"}}, retryGroup)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := client.target(args[0])
		if err != nil {
			return err
		}
		if maxLine < 1 {
			return usagef("--max-line %s: must be more than 0: give a size such as 1MiB", lineMax.text)
		}
		p := &publisher{
			session: session{target: t, retry: client.retry, note: notes(cmd.ErrOrStderr())},
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
			return usagef("the message is not UTF-8: send it as it is with --binary")
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

	batches  chan *batch // closed at the input's end
	inputErr error       // why the input ended, but for its end; set before batches is closed
	ended    bool        // nothing more is taken from batches

	// The window: what was written to some link and is not confirmed, oldest first.
	// Batches are numbered from 1.
	window      []*batch
	windowBytes int
	windowLines int
	confirmed   uint64 // number of the last batch that left the window
	repeated    uint64 // number of the last batch that an earlier link has carried, too
	taken       int    // lines, of all batches

	asked uint64           // number of the last batch whose confirmation this link was asked for
	pace  pace             // of asking
	due   <-chan time.Time // when it may be asked again; nil when that is not waited for
}

// pace bounds how often a gateway elsewhere is asked for confirmations: it counts pings,
// and closes who sends too many (--control-rate).
type pace struct {
	free   bool // it is on this machine, and does not count
	tokens float64
	at     time.Time
}

// A gateway's default is 10 a second and 20 at once, of which keep-alive needs some.
const (
	paceRate  = 8
	paceBurst = 15
)

// wait takes a token, or tells when there will be one.
func (p *pace) wait(now time.Time) time.Duration {
	if p.free {
		return 0
	}
	if p.at.IsZero() {
		p.tokens = paceBurst
	} else {
		p.tokens = min(p.tokens+now.Sub(p.at).Seconds()*paceRate, paceBurst)
	}
	p.at = now
	if p.tokens < 1 {
		return max(time.Duration((1-p.tokens)/paceRate*float64(time.Second)), time.Millisecond)
	}
	p.tokens--
	return 0
}

// run connects, publishes what next gives until its error, and waits until all is
// confirmed.
func (p *publisher) run(ctx context.Context, next func() (*batch, error)) error {
	l, err := p.target.dial(ctx, p.query)
	if err != nil {
		return err
	}
	p.pace.free = loopback(p.target.base.Hostname())
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
		p.note("stopped (%v): %s published, and confirmed", context.Cause(ctx), plural(p.taken, "line"))
		return nil
	}
	return p.inputErr
}

// feed reads the input. It can outlast run while the input gives nothing: a read of
// standard input cannot be called back.
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

// publish sends over l until everything is confirmed. nil: it is, and l is closed.
func (p *publisher) publish(ctx context.Context, l *link) error {
	var confirmed atomic.Uint64 // by l, as far as it was read
	progress := make(chan struct{}, 1)
	l.onPong = func(payload []byte) {
		n, err := strconv.ParseUint(string(payload), 10, 64)
		if err != nil {
			return // of a ping that only keeps the link alive
		}
		confirmed.Store(n)
		select {
		case progress <- struct{}{}:
		default: // told already
		}
	}
	ended := make(chan error, 1)
	go func() {
		_, _, err := l.next(true)
		l.conn.SetWriteDeadline(time.Now().Add(time.Second)) // ignored: a write that waits is in vain now
		ended <- err
	}()
	l.keep(linkPing)

	err := p.exchange(ctx, l, progress, &confirmed, ended)
	if err != nil {
		// What was confirmed last counts, and the gateway's reason is better than
		// that a write failed.
		l.conn.SetReadDeadline(time.Now().Add(time.Second))
		stop := time.AfterFunc(time.Second, func() { l.conn.Close() })
		if why := <-ended; !errors.Is(err, errInterrupted) {
			err = endOf(why)
		}
		stop.Stop()
		p.confirm(confirmed.Load())
		if p.ended && len(p.window) == 0 {
			err = nil // it ended too early, but all has arrived
		}
	} else {
		l.bye(p.target.timeout)
		<-ended // whatever it is: all is confirmed
	}
	l.end()
	return err
}

var errInterrupted = errors.New("interrupted")

// exchange writes batches and takes confirmations until none is missing.
func (p *publisher) exchange(ctx context.Context, l *link, progress <-chan struct{}, confirmed *atomic.Uint64, ended chan error) error {
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
			// What is on its way is waited for, nothing more is read.
			interrupted, p.ended = nil, true
			patience = time.After(p.target.timeout)
		case <-patience:
			return errInterrupted
		}
	}
	return nil
}

// send writes b, unless the input has ended (!ok) or it is nil, and the batches that are
// ready behind it, in as few writes as possible, and asks for their confirmation.
func (p *publisher) send(l *link, b *batch, ok bool) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	for {
		if !ok {
			p.ended = true
			return p.ask(l)
		}
		if b == nil {
			return p.ask(l)
		}
		p.window = append(p.window, b)
		p.windowBytes += len(b.data)
		p.windowLines += len(b.ends)
		p.taken = b.last()
		if err := p.write(l, len(p.window)-1); err != nil {
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
}

// write writes the window's batch i. The caller holds l.writing.
func (p *publisher) write(l *link, i int) error {
	return p.window[i].messages(func(payload []byte) error { return l.frame(p.op, payload) })
}

// ask sends what was written, with a ping that asks for the confirmation of all of it,
// now or when the pace allows. The caller holds l.writing.
func (p *publisher) ask(l *link) error {
	newest := p.confirmed + uint64(len(p.window))
	if newest > p.asked && p.due == nil {
		if wait := p.pace.wait(time.Now()); wait > 0 {
			p.due = time.After(wait)
		} else if err := l.frame(ws.OpPing, strconv.AppendUint(nil, newest, 10)); err != nil {
			return err
		} else {
			p.asked = newest
		}
	}
	return l.out.Flush()
}

// loopback tells whether a host is this machine.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// resend writes what is not confirmed to a new link.
func (p *publisher) resend(l *link) error {
	p.asked, p.due = p.confirmed, nil
	if len(p.window) == 0 {
		return nil
	}
	p.repeated = p.confirmed + uint64(len(p.window))
	p.note("resent %s that were not confirmed: some may have arrived twice", plural(p.windowLines, "line"))
	l.writing.Lock()
	defer l.writing.Unlock()
	for i := range p.window {
		if err := p.write(l, i); err != nil {
			return err
		}
	}
	return p.ask(l)
}

// confirm takes the batches up to number n out of the window.
func (p *publisher) confirm(n uint64) {
	if n <= p.confirmed || n-p.confirmed > uint64(len(p.window)) {
		return // nothing new, or a pong to no ping of ours
	}
	k := int(n - p.confirmed)
	for _, b := range p.window[:k] {
		p.windowBytes -= len(b.data)
		p.windowLines -= len(b.ends)
	}
	clear(p.window[:k]) // lets the batches go
	p.window = p.window[k:]
	p.confirmed = n
	p.progress()
}

// failed adds to the error that ends it what that means for the messages.
func (p *publisher) failed(err error) error {
	var c *closed
	refused := false // whatever of the window went over the last link
	if errors.As(err, &c) && c.final() {
		switch {
		case c.code == ws.StatusPolicyViolation && strings.Contains(c.reason, "publish"):
			refused = true // the gateway says so at the first message, and reads no other
			err = fmt.Errorf("%w: pub publishes as a client does: start the gateway with --raw publish if clients are to publish there (where namespaces decide, with allow_raw_publish for the channel), "+
				"or publish at its internal listener, with its key if it has one: curl -d MESSAGE http://127.0.0.1:9000/publish/CHANNEL", err)
		case c.code == ws.StatusPolicyViolation && strings.Contains(c.reason, "too many messages"):
			err = fmt.Errorf("%w: the gateway lets a client send --message-rate messages a second: send fewer, raise it there, or publish at its internal listener", err)
		case c.code == ws.StatusMessageTooBig:
			refused = p.windowLines == 1 // of several, those before the one that is too big may have arrived
			line, size := p.longest()
			err = fmt.Errorf("%w: the longest message that is not confirmed is line %d with %d bytes: shorten it, or raise the gateway's --max-message", err, line, size)
		}
	}
	if len(p.window) == 0 {
		return err
	}
	first, last := p.window[0].first, p.window[len(p.window)-1].last()
	which := fmt.Sprintf("lines %d to %d are", first, last)
	if first == last {
		which = fmt.Sprintf("line %d is", first)
	}
	switch {
	case refused && p.repeated <= p.confirmed:
		return fmt.Errorf("%w\n%s not published: refused, none of it has arrived", err, which)
	case refused:
		return fmt.Errorf("%w\n%s not confirmed: refused now, but some or all may have arrived over the connection before", err, which)
	}
	return fmt.Errorf("%w\n%s not confirmed: some or all may have arrived", err, which)
}

// longest gives the longest message of the window.
func (p *publisher) longest() (line, bytes int) {
	for _, b := range p.window {
		if l, n := b.longest(); n > bytes || line == 0 {
			line, bytes = l, n
		}
	}
	return line, bytes
}

// plural writes "1 line", "2,000 lines".
func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return formatCount(n) + " " + noun
}
