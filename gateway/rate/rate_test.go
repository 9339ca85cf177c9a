package rate

import (
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// A model is a bucket that counts what is in it, in thousandths of a token, and lets time
// pass a millisecond at a time.
type model struct{ held, rate, burst int64 }

func newModel(rate, burst int) *model {
	return &model{int64(burst) * 1000, int64(rate), int64(burst) * 1000}
}

func (m *model) pass(millis int64) {
	for range millis {
		m.held = min(m.held+m.rate, m.burst)
	}
}

func (m *model) left() int { return int(math.Floor(float64(m.held) / 1000)) }

func (m *model) take() bool {
	if m.held < 1000 {
		return false
	}
	m.held -= 1000
	return true
}

// check drives buckets of every type and models with the same events: each byte is a
// number of takes and the time that passes before them.
func check(t *testing.T, rate, burst int, ops []byte) {
	t.Helper()
	seconds, millis := PerSecond(rate, burst), PerSecondInMillis(rate, burst)
	var level Level
	var meter Meter
	var mark Mark
	bySecond, byMilli := newModel(rate, burst), newModel(rate, burst)
	now := int64(1_700_000_000_000)
	meter.Left(millis, now)
	for i, op := range ops {
		step := []int64{0, 1, 7, 100, 999, 1000, 2500, 10_000}[op&7]
		now += step
		byMilli.pass(step)
		bySecond.pass(step / 1000 * 1000)
		level.Pass(seconds, uint32(step/1000))
		if got, want := mark.Full(millis, now), byMilli.held == byMilli.burst; got != want {
			t.Fatalf("op %d: mark is full: %v, want %v", i, got, want)
		}
		for range op >> 3 {
			if got, want := level.Take(seconds), bySecond.take(); got != want {
				t.Fatalf("op %d: level admits: %v, want %v", i, got, want)
			}
			if got, want := meter.Left(millis, now), byMilli.left(); got != want {
				t.Fatalf("op %d: meter has %d left, want %d", i, got, want)
			}
			has, took, want := mark.Has(millis, now), mark.Take(millis, now), byMilli.take()
			if has != want || took != want {
				t.Fatalf("op %d: mark has %v, took %v, want %v", i, has, took, want)
			}
			if want {
				meter.Take(millis)
			}
		}
	}
}

func TestEveryBucketIsAsItsModel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, rate := range []int{1, 2, 10, 127, 1000} {
		for _, burst := range []int{1, rate, 2 * rate, 5 * rate} {
			ops := make([]byte, 500)
			for i := range ops {
				ops[i] = byte(random.Uint32())
			}
			check(t, rate, burst, ops)
		}
	}
}

func FuzzBuckets(f *testing.F) {
	f.Add(uint8(10), uint8(20), []byte("\xff\x05\xf9\x06"))
	f.Fuzz(func(t *testing.T, rate, burst uint8, ops []byte) {
		check(t, int(rate)+1, int(burst)+1, ops[:min(len(ops), 200)])
	})
}

func TestNoLimitAlwaysHasTokens(t *testing.T) {
	var level Level
	var meter Meter
	var mark Mark
	for _, l := range []Limit{{}, PerSecond(0, 5), PerSecondInMillis(-1, 5)} {
		for range 1000 {
			meter.Take(l)
			if !l.None() || !level.Take(l) || meter.Left(l, 1) != math.MaxInt || !mark.Has(l, 1) || !mark.Take(l, 1) || !mark.Full(l, 1) {
				t.Fatal("no limit refuses")
			}
		}
	}
	if level != 0 || meter != (Meter{}) || mark != 0 {
		t.Errorf("no limit counts: %v %v %v", level, meter, mark)
	}
}

// A client that was not read for a while may send what it could have sent in that time.
func TestCreditIsBesideTheBurst(t *testing.T) {
	const rate, burst, parked = 10, 20, 6
	l, v, n := PerSecond(rate, burst), Level(0), 0
	v.Credit(l, parked)
	v.Pass(l, 100) // which brings nothing: the bucket is more than full
	for v.Take(l) {
		n++
	}
	if n != burst+rate*parked {
		t.Errorf("%d events at once, want %d", n, burst+rate*parked)
	}
	for range 10_000 {
		v.Credit(PerSecond(Max, Max), math.MaxUint32)
	}
	if v != -creditMax {
		t.Errorf("credit is %d, want %d at most", -v, creditMax)
	}
}

// Callers read their clocks before they come to a lock: one may be some milliseconds behind
// the one before it, and brings nothing by that.
func TestCallersWhoseClocksDifferShareOneMeter(t *testing.T) {
	const rate, start = 1000, 1_000_000
	l := PerSecondInMillis(rate, rate)
	for name, at := range map[string]func(i int64) int64{
		"in turn":      func(i int64) int64 { return start + i%2 },
		"in disorder":  func(i int64) int64 { return start + i*7%10 },
		"far and near": func(i int64) int64 { return start + i%2*900 },
	} {
		var m Meter
		n, newest := int64(0), int64(0)
		for i := range int64(10 * rate) {
			newest = max(newest, at(i)-start)
			if m.Left(l, at(i)) > 0 {
				m.Take(l)
				n++
			}
		}
		if most := rate + newest*rate/1000; n > most || n < rate {
			t.Errorf("%s: %d events within %d ms, want %d to %d", name, n, newest, rate, most)
		}
	}
}

// Callers whose time is some seconds old take turns with others. None of them brings tokens a second time.
func TestAMeterHasCallersWhoseTimeIsOld(t *testing.T) {
	const rate, start = 100, 1_700_000_000_000
	l := PerSecondInMillis(rate, rate)
	var m Meter
	n := 0
	for i := range int64(20 * rate) {
		if m.Left(l, start-i%2*5000) > 0 {
			m.Take(l)
			n++
		}
	}
	if n != rate {
		t.Errorf("%d events at once, want %d", n, rate)
	}
}

func TestClockThatWasSetBackDoesNotStopAMeter(t *testing.T) {
	const rate, start = 10, 1_700_000_000_000
	l := PerSecondInMillis(rate, rate)
	var m Meter
	for m.Left(l, start) > 0 {
		m.Take(l)
	}
	if m.Left(l, start-60_000) > 0 {
		t.Error("setting the clock back brings tokens")
	}
	if got := m.Left(l, start-59_000); got != rate {
		t.Errorf("a second later there are %d tokens, want %d", got, rate)
	}
}

func TestRatesAreBounded(t *testing.T) {
	l := PerSecondInMillis(math.MaxInt, math.MaxInt)
	var m Meter
	if got := m.Left(l, math.MaxInt64); got != 2*Max {
		t.Errorf("%d tokens, want %d", got, 2*Max)
	}
	var mark Mark
	const century = 100 * 366 * 24 * 3600 * 1000
	n := 0
	for mark.Take(l, century) {
		n++
	}
	var level Level
	for level.Take(PerSecond(math.MaxInt, math.MaxInt)) {
		n++
	}
	if n != 4*Max {
		t.Errorf("two full buckets have %d tokens, want %d", n, 4*Max)
	}
}

func TestSizeOfBuckets(t *testing.T) {
	if l, m, k := unsafe.Sizeof(Level(0)), unsafe.Sizeof(Meter{}), unsafe.Sizeof(Mark(0)); l != 4 || m != 16 || k != 8 {
		t.Errorf("level %d, meter %d, mark %d bytes, want 4, 16, 8", l, m, k)
	}
}
