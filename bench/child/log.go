package child

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
)

// Log collects what a gateway writes to its log in JSON, which it does when that is no terminal.
// Its zero value is empty; it can be the log of a gateway in the same process, too.
type Log struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed and replaced at each write that Wait waits for
}

// Write appends to the log.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	return l.text.Write(p)
}

// String returns all that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Wait waits for the first record with this message and decodes it into v.
func (l *Log) Wait(ctx context.Context, msg string, v any) (err error) {
	seen := 0
	wrong := l.Await(ctx, func(text string) bool {
		for line := range strings.Lines(text[seen:]) {
			if !strings.HasSuffix(line, "\n") {
				return false
			}
			seen += len(line)
			var record struct {
				Msg string `json:"msg"`
			}
			if json.Unmarshal([]byte(line), &record) == nil && record.Msg == msg {
				err = json.Unmarshal([]byte(line), v)
				return true
			}
		}
		return false
	})
	if wrong != nil {
		return fmt.Errorf("no record %q in its log (%w); it wrote:\n%s", msg, wrong, l)
	}
	return err
}

// Await waits until found reports true for all that was written.
func (l *Log) Await(ctx context.Context, found func(text string) bool) error {
	for {
		l.mu.Lock()
		text := l.text.String()
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if found(text) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
