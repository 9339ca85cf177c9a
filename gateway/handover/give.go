package handover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"sluice/gateway/saved"
	"sluice/poller"
)

// Old is what the old process does. Its methods are called in the order in which they stand here, on one
// goroutine. An error of those before Given ends the attempt, and the process goes on.
type Old interface {
	// Welcome answers the new process. Its error says why it cannot take over.
	Welcome(Hello) (Welcome, error)
	// Listeners returns the listening sockets by name. They stay the caller's.
	Listeners() (names []string, files []*os.File, err error)
	// Pass begins to pass the descriptors of connections to out, and goes on until Freeze has returned.
	// passed is closed when all that were there are passed.
	Pass(out *Out) (passed <-chan struct{})
	// Copy returns the next piece of what channels keep, of at most about limit bytes; nil when it is complete.
	// The piece is valid until the next call. It serves meanwhile.
	Copy(limit int) (piece []byte, err error)
	// Freeze stops serving, and passes the connections that are not passed yet.
	Freeze(ctx context.Context) error
	// Save returns the records of all connections, and what has changed since Copy.
	Save() ([]byte, error)
	// Thaw goes on serving, after Pass and perhaps Freeze: what was passed is as if it had not been.
	Thaw()
	// Given ends what the new process has now, and closes no connection of it.
	Given()
	// Stragglers passes the connections whose handshakes were under way: with the bytes that each has sent.
	Stragglers(pass func(sent []byte, fd int) error)
	// Release frees what only one process can have, until ctx ends.
	Release(ctx context.Context) error
}

// Out is where the old process passes connections.
type Out struct{ conn *conn }

// Pass passes connections by their IDs, at most RightsMax, without waiting. sent is false if there is no
// room at present. Any goroutine. The descriptors stay the caller's, which closes none of them as long as
// the other process may have them, except after Gone.
func (o *Out) Pass(ids []uint64, fds []int) (sent bool, err error) {
	return o.conn.trySend(appendIDs(begin(kindPassed), ids), fds...)
}

// Gone reports connections that were passed and have ended since, at most 4,096. It does not wait.
func (o *Out) Gone(ids []uint64) (sent bool, err error) {
	return o.conn.trySend(appendIDs(begin(kindGone), ids))
}

// Patience is how long the steps may take.
type Patience struct {
	Hello   time.Duration // for the new process to start and to be built
	Prepare time.Duration // for passing and copying
	Freeze  time.Duration // for the loops to stop
	// Ready is for the new process to build its connections; ReadyEach is added for each of them.
	Ready, ReadyEach time.Duration
	Started          time.Duration // from commit on
	Dead             time.Duration // for a process that was killed to be dead
	Release          time.Duration
}

// DefaultPatience is that of a server. Everybody waits from Freeze to Started.
var DefaultPatience = Patience{
	Hello: 10 * time.Second, Prepare: 10 * time.Second, Freeze: time.Second, Ready: 300 * time.Millisecond, ReadyEach: 20 * time.Microsecond,
	Started: 300 * time.Millisecond, Dead: 10 * time.Second, Release: 10 * time.Second,
}

// pieceBytes is the size of a piece of what channels keep. It exists three times: in both processes, and in the file.
const pieceBytes = 4 << 20

// EnvFD is the variable that tells the new process the descriptor of its end.
const EnvFD = "_SLUICE_HANDOVER_FD"

// Report says what was handed over.
type Report struct {
	From    string        `json:"from"` // versions of the program
	To      string        `json:"to"`
	PID     int           `json:"pid"`
	Moved   int           `json:"moved"`     // connections
	Copied  int64         `json:"copied"`    // bytes of channels
	Records int64         `json:"records"`   // bytes of records, and of what has changed in channels
	Frozen  time.Duration `json:"frozen_ns"` // for which nobody served
	Took    time.Duration `json:"took_ns"`   // from the start of the new process until it served
}

// ErrLost is returned if the new process has ended after it had taken over, or cannot be ended and may still take
// over: this process must not serve the connections any more, and has to end.
var ErrLost = errors.New("handover: the new process has ended, or is stuck, after it was given the connections")

// giving is one attempt.
type giving struct {
	old      Old
	patience Patience
	at       func(point string) // for tests
	cmd      *exec.Cmd
	conn     *conn
	ended    chan struct{} // closed when the new process is dead
	began    time.Time
	about    int // connections
	report   Report
}

// Give starts cmd as the new process, and hands everything over to it. cmd must have neither been started nor
// have ExtraFiles. Until the freeze, ctx ends the attempt. If it fails, the new process is dead and old goes on;
// except with ErrLost.
func Give(ctx context.Context, cmd *exec.Cmd, old Old, p Patience) (Report, error) {
	return give(ctx, cmd, old, p, points("old"))
}

func give(ctx context.Context, cmd *exec.Cmd, old Old, p Patience, at func(string)) (Report, error) {
	g := &giving{old: old, patience: p, at: at, cmd: cmd, ended: make(chan struct{}), began: time.Now()}
	if err := g.start(); err != nil {
		return g.report, err
	}
	defer g.conn.close()
	stop := context.AfterFunc(ctx, g.kill) // a killed process ends every wait
	passing, err := g.prepare(ctx)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	frozen := time.Time{}
	if err == nil {
		frozen = time.Now()
		err = g.freeze()
	}
	if err == nil {
		err = g.commit()
	}
	if err != nil {
		g.kill()
		dead := g.isDead()
		if !frozen.IsZero() && (!dead || g.hasStarted()) {
			return g.report, ErrLost
		}
		if passing {
			old.Thaw()
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return g.report, err
	}
	g.report.Frozen, g.report.Took = time.Since(frozen), time.Since(g.began)
	return g.report, g.finish()
}

// start starts the new process.
func (g *giving) start() error {
	ours, theirs, err := poller.MessagePair()
	if err != nil {
		return err
	}
	defer theirs.Close() // ignored: the new process has its own
	g.cmd.ExtraFiles = []*os.File{theirs}
	if g.cmd.Env == nil {
		g.cmd.Env = os.Environ()
	}
	g.cmd.Env = append(g.cmd.Env, EnvFD+"=3")
	if g.conn, err = newConn(ours); err != nil {
		return err
	}
	if err := g.cmd.Start(); err != nil {
		g.conn.close()
		return fmt.Errorf("handover: start the new process: %w", err)
	}
	g.report.PID = g.cmd.Process.Pid
	go func() {
		g.cmd.Wait() // ignored: how it ends does not matter
		close(g.ended)
	}()
	return nil
}

// prepare does what is done while this process serves. passing: Old.Pass was called.
func (g *giving) prepare(ctx context.Context) (passing bool, err error) {
	until := time.Now().Add(g.patience.Hello)
	g.at("spawned")
	m, err := g.conn.expect(kindHello, until)
	if err != nil {
		return false, err
	}
	h := readHello(m.body)
	if err := m.end(0); err != nil {
		return false, err
	}
	g.report.To = h.Version
	w, err := g.old.Welcome(h)
	if err != nil {
		return false, err
	}
	g.report.From, g.about = w.Version, w.Connections
	if w.Format < h.Least || w.Format > h.Most {
		return false, fmt.Errorf("handover: the new process (%s) takes formats %d to %d, and not %d, which this one (%s) has", h.Version, h.Least, h.Most, w.Format, w.Version)
	}
	sending, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	if err := g.conn.send(sending, w.append()); err != nil {
		return false, err
	}
	if m, err = g.conn.expect(kindAgreed, until); err != nil {
		return false, err
	}
	if err := m.end(0); err != nil {
		return false, err
	}
	g.at("agreed")
	until = time.Now().Add(g.patience.Prepare)
	preparing, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	if err := g.passListeners(preparing); err != nil {
		return false, err
	}
	passed := g.old.Pass(&Out{conn: g.conn})
	g.at("passing")
	for {
		piece, err := g.old.Copy(pieceBytes)
		if err != nil {
			return true, err
		}
		if piece == nil {
			break
		}
		g.report.Copied += int64(len(piece))
		if err := g.sendFile(preparing, kindPiece, piece, nil); err != nil {
			return true, err
		}
		if _, err := g.conn.expect(kindTaken, until); err != nil {
			return true, err
		}
	}
	g.at("copied")
	select {
	case <-passed:
	case <-g.ended:
		return true, errors.New("handover: the new process has ended")
	case <-preparing.Done():
		return true, fmt.Errorf("handover: pass connections: %w", context.Cause(preparing))
	}
	if err := g.conn.send(preparing, begin(kindComplete)); err != nil {
		return true, err
	}
	_, err = g.conn.expect(kindPrepared, until)
	return true, err
}

// passListeners passes the listeners.
func (g *giving) passListeners(ctx context.Context) error {
	names, files, err := g.old.Listeners()
	if err != nil {
		return err
	}
	if len(files) > RightsMax {
		return fmt.Errorf("handover: %d listeners, at most %d can be passed", len(files), RightsMax)
	}
	b := begin(kindListeners)
	b = append(b, byte(len(names)))
	for _, name := range names {
		b = saved.AppendBytes(b, name)
	}
	// Not by Fd, which would make the shared socket block.
	fds := make([]int, 0, len(files))
	var send func(i int) error
	send = func(i int) (err error) {
		if i == len(files) {
			return g.conn.send(ctx, b, fds...)
		}
		raw, err := files[i].SyscallConn()
		if err != nil {
			return err
		}
		if e := raw.Control(func(fd uintptr) {
			fds = append(fds, int(fd))
			err = send(i + 1)
		}); e != nil {
			return e
		}
		return err
	}
	return send(0)
}

// sendFile sends b in a memory file.
func (g *giving) sendFile(ctx context.Context, k kind, b, head []byte) error {
	f, meta, err := write("sluice-"+k.String(), b)
	if err != nil {
		return err
	}
	defer f.Close() // ignored: it was sent, or nothing is
	return g.conn.send(ctx, meta.append(append(begin(k), head...)), int(f.Fd()))
}

// freeze stops serving, and sends what the new process still has to know.
func (g *giving) freeze() error {
	g.at("freezing")
	freezing, cancel := context.WithTimeout(context.Background(), g.patience.Freeze)
	defer cancel()
	if err := g.old.Freeze(freezing); err != nil {
		return err
	}
	g.at("frozen")
	b, err := g.old.Save()
	if err != nil {
		return err
	}
	g.report.Records = int64(len(b))
	return g.sendFile(freezing, kindFinal, b, nil)
}

// commit waits until the new process is ready, and lets it start.
func (g *giving) commit() error {
	g.at("final")
	m, err := g.conn.expect(kindReady, time.Now().Add(g.patience.Ready+time.Duration(g.about)*g.patience.ReadyEach))
	if err != nil {
		return err
	}
	g.report.Moved = int(m.body.Uint())
	if err := m.end(0); err != nil {
		return err
	}
	g.at("ready")
	until := time.Now().Add(g.patience.Started)
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	if err := g.conn.send(ctx, begin(kindCommit)); err != nil {
		return err
	}
	g.at("committed")
	m, err = g.conn.expect(kindStarted, until)
	m.drop()
	return err
}

// finish ends this process's part: the new one serves.
func (g *giving) finish() error {
	g.at("started")
	g.old.Given()
	ctx, cancel := context.WithTimeout(context.Background(), g.patience.Release)
	defer cancel()
	g.old.Stragglers(func(sent []byte, fd int) error {
		return g.conn.send(ctx, saved.AppendBytes(begin(kindStraggler), sent), fd)
	})
	err := g.old.Release(ctx)
	if err == nil {
		err = g.conn.send(ctx, begin(kindReleased))
	}
	if e := g.conn.send(ctx, begin(kindBye)); err == nil {
		err = e
	}
	return err
}

// kill ends the new process.
func (g *giving) kill() { g.cmd.Process.Kill() } // ignored: it has ended already

// isDead waits until the new process is dead, and with it its descriptors closed.
func (g *giving) isDead() bool {
	select {
	case <-g.ended:
		return true
	case <-time.After(g.patience.Dead):
		return false // in the kernel, perhaps; what it has is not served
	}
}

// hasStarted reports whether a dead process had said that it has started.
func (g *giving) hasStarted() bool {
	for {
		m, err := g.conn.receive(time.Now().Add(time.Second)) // all that it has said is there
		m.drop()
		if err != nil || m.kind == kindStarted {
			return err == nil
		}
	}
}
