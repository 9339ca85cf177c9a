package visitors

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"
)

// Most is the largest number of visitors.
const Most = 1000

// Request is the first line of the input: whom to visit.
type Request struct {
	URL     string `json:"url"`     // the gateway, ws://HOST:PORT or wss://HOST:PORT
	Channel string `json:"channel"` // lobby by default
	Token   string `json:"token"`   // none by default
	Count   int    `json:"count"`
}

// Command is a further line of the input.
type Command struct {
	Cut int `json:"cut"` // cut off so many connections
}

// fault returns what is wrong with a request.
func (r *Request) fault() error {
	u, err := url.Parse(r.URL)
	switch {
	case err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "":
		return errors.New("url: use ws://HOST:PORT or wss://HOST:PORT")
	case r.Count < 1 || r.Count > Most:
		return fmt.Errorf("count is %d: use 1 to %d", r.Count, Most)
	}
	return nil
}

// target returns the URL that visitors connect to, without a position.
func (r *Request) target() string {
	query := url.Values{"format": {"json"}, "mode": {"subscribe"}}
	if r.Token != "" {
		query.Set("token", r.Token)
	}
	return r.URL + "/ws/" + url.PathEscape(cmp.Or(r.Channel, "lobby")) + "?" + query.Encode()
}

// Run brings the visitors that the first line of in asks for. It returns when in ends, when ctx
// is done, after two minutes, or when the gateway admits none of them. Its error is the cause of
// ctx's end, or that in or out is not as it should be.
func Run(ctx context.Context, in io.Reader, out io.Writer) error {
	return run(ctx, in, out, usual)
}

func run(ctx context.Context, in io.Reader, out io.Writer, pace pace) error {
	lines := bufio.NewScanner(in)
	var req Request
	if !lines.Scan() {
		return cmp.Or(lines.Err(), errors.New("the input has no request"))
	}
	if err := json.Unmarshal(lines.Bytes(), &req); err != nil {
		return fmt.Errorf("the request: %w", err)
	}
	if err := req.fault(); err != nil {
		return fmt.Errorf("the request: %w", err)
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	c := newCrowd(&req, time.Now, pace, end)
	stay := time.AfterFunc(pace.stay, func() { end(ending("Two minutes are over.")) })
	defer stay.Stop()

	go c.obey(lines) // to the input's end, which may come later
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write(ctx, out)
	}()
	c.visit(ctx)
	last := time.NewTimer(time.Second)
	defer last.Stop()
	select {
	case <-written:
	case <-last.C: // nobody reads
	}
	if cause := context.Cause(ctx); !errors.As(cause, new(ending)) {
		return cause
	}
	return nil
}

// obey does what further lines ask until they end.
func (c *crowd) obey(lines *bufio.Scanner) {
	for lines.Scan() {
		var cmd Command
		if err := json.Unmarshal(lines.Bytes(), &cmd); err != nil {
			c.end(fmt.Errorf("a command: %w", err))
			return
		}
		c.cut(cmd.Cut)
	}
	c.end(ending("They were sent away.")) // an error of reading is the end, too
}

// ending is why the visitors leave, as the page says it, when nothing is wrong here.
type ending string

func (e ending) Error() string { return string(e) }
