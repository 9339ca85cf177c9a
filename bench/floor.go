package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"sluice/poller"
)

// FloorOptions are the settings of [Floor]. Zero means the default; of Options only Loops
// and Progress are used.
type FloorOptions struct {
	Options
	Connections int           // 10,000
	Burst       int           // rounds, as fast as possible; 200
	Rate        float64       // rounds per second, instead of as fast as possible; none
	Duration    time.Duration // of a run with Rate; 20 s
	Size        int           // payload bytes; 64
	Upgrade     bool          // measure upgrades instead: one accept, read, write and close each
	Outstanding int           // upgrades in progress at a time; 512

	// Sender is the command of the sending process, which must call [FloorSender]; this
	// program with the arguments bench floor-sender.
	Sender []string
}

func (o *FloorOptions) setDefaults() {
	o.Options.setDefaults()
	setDefault(&o.Connections, 10_000)
	setDefault(&o.Burst, 200)
	setDefault(&o.Duration, DefaultDuration)
	setDefault(&o.Size, 64)
	setDefault(&o.Outstanding, 512)
}

// Floor measures the limit of this machine, without a server: another process does nothing
// but one send() to each of many sockets, over and over, and this tester receives at the
// other ends. A server that makes one system call per delivery cannot cost less. The error
// is as of [Fanout].
func Floor(ctx context.Context, o FloorOptions) (*Result, error) {
	o.setDefaults()
	var f faults
	f.atLeast("--connections", o.Connections, 1)
	f.atLeast("--burst", o.Burst, 1)
	f.atLeast("--size", o.Size, SizeMin)
	f.atLeast("--outstanding", o.Outstanding, 1)
	if o.Rate < 0 || o.Duration <= 0 {
		f.add("--rate and --duration must be above zero")
	} else if rounds := o.Rate * o.Duration.Seconds(); rounds > publicationsMax || o.Burst > publicationsMax {
		f.add("a run can have at most %d rounds: lower --rate, --duration or --burst", publicationsMax)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	s, err := startSender(ctx, o.Sender)
	if err != nil {
		return nil, err
	}
	r := &floor{o, newResult("floor"), s, newProgress(o.Progress)}
	if o.Upgrade {
		err = r.upgrades(ctx)
	} else {
		err = r.sends(ctx)
	}
	r.progress.stop()
	if ctx.Err() != nil {
		s.stop() // ignored: ctx has killed it, which is what err says too
		return r.result.end(ctx, nil)
	}
	return r.result.end(ctx, errors.Join(err, s.stop()))
}

// floor is a run under way.
type floor struct {
	FloorOptions
	result   *Result
	sender   *sender
	progress *progress
}

// connect opens the sockets to the address that the sender listens on.
func (r *floor) connect(addr string, once bool) (*fleet, error) {
	r.URL, r.Path = "ws://"+addr, "/"
	var f faults
	t := r.target(&f)
	if err := f.err(); err != nil {
		return nil, err
	}
	t.bare, t.once = !once, once
	return newFleet(t, r.Loops)
}

func (r *floor) sends(ctx context.Context) error {
	if err := checkDescriptors(r.Connections + r.Dialing); err != nil {
		return err
	}
	listening, err := r.sender.ask(order{Do: "listen"})
	if err != nil {
		return err
	}
	fl, err := r.connect(listening.Addr, false)
	if err != nil {
		return err
	}
	defer fl.close() // ignored: the figures have been taken
	d := dialing{connections: r.Connections, outstanding: r.Dialing}
	r.progress.show(func() string { return fmt.Sprintf("connected %d of %d", d.done.Load(), d.connections) })
	accepted := r.sender.begin(order{Do: "accept", N: r.Connections})
	if err := fl.dial(ctx, &d); err != nil {
		return err
	}
	if _, err := accepted(); err != nil {
		return err
	}
	idle, err := r.sender.ask(order{Do: "idle", Seconds: 1})
	if err != nil {
		return err
	}

	rounds := r.Burst
	if r.Rate > 0 {
		rounds = max(int(r.Rate*r.Duration.Seconds()), 1)
	}
	p := phase{mark: newMark().inPhase(1), streams: 1, count: rounds}
	fl.begin(p, 0)
	r.progress.show(func() string { return fmt.Sprintf("sending %s: %d delivered", rateText(r.Rate), fl.delivered()) })
	own, _ := poller.ProcessCPU(0) // ignored: a process may always ask for its own time
	start := fl.clock.now()
	sent, err := r.sender.ask(order{Do: "send", N: rounds, Rate: r.Rate, Size: r.Size, Mark: uint64(p.mark)})
	a := &account{schedule: schedule{phase: p, clock: fl.clock, start: start, rate: r.Rate, publishers: 1}, published: sent.Rounds,
		sendings: []sending{{published: uint32(sent.Rounds)}}}
	run := &fanout{FanoutOptions: FanoutOptions{CatchUp: DefaultCatchUp}, fleet: fl}
	run.await(ctx, a, 0)
	ownAfter, _ := poller.ProcessCPU(0) // ignored: as above
	took := time.Duration(fl.clock.now() - start)
	run.settle(a)
	r.report(a, idle, sent)
	r.result.set("generator_cpu_percent", 100*(ownAfter-own).Seconds()/took.Seconds())
	return err
}

func (r *floor) report(a *account, idle, sent answer) {
	res := r.result
	res.set("connections", float64(a.subscribers))
	res.set("rounds", float64(a.published))
	res.set("delivered", float64(a.delivered))
	res.set("lost", float64(a.lost))
	if a.delivered == 0 {
		return
	}
	// What the process uses while it does nothing is not the sends' cost.
	cpu := sent.CPU - time.Duration(float64(idle.CPU)*sent.Took.Seconds()/max(idle.Took.Seconds(), 1e-9))
	elapsed := time.Duration(a.lastSeen - a.start)
	res.set("elapsed", elapsed.Seconds())
	res.set("deliveries_per_second", float64(a.delivered)/elapsed.Seconds())
	res.set("sender_cpu", cpu.Seconds())
	res.set("sender_cpu_per_delivery", cpu.Seconds()/float64(a.delivered))
	res.set("messages_per_read", float64(a.delivered)/float64(max(a.reads, 1)))
}

func (r *floor) upgrades(ctx context.Context) error {
	serving, err := r.sender.ask(order{Do: "serve"})
	if err != nil {
		return err
	}
	fl, err := r.connect(serving.Addr, true)
	if err != nil {
		return err
	}
	defer fl.close() // ignored: the figures have been taken
	before, err := r.sender.ask(order{Do: "cpu"})
	if err != nil {
		return err
	}
	d := &dialing{connections: r.Connections, outstanding: r.Outstanding, keepGoing: true}
	r.progress.show(func() string { return fmt.Sprintf("upgraded %d of %d", d.done.Load(), d.connections) })
	own, _ := poller.ProcessCPU(0) // ignored: a process may always ask for its own time
	if err := fl.dial(ctx, d); err != nil {
		return err
	}
	ownAfter, _ := poller.ProcessCPU(0) // ignored: as above
	after, err := r.sender.ask(order{Do: "cpu"})
	if err != nil {
		return err
	}
	r.result.setUpgrades(d)
	r.result.set("upgrades_elapsed", d.elapsed.Seconds())
	r.result.set("sender_cpu_per_upgrade", (after.CPU-before.CPU).Seconds()/float64(max(d.done.Load(), 1)))
	r.result.set("generator_cpu_percent", 100*(ownAfter-own).Seconds()/d.elapsed.Seconds())
	if d.firstErr != nil {
		r.result.Notes = append(r.result.Notes, "first failure: "+d.firstErr.Error())
	}
	return nil
}

// sender is the other process, seen from here.
type sender struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	orders  *json.Encoder
	answers *json.Decoder
}

// order is a line to the sender, answer the line that comes back for each.
type order struct {
	Do      string
	N       int
	Rate    float64
	Size    int
	Seconds float64
	Mark    uint64
}

type answer struct {
	Addr   string
	CPU    time.Duration // used by the order; in all, for "cpu"
	Took   time.Duration
	Rounds int
	Err    string
}

func startSender(ctx context.Context, command []string) (*sender, error) {
	if len(command) == 0 {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("start the sending process: find this program: %w", err)
		}
		command = []string{exe, "bench", "floor-sender"}
	}
	s := &sender{cmd: exec.CommandContext(ctx, command[0], command[1:]...)}
	s.cmd.Stderr = os.Stderr
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the sending process: %w", err)
	}
	s.stdin, s.orders, s.answers = stdin, json.NewEncoder(stdin), json.NewDecoder(stdout)
	return s, nil
}

// begin returns an order and the function that waits for its answer.
func (s *sender) begin(o order) func() (answer, error) {
	err := s.orders.Encode(o)
	return func() (a answer, _ error) {
		if err == nil {
			err = s.answers.Decode(&a)
		}
		if err == nil && a.Err != "" {
			err = errors.New(a.Err)
		}
		if err != nil {
			return a, fmt.Errorf("sending process: %s: %w", o.Do, err)
		}
		return a, nil
	}
}

func (s *sender) ask(o order) (answer, error) { return s.begin(o)() }

// stop ends the sender by closing its standard input.
func (s *sender) stop() error {
	s.stdin.Close() // ignored: it ends either way, which Wait sees
	return s.cmd.Wait()
}
