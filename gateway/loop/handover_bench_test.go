package loop

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/poller"
)

// A benchmark of a handover: so many connections, in so many channels.
const (
	benchConnections = 2000
	benchChannels    = 100
)

// benchMove is loops whose connections are handed over to others, again and again.
type benchMove struct {
	b     *testing.B
	from  *loops
	peers []int
}

func newBenchMove(b *testing.B) *benchMove {
	m := &benchMove{b: b}
	m.from = m.loops()
	for i := range benchConnections {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		m.peers = append(m.peers, fds[1])
		m.from.doOn(m.from.all[i%2], func(l *Loop) { loopJoin(b, loopWatched(b, l, fds[0]), fmt.Sprintf("room%d", i%benchChannels)) })
	}
	return m
}

func (m *benchMove) loops() *loops {
	return startLoops(m.b, loopsConfig{PingInterval: -1, WriteTimeout: -1, ChannelBuffer: 4 << 20, MaxBuffered: 4 << 30, MaxMessage: 1 << 20})
}

// end ends the connections.
func (m *benchMove) end() {
	for _, fd := range m.peers {
		poller.Close(fd) // ignored: nothing is sent
	}
	clienttest.WaitFor(m.b, "the connections to end", func() bool { return m.from.connections() == 0 })
}

// fill has each channel fall behind by about so many bytes, in publications of a size, where loops are frozen.
func (m *benchMove) fill(bytes, size int) {
	payload := []byte(clienttest.Noise(size))
	for i := range benchChannels {
		c := m.from.space.Find(fmt.Sprintf("room%d", i))
		for range bytes / size {
			if _, err := c.Publish(&channel.Publication{Payload: payload}, new(channel.Scratch), nil); err != nil {
				m.b.Fatal(err)
			}
		}
	}
}

// cpuTime returns what the process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchTails are how far channels are behind.
var benchTails = []struct {
	name        string
	bytes, size int
}{{"quiet", 0, 1}, {"tails=4MiB", 40 << 10, 200}, {"tails=64MiB", 640 << 10, 1 << 10}, {"tails=190MiB", 1900 << 10, 4 << 10}}

// BenchmarkSave writes frozen connections down.
func BenchmarkSave(b *testing.B) {
	for _, of := range benchTails {
		b.Run(of.name, func(b *testing.B) {
			m := newBenchMove(b)
			f := freeze(b, m.from, m.loops(), nil)
			m.fill(of.bytes, of.size)
			records := 0
			for b.Loop() {
				records = len(f.giving.Save(nil))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchConnections, "ns/connection")
			b.ReportMetric(float64(records)/benchConnections, "B/connection")
			f.giveUp()
			m.end()
		})
	}
}

// BenchmarkLoad hands connections over: load-ns is for building them, cpu-ns all that both sides have used, and frozen-ms the
// time from the freeze on in which nobody serves, but for the transport.
func BenchmarkLoad(b *testing.B) {
	for _, of := range benchTails {
		b.Run(of.name, func(b *testing.B) {
			m := newBenchMove(b)
			var load, cpu, frozen time.Duration
			travels := 0
			for i := 0; b.Loop(); i++ {
				to := m.loops()
				before := cpuTime(b)
				f := freeze(b, m.from, to, nil)
				if i == 0 {
					m.fill(of.bytes, of.size) // this time it travels in the freeze
				}
				freezing := time.Now()
				rest, records := f.snapshot.Rest(nil), f.giving.Save(nil)
				begin := time.Now()
				f.take(rest, records)
				load += time.Since(begin)
				if i > 0 {
					frozen += time.Since(freezing)
					travels = len(records)
				}
				f.complete()
				cpu += cpuTime(b) - before
				m.from.shutdown()
				m.from = to
			}
			n := float64(b.N) * benchConnections
			b.ReportMetric(float64(load.Nanoseconds())/n, "load-ns/connection")
			b.ReportMetric(float64(cpu.Nanoseconds())/n, "cpu-ns/connection")
			b.ReportMetric(frozen.Seconds()*1000/float64(max(b.N-1, 1)), "frozen-ms")
			b.ReportMetric(float64(travels)/benchConnections, "B/connection")
			m.end()
		})
	}
}
