package admit

// token is what one connection takes from a bucket: thousandths, so that a rate
// in tokens a second is one in thousandths a millisecond.
const token = 1000

// rateMax bounds rates and bursts, so that a clock times a rate fits an int64 for
// centuries. No table is asked a million times a second.
const rateMax = 1_000_000

// A bucket is a token bucket's measure: it gains rate tokens a second and holds
// burst. The zero bucket is without bottom.
//
// What is in a bucket is kept as one number, the mark: the value of clock*rate at
// which it is full again. A mark of 0 is a full bucket at any time.
type bucket struct {
	rate, burst int64
}

// newBucket returns the bucket without bottom where rate is not positive.
func newBucket(rate, burst int) bucket {
	if rate <= 0 {
		return bucket{}
	}
	return bucket{rate: int64(min(rate, rateMax)), burst: int64(min(max(burst, 1), rateMax))}
}

// has reports whether there is a token.
func (b bucket) has(mark, clock int64) bool {
	return b.rate == 0 || max(mark-clock*b.rate, 0) <= (b.burst-1)*token
}

// take takes a token if there is one.
func (b bucket) take(mark *int64, clock int64) bool {
	if !b.has(*mark, clock) {
		return false
	}
	if b.rate > 0 {
		*mark = max(*mark, clock*b.rate) + token
	}
	return true
}

func (b bucket) full(mark, clock int64) bool { return mark <= clock*b.rate || b.rate == 0 }
