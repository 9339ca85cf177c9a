package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// UpgradeOptions are the settings of [Upgrade]. Zero means the default. Of Options, those that say how to connect are
// used, and not those that name a server: the scenario starts its own.
type UpgradeOptions struct {
	Options
	Program     string        // the gateway's; this one
	Serve       []string      // more flags of the gateway
	Connections int           // 10,000
	Protocols   []Protocol    // which connections are spread over; Raw
	Parked      int           // more clients, which publish faster than their channel accepts; none
	Secure      bool          // clients have TLS, speak the Centrifugo protocol, and come back after each upgrade
	History     int           // publications that the channel keeps; none
	Fill        int64         // bytes that other channels keep; none
	Rate        float64       // messages per second; none
	Size        int           // payload bytes; 64
	Upgrades    int           // in a row; 20
	Every       time.Duration // from one to the next, if it has ended by then; 1.2 s
	CatchUp     time.Duration // without any delivery, after which missing messages are lost; 5 s
}

// Defaults of Upgrade.
const (
	DefaultEvery          = 1200 * time.Millisecond
	DefaultUpgradeCatchUp = 5 * time.Second
	upgradeChannel        = "bench"
)

// upgradeRun is a run under way.
type upgradeRun struct {
	UpgradeOptions
	*Run
	gateway    *lineage
	clock      clock
	fleets     []*fleet
	prober     *prober
	parked     *parked // nil: none
	publishers []publisher
	mark       mark

	upgrades []handedOver
	after    []int64 // memory of the new process, once it is at rest
}

// Upgrade starts a gateway, connects clients to it, and has it replaced by new processes of it while publishers, which are
// clients too, go on. It counts lost and repeated messages exactly, on every connection, and compares how long clients
// waited with how long they did for an equally long time before. The error is as of [Fanout].
func Upgrade(ctx context.Context, o UpgradeOptions) (*Result, error) {
	setDefault(&o.Connections, 10_000)
	setDefault(&o.Size, 64)
	setDefault(&o.Upgrades, 20)
	setDefault(&o.Every, DefaultEvery)
	setDefault(&o.CatchUp, DefaultUpgradeCatchUp)
	if len(o.Protocols) == 0 {
		o.Protocols = []Protocol{Raw}
	}
	o.Channel, o.Channels = upgradeChannel, 1
	if o.Secure {
		return upgradeSecure(ctx, o)
	}
	run, err := o.Begin("upgrade", o.Connections+o.Parked+probeConnections+3, o.check)
	if err != nil {
		return nil, err
	}
	u := &upgradeRun{UpgradeOptions: o, Run: run, clock: newClock(), mark: newMark()}
	defer withThreads(o.Loops + 3)()
	return u.End(ctx, u.run(ctx))
}

func (o *UpgradeOptions) check(f *Faults) {
	f.AtLeast("--connections", o.Connections, len(o.Protocols))
	f.Between("--upgrades", o.Upgrades, 1, 1000)
	if o.History < 0 || o.Fill < 0 {
		f.Add("--history and --fill must be above zero")
	}
	f.Between("--parked", o.Parked, 0, streamsMost)
	if o.Secure && (o.Parked > 0 || o.Fill > 0) {
		f.Add("--tls cannot be combined with --parked and --fill")
	}
	if o.Secure && !(o.Rate > 0) {
		f.Add("--tls needs a --rate: without messages, nothing can be lost or recovered")
	}
	f.Between("--size", o.Size, objectMin, sizeMax)
	for _, p := range o.Protocols {
		p.check(f)
	}
	switch n := o.Rate * o.length().Seconds() * phaseSpare; {
	case !(o.Rate >= 0) || o.Every <= 0 || o.CatchUp <= 0:
		f.Add("--rate, --every and --catch-up must be above zero")
	case n > publicationsMax:
		f.Add("a run can have at most %d messages: lower --rate, --upgrades or --every", publicationsMax/phaseSpare)
	}
}

// length is how long a phase lasts, unless upgrades take longer.
func (o *UpgradeOptions) length() time.Duration { return time.Duration(o.Upgrades) * o.Every }

func (u *upgradeRun) run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // ignored: it is a temporary directory
	u.Show(func() string { return "starting the gateway" })
	if u.gateway, err = u.start(ctx, dir); err != nil {
		return err
	}
	defer u.gateway.stop()
	defer u.disconnect()
	if err := errors.Join(u.fill(ctx), u.connect(ctx)); err != nil {
		return err
	}
	base, err := u.phase(ctx, 1, "baseline", nil)
	if err != nil || ctx.Err() != nil {
		return err
	}
	then, err := u.phase(ctx, 2, "upgrading", u.upgradeAll)
	u.report(base, then)
	if err == nil && then.probes.latency.TotalCount() == 0 {
		err = errors.New("no probe came back")
	}
	if err == nil {
		err = u.checkPresence(ctx)
	}
	for _, f := range u.fleets {
		err = errors.Join(err, f.err())
	}
	return err
}

// start starts the gateway.
func (o *UpgradeOptions) start(ctx context.Context, dir string) (*lineage, error) {
	program := o.Program
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	namespaces := filepath.Join(dir, "namespaces")
	text := `{"without_namespace":{"allow_subscribe_for_client":true,"allow_subscribe_for_anonymous":true,"presence":true`
	if o.History > 0 {
		text += fmt.Sprintf(`,"history_size":%d,"history_ttl":"300s","force_recovery":true`, o.History)
	}
	text += fmt.Sprintf(`},"namespaces":[{"name":"%s","history_size":%d,"history_ttl":"1h"}]}`, fillNamespace, fillEach)
	if err := os.WriteFile(namespaces, []byte(text), 0o600); err != nil {
		return nil, err
	}
	flags := []string{"--insecure", "--raw", "publish", "--namespaces", namespaces, "--drain-duration", "off", "--log-format", "json"}
	if o.Parked > 0 {
		flags = append(flags, "--channel-rate", fmt.Sprintf("%d/s", o.parkedRate()))
	}
	if o.Secure {
		flags = append(flags, "--tls-listen", "127.0.0.1:0", "--tls-self-signed")
	}
	return startLineage(ctx, program, append(flags, o.Serve...))
}

// What other channels keep.
const (
	fillNamespace = "fill"
	fillEach      = 32 // publications in each
	fillSize      = 16 << 10
)

// fill publishes into channels of which nobody is a subscriber, and which keep it.
func (u *upgradeRun) fill(ctx context.Context) error {
	payload := make([]byte, fillSize)
	for i := range payload {
		payload[i] = 'a' + byte(rand.IntN(26))
	}
	n := int(u.Fill / fillSize)
	u.Show(func() string { return "filling channels" })
	p := newHTTPPublisher("", target{timeout: u.Timeout, tls: new(tls.Config)})
	defer p.close()
	return parallel(ctx, 2, n, func(ctx context.Context, i int) error {
		return p.post(ctx, fmt.Sprintf("http://%s/publish/%s:%d", u.gateway.internal, fillNamespace, i/fillEach), payload)
	})
}

// connect connects all clients.
func (u *upgradeRun) connect(ctx context.Context) error {
	n := len(u.Protocols)
	var faults Faults
	at := func(p Protocol) target {
		o := u.Options
		o.URL, o.Protocol, o.Path = "ws://"+u.gateway.public, p, "/ws/"+upgradeChannel
		if p.dialect() != nil {
			o.Path = p.path()
		}
		o.setDefaults()
		return o.resolve(&faults)
	}
	for i, p := range u.Protocols {
		t := at(p)
		if err := faults.err(); err != nil {
			return err
		}
		f, err := newFleetAt(u.clock, []target{t}, max(1, u.Loops/n))
		if err != nil {
			return err
		}
		u.fleets = append(u.fleets, f)
		share := u.Connections/n + min(1, max(0, u.Connections%n-i))
		if err := u.dial(ctx, f, "connected: "+string(p), &dialing{connections: share, outstanding: u.Dialing}); err != nil || ctx.Err() != nil {
			return err
		}
	}
	t := at(JSON) // whose publishers do not get what is published
	var err error
	if u.prober, err = newProber(ctx, u.Run, t, u.clock); err != nil {
		return err
	}
	if u.Parked > 0 {
		if u.parked, err = u.newParked(ctx, t, u.Parked); err != nil {
			return err
		}
	}
	if u.Rate == 0 {
		return nil
	}
	for _, post := range []string{"", "http://" + u.gateway.internal + "/publish/" + upgradeChannel} {
		p, err := newPublisher(ctx, t, post)
		if err != nil {
			return err
		}
		u.publishers = append(u.publishers, p)
	}
	return nil
}

func (u *upgradeRun) disconnect() {
	for _, p := range u.publishers {
		p.close()
	}
	if u.prober != nil {
		u.prober.close()
	}
	if u.parked != nil {
		u.parked.close()
	}
	for _, f := range u.fleets {
		f.close() // ignored: the figures have been taken
	}
}

// phaseSpare is how many times as long as planned a phase may last, as upgrades may take longer.
const phaseSpare = 4

// upgradePhase is what one phase gave.
type upgradePhase struct {
	all    *account // of the fleets together
	probes *account
	parked *account // nil: none
	cut    int64    // parked publishers
}

// phase publishes and probes for the length of a phase, and for as long as meanwhile takes, which may be nil.
func (u *upgradeRun) phase(ctx context.Context, number uint8, what string, meanwhile func(context.Context) error) (*upgradePhase, error) {
	spare := u.length().Seconds() * phaseSpare
	s := schedule{
		phase: phase{mark: u.mark.inPhase(number), streams: max(1, len(u.publishers)), count: int(u.Rate * spare)},
		clock: u.clock, rate: u.Rate, size: u.Size, publishers: max(1, len(u.publishers)), object: true, content: Dots,
	}
	probing := schedule{
		phase: phase{mark: s.mark, streams: probeConnections, count: int(probeRate * spare), apart: true},
		clock: u.clock, rate: probeRate, size: SizeMin, publishers: 1, content: Dots,
	}
	for _, f := range u.fleets {
		f.begin(s.phase, 0)
	}
	u.prober.fleet.begin(probing.phase, 0)
	begin := u.clock.now()
	u.Show(func() string {
		return fmt.Sprintf("%s: %s, %d of %d upgrades", what, time.Duration(u.clock.now()-begin).Round(time.Second), len(u.upgrades), u.Upgrades)
	})
	before := u.Usage()
	all := &account{schedule: s, rate: s.rate, sendings: make([]sending, s.publishers)}
	probes := &account{schedule: probing, rate: probing.rate, sendings: make([]sending, 1)}
	for i := range all.sendings {
		all.sendings[i].late = newLatency()
	}
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	s.start = u.clock.now() + int64(time.Millisecond)
	probing.start = s.start
	all.schedule, probes.schedule = s, probing
	for i, p := range u.publishers {
		running.Go(func() { all.sendings[i] = s.publish(publishing, whole{p}, i) })
	}
	running.Go(func() { probes.sendings[0] = probing.publish(publishing, whole{u.prober}, 0) })
	var err error
	var parked *account
	if u.parked != nil {
		upgrades := 0
		if meanwhile != nil {
			upgrades = u.Upgrades
		}
		parked, err = u.parked.begin(u.clock, s.mark, upgrades)
	}
	if meanwhile != nil && err == nil {
		err = meanwhile(ctx)
	}
	if err == nil {
		wait(ctx, time.Duration(begin)+u.length()-time.Duration(u.clock.now()))
	}
	stop()
	running.Wait()
	outcome, err := u.settle(ctx, all, probes, before, err)
	if outcome.parked = parked; parked != nil {
		outcome.cut = u.parked.end(ctx, parked, u.CatchUp)
	}
	return outcome, err
}

// settle waits for what was published, and adds up.
func (u *upgradeRun) settle(ctx context.Context, all, probes *account, before Usage, err error) (*upgradePhase, error) {
	for _, a := range []*account{all, probes} {
		for _, s := range a.sendings {
			a.published += int(s.published)
			if err == nil {
				err = s.err
			}
		}
	}
	all.latency = newLatency()
	for _, f := range u.fleets {
		part := *all
		part.counts = counts{}
		f.await(ctx, &part, u.CatchUp, 0)
		f.settle(&part)
		all.add(part.counts)
		all.lost += part.lost
		all.cut += part.cut
		all.subscribers += part.subscribers
		all.latency.Merge(part.latency) // ignored: the bounds are the same
	}
	u.prober.fleet.await(ctx, probes, u.CatchUp, 0)
	u.prober.fleet.settle(probes)
	all.used = u.Since(before)
	all.elapsed = time.Duration(u.clock.now() - all.start)
	return &upgradePhase{all: all, probes: probes}, err
}

// whole is a publisher whose messages are sent whole when the phase ends.
type whole struct{ publisher }

func (w whole) send(ctx context.Context, stream int, payload []byte) (int, error) {
	return w.publisher.send(context.WithoutCancel(ctx), stream, payload)
}

// upgradeAll makes the upgrades, one after the other.
func (u *upgradeRun) upgradeAll(ctx context.Context) error {
	begin := time.Now()
	for i := range u.Upgrades {
		wait(ctx, time.Until(begin.Add(time.Duration(i)*u.Every+u.Every/4)))
		u.rest()
		if ctx.Err() != nil {
			return nil
		}
		r, err := u.gateway.upgrade(ctx)
		if err != nil {
			return fmt.Errorf("upgrade %d: %w", i+1, err)
		}
		u.upgrades = append(u.upgrades, r)
	}
	wait(ctx, u.Every/2)
	u.rest()
	return nil
}

// rest notes the memory of the process that serves, after an upgrade.
func (u *upgradeRun) rest() {
	if len(u.upgrades) > len(u.after) {
		rss, _ := processes{u.gateway.pid}.rss() // ignored: it has died, as the next upgrade shows
		u.after = append(u.after, rss)
	}
}

// checkPresence checks that the gateway counts the sessions that are there.
func (u *upgradeRun) checkPresence(ctx context.Context) error {
	var sessions int64
	for _, f := range u.fleets {
		if f.target.audience != nil {
			sessions += f.live()
		}
	}
	if sessions == 0 {
		return nil
	}
	var stats struct {
		Result struct {
			Clients int64 `json:"num_clients"`
		} `json:"result"`
	}
	if err := u.gateway.post(ctx, "/api/presence_stats", `{"channel":"`+upgradeChannel+`"}`, &stats); err != nil {
		return fmt.Errorf("ask for the presence: %w", err)
	}
	u.Result.Set("presence_missing", float64(sessions-stats.Result.Clients))
	return nil
}

// report turns both phases into figures.
func (u *upgradeRun) report(base, then *upgradePhase) {
	res := u.Result
	a := then.all
	res.SetCounts(map[string]int64{
		"connections": int64(a.subscribers), "upgrades": int64(len(u.upgrades)), "disconnected": a.cut + then.probes.cut,
		"published": int64(a.published), "delivered": a.delivered, "lost": a.lost + then.probes.lost, "repeated": a.repeated + then.probes.repeated,
		"reordered": a.reordered, "holes": a.holes + a.gaps, "foreign": a.foreign,
	})
	res.setLatency("baseline_", base.all.latency)
	res.setLatency("", a.latency)
	res.setLatency("baseline_probe_", base.probes.latency)
	res.setLatency("probe_", then.probes.latency)
	beyond := func(base, then *hdr.Histogram) float64 { return max(0, float64(then.Max()-base.Max())/1e6) }
	res.Set("pause_beyond", max(beyond(base.probes.latency, then.probes.latency), beyond(base.all.latency, a.latency)))
	if p := then.parked; p != nil {
		res.SetCounts(map[string]int64{"parked": int64(p.streams), "parked_published": int64(p.published), "parked_lost": p.lost, "parked_repeated": p.repeated, "parked_reordered": p.reordered})
		res.Set("disconnected", res.Metrics["disconnected"]+float64(then.cut))
	}
	u.reportHandovers()
	res.Set("generator_cpu_percent", 100*a.used.own.Seconds()/a.elapsed.Seconds())
	for _, f := range u.fleets {
		for _, l := range f.loops {
			l.do(func() { res.addCloses(l.closes) })
		}
	}
	res.setGenerator(a)
	res.judgeGenerator(a)
}

// reportHandovers reports what the processes say, and cost.
func (u *upgradeRun) reportHandovers() {
	if len(u.upgrades) == 0 {
		return
	}
	res := u.Result
	moved, secure := u.upgrades[0].Moved, 0
	var frozen, took []time.Duration
	var cpu time.Duration
	var records, copied, above int64
	sum := 0
	for i, r := range u.upgrades {
		moved, secure, sum = min(moved, r.Moved), max(secure, r.Secure), sum+r.Moved
		frozen, took, cpu, records = append(frozen, r.Frozen), append(took, r.Took), cpu+r.cpu, max(records, r.Records)
		copied = max(copied, r.Copied)
		if i < len(u.after) {
			above = max(above, r.peak-r.before-u.after[i])
		}
	}
	slices.Sort(frozen)
	slices.Sort(took)
	res.Set("moved", float64(moved))
	res.Set("secure", float64(secure))
	res.Set("freeze_p50", frozen[(len(frozen)-1)/2].Seconds())
	res.Set("freeze_max", frozen[len(frozen)-1].Seconds())
	res.Set("took_p50", took[(len(took)-1)/2].Seconds())
	res.Set("took_max", took[len(took)-1].Seconds())
	res.Set("copied", float64(copied))
	res.Set("records", float64(records))
	if sum > 0 {
		res.Set("records_per_connection", float64(records)/float64(max(moved, 1)))
		res.Set("cpu_per_moved", cpu.Seconds()/float64(sum))
	}
	last := u.upgrades[len(u.upgrades)-1]
	res.Set("rss_before", float64(last.before))
	if n := len(u.after); n > 0 {
		res.Set("rss_after", float64(u.after[n-1]))
	}
	res.Set("rss_above", float64(above))
}
