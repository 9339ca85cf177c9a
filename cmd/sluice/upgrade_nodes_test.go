//go:build !nonats

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/cmd/internal/clitest"
	"sluice/gateway/engine/nats/natstest"
)

// upgradesEnv is how often a long run upgrades a node; see gateway/README.md.
const upgradesEnv = "SLUICE_TEST_UPGRADES"

// A node that shares its channels is upgraded under load, also after attempts that failed: no message is lost or repeated on any node, stored or not, and
// nobody leaves a channel or comes.
func TestUpgradeOfANodeLosesNothing(t *testing.T) {
	for name, test := range map[string]struct {
		servers natstest.Options
		args    []string
	}{
		"core":      {natstest.Options{}, []string{"--history", "off"}},
		"jetstream": {natstest.Options{JetStream: true}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			upgrades := 2
			if text := os.Getenv(upgradesEnv); text != "" {
				fmt.Sscan(text, &upgrades) // ignored: then there are two
			}
			args := append([]string{"--insecure", "--address-rate", "off", "--nats-url", natstest.Start(t, test.servers).URL()}, test.args...)
			nodes := []*lineage{startPoints(t, append(args, "--node-name", "first")...), startLineage(t, append(args, "--node-name", "second")...)}
			testUpgradeOfANode(t, nodes, upgrades)
		})
	}
}

// taken is a reader of a channel that checks what it gets.
type taken struct {
	what string
	peer
	series
	gaps int
}

func testUpgradeOfANode(t *testing.T, nodes []*lineage, upgrades int) {
	channels := []string{"a", "b", "c", "d"}
	var readers []*taken
	for i, node := range nodes {
		for _, name := range channels {
			at := "ws" + strings.TrimPrefix(node.url, "http") + "/ws/" + name + "?format=json"
			r := &taken{what: fmt.Sprintf("%s on node %d", name, i), series: series{next: make(map[string]int)}, peer: dialWith(t, websocket.DefaultDialer, at)}
			r.send(websocket.TextMessage, "begin 0")
			for { // everybody else's may come before
				_, p, err := r.conn.ReadMessage()
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(p), "begin 0") {
					break
				}
			}
			r.conn.SetReadDeadline(time.Now().Add(4 * clitest.Patience)) // ignored: then it waits for the test's end
			readers = append(readers, r)
		}
	}
	present := func() string {
		_, answer := post(t, nodes[1].sluice, "/api/presence_stats", "", `{"channel":"a"}`)
		text, _ := json.Marshal(answer) // ignored: it was JSON
		return string(text)
	}
	before := present()

	var stop atomic.Bool
	var publishing, reading sync.WaitGroup
	last := make(map[string]*atomic.Int64) // the next number of each publisher
	for i, node := range nodes {
		for _, name := range channels {
			next := new(atomic.Int64)
			who := fmt.Sprintf("p%d%s", i, name)
			last[who] = next
			c := dialWith(t, websocket.DefaultDialer, "ws"+strings.TrimPrefix(node.url, "http")+"/ws/"+name+"?echo=off")
			publishing.Go(func() {
				for !stop.Load() {
					if err := c.conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, "%s %d", who, next.Load())); err != nil {
						t.Errorf("%s: %v", who, err)
						return
					}
					next.Add(1)
					time.Sleep(2 * time.Millisecond)
				}
			})
		}
	}
	stopped := make(chan struct{})
	for i, r := range readers {
		name := channels[i%len(channels)]
		reading.Go(func() {
			for {
				select {
				case <-stopped:
					if r.next["p0"+name] == int(last["p0"+name].Load()) && r.next["p1"+name] == int(last["p1"+name].Load()) {
						return
					}
				default:
				}
				var m struct {
					Data string
					Gap  any
				}
				_, p, err := r.conn.ReadMessage()
				if err == nil {
					err = json.Unmarshal(p, &m)
				}
				switch {
				case err != nil:
					t.Errorf("%s: %v, after %v", r.what, err, r.next)
					return
				case m.Data == "":
					r.gaps++
					t.Errorf("%s: %s", r.what, p)
				case strings.HasPrefix(m.Data, "begin"), strings.HasPrefix(m.Data, "end"):
				default:
					if err := r.take(m.Data); err != nil {
						t.Errorf("%s: %v", r.what, err)
						return
					}
				}
			}
		})
	}
	for i := range upgrades {
		at := last["p0a"].Load()
		for _, point := range []string{"prepared", "final", "commit"} { // what was tried in vain has left nothing behind
			nodes[0].at("new."+point, "kill")
			if r, err := nodes[0].tryUpgrade(); err == nil {
				t.Fatalf("killed at %s: process %d has taken over", point, r.PID)
			}
		}
		r := nodes[0].upgrade()
		t.Logf("upgrade %d: %d connections, frozen for %v of %v", i, r.Moved, r.Frozen, r.Took)
		if want := 2 * len(channels); r.Moved != want {
			t.Errorf("%d connections were moved, want %d", r.Moved, want)
		}
		if after := present(); after != before {
			t.Errorf("present were %s, and are %s", before, after)
		}
		for end := time.Now().Add(clitest.Patience); last["p0a"].Load() < at+200 && !t.Failed() && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	stop.Store(true)
	publishing.Wait()
	close(stopped)
	for _, name := range channels { // so that nobody waits who has had the last one before
		if status, answer := post(t, nodes[0].sluice, "/publish/"+name, "", "end 0"); status != http.StatusOK {
			t.Errorf("publish: %d %v", status, answer)
		}
	}
	reading.Wait()
	for who, n := range last {
		t.Logf("%s has published %d", who, n.Load())
	}
}
