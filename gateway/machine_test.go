//go:build faults

package gateway

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"slices"
	"syscall"
	"testing"
	"time"

	"sluice/gateway/access"
	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/presence"
	"sluice/poller"
)

// A machine is a loop that nobody runs: its sockets are memory, its time is a step of
// the script, and so is every turn. A script is bytes; each step of it does one thing to
// the loop from outside, a peer's or the kernel's or the server's, and any call may fail.
// After each step everything that holds for a loop is checked (invariant.go), and what the
// peers were sent; at the end, that nobody waits for ever and nothing is left.
//
//	go test -tags faults ./gateway -run TestFaultMachine -machine.steps 50000000 -timeout 0
//	go test -tags faults ./gateway -run '^$' -fuzz FuzzFaultMachine -fuzztime 1m
var (
	machineSteps = flag.Int("machine.steps", 0, "steps of TestFaultMachine; 0: 400,000, 40,000 under the race detector")
	machineSeed  = flag.Uint64("machine.seed", 0, "its seed; 0: another one each time")
	machinePlay  = flag.String("machine.script", "", "one script, in hexadecimal, to be played alone")
)

// machineFD is the number of a machine's first descriptor: no process has it.
const machineFD = 1 << 28

type machine struct {
	testing.TB
	server  *Server
	l       *loop
	script  []byte
	steps   int
	now     time.Time
	peers   [4]*machinePeer
	sockets []*socket // by descriptor
	faults  []callFault
	refuse  error // the engine's next answer, nil for its own
	said    uint32
	order   map[uint32]int // of each publication that was taken, by what it says: its place in its channel
	taken   map[string]int // publications of each channel
	waits   []*machinePublisher
	hungry  bool // budgets are exhausted
	panics  int  // so many places on, a step panics; 0 for none
}

// callFault fails the after-th call of a kind from now on.
type callFault struct {
	call  poller.Call
	after int
	how   int
}

// socket is one end of a connection, the loop's, as the kernel has it.
type socket struct {
	fd     int
	in     []byte // from the peer, not read yet
	fin    bool   // the peer's, behind that
	reset  bool   // by the peer, or broken
	told   bool   // the reset was reported
	shut   bool   // our FIN
	closed bool
	space  int    // bytes that it takes
	out    []byte // that it took
}

// machineNow runs: tests of machines are not parallel.
var machineNow *machine

// kernel makes the calls of a machine's loop.
func kernel(call poller.Call, fd int, p []byte) ([]byte, error) {
	if fd < machineFD {
		return p, nil
	}
	m := machineNow
	s := m.sockets[fd-machineFD]
	if s.closed {
		m.fatalf("call %d on descriptor %d, which is closed", call, fd)
	}
	how := m.failing(call)
	switch call {
	case poller.CallRead:
		switch how {
		case 1:
			s.reset, s.told, s.in = true, true, nil
			return nil, syscall.ECONNRESET
		case 2:
			return nil, poller.Made(0)
		case 3:
			p = p[:min(1, len(p))]
		}
		switch {
		case len(s.in) > 0:
			n := copy(p, s.in)
			s.in = s.in[n:]
			return nil, poller.Made(n)
		case s.reset && !s.told:
			s.told = true
			return nil, syscall.ECONNRESET
		case s.fin || s.reset:
			return nil, io.EOF
		}
		return nil, poller.Made(0)
	case poller.CallWrite:
		switch how {
		case 1:
			s.reset, s.told = true, true
			return nil, syscall.EPIPE
		case 2:
			return nil, poller.Made(0)
		case 3:
			p = p[:min(1, len(p))]
		}
		if s.reset || s.shut {
			return nil, syscall.EPIPE
		}
		n := min(len(p), s.space)
		s.space -= n
		s.out = append(s.out, p[:n]...)
		return nil, poller.Made(n)
	case poller.CallClose:
		s.closed = true
	case poller.CallShutdown:
		if how == 0 && s.reset {
			return nil, syscall.ENOTCONN
		}
		s.shut = s.shut || how == 0
	}
	if how > 0 && call != poller.CallClose {
		return nil, syscall.ENOMEM
	}
	return nil, poller.Made(0)
}

// failing returns how a call is to fail, 0 for not.
func (m *machine) failing(call poller.Call) (how int) {
	for i := range m.faults {
		f := &m.faults[i]
		if f.call != call {
			continue
		}
		if f.after--; f.after <= 0 {
			how = f.how
			m.faults = append(m.faults[:i], m.faults[i+1:]...)
			return how
		}
	}
	return 0
}

// ready returns what the kernel would report for a socket.
func (s *socket) ready(interest poller.Events) (ev poller.Events) {
	if len(s.in) > 0 || s.fin || s.reset {
		ev |= poller.Readable
	}
	if s.space > 0 || s.reset {
		ev |= poller.Writable
	}
	ev &= interest
	if s.reset || s.fin && s.shut {
		ev |= poller.Hangup
	}
	return ev
}

// machineEngine is the engine, with what was published, and with refusals.
type machineEngine struct{ m *machine }

func (e machineEngine) Publish(name string, ch *channel.Channel, p *channel.Publication, s *channel.Scratch, c engine.Caller) (channel.Receipt, error) {
	m := e.m
	if err := m.refuse; err != nil && p.Kind == channel.KindMessage {
		if m.refuse = nil; errors.Is(err, channel.ErrFull) {
			c.Released()
		}
		return channel.Receipt{}, err
	}
	r, err := engine.Local{}.Publish(name, ch, p, s, c)
	if err == nil && ch != nil && p.Kind == channel.KindMessage {
		m.order[saidIn(p.Payload)] = m.taken[name]
		m.taken[name]++
	}
	return r, err
}

// machinePublisher publishes from outside.
type machinePublisher struct {
	m       *machine
	name    string
	payload []byte
	again   bool
}

func (p *machinePublisher) Released()                        { p.again = true }
func (p *machinePublisher) Published(channel.Receipt, error) {}

// newMachine makes one as the script's first byte says.
func newMachine(t testing.TB, script []byte) *machine {
	m := &machine{TB: t, order: make(map[uint32]int), taken: make(map[string]int)}
	m.script = script
	how := m.next()
	cfg := Config{Loops: 1, MaxMessage: 2 << 10, ChannelBuffer: 8 << 10, MaxPending: 8 << 10, MaxBuffered: 256 << 10, History: 20, HistoryBytes: 8 << 10,
		MaxPerAddress: -1, AddressRate: -1, MessageRate: -1, ControlRate: -1, PingInterval: -1}
	if how&1 != 0 {
		cfg.SlowPolicy = []SlowRule{{"*", true}}
	}
	if how&2 != 0 {
		cfg.PingInterval, cfg.Greeting = 5*time.Second, "hello"
	}
	if how&4 != 0 {
		cfg.History = -1
	}
	if how&8 != 0 {
		cfg.MessageRate, cfg.ControlRate = 20, 5
	}
	if how&16 != 0 {
		cfg.Tokens = machineVerifier(t)
		cfg.Namespaces = namespace.Everywhere(namespace.Options{HistorySize: max(cfg.History, 0), HistoryTTL: time.Minute, AllowRecovery: true, Presence: true, JoinLeave: true,
			AllowSubscribeForClient: true, AllowSubscribeForAnonymous: true, AllowPublishForSubscriber: true, AllowPresenceForClient: true,
			AllowHistoryForSubscriber: true, AllowPublishForAnonymous: true, AllowRawPublish: true})
	}
	if how&32 != 0 {
		cfg.BatchWindow = time.Millisecond
	}
	if how&64 != 0 {
		cfg.OnMessage = func(msg Message) bool { return len(msg.Payload)%7 != 0 }
	}
	m.start(cfg.withDefaults())
	machineNow = m
	f := m.passBy
	planted.Store(&f)
	return m
}

// machineShared are the places in which a panic ends the process.
var machineShared = []string{"enter", "moved", "remove", "identify", "append"}

// passBy comes by a place where a step may panic.
func (m *machine) passBy(_ *conn, place string) {
	if m.panics == 0 || slices.Contains(machineShared, place) {
		return
	}
	if m.panics--; m.panics == 0 {
		panic("planted at " + place)
	}
}

// machineBuffers outlive machines: nothing is said by what lies in them.
var machineBuffers = struct{ scratch, cork []byte }{make([]byte, scratchBytes), make([]byte, 0, corkBytes)}

func (m *machine) start(cfg Config) {
	s := &Server{cfg: cfg, stats: new(serverStats), budget: channel.NewBudget(cfg.MaxBuffered / 8 * 3), historyBudget: channel.NewBudget(cfg.MaxBuffered / 8)}
	s.policy = newPolicy(&s.cfg)
	s.space = channel.NewSpace(cfg.ChannelBuffer, cfg.MaxChannels, s.budget)
	s.space.KeepHistory(channel.History{Of: s.keep, Bytes: cfg.HistoryBytes, Budget: s.historyBudget}, time.Now().UnixMilli())
	s.present, s.admission = presence.New(), newAdmission(&s.cfg)
	s.engine = machineEngine{m}
	s.verifiers = access.NewVerifiers(s.policy.Tokens(), 16, nil)
	s.loops.Add(1)
	m.now = time.Now()
	l := bareLoop(s, 0)
	l.poller, l.scratch, l.cork = poller.NewInert(), machineBuffers.scratch, machineBuffers.cork
	l.turnWrites, l.heldMax = 3, 48<<10
	l.inbox.wake = l.poller.Wake
	s.loop = []*loop{l}
	m.server, m.l = s, l
}

var machineKey *auth.Verifier

// machineVerifier takes tokens that are too expensive for a loop, so that they are verified
// when the script says so.
func machineVerifier(t testing.TB) *auth.Verifier {
	if machineKey == nil {
		v, err := auth.New(t.Context(), auth.Options{PublicKeys: [][]byte{machinePEM(t)}})
		if err != nil {
			t.Fatal(err)
		}
		machineKey = v
	}
	return machineKey
}

// next takes a byte of the script, 0 at its end.
func (m *machine) next() byte {
	if len(m.script) == 0 {
		return 0
	}
	b := m.script[0]
	m.script = m.script[1:]
	return b
}

func (m *machine) fatalf(format string, v ...any) {
	m.Helper()
	m.Fatalf("after step %d: %s\n%s", m.steps, fmt.Sprintf(format, v...), debug.Stack())
}

// run plays the script to its end, and then sees that nobody waits and nothing is left.
func (m *machine) run() {
	for len(m.script) > 0 {
		m.step(m.next(), m.next())
		m.steps++
		m.check()
	}
	m.rest()
	m.end()
}

// check looks at everything, as it must be between two steps.
func (m *machine) check() {
	l := m.l
	if l.timer != nil {
		l.timer.Stop() // pass is its time
	}
	for _, p := range m.peers {
		if p != nil {
			p.look()
		}
	}
	if err := l.check(); err != nil {
		m.fatalf("%v", err)
	}
	refused := 0
	for _, c := range l.conns {
		if c.has(bitRefused) {
			refused++
		}
		var want poller.Events
		if c.reads() {
			want |= poller.Readable
		}
		if c.has(bitBlocked) {
			want |= poller.Writable
		}
		switch {
		case c.Active() && c.Interest() != want:
			m.fatalf("connection %d waits for %v, want %v", c.id, c.Interest(), want)
		case !c.Active() && !c.has(bitMuted):
			m.fatalf("connection %d is not watched", c.id)
		case int(c.counted) != c.holds():
			m.fatalf("connection %d holds %d bytes, and %d are counted", c.id, c.holds(), c.counted)
		case c.phase == phaseOpen && c.catchingUp() && !c.out.catch.queued && c.pending() == 0 && !c.has(bitBlocked):
			m.fatalf("connection %d is never sent the rest of what it missed", c.id)
		}
	}
	if n := len(l.conns) - refused; m.server.connections.Load() != int64(n) || m.server.refusing.Load() != int64(refused) {
		m.fatalf("%d connections and %d to be refused, counted are %d and %d", n, refused, m.server.connections.Load(), m.server.refusing.Load())
	}
}

// turn runs the loop's turn.
func (m *machine) turn() {
	m.l.poller.Woken()
	m.l.turn()
}

// pass lets time pass for everything that looks at a clock. Seconds of loop time pass with
// ticks alone.
func (m *machine) pass(d time.Duration) {
	l := m.l
	l.began, l.lastTick = l.began.Add(-d), l.lastTick.Add(-d)
	for _, g := range l.groups {
		g.passed(d)
	}
	for _, g := range l.delayed {
		if l.groups[g.key] != g {
			g.passed(d)
		}
	}
	if len(l.delayed) > 0 {
		l.post(delayOver{})
	}
}

// passed moves what a group remembers of time into the past.
func (g *group) passed(d time.Duration) {
	for _, at := range [...]*time.Time{&g.pressedAt, &g.notBefore} {
		if !at.IsZero() {
			*at = at.Add(-d)
		}
	}
}

// rest lets everybody read, and everything happen that is due.
func (m *machine) rest() {
	m.faults, m.refuse, m.panics = nil, nil, 0
	m.feast()
	for _, s := range m.sockets {
		s.space = 1 << 30
	}
	ticks := 0
	for round := range 10_000 {
		if round > 9990 {
			m.fatalf("the loop does not come to rest")
		}
		busy := false
		for _, p := range m.peers {
			if p != nil {
				busy = p.send(len(p.unsent)) || busy
				busy = m.ready(p) || busy
			}
		}
		busy = m.verify(0) || m.retry() || busy
		if m.l.poller.Woken() {
			busy = true
			m.l.turn()
		}
		if len(m.l.delayed) > 0 {
			busy = true
			m.pass(50 * time.Millisecond)
		}
		m.check()
		if !busy {
			if ticks++; ticks > 3 {
				break
			}
			m.tick(1) // who waits for the budget is woken by time
		}
	}
	for _, c := range m.l.conns {
		if c.phase == phaseOpen && (c.has(bitBlocked|bitParked) || c.behind() || c.pending() > 0 || c.catchingUp() || c.in != nil && c.in.buf != nil) {
			m.fatalf("connection %d waits for ever: bits %#x, behind %v, %d bytes pending, catching up %v", c.id, c.bits, c.behind(), c.pending(), c.catchingUp())
		}
	}
	if len(m.waits) > 0 || len(m.l.waiting) > 0 {
		m.fatalf("%d publishers and the joins of %d channels wait for ever", len(m.waits), len(m.l.waiting))
	}
	for _, p := range m.peers {
		if p != nil {
			p.rested()
		}
	}
}

// end ends everybody, one way or the other.
func (m *machine) end() {
	l := m.l
	if m.steps%2 == 0 {
		l.post(stop{})
		m.turn()
		m.check()
	}
	l.stopping = true // joins and leaves are not announced any more
	l.post(abort{})
	for range 3 {
		m.turn()
		m.check()
	}
	for _, p := range m.waits {
		if ch := m.server.space.Find(p.name); ch != nil {
			ch.Forget(p)
		}
	}
	for range 8 {
		m.server.space.Trim(time.Now().Add(2 * time.Hour).UnixMilli())
	}
	s := m.server
	for what, n := range map[string]int{"connections": len(l.conns), "groups": len(l.groups), "users": len(l.users), "dead": len(l.dead), "bytes held": l.held,
		"channels": s.space.Channels(), "bytes of logs": s.budget.Used(), "bytes of histories": s.historyBudget.Used(), "subscribers in the presence table": s.present.Len()} {
		if n != 0 {
			m.fatalf("%d %s are left", n, what)
		}
	}
	for _, s := range m.sockets {
		if !s.closed {
			m.fatalf("descriptor %d is not closed", s.fd)
		}
	}
}

// feast gives the budgets back what starve has taken.
func (m *machine) feast() { m.starve(false) }

// starve takes all that the budgets have, or gives it back.
func (m *machine) starve(hungry bool) {
	if m.hungry == hungry {
		return
	}
	m.hungry = hungry
	n := m.server.cfg.MaxBuffered // more than there is: nothing can be taken any more
	if !hungry {
		n = -n
	}
	m.server.budget.Give(-n)
	m.server.historyBudget.Give(-n)
}

// play runs a script on a machine of its own. A panic fails the test with the script.
func play(t testing.TB, script []byte) (steps int) {
	poller.Inject(kernel)
	defer func() {
		if r := recover(); r != nil || t.Failed() {
			if r != nil {
				t.Errorf("panic: %v\n%s", r, debug.Stack())
			}
			t.Errorf("again with: go test -tags faults ./gateway -run TestFaultMachine -machine.script %x", script)
		}
	}()
	m := newMachine(t, script)
	m.run()
	return m.steps
}

// machineScript returns a random script.
func machineScript(seed, n uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, n))
	p := make([]byte, 40+rnd.IntN(1200))
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
	return p
}

// client addresses of a machine's peers.
var machineAddress = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 1)

func TestFaultMachine(t *testing.T) {
	steps, seed := *machineSteps, *machineSeed
	if steps == 0 {
		steps = scaled(400_000, 40_000)
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Cleanup(func() { poller.Inject(nil); planted.Store(nil) })
	if *machinePlay != "" {
		script, err := hex.DecodeString(*machinePlay)
		if err != nil {
			t.Fatal(err)
		}
		play(t, script)
		return
	}
	began, done := time.Now(), 0
	for n := uint64(0); done < steps; n++ {
		done += play(t, machineScript(seed, n))
		if t.Failed() {
			t.Fatalf("script %d of -machine.seed %d", n, seed)
		}
	}
	t.Logf("%d steps in %v, %.0f a second", done, time.Since(began).Round(time.Millisecond), float64(done)/time.Since(began).Seconds())
}

func FuzzFaultMachine(f *testing.F) {
	for n := range uint64(64) {
		f.Add(machineScript(1, n))
	}
	f.Fuzz(func(t *testing.T, script []byte) { play(t, script) })
}
