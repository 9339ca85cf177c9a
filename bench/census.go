package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sluice/bench/child"
	"sluice/bench/sys"
)

// census is what a server holds at a moment.
type census struct {
	descriptors int
	epoll       int // entries of all its epoll descriptors
	threads     int
	goroutines  int // the fewest of a few looks; 0: not known
	most        int // goroutines, the most of those looks
	rss         int64
}

// counter takes the census of a server.
type counter struct {
	process int
	metrics string // URL in Prometheus's text format; none: no goroutines
	client  *http.Client
	bound   time.Duration // that the server may take to come to rest
}

// take counts. The connection over which the server tells of its goroutines is kept, so
// that it counts each time.
func (c *counter) take(ctx context.Context) (now census, err error) {
	if c.metrics != "" {
		for range censusLooks {
			n, err := c.goroutines(ctx)
			if err != nil {
				return now, fmt.Errorf("--metrics %s: %w", c.metrics, err)
			}
			if now.most = max(now.most, n); now.goroutines == 0 || n < now.goroutines {
				now.goroutines = n
			}
		}
	}
	proc := fmt.Sprintf("/proc/%d/", c.process)
	entries, err := os.ReadDir(proc + "fd")
	if err != nil {
		return now, fmt.Errorf("--pid %d: %w; run as root or as the server's user, and check that the server is still running", c.process, err)
	}
	now.descriptors = len(entries)
	for _, e := range entries {
		if kind, _ := os.Readlink(filepath.Join(proc, "fd", e.Name())); kind != "anon_inode:[eventpoll]" { // ignored: it has just been closed
			continue
		}
		info, _ := os.ReadFile(filepath.Join(proc, "fdinfo", e.Name())) // ignored: the same
		now.epoll += strings.Count(string(info), "tfd:")
	}
	now.threads, _ = strconv.Atoi(sys.Field(proc+"status", "Threads")) // ignored: the kernel writes numbers
	now.rss, err = processes{c.process}.rss()
	return now, err
}

// censusLooks is how often a census asks for the goroutines: Prometheus's client collects with
// goroutines of its own, and a gauge says how many of them there were when it was collected.
const censusLooks = 5

// goroutines reads the gauge that every Go program with Prometheus's client has.
func (c *counter) goroutines(ctx context.Context) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.metrics, nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() // ignored: only an unread rest could fail
	metrics, err := child.ReadMetrics(resp.Body)
	n := int(metrics.Sum("go_goroutines", "", ""))
	if err == nil && n == 0 {
		err = errors.New("there is no metric go_goroutines: specify the URL of a Go server's metrics, or leave --metrics out")
	}
	return n, err
}

// censusSteady equal ones in a row are a server at rest.
const censusSteady = 4

func (c *counter) pause() time.Duration { return min(500*time.Millisecond, c.bound/20) }

// steady waits until the server is at rest. Its goroutines are the most that were seen meanwhile.
func (c *counter) steady(ctx context.Context) (census, error) {
	last, err := c.take(ctx)
	most := last.most
	for same, end := 1, time.Now().Add(c.bound); err == nil && same < censusSteady && time.Now().Before(end) && ctx.Err() == nil; {
		wait(ctx, c.pause())
		var now census
		now, err = c.take(ctx)
		if same++; now.left(last) != (census{}) {
			same, most = 1, 0
		}
		last, most = now, max(most, now.most)
	}
	last.goroutines = most
	return last, err
}

// settled waits until nothing is left of what came after before.
func (c *counter) settled(ctx context.Context, before census) (census, error) {
	for end := time.Now().Add(c.bound); ; wait(ctx, c.pause()) {
		now, err := c.take(ctx)
		if err != nil || len(now.faults(before)) == 0 || time.Now().After(end) || ctx.Err() != nil {
			return now, err
		}
	}
}

// left is what there is more of than before, of what must not grow at all.
func (now census) left(before census) census {
	return census{descriptors: now.descriptors - before.descriptors, epoll: now.epoll - before.epoll, goroutines: now.goroutines - before.goroutines}
}

// growth is that of the memory, in percent.
func (now census) growth(before census) float64 {
	return 100 * float64(now.rss-before.rss) / float64(max(before.rss, 1))
}

// rssGrowthMost is the percentage that a server's memory may differ by between two
// moments of rest: a heap that is collected now and then.
const rssGrowthMost = 5

// faults says what was left behind.
func (now census) faults(before census) (out []string) {
	left := now.left(before)
	for _, f := range []struct {
		what string
		n    int
	}{{"file descriptors", left.descriptors}, {"goroutines", left.goroutines}, {"epoll entries", left.epoll}} {
		if f.n > 0 {
			out = append(out, fmt.Sprintf("%d %s leaked", f.n, f.what))
		}
	}
	if g := now.growth(before); g > rssGrowthMost {
		out = append(out, fmt.Sprintf("memory grew by %.1f %%, more than %d %%", g, rssGrowthMost))
	}
	return out
}

// tell returns the figures of a moment.
func (now census) tell(r *Result, when string) {
	r.SetCounts(map[string]int64{"descriptors_" + when: int64(now.descriptors), "epoll_" + when: int64(now.epoll), "threads_" + when: int64(now.threads), "rss_" + when: now.rss})
	if now.goroutines > 0 {
		r.Set("goroutines_"+when, float64(now.goroutines))
	}
}

// compare returns what there is more of than before.
func (now census) compare(r *Result, before census) {
	left := now.left(before)
	r.SetCounts(map[string]int64{"descriptors_left": int64(left.descriptors), "epoll_left": int64(left.epoll)})
	r.Set("rss_growth", now.growth(before))
	if now.goroutines > 0 {
		r.Set("goroutines_left", float64(left.goroutines))
	}
}
