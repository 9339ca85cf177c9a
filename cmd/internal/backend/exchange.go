package backend

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"sluice/cmd/internal/cli"
	"sluice/gateway/hook"
	"sluice/gateway/hook/proxy"
	"sluice/gateway/hook/queue"
)

// exchange is an event as it was sent and answered.
type exchange struct {
	Event   string   `json:"event"`
	Head    []string `json:"head"` // of the request, null if nothing was sent
	Body    string   `json:"body"`
	Status  int      `json:"status"` // of the answer, 0 for none
	Answer  string   `json:"answer"`
	Outcome string   `json:"outcome"` // as the metrics have it
	Meaning string   `json:"meaning"`

	failed bool
}

// A probe asks about one event.
type probe func(ctx context.Context, e *proxy.Endpoint, trace <-chan proxy.Exchange) exchange

// ask returns the probe of an event. means says what a decision means to a client.
func ask[Q hook.Request, A any](t *test, event string, of func(*proxy.Endpoint) *proxy.Hook[Q, A], q Q, means func(a *A, err error) string) probe {
	return func(ctx context.Context, e *proxy.Endpoint, trace <-chan proxy.Exchange) exchange {
		type answer struct {
			a   *A
			err error
		}
		h := of(e)
		defer h.Close()
		answers := make(chan answer, 1)
		cancel := h.Ask(q, func(a *A, err error) { answers <- answer{a, err} })
		x := exchange{Event: event}
		select {
		case <-ctx.Done():
			cancel()
			return x
		case got := <-answers:
			err := got.err
			if checked, ok := any(got.a).(interface{ Check() error }); ok && err == nil {
				err = checked.Check()
			}
			outcome := hook.OutcomeOf(err)
			x.Outcome, x.failed, x.Meaning = outcome.String(), err != nil && !hook.Decided(err), means(got.a, err)
			if outcome == queue.Request {
				return x // nothing was sent
			}
			select { // a call that has timed out may end a little later
			case as := <-trace:
				x.Head, x.Body, x.Status, x.Answer = head(t.endpoint, as), string(as.Body), as.Status, string(as.Answer)
			case <-time.After(traceMax):
			}
		}
		return x
	}
}

// traceMax is how long a call takes at most to end that was answered.
const traceMax = 5 * time.Second

// shownMax is how many bytes of an answer are printed.
const shownMax = 4 << 10

// print prints an exchange for people.
func (x *exchange) print(w io.Writer, more bool) {
	var b strings.Builder
	if more {
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%s\n", x.Event)
	for _, line := range x.Head {
		fmt.Fprintf(&b, "> %s\n", printable(line))
	}
	if x.Head != nil {
		fmt.Fprintf(&b, ">\n> %s\n", printable(x.Body))
	}
	if x.Status != 0 {
		fmt.Fprintf(&b, "< %d\n", x.Status)
		answer, cut := x.Answer, ""
		if len(answer) > shownMax {
			answer, cut = answer[:shownMax], fmt.Sprintf("< ... (%d bytes)\n", len(answer))
		}
		for line := range strings.Lines(answer) {
			fmt.Fprintf(&b, "< %s\n", printable(line))
		}
		b.WriteString(cut)
	}
	fmt.Fprintf(&b, "%s: %s\n", x.Outcome, printable(x.Meaning))
	io.WriteString(w, b.String()) // ignored: there is nothing else to tell it
}

func printable(s string) string { return strings.Map(cli.Printable, strings.ToValidUTF8(s, "\uFFFD")) }

// timeText returns a time of an answer.
func timeText(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }
