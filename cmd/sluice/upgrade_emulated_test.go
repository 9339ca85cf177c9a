package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/cmd/internal/clitest"
)

// emulated is an emulated client of a gateway, which sends commands to another one or the same.
type emulated struct {
	t             *testing.T
	to            string // the URL of the gateway that it sends to
	in            *bufio.Reader
	session, node string
}

func dialEmulated(t *testing.T, l, to *lineage) *emulated {
	t.Helper()
	resp, err := http.Post(l.url+"/connection/http_stream", "application/json", strings.NewReader(`{"id":1,"connect":{}}`))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	e := &emulated{t: t, to: to.url, in: bufio.NewReader(resp.Body)}
	var r struct {
		Connect struct{ Session, Node string } `json:"connect"`
	}
	if line, err := e.in.ReadBytes('\n'); err != nil || json.Unmarshal(line, &r) != nil || r.Connect.Session == "" {
		t.Fatalf("connect: %s, %v", line, err)
	}
	e.session, e.node = r.Connect.Session, r.Connect.Node
	return e
}

// send sends commands, and returns why they were not taken.
func (e *emulated) send(c *http.Client, commands string) error {
	body, _ := json.Marshal(map[string]string{"session": e.session, "node": e.node, "data": commands}) // cannot fail
	resp, err := c.Post(e.to+"/emulation", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body) // ignored: the status counts
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("status %d %s", resp.StatusCode, text)
	}
	return nil
}

// publishes publishes numbers until stop, each in a request behind the one before, and reads all that it is sent meanwhile:
// each reply and each publication once, in their order.
func (e *emulated) publishes(stop *atomic.Bool, sent *atomic.Int64) {
	client := &http.Client{Transport: &http.Transport{}, Timeout: clitest.Patience}
	if err := e.send(client, `{"id":2,"subscribe":{"channel":"numbers"}}`); err != nil {
		e.t.Error("subscribe:", err)
		return
	}
	last := make(chan int64, 1)
	go func() {
		n := int64(0)
		for ; !stop.Load(); n++ {
			if err := e.send(client, fmt.Sprintf(`{"id":%d,"publish":{"channel":"numbers","data":%d}}`, n+3, n)); err != nil {
				e.t.Errorf("command %d: %v", n, err)
				break
			}
			sent.Store(n + 1)
		}
		last <- n
	}()
	total, replies, publications := int64(-1), int64(0), int64(0)
	for total < 0 || replies < total || publications < total {
		select {
		case total = <-last:
			continue
		default:
		}
		if total < 0 && replies == sent.Load() && publications == sent.Load() { // all that there is so far
			time.Sleep(time.Millisecond)
			continue
		}
		line, err := e.in.ReadString('\n')
		var r struct {
			ID      int64
			Publish *struct{}
			Push    struct{ Pub *struct{ Data int64 } }
		}
		if err == nil {
			err = json.Unmarshal([]byte(line), &r)
		}
		switch {
		case err != nil:
			e.t.Errorf("after %d replies and %d publications: %s, %v", replies, publications, line, err)
			return
		case r.ID == replies+3 && r.Publish != nil:
			replies++
		case r.Push.Pub != nil && r.Push.Pub.Data == publications:
			publications++
		case r.ID != 2 && line != "{}\n":
			e.t.Errorf("after %d replies and %d publications: %s", replies, publications, line)
			return
		}
	}
}

// underUpgrades upgrades gateways while emulated clients send commands, one at a time.
func underUpgrades(t *testing.T, clients *emulated, upgraded ...*lineage) {
	var stop atomic.Bool
	var sent atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		clients.publishes(&stop, &sent)
	}()
	more := func() {
		t.Helper()
		before := sent.Load()
		for end := time.Now().Add(clitest.Patience); sent.Load() < before+30 && !t.Failed(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("only %d commands were sent", sent.Load()-before)
			}
		}
	}
	more()
	for range 2 {
		for _, l := range upgraded {
			l.upgrade()
			more()
		}
	}
	stop.Store(true)
	<-done
	t.Logf("%d commands", sent.Load())
}

// An emulated client goes on as one with a WebSocket does: its stream moves, and so do its requests.
func TestUpgradeOfEmulatedClientsLosesNothing(t *testing.T) {
	t.Parallel()
	l := startLineage(t, "--insecure", "--address-rate", "off")
	underUpgrades(t, dialEmulated(t, l, l), l)
}
