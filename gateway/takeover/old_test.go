package takeover

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/edge"
	"sluice/gateway/engine"
	"sluice/gateway/engine/local"
	"sluice/gateway/gate"
	"sluice/gateway/loop"
	"sluice/gateway/ops"
)

// nowhere takes no connections: there are none.
type nowhere struct{}

func (nowhere) Pass([]uint64, []int) (bool, error) { return true, nil }
func (nowhere) Gone([]uint64) (bool, error)        { return true, nil }

// newOld returns a server without connections that is about to be handed over, whose API listens on l.
func newOld(t *testing.T, l net.Listener) *Old {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	space := channel.NewSpace(64<<10, 100, channel.NewBudget(1<<20))
	e := edge.New(edge.Config{Live: edge.Live{MaxConnections: 10}, MaxHandshakes: 10, Logger: log})
	set, err := loop.New(loop.Config{Loops: 2, LoopTimeout: -1, HeldMax: 1 << 20, ChannelBuffer: 64 << 10, Failed: func(error) {}, Admission: e,
		Engine: local.Engine{}, Space: space, Logger: log, Seconds: make(chan time.Time)})
	if err != nil {
		t.Fatal(err)
	}
	e.Start(set)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		e.Close()
		if _, err := set.Stop(ctx, 0); err != nil {
			t.Error(err)
		}
		e.Wait()
	})
	o := &Old{Parts: Parts{Set: set, Space: space, Edge: e, Publisher: engine.NewPublisher(local.Engine{}, space, 1<<10), Relay: ops.NewRelay(), Sessions: new(gate.Gate), Logger: log}, Internal: []net.Listener{l}}
	o.giving, _ = set.Give(nowhere{})
	o.snapshot = space.Snapshot()
	return o
}

// A request of the API that asks the loops in the freeze is answered by the process that has the connections
// afterwards.
func TestRequestInTheFreeze(t *testing.T) {
	for _, given := range []bool{true, false} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		other, err := net.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		defer other.Close()
		o := newOld(t, l)
		begun, frozen := make(chan struct{}), make(chan struct{})
		old := &http.Server{Handler: o.Relay.Around(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(begun)
			<-frozen
			for _, err := range loop.EachLoop(r.Context(), o.Set, func(*loop.Loop) bool { return true }) {
				if err != nil {
					http.Error(w, err.Error(), http.StatusServiceUnavailable)
					return
				}
			}
			io.WriteString(w, "the old process")
		}))}
		go old.Serve(l)
		defer old.Close()
		answers := make(chan string, 1)
		go func() {
			r, err := http.Post("http://"+l.Addr().String()+"/api/disconnect", "application/json", strings.NewReader("{}"))
			if err != nil {
				answers <- err.Error()
				return
			}
			defer r.Body.Close()
			b, _ := io.ReadAll(r.Body)
			answers <- string(b)
		}()
		<-begun
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := o.Freeze(ctx); err != nil {
			t.Fatal(err)
		}
		close(frozen)
		time.Sleep(10 * time.Millisecond) // then the loops are asked most likely; the test passes anyway
		want := "the old process"
		if given {
			want = "the new process"
			o.Given()
			next := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, want) })}
			go next.Serve(other)
			defer next.Close()
		} else {
			o.Thaw()
		}
		if got := <-answers; got != want {
			t.Errorf("handed over: %v: the answer is %q, want that of %s", given, got, want)
		}
	}
}
