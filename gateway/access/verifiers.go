package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/access/auth"
)

// Kind is what a token has to be.
type Kind uint8

const (
	AnyToken Kind = iota
	ConnectionToken
	SubscriptionToken
)

// Verification is a token that has to be verified, and the verdict on it.
type Verification struct {
	// Set by the caller. The functions are called on a verifier's goroutine and must not block.
	Token string
	Done  func() // the verdict is there
	Waits func() // it has to wait for a key set; nil for nothing
	Kind  Kind

	// The verdict, which belongs to the verifiers until they call Done.
	IsSubscription bool

	abandoned atomic.Bool // no one waits for the verdict any more; here for the size of what waits

	// The verdict, too.
	Connection   auth.Connection
	Subscription auth.Subscription // if IsSubscription or Kind says so
	Err          error             // as package auth returns it
}

// Verdict panics where the verification did, so that it costs only what waits for it.
func (x *Verification) Verdict() {
	if p, ok := x.Err.(*verifierPanic); ok {
		panic(p)
	}
}

// Abandon notes that no one waits for the verdict any more.
func (x *Verification) Abandon() { x.abandoned.Store(true) }

type verifierPanic struct {
	value any
	stack []byte
}

func (p *verifierPanic) Error() string { return fmt.Sprintf("verifier: %v\n%s", p.value, p.stack) }

// verify sets the verdict as of now. ctx ends the wait for a key set.
func (x *Verification) verify(ctx context.Context, v *auth.Verifier, now time.Time) {
	if v == nil { // the keys were removed after the token came
		x.Err = auth.ErrUnavailable
		return
	}
	switch x.Kind {
	case AnyToken:
		x.Connection, x.Subscription, x.IsSubscription, x.Err = v.Either(ctx, x.Token, now)
	case SubscriptionToken:
		x.Subscription, x.Err = v.Subscription(ctx, x.Token, now)
	default:
		x.Connection, x.Err = v.Connection(ctx, x.Token, now)
	}
}

// LogRejected logs why a token is rejected, with what says whose it was. The token itself is
// never in the log.
func LogRejected(log *slog.Logger, why string, whose ...slog.Attr) {
	log.LogAttrs(context.Background(), slog.LevelInfo, "token rejected", append(whose, slog.String("why", why))...)
}

// waitersMax bounds the tokens that wait for a key set at a time. One that waits costs nothing
// but its goroutine.
const waitersMax = 16

// Verifiers verify the tokens that are too expensive for the goroutine that asks: a few
// goroutines, because a flood of forged tokens must not take the machine. Tokens whose key has to
// be waited for go on to others, because anyone can name keys that do not exist, and must not
// keep other clients waiting.
type Verifiers struct {
	tokens         atomic.Pointer[auth.Verifier] // nil without keys
	before         func()                        // nil for nothing
	queue, waiting chan *Verification
	ended          <-chan struct{} // set by Start; nil before

	starting sync.Mutex
	start    func() // guarded by starting: of the goroutines; nil before Start, and once they run
}

// NewVerifiers returns verifiers that have not started, for which at most tokensMax tokens wait.
// They call before, if it is not nil, before each verification, which panics if it does.
func NewVerifiers(tokens *auth.Verifier, tokensMax int, before func()) *Verifiers {
	v := &Verifiers{before: before, queue: make(chan *Verification, tokensMax), waiting: make(chan *Verification, tokensMax)}
	v.tokens.Store(tokens)
	return v
}

// Replace replaces the keys. Tokens that are being verified may still be verified by those before.
func (v *Verifiers) Replace(tokens *auth.Verifier) {
	v.tokens.Store(tokens)
	v.run()
}

// run starts the goroutines, if they are wanted, and may run.
func (v *Verifiers) run() {
	v.starting.Lock()
	defer v.starting.Unlock()
	if v.start != nil && v.tokens.Load() != nil {
		v.start()
		v.start = nil
	}
}

// Start starts n verifiers that never wait, and those that do, as soon as there are keys. spawn starts a goroutine; it ends
// when stopped is closed.
func (v *Verifiers) Start(stopped <-chan struct{}, n int, spawn func(func())) {
	v.ended = stopped
	v.starting.Lock()
	v.start = func() {
		ctx, cancel := context.WithCancel(context.Background())
		spawn(func() {
			<-stopped
			cancel()
		})
		for range n {
			spawn(func() { v.work(ctx) })
		}
		for range waitersMax {
			spawn(func() { v.wait(ctx) })
		}
	}
	v.starting.Unlock()
	v.run()
}

// Cheap reports whether a token may be verified at once, with Verify.
func (v *Verifiers) Cheap(token string) bool {
	tokens := v.tokens.Load()
	return tokens == nil || tokens.Cheap(token)
}

// Verify verifies x as of now on the caller's goroutine, without waiting for a key set.
func (v *Verifiers) Verify(x *Verification, now time.Time) { x.verify(ended, v.tokens.Load(), now) }

// Submit hands x over, or sets its Err to auth.ErrUnavailable and returns false where too many wait.
func (v *Verifiers) Submit(x *Verification) bool {
	select {
	case v.queue <- x:
		return true
	default:
		x.Err = auth.ErrUnavailable
		return false
	}
}

// Wait verifies a token of any kind, at once if that is cheap. Else it waits for the verdict until
// ctx ends, the timeout is over or the verifiers have ended; then Err is auth.ErrUnavailable. If
// the token itself has to wait for a key set, waits is called, unless it is nil; false ends the wait.
func (v *Verifiers) Wait(ctx context.Context, timeout time.Duration, token string, waits func() bool) *Verification {
	x := &Verification{Token: token}
	if v.Cheap(token) {
		v.Verify(x, time.Now())
		return x
	}
	done, long := make(chan struct{}), make(chan struct{})
	x.Done, x.Waits = func() { close(done) }, func() { close(long) }
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if !v.Submit(x) {
		return x
	}
	select {
	case <-done:
		x.Verdict()
		return x
	case <-long:
		if waits != nil && !waits() {
			break
		}
		select {
		case <-done:
			x.Verdict()
			return x
		case <-ctx.Done():
		case <-v.ended:
		}
	case <-ctx.Done():
	case <-v.ended:
	}
	x.Abandon()
	return &Verification{Token: token, Err: auth.ErrUnavailable}
}

// Take returns a verification that was submitted, for the caller to decide, or nil. It serves
// programs that do not start the verifiers.
func (v *Verifiers) Take() *Verification {
	select {
	case x := <-v.queue:
		return x
	default:
		return nil
	}
}

// ended is the context of callers that do not wait for a key set.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

func (v *Verifiers) work(ctx context.Context) {
	for {
		select {
		case x := <-v.queue:
			if x.abandoned.Load() {
				continue
			}
			if v.try(ended, x); !errors.Is(x.Err, context.Canceled) {
				x.Done()
				continue
			}
			if x.Waits != nil {
				x.Waits()
			}
			select {
			case v.waiting <- x:
			default:
				x.Err = auth.ErrUnavailable
				x.Done()
			}
		case <-ctx.Done():
			return
		}
	}
}

func (v *Verifiers) wait(ctx context.Context) {
	for {
		select {
		case x := <-v.waiting:
			if x.abandoned.Load() {
				continue
			}
			v.try(ctx, x)
			x.Done()
		case <-ctx.Done():
			return
		}
	}
}

// try verifies, and takes a panic for the verdict.
func (v *Verifiers) try(ctx context.Context, x *Verification) {
	defer func() {
		if r := recover(); r != nil {
			x.Err = &verifierPanic{r, debug.Stack()}
		}
	}()
	if v.before != nil {
		v.before()
	}
	x.verify(ctx, v.tokens.Load(), time.Now())
}
