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
	o.Options.setDefaults()
	o.setDefaults()
	var f Faults
	o.resolve(&f) // in place of its address, which only the sender knows, is the default one
	f.AtLeast("--connections", o.Connections, 1)
	f.AtLeast("--burst", o.Burst, 1)
	f.Between("--size", o.Size, SizeMin, sizeMax)
	f.AtLeast("--outstanding", o.Outstanding, 1)
	if o.Rate < 0 || o.Duration <= 0 {
		f.Add("--rate and --duration must be above zero")
	} else if rounds := o.Rate * o.Duration.Seconds(); rounds > publicationsMax || o.Burst > publicationsMax {
		f.Add("a run can have at most %d rounds: lower --rate, --duration or --burst", publicationsMax)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	s, err := startSender(ctx, o.Sender)
	if err != nil {
		return nil, err
	}
	r := &floor{o, &Run{Result: newResult("floor"), progress: newProgress(o.Progress)}, s}
	if o.Upgrade {
		err = r.upgrades(ctx)
	} else {
		err = r.sends(ctx)
	}
	return r.End(ctx, errors.Join(err, s.stop()))
}

// floor is a run under way.
type floor struct {
	FloorOptions
	*Run
	sender *sender
}

// connect opens the sockets to the address that the sender listens on.
func (r *floor) connect(addr string, once bool) (*fleet, error) {
	r.Options.URL, r.Path = "ws://"+addr, "/"
	var f Faults
	t := r.resolve(&f)
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
	accepted := r.sender.begin(order{Do: "accept", N: r.Connections})
	if err := r.dial(ctx, fl, "connected", &dialing{connections: r.Connections, outstanding: r.Dialing}); err != nil {
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
	r.Show(func() string { return fmt.Sprintf("sending %s: %d delivered", rateText(r.Rate), fl.delivered()) })
	before := r.Usage()
	start := fl.clock.now()
	sent, err := r.sender.ask(order{Do: "send", N: rounds, Rate: r.Rate, Size: r.Size, Mark: uint64(p.mark)})
	a := &account{schedule: schedule{phase: p, clock: fl.clock, start: start, rate: r.Rate, publishers: 1}, published: sent.Rounds,
		sendings: []sending{{published: uint32(sent.Rounds)}}}
	fl.await(ctx, a, DefaultCatchUp, 0)
	used := r.Since(before)
	took := time.Duration(fl.clock.now() - start)
	fl.settle(a)
	r.report(a, idle, sent)
	r.SetUsage(used, took, "", 0)
	return err
}

func (r *floor) report(a *account, idle, sent answer) {
	res := r.Result
	res.SetCounts(map[string]int64{"connections": int64(a.subscribers), "rounds": int64(a.published), "delivered": a.delivered, "lost": a.lost})
	if a.delivered == 0 {
		return
	}
	// What the process uses while it does nothing is not the sends' cost.
	cpu := sent.CPU - time.Duration(float64(idle.CPU)*sent.Took.Seconds()/max(idle.Took.Seconds(), 1e-9))
	elapsed := time.Duration(a.lastSeen - a.start)
	res.Set("elapsed", elapsed.Seconds())
	res.Set("deliveries_per_second", float64(a.delivered)/elapsed.Seconds())
	res.Set("sender_cpu", cpu.Seconds())
	res.Set("sender_cpu_per_delivery", cpu.Seconds()/float64(a.delivered))
	res.Set("messages_per_read", float64(a.delivered)/float64(max(a.reads, 1)))
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
	own := r.Usage()
	if err := r.dial(ctx, fl, "upgraded", d); err != nil {
		return err
	}
	used := r.Since(own)
	after, err := r.sender.ask(order{Do: "cpu"})
	if err != nil {
		return err
	}
	r.Result.setUpgrades(d)
	r.Result.Set("upgrades_elapsed", d.elapsed.Seconds())
	r.Result.Set("sender_cpu_per_upgrade", (after.CPU-before.CPU).Seconds()/float64(max(d.done.Load(), 1)))
	r.SetUsage(used, d.elapsed, "", 0)
	r.Result.noteFailure(d.firstErr)
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
