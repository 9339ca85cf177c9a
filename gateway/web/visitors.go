package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Visitors are a process that connects to the gateway as many clients do. The page gets the lines
// that it writes, as they come, for as long as it stays: with the page's connection it ends, and so it does with
// the gateway, and after two minutes. There is one at a time.

const (
	visitorsStay  = 2*time.Minute + 5*time.Second // the process leaves after two minutes
	leavingTime   = time.Second                   // for the process to leave, with its page
	lineTime      = 10 * time.Second              // for the page to read something
	demoBodyBytes = 16 << 10                      // a token has at most 8 KiB
)

// crowd is the visitors that are there.
type crowd struct {
	place   chan struct{} // has room for one: who brings visitors
	mu      sync.Mutex
	process io.Writer // guarded by mu; nil while there is none
}

// take takes the place of those who bring visitors. It waits a moment: those before may be leaving.
func (c *crowd) take(ctx context.Context) bool {
	t := time.NewTimer(leavingTime)
	defer t.Stop()
	select {
	case c.place <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-t.C:
	}
	return false
}

func (c *crowd) leave() {
	c.set(nil)
	<-c.place
}

func (c *crowd) set(process io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process = process
}

// command sends a command to the visitors that are there. It reports whether there are some.
func (c *crowd) command(cmd any) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process != nil && json.NewEncoder(c.process).Encode(cmd) == nil // Encode adds the end of the line
}

// visit is what the visitors' process is asked first.
type visit struct {
	URL     string `json:"url"`
	Channel string `json:"channel"`
	Token   string `json:"token"`
	Count   int    `json:"count"`
}

// bring starts visitors and passes on what they write.
func (d *Demo) bring(w http.ResponseWriter, r *http.Request, lasting func() context.Context) {
	var ask struct {
		Count   int    `json:"count"`
		Channel string `json:"channel"`
		Token   string `json:"token"`
	}
	have := d.numbers().Visitors
	switch err := readBody(w, r, &ask); {
	case err != nil:
		http.Error(w, "Malformed JSON: use {\"count\": 1000, \"channel\": \"lobby\"}.", http.StatusBadRequest)
		return
	case !have.Available:
		http.Error(w, have.Reason, http.StatusServiceUnavailable)
		return
	case ask.Count < 1 || ask.Count > have.Most:
		http.Error(w, fmt.Sprintf("Invalid count: use 1 to %d.", have.Most), http.StatusBadRequest)
		return
	case !d.crowd.take(r.Context()):
		http.Error(w, "There are visitors already.", http.StatusConflict)
		return
	}
	defer d.crowd.leave()
	process, err := d.start()
	if err != nil {
		http.Error(w, "The visitors could not be started: see the gateway's log.", http.StatusServiceUnavailable)
		return
	}
	defer process.Close() // ignored: it has ended already, unless something here has panicked
	ctx, cancel := context.WithTimeout(lasting(), visitorsStay)
	defer cancel()
	context.AfterFunc(ctx, func() { process.Close() })                                      // ignored: it ends
	json.NewEncoder(process).Encode(visit{gatewayOf(r), ask.Channel, ask.Token, ask.Count}) // ignored: the process has ended
	d.crowd.set(process)                                                                    // not before: a cut is no first line
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	pass(w, process)
}

// pass passes lines on until the process has ended, also if nobody reads them any more.
func pass(w http.ResponseWriter, process io.ReadCloser) {
	out := http.NewResponseController(w)
	out.Flush() // ignored: the page may be gone, which ends the context
	for lines := bufio.NewReaderSize(process, 32<<10); ; {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 {
			out.SetWriteDeadline(time.Now().Add(lineTime)) // ignored: then writing fails
			_, failed := w.Write(line)
			if failed == nil && lines.Buffered() == 0 {
				failed = out.Flush()
			}
			if failed != nil {
				process.Close() // ignored: it ends
			}
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}

// cut cuts off some of the visitors' connections.
func (d *Demo) cut(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Count int `json:"count"`
	}
	switch err := readBody(w, r, &ask); {
	case err != nil || ask.Count < 1:
		http.Error(w, "Malformed request: use {\"count\": 100}.", http.StatusBadRequest)
	case !d.crowd.command(struct {
		Cut int `json:"cut"`
	}{ask.Count}):
		http.Error(w, "There are no visitors.", http.StatusConflict)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

// readBody reads a request's JSON, to the body's end: before that nobody notices when the client
// goes.
func readBody(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, demoBodyBytes))
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// gatewayOf returns the URL of the listener that a request has come through.
func gatewayOf(r *http.Request) string {
	scheme := "ws://"
	if r.TLS != nil {
		scheme = "wss://"
	}
	return scheme + fmt.Sprint(r.Context().Value(http.LocalAddrContextKey))
}
