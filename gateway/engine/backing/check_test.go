//go:build !nonats

package backing

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/gateway/engine/nats"
	"sluice/gateway/engine/nats/datadir"
)

// lines returns findings as text, the verdict first.
func lines(f findings) (all []string) {
	for _, one := range f {
		all = append(all, [...]string{"fine", "unknown", "doubtful", "broken"}[one.Verdict]+": "+one.Text)
	}
	return all
}

const gib = 1 << 30

func TestCheckDirectory(t *testing.T) {
	good := datadir.Report{Name: "node-1", Generation: 1, Free: 20 * gib, Used: 5 * gib, Sync: 1234567, SyncMost: 9 * time.Millisecond}
	for _, test := range []struct {
		name string
		set  func(s *Store, r *datadir.Report)
		want []string
	}{
		{"good", func(*Store, *datadir.Report) {}, []string{
			"fine: {DataDir} /d: writable; node node-1, 5120 MiB of histories",
			"fine: {DataDir} /d: 20 GiB are free, enough for {DataMax} 10GiB",
			"fine: {DataDir} /d: a write takes 1.2ms with fsync (at most 9ms)"}},
		{"unusable", func(_ *Store, r *datadir.Report) {
			*r = datadir.Report{Err: &datadir.Fault{Dir: "/d", Err: errors.New("not a directory")}}
		},
			[]string{"broken: {DataDir} /d: not a directory"}},
		{"new", func(_ *Store, r *datadir.Report) { r.New, r.Used = true, 0 }, []string{"fine: {DataDir} /d: will be created"}},
		{"in use", func(_ *Store, r *datadir.Report) { r.Holder = 77 }, []string{"broken: {DataDir} /d: in use by process 77"}},
		{"readable", func(_ *Store, r *datadir.Report) { r.Warning = "mode 0755 lets others read" }, []string{"doubtful: {DataDir} /d: mode 0755 lets others read"}},
		{"no mark", func(_ *Store, r *datadir.Report) { r.Mark = "the mark is missing" },
			[]string{"doubtful: {DataDir} /d: the mark is missing, so all clients will be notified that they may have missed messages"}},
		{"too small", func(_ *Store, r *datadir.Report) { r.Free = 5 * gib },
			[]string{"doubtful: {DataDir} /d: 5120 MiB are free, but {DataMax} 10GiB lets the store grow by 5120 MiB, and below 64 MiB publishing to channels with a history fails; lower {DataMax}, or use a larger disk"}},
		{"just enough", func(_ *Store, r *datadir.Report) { r.Free = 5*gib + 64<<20 }, []string{"fine: {DataDir} /d: 5184 MiB are free, enough for {DataMax} 10GiB"}},
		{"full", func(_ *Store, r *datadir.Report) { r.Free = 63 << 20 },
			[]string{"broken: {DataDir} /d: only 63 MiB are free; below 64 MiB, publishing to channels with a history fails"}},
		{"memory", func(_ *Store, r *datadir.Report) { r.Sync, r.SyncMost = 2*time.Microsecond, 8*time.Microsecond },
			[]string{"doubtful: {DataDir} /d: a write takes 2µs with fsync (at most 8µs): that is a file system in memory, or one that ignores fsync, so histories do not survive a power failure or a reboot"}},
		{"always", func(s *Store, r *datadir.Report) { s.HistorySync = SyncAlways },
			[]string{"fine: {DataDir} /d: a write takes 1.2ms with fsync (at most 9ms): with {HistorySync} always, that allows about 810 publications per second in each namespace"}},
		{"always, slow", func(s *Store, r *datadir.Report) { s.HistorySync, r.Sync = SyncAlways, 8*time.Millisecond },
			[]string{"doubtful: {DataDir} /d: a write takes 8ms with fsync (at most 9ms): with {HistorySync} always, a namespace has about 125 publications per second at most; use a faster disk, or interval"}},
		{"very slow", func(_ *Store, r *datadir.Report) { r.Sync = 200 * time.Millisecond },
			[]string{"doubtful: {DataDir} /d: a write takes 200ms with fsync (at most 9ms): the disk is slow or busy, which delays publications"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, r := Store{DataDir: "/d", DataMax: 10 * gib}, good
			test.set(&s, &r)
			var f findings
			s.checkDirectory(&f, r)
			got := lines(f)
			if len(test.want) == 1 && test.name != "unusable" { // one is of interest
				var found []string
				for _, line := range got {
					if line == test.want[0] {
						found = append(found, line)
					}
				}
				if found == nil {
					t.Errorf("no %q in\n%s", test.want[0], strings.Join(got, "\n"))
				}
				return
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCheckServers(t *testing.T) {
	good := nats.ServerReport{URL: "nats://a", Name: "A", Version: "2.15.3", Servers: 3, Cluster: "c", MaxPayload: 1 << 20, NeedPayload: 80 << 10, MaxStore: -1,
		ClockKnown: true, Clock: -300 * time.Microsecond, ClockError: 200 * time.Microsecond}
	gone := nats.ServerReport{URL: "nats://b", Err: errors.New("connection refused")}
	for _, test := range []struct {
		name    string
		set     func(s *Store, r *nats.ServerReport)
		more    []nats.ServerReport
		nothing bool // is stored
		want    []string
	}{
		{name: "good", want: []string{
			"fine: {NATSURL} nats://a: nats-server 2.15.3, A",
			"fine: {NATSURL} nats://a: JetStream is on, and each history is stored on 3 servers",
			"fine: {NATSURL} nats://a: the clocks differ by less than 1ms"}},
		{name: "alone", set: func(_ *Store, r *nats.ServerReport) { r.Cluster, r.Servers = "", 1 }, want: []string{
			"fine: {NATSURL} nats://a: nats-server 2.15.3, A",
			"fine: {NATSURL} nats://a: JetStream is on, and each history is stored once",
			"fine: {NATSURL} nats://a: the clocks differ by less than 1ms"}},
		{name: "one of two is gone", more: []nats.ServerReport{gone}, want: []string{
			"fine: {NATSURL} nats://a: nats-server 2.15.3, A",
			"fine: {NATSURL} nats://a: JetStream is on, and each history is stored on 3 servers",
			"fine: {NATSURL} nats://a: the clocks differ by less than 1ms",
			"doubtful: {NATSURL} nats://b: connection refused; the gateway uses the others"}},
		{name: "gone", set: func(_ *Store, r *nats.ServerReport) { *r = gone }, want: []string{"broken: {NATSURL} nats://b: connection refused"}},
		{name: "everything", set: func(s *Store, r *nats.ServerReport) {
			r.TooOld, r.Advice, r.MaxPayload, r.ClockKnown, s.NATSReplicas, r.Servers = "2.9.10", "upgrade it", 64<<10, false, 5, 3
		}, want: []string{
			"fine: {NATSURL} nats://a: nats-server 2.15.3, A",
			"broken: {NATSURL} nats://a: nats-server 2.15.3 is too old: upgrade it to 2.9.10 or later",
			"doubtful: {NATSURL} nats://a: upgrade it",
			"broken: {NATSURL} nats://a: {MaxMessage} does not fit max_payload 64 KiB: lower it, or set max_payload to 80 KiB or more",
			"doubtful: {NATSURL} nats://a: the cluster has 3 servers that are known from here, and {NATSReplicas} is 5: streams cannot be created unless there are more",
			"unknown: {NATSURL} nats://a: the server does not say what time it has"}},
		{name: "no JetStream", set: func(_ *Store, r *nats.ServerReport) { r.JetStream, r.Clock = errors.New("it is off"), 3*time.Second }, want: []string{
			"fine: {NATSURL} nats://a: nats-server 2.15.3, A",
			"broken: {NATSURL} nats://a: JetStream cannot be used, and channels with a history need it: it is off",
			"doubtful: {NATSURL} nats://a: the server's clock and this machine's differ by 3s: synchronize them (NTP), because the age of a publication is counted by them"}},
		{name: "no JetStream, no history", nothing: true, set: func(_ *Store, r *nats.ServerReport) { r.JetStream = errors.New("it is off") }, want: []string{
			"fine: {NATSURL} nats://a: nats-server 2.15.3, A",
			"fine: {NATSURL} nats://a: JetStream is off, and no channel needs it",
			"fine: {NATSURL} nats://a: the clocks differ by less than 1ms"}},
		{name: "no cluster", set: func(s *Store, r *nats.ServerReport) { r.Cluster, s.NATSReplicas = "", 3 }, want: []string{
			"fine: {NATSURL} nats://a: nats-server 2.15.3, A",
			"broken: {NATSURL} nats://a: {NATSReplicas} 3 needs a cluster, and this server is in none",
			"fine: {NATSURL} nats://a: the clocks differ by less than 1ms"}},
		{name: "small account", set: func(_ *Store, r *nats.ServerReport) { r.MaxStore = 20 * gib / 4 }, want: []string{
			"fine: {NATSURL} nats://a: nats-server 2.15.3, A",
			"doubtful: {NATSURL} nats://a: this account may store 5120 MiB, which is less than {DataMax} 10GiB",
			"fine: {NATSURL} nats://a: the clocks differ by less than 1ms"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, r := Store{NATSURL: []string{"nats://a"}, DataMax: 10 * gib}, good
			if test.set != nil {
				test.set(&s, &r)
			}
			var f findings
			s.checkServers(&f, append([]nats.ServerReport{r}, test.more...), !test.nothing)
			if diff := cmp.Diff(test.want, lines(f)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCheckOfMemoryFindsNothing(t *testing.T) {
	if got := Check(t.Context(), &Store{}, 64<<10, true); got != nil {
		t.Errorf("%v", got)
	}
}
