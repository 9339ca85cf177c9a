//go:build !nonats

package gateway

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"
)

// TestPositionsOverARestart starts a gateway that stores again, and compares what its clients recover when
// they return.
func TestPositionsOverARestart(t *testing.T) {
	edit := func(path, pattern, with string) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := regexp.MustCompile(pattern).ReplaceAll(text, []byte(with))
		if string(changed) == string(text) {
			t.Fatalf("no %s in %s", pattern, text)
		}
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	powerFailure := func(dir string) {
		edit(dir+"/mark", `"boot": ".*"`, `"boot": "another"`)
		edit(dir+"/mark", `"clean": true`, `"clean": false`)
	}
	for _, test := range []struct {
		name  string
		do    func(dir string)
		valid bool // positions are
	}{
		{"in good order", func(string) {}, true},
		{"after a kill", func(dir string) { edit(dir+"/mark", `"clean": true`, `"clean": false`) }, true},
		{"after a power failure", powerFailure, false},
		{"after a power failure that cut off the end", func(dir string) {
			powerFailure(dir)
			blocks, err := filepath.Glob(dir + "/jetstream/$G/streams/*/msgs/*.blk")
			if err != nil || len(blocks) != 1 {
				t.Fatalf("%q: %v", blocks, err)
			}
			info, err := os.Stat(blocks[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(blocks[0], info.Size()-100); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := Config{Store: Store{DataDir: filepath.Join(natstest.Dir(t), "data")}}
			s := start(t, cfg)
			var epoch string
			for i := range 20 {
				epoch = s.publish("x", strconv.Itoa(i+1)).Epoch.String()
			}
			ctx, cancel := context.WithTimeout(t.Context(), clienttest.Patience)
			defer cancel()
			if err := s.shutdown(ctx); err != nil {
				t.Fatal(err)
			}
			test.do(cfg.Store.DataDir)

			s = start(t, cfg)
			for _, offset := range []uint64{15, 20} { // it missed something, and nothing
				r := member(t, s, "").Recovers("x", epoch, offset).Subscribe
				if r.Recovered != test.valid || (r.Epoch == epoch) != test.valid {
					t.Errorf("Centrifugo's client from %d: recovered %t in epoch %s", offset, r.Recovered, r.Epoch)
				}
				if test.valid && len(r.Publications) != int(20-offset) {
					t.Errorf("Centrifugo's client from %d: %d publications", offset, len(r.Publications))
				}
				if test.valid && offset == 20 {
					continue // it is sent nothing
				}
				c := clienttest.Dial(t, s, fmt.Sprintf("/ws/x?format=json&since=%s:%d", epoch, offset))
				switch r := c.Record("it begins"); {
				case test.valid && (r.Gap != nil || r.Offset != offset+1):
					t.Errorf("a client of records from %d: %+v", offset, r)
				case !test.valid && (r.Gap == nil || !*r.Gap):
					t.Errorf("a client of records from %d is not notified of a gap: %+v", offset, r)
				}
			}
		})
	}
}
