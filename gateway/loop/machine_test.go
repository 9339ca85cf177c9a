//go:build faults

package loop

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

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/local"
	"sluice/gateway/presence"
	"sluice/gateway/wire/deflate"
	"sluice/poller"
)

// A machine is a loop that nobody runs: its sockets are memory, its time is a step of
// the script, and so is every turn. A script is bytes; each step of it does one thing to
// the loop from outside, a peer's or the kernel's or the server's, and any call may fail.
// After each step everything that holds for a loop is checked (invariant.go), and what the
// peers were sent; at the end, that nobody waits for ever and nothing is left.
//
//	go test -tags faults ./gateway/loop -run TestFaultMachine -machine.steps 50000000 -timeout 0
//	go test -tags faults ./gateway/loop -run '^$' -fuzz FuzzFaultMachine -fuzztime 1m
var (
	machineSteps = flag.Int("machine.steps", 0, "steps of TestFaultMachine; 0: 400,000, 40,000 under the race detector")
	machineSeed  = flag.Uint64("machine.seed", 0, "its seed; 0 with -machine.steps: another one each time")
	machinePlay  = flag.String("machine.script", "", "one script, in hexadecimal, to be played alone")
)

// machineFD is the number of a machine's first descriptor: no process has it.
const machineFD = 1 << 28

type machine struct {
	testing.TB
	MachineConfig
	server    MachineServer
	set       *Set
	l         *Loop
	admission machineAdmission
	logs      *channel.Budget
	histories *channel.Budget
	inflater  deflate.Inflater // of the peers

	script  []byte
	steps   int
	now     time.Time
	peers   [4]*machinePeer
	sockets []*socket // by descriptor
	faults  []callFault
	refuse  error // the engine's next answer, nil for its own
	later   int   // so many publications are answered later
	stored  []machineStored
	said    uint32
	order   map[uint32]int            // of each publication that was taken, by what it says: its place in its channel
	taken   map[string]int            // publications of each channel
	given   map[*channel.Channel]bool // to which is appended: from then on it has all of its positions from elsewhere
	waits   []*machinePublisher
	hungry  bool // budgets are exhausted
	panics  int  // so many places on, a step panics; 0 for none
}

// MachineConfig is what differs between machines, and what is around their loops knows of them.
type MachineConfig struct {
	Config          // of the loop, without what machineServer has
	History  int    // publications that channels keep, 0 for none
	Guarded  bool   // clients have tokens and channels have rights
	Greeting string // for clients without commands
	Buffered int    // bytes of all connections, logs and histories
}

// MachineServer is what is around a machine's loop: protocols, rights and the server's API.
type MachineServer interface {
	// Protocols returns what clients speak, and the beginnings of the names of the protocols'
	// functions in which a panic ends the process.
	Protocols() (variants []*Variant, sharing []string)
	Keep(channel string) channel.Keep
	// Hello returns what a protocol finds in a client's request.
	Hello(r *MachineRequest) Hello
	// Verify decides on a token; false when none waits.
	Verify(how byte) bool
	// Ask does one of the things that the server's API is asked for.
	Ask(set *Set, what int, how byte)
	// Joining counts the channels whose joins and leaves wait for room.
	Joining() int
	Present() *presence.Table
}

// MachineRequest is the request of a client.
type MachineRequest struct {
	Path, Query string
	Stream      bool // it is for an event stream
	LastEventID string
}

// MachineServers makes what is around a machine's loop. Protocols import this package, so it is
// package loop_test that sets it.
var MachineServers func(testing.TB, *MachineConfig) MachineServer

// machineAdmission has the seats of a machine's connections.
type machineAdmission struct {
	m     *machine
	last  Seat
	taken map[Seat]bool // whether it is refused
}

// take takes a seat.
func (s *machineAdmission) take(refused bool) Seat {
	s.last++
	s.taken[s.last] = refused
	return s.last
}

// Left implements Admission.
func (*machineAdmission) Taken(netip.AddrPort, bool) Seat { return 0 }

func (s *machineAdmission) Left(at Seat, refused bool) {
	if was, ok := s.taken[at]; !ok || was != refused {
		s.m.fatalf("seat %d is given back, refused: %v; it is taken: %v, refused: %v", at, refused, ok, was)
	}
	delete(s.taken, at)
}

// Blame implements Admission.
func (s *machineAdmission) Blame(Seat) {}

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
	if s.fin || s.reset {
		ev |= poller.PeerShut
	}
	ev &= interest
	if s.reset || s.fin && s.shut {
		ev |= poller.Hangup
	}
	return ev
}

// machineEngine is the engine, with what was published, and with refusals.
type machineEngine struct {
	local.Engine
	m *machine
}

func (e machineEngine) Publish(name string, ch *channel.Channel, p *channel.Publication, s *channel.Scratch, c engine.Caller) (channel.Receipt, error) {
	m := e.m
	if m.later > 0 {
		m.later--
		kept := *p
		kept.Payload, kept.Extra = slices.Clone(p.Payload), slices.Clone(p.Extra)
		m.stored = append(m.stored, machineStored{name, ch, kept, c})
		if ch != nil {
			ch.Forget(c) // the channel may have called it
		}
		return channel.Receipt{}, engine.ErrPending
	}
	if err := m.refuse; err != nil && p.Kind == channel.KindMessage {
		if m.refuse = nil; errors.Is(err, channel.ErrFull) {
			c.Released()
		}
		return channel.Receipt{}, err
	}
	return m.store(name, ch, p, s, c)
}

// store publishes, and notes what was.
func (m *machine) store(name string, ch *channel.Channel, p *channel.Publication, s *channel.Scratch, c engine.Caller) (channel.Receipt, error) {
	if m.given[ch] && p.Kind == channel.KindMessage {
		if m.Space.Find(name) != ch {
			return channel.Receipt{}, channel.ErrGone
		}
		ch.Forget(c) // it may have waited before
		at := ch.Newest()
		p.Epoch, p.Offset, p.Prev = at.Epoch, at.Offset+1, at.Offset
		m.order[saidIn(p.Payload)] = m.taken[name]
		m.taken[name]++
		ch.Append(p, s)
		return channel.Receipt{Epoch: p.Epoch, Offset: p.Offset}, nil
	}
	r, err := local.Engine{}.Publish(name, ch, p, s, c)
	if err == nil && ch != nil && p.Kind == channel.KindMessage {
		m.order[saidIn(p.Payload)] = m.taken[name]
		m.taken[name]++
	}
	return r, err
}

// machineStored is a publication that the engine has and has not answered.
type machineStored struct {
	name   string
	ch     *channel.Channel
	pub    channel.Publication
	caller engine.Caller
}

// answer answers one of those that the engine has; false when there are none.
func (m *machine) answer(how byte) bool {
	n := len(m.stored)
	if n == 0 {
		return false
	}
	i := int(how>>2) % n
	p := m.stored[i]
	m.stored = slices.Delete(m.stored, i, i+1)
	var r channel.Receipt
	err := engine.ErrUnavailable
	if how&3 > 0 {
		by := new(machinePublisher)
		if r, err = m.store(p.name, p.ch, &p.pub, new(channel.Scratch), by); err != nil && p.ch != nil {
			p.ch.Forget(by)
		}
	}
	p.caller.Published(r, err)
	return true
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
	m := &machine{TB: t, order: make(map[uint32]int), taken: make(map[string]int), given: make(map[*channel.Channel]bool)}
	m.script = script
	how := m.next()
	cfg := loopsConfig{Loops: 1, MaxMessage: 2 << 10, ChannelBuffer: 8 << 10, MaxPending: 8 << 10, MaxBuffered: 256 << 10, History: 20,
		MessageRate: -1, ControlRate: -1, PingInterval: -1}
	cfg.Skips = how&1 != 0
	if how&2 != 0 {
		cfg.PingInterval, m.Greeting = 5*time.Second, "hello"
	}
	if how&4 != 0 {
		cfg.History = -1
	}
	if how&8 != 0 {
		cfg.MessageRate, cfg.ControlRate = 20, 5
	}
	m.Guarded = how&16 != 0
	if how&32 != 0 {
		cfg.BatchWindow = time.Millisecond
	}
	if how&64 != 0 {
		cfg.Filter = func(_ string, payload []byte, _ bool, _ uint64) bool { return len(payload)%7 != 0 }
	}
	if how&128 != 0 {
		cfg.DrainDuration = 30 * time.Second
	}
	m.Config = cfg.set()
	m.History, m.Buffered = max(cfg.History, 0), cfg.MaxBuffered
	m.start()
	machineNow = m
	f := m.passBy
	Planted.Store(&f)
	return m
}

// machineShared are the places in which a panic ends the process.
var machineShared = []string{"enter", "moved", "remove", "identify"}

// passBy comes by a place where a step may panic.
func (m *machine) passBy(_ *Conn, place string) {
	if m.panics == 0 || slices.Contains(machineShared, place) {
		return
	}
	if m.panics--; m.panics == 0 {
		panic("planted at " + place)
	}
}

// machineBuffers outlive machines: nothing is said by what lies in them.
var machineBuffers = struct{ scratch, cork []byte }{make([]byte, scratchBytes), make([]byte, 0, corkBytes)}

func (m *machine) start() {
	m.now, m.Clock = time.Now(), func() time.Time { return m.now }
	m.logs, m.histories = channel.NewBudget(m.Buffered/8*3), channel.NewBudget(m.Buffered/8)
	m.Space = channel.NewSpace(m.ChannelBuffer, 1000, m.logs)
	m.admission = machineAdmission{m: m, taken: make(map[Seat]bool)}
	m.Admission = &m.admission
	m.server = MachineServers(m, &m.MachineConfig)
	m.Engine = machineEngine{local.Engine{Space: m.Space, Present: m.server.Present()}, m}
	m.Variants, m.Sharing = m.server.Protocols()
	m.Variants = append(m.Variants, plainWebSocket)
	m.Space.KeepHistory(channel.History{Of: m.server.Keep, Bytes: 8 << 10, Budget: m.histories}, m.now.UnixMilli())
	m.set = bareSet(m.Config)
	m.set.Running.Add(1)
	l := bareLoop(m.set, 0)
	l.poller, l.scratch, l.cork = poller.NewInert(), machineBuffers.scratch, machineBuffers.cork
	l.turnWrites, l.heldMax = 3, 48<<10
	l.inbox.wake = l.poller.Wake
	m.set.loops = []*Loop{l}
	m.l = l
	l.pacer.at = m.now // without any turns yet
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
	if l.lostTurn.timer != nil {
		l.lostTurn.timer.Stop() // likewise
	}
	if l.drain != nil && l.drain.turn.timer != nil {
		l.drain.turn.timer.Stop() // likewise
	}
	if l.awayTimer != nil {
		l.awayTimer.Stop()
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
		switch {
		case c.reads(), c.Parked() && c.Interest()&poller.Readable != 0: // nothing has come since it waits
			want = poller.Readable
		case c.Parked() && !c.has(bitPeerShut):
			want = poller.PeerShut
		}
		if c.has(bitBlocked) {
			want |= poller.Writable
		}
		switch {
		case c.Active() && c.Interest() != want:
			m.fatalf("connection %d waits for %v, want %v", c.ID(), c.Interest(), want)
		case !c.Active() && !c.has(bitMuted):
			m.fatalf("connection %d is not watched", c.ID())
		case int(c.Counted) != c.holds():
			m.fatalf("connection %d holds %d bytes, and %d are counted", c.ID(), c.holds(), c.Counted)
		case c.Phase == phaseOpen && c.catchingUp() && !c.Out.catch.queued && c.Pending() == 0 && !c.has(bitBlocked):
			m.fatalf("connection %d is never sent the rest of what it missed", c.ID())
		}
	}
	for _, is := range m.admission.taken {
		if is {
			refused--
		}
	}
	if len(m.admission.taken) != len(l.conns) || refused != 0 {
		m.fatalf("%d connections, and %d seats are taken; %d too many are refused", len(l.conns), len(m.admission.taken), refused)
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
	m.now = m.now.Add(d)
	if m.l.readClock(); len(m.l.delayed) > 0 {
		m.l.Post(delayOver{})
	}
	if m.l.lostTurn.set {
		m.l.Post(lostTurn{})
	}
	if m.l.drain != nil && m.l.drain.turn.set {
		m.l.Post(drainTurn{})
	}
	if len(m.l.away) > 0 {
		m.l.Post(awayOver{})
	}
}

// rest lets everybody read, and everything happen that is due.
func (m *machine) rest() {
	m.faults, m.refuse, m.later, m.panics = nil, nil, 0, 0
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
		busy = m.server.Verify(0) || m.answer(1) || m.retry() || busy
		if m.l.poller.Woken() {
			busy = true
			m.l.turn()
		}
		if len(m.l.delayed) > 0 || m.l.lostTurn.set || m.l.drain != nil && m.l.drain.turn.set || len(m.l.away) > 0 {
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
		if c.Phase == phaseOpen && (c.has(bitBlocked) || c.behind() || c.Pending() > 0 || c.catchingUp() || c.hasPutOff()) {
			m.fatalf("connection %d waits for ever: bits %#x, behind %v, %d bytes pending, catching up %v", c.ID(), c.bits, c.behind(), c.Pending(), c.catchingUp())
		}
	}
	if len(m.waits) > 0 || m.server.Joining() > 0 {
		m.fatalf("%d publishers and the joins of %d channels wait for ever", len(m.waits), m.server.Joining())
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
		l.Post(stop{})
		m.turn()
		m.check()
	}
	l.Post(stop{}) // leaves are not announced any more
	l.Post(abort{})
	for range 3 {
		m.turn()
		m.check()
	}
	for _, p := range m.waits {
		if ch := m.Space.Find(p.name); ch != nil {
			ch.Forget(p)
		}
	}
	for range 8 {
		m.Space.Trim(m.now.Add(2 * time.Hour).UnixMilli())
	}
	for what, n := range map[string]int{"connections": len(l.conns), "groups": len(l.groups), "users": len(l.users), "dead": len(l.dead), "bytes held": l.held,
		"channels": m.Space.Channels(), "bytes of logs": m.logs.Used(), "bytes of histories": m.histories.Used(), "subscribers in the presence table": m.server.Present().Len()} {
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
	n := m.Buffered // more than there is: nothing can be taken any more
	if !hungry {
		n = -n
	}
	m.logs.Give(-n)
	m.histories.Give(-n)
}

// play runs a script on a machine of its own. A panic fails the test with the script.
func play(t testing.TB, script []byte) (steps int) {
	poller.Inject(kernel)
	defer func() {
		if r := recover(); r != nil || t.Failed() {
			if r != nil {
				t.Errorf("panic: %v\n%s", r, debug.Stack())
			}
			t.Errorf("again with: go test -tags faults ./gateway/loop -run TestFaultMachine -machine.script %x", script)
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
	if seed == 0 && steps > 0 {
		seed = rand.Uint64()
	}
	if steps == 0 {
		steps = clienttest.Scaled(400_000, 40_000)
	}
	t.Cleanup(func() { poller.Inject(nil); Planted.Store(nil) })
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
