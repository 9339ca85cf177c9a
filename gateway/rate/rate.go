// Package rate has the arithmetic of token buckets: for each connection, channel and
// address, and for all addresses together.
//
// A bucket holds up to a burst of tokens, and gains some per second. Each event takes
// one. What is stored is the level: how much was taken and has not come back. The holders
// differ in what they can afford to store, so there are three types of bucket, with one
// arithmetic, that of [Limit]:
//
//   - A [Level] has 4 bytes and no time. Its owner knows how much time has passed.
//   - A [Meter] has its own time, and many callers whose clocks differ a little.
//   - A [Mark] has 8 bytes, level and time in one, and a clock that never goes back.
//
// Time is whole ticks of the caller's clock, seconds or milliseconds. A bucket on a clock
// in milliseconds counts thousandths of a token, because a rate of r per second is r
// thousandths per millisecond: whole numbers, without drift.
//
// The package is one of its own because the gateway's other packages, which need it, do
// not import each other, and so that its arithmetic can be checked against a model. It
// reads no clock, locks nothing, and does not know what is limited or what happens beyond
// a limit.
package rate

import "math"

// Max bounds rates, and twice as much bounds bursts, so that every level fits its type, and
// a clock times a rate fits an int64 for centuries.
const Max = 1_000_000

// creditMax bounds how far below zero [Level.Credit] takes a level.
const creditMax = 1 << 30

// A Limit is the measure of buckets: how fast they fill up and how much they hold. The
// zero Limit is none: its buckets always have a token.
type Limit struct {
	refill int64 // what a level loses per tick
	burst  int64 // the level of an empty bucket
	token  int64 // what an event adds to a level
}

// PerSecond returns the limit of a rate per second, for a clock in seconds. It is none if
// rate is not positive.
func PerSecond(rate, burst int) Limit { return limit(rate, burst, 1) }

// PerSecondInMillis is PerSecond for a clock in milliseconds.
func PerSecondInMillis(rate, burst int) Limit { return limit(rate, burst, 1000) }

func limit(rate, burst int, token int64) Limit {
	if rate <= 0 {
		return Limit{}
	}
	return Limit{refill: int64(min(rate, Max)), burst: int64(min(max(burst, 1), 2*Max)) * token, token: token}
}

// None reports whether there is no limit.
func (l Limit) None() bool { return l.refill == 0 }

// PerTick returns how many tokens come in with each tick of a clock in seconds.
func (l Limit) PerTick() int { return int(l.refill) }

// after returns what a level is some ticks later. One below zero stays what it is.
func (l Limit) after(level, ticks int64) int64 {
	return min(level, max(level-l.refill*ticks, 0))
}

// admits reports whether there is a token at a level.
func (l Limit) admits(level int64) bool { return l.None() || level+l.token <= l.burst }

// A Level is a bucket whose owner tells it how much time has passed. The zero Level is
// full. One below zero has more tokens than the burst.
type Level int32

// Pass lets time pass.
func (v *Level) Pass(l Limit, seconds uint32) { *v = Level(l.after(int64(*v), int64(seconds))) }

// Credit lets time pass in which events could not come: the tokens of that time are kept
// for later, beside the burst.
func (v *Level) Credit(l Limit, seconds uint32) {
	*v = Level(max(int64(*v)-l.refill*int64(seconds), -creditMax))
}

// Take takes a token, and reports whether there was one.
func (v *Level) Take(l Limit) bool {
	if !l.admits(int64(*v)) {
		return false
	}
	*v += Level(l.token)
	return true
}

// Steps of a Meter's clock, in milliseconds. A longer step back than backMax is a clock that
// was set, a shorter one callers that overtook each other: a loop's time is that at which its batch
// of events began, and in a flood that is seconds ago. A longer step forward than stepMax
// brings no more tokens: by then every bucket is full.
const (
	backMax = 10_000
	stepMax = 1 << 32
)

// A Meter is a bucket with its own time, in milliseconds. The zero Meter is full.
type Meter struct {
	level int64
	at    int64 // the newest time seen
}

// At returns the newest time that the bucket has seen.
func (m *Meter) At() int64 { return m.at }

// Left returns how many tokens there are at now. A now that goes back brings none.
func (m *Meter) Left(l Limit, now int64) int {
	if l.None() {
		return math.MaxInt
	}
	switch {
	case now > m.at:
		m.level = l.after(m.level, min(now-m.at, stepMax))
		m.at = now
	case now < m.at-backMax:
		m.at = now
	}
	return int(l.burst/l.token - (m.level+l.token-1)/l.token)
}

// Take takes a token, whether there is one or not.
func (m *Meter) Take(l Limit) { m.level += l.token }

// A Mark is a bucket as one number: the value of clock times rate at which it is full
// again. The zero Mark is full at any time. All Marks of a Limit have one clock, in
// milliseconds, which must never go back.
type Mark int64

func (m Mark) level(l Limit, clock int64) int64 { return max(int64(m)-clock*l.refill, 0) }

// Has reports whether there is a token.
func (m Mark) Has(l Limit, clock int64) bool { return l.admits(m.level(l, clock)) }

// Take takes a token, and reports whether there was one.
func (m *Mark) Take(l Limit, clock int64) bool {
	level := m.level(l, clock)
	if !l.admits(level) {
		return false
	}
	if !l.None() {
		*m = Mark(clock*l.refill + level + l.token)
	}
	return true
}

// Full reports whether the bucket is full.
func (m Mark) Full(l Limit, clock int64) bool { return m.level(l, clock) == 0 || l.None() }
