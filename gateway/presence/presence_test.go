package presence

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/channel"

	"github.com/google/go-cmp/cmp"
)

// The table does what a plain map of pairs does.
func TestTableAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		type pair struct {
			channel string
			conn    uint64
		}
		table, model := New(), map[pair]*channel.ClientInfo{}
		for step := range 2000 {
			at := pair{fmt.Sprint(rnd.IntN(5)), rnd.Uint64N(20)}
			switch rnd.IntN(3) {
			case 0:
				info := &channel.ClientInfo{User: fmt.Sprint(rnd.IntN(4)), Client: fmt.Sprint(step)}
				table.Add(at.channel, at.conn, info)
				model[at] = info
			case 1:
				if got := table.Remove(at.channel, at.conn); got != model[at] {
					t.Fatalf("seed %d, step %d: removed %v, want %v", seed, step, got, model[at])
				}
				delete(model, at)
			}
			var want []*channel.ClientInfo
			users := map[string]bool{}
			for p, info := range model {
				if p.channel == at.channel {
					want = append(want, info)
					users[info.User] = true
				}
			}
			got, ok := table.List(at.channel, len(want))
			byClient := func(a, b *channel.ClientInfo) int { return strings.Compare(a.Client, b.Client) }
			slices.SortFunc(got, byClient)
			slices.SortFunc(want, byClient)
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b *channel.ClientInfo) bool { return a == b })); !ok || diff != "" && len(want) > 0 {
				t.Fatalf("seed %d, step %d:\n%s", seed, step, diff)
			}
			if len(want) > 0 {
				if _, ok := table.List(at.channel, len(want)-1); ok {
					t.Fatalf("seed %d, step %d: more are listed than may be", seed, step)
				}
			}
			if clients, n := table.Count(at.channel); clients != len(want) || n != len(users) {
				t.Fatalf("seed %d, step %d: counted %d of %d users, want %d of %d", seed, step, clients, n, len(want), len(users))
			}
		}
		for p := range model {
			table.Remove(p.channel, p.conn)
		}
		for i := range table.shards {
			if n := len(table.shards[i].channels); n != 0 {
				t.Fatalf("seed %d: %d channels are left when nobody is", seed, n)
			}
		}
	}
}

func TestTableIsSharedSafely(t *testing.T) {
	table := New()
	var all sync.WaitGroup
	for conn := range uint64(8) {
		all.Go(func() {
			for range 500 {
				table.Add("x", conn, &channel.ClientInfo{User: "u"})
				if list, ok := table.List("x", 8); !ok || len(list) == 0 {
					t.Error("who has just joined is not listed")
					return
				}
				table.Count("x")
				table.Remove("x", conn)
			}
		})
	}
	all.Wait()
	if n, _ := table.Count("x"); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// A client may ask again and again how many there are: that must not cost the loop of a
// channel's size each time.
func TestCountingTakesNoTimeOfTheSize(t *testing.T) {
	table := New()
	const n = 200_000
	for i := range n {
		table.Add("c", uint64(i), &channel.ClientInfo{User: strconv.Itoa(i / 2)})
	}
	table.Count("c") // the first may
	best := time.Hour
	for range 5 {
		begun := time.Now()
		if clients, users := table.Count("c"); clients != n || users != n/2 {
			t.Fatalf("%d clients, %d users", clients, users)
		}
		best = min(best, time.Since(begun))
	}
	if best > time.Millisecond {
		t.Errorf("counting %d takes %v", n, best)
	}
}
