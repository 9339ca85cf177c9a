package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

// A key set is fetched by one goroutine: at the start, every few minutes, and when
// a token names a key that is not in it. The libraries parse keys and find them by kid.
// Their own fetching is not used: it accepts responses of any length, rejects a whole set
// for one bad key, and queues a fetch for each unknown kid, so that a flood of them would
// keep all others waiting.

const (
	setBytesMax = 256 << 10
	setKeysMax  = 64
	// waitersMax bounds the callers that wait for a fetch. Others get ErrUnavailable.
	waitersMax = 64
)

// timing is how a key set is fetched; tests are faster.
type timing struct {
	first   time.Duration // New waits for the first answer
	fetch   time.Duration // a fetch may take
	refresh time.Duration // between fetches, more or less
	retry   time.Duration // after the first that failed; doubles up to refresh
	gap     time.Duration // at least, from one fetch to one for an unknown kid
	ask     time.Duration // a caller with an unknown kid waits
}

var defaultTiming = timing{
	first: 5 * time.Second, fetch: 10 * time.Second, refresh: 5 * time.Minute,
	retry: 5 * time.Second, gap: 10 * time.Second, ask: 2 * time.Second,
}

// CheckJWKSURL returns an error if a key set may not be fetched from that URL. Over plain
// http anyone on the network path could insert a key, so http is for this machine only.
func CheckJWKSURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("the key set URL must be an absolute URL, such as https://id.example.com/.well-known/jwks.json")
	}
	ip := net.ParseIP(u.Hostname())
	switch {
	case u.User != nil:
		return errors.New("the key set URL contains a password; key sets are public, so remove it")
	case u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()):
		return errors.New("the key set URL uses http, so anyone on the network path could insert a key; use https")
	}
	return nil
}

// remote is a key set that is fetched.
type remote struct {
	// Set at construction.
	url     string
	client  *http.Client
	onError func(error)
	timing  timing
	ctx     context.Context // ends with the Verifier
	cancel  context.CancelFunc
	stopped chan struct{}
	asked   chan struct{} // one place

	live atomic.Pointer[keySet] // the last good one; nil before that

	mu      sync.Mutex
	flight  *flight   // the fetch that is on its way; nil between them
	next    *flight   // the one that has not begun
	began   time.Time // when the newest began
	waiting int
	// A kid that was asked for before a set was fetched that does not have it is one that
	// nobody has, as long as that set is fresh. For another nobody can say so yet.
	sought map[uint64]struct{} // since the newest fetch began, at most soughtMax
	absent map[uint64]struct{} // not in the last good set, though sought before it
}

// soughtMax bounds how many unknown kids are remembered from one fetch to the next.
const soughtMax = 1024

// kidSeed hashes kids: they are the sender's, and may be long.
var kidSeed = maphash.MakeSeed()

func kidHash(h header) uint64 { return maphash.String(kidSeed, h.alg.String()+h.kid) }

// flight is a fetch. Its error is set before done is closed.
type flight struct {
	done chan struct{}
	err  error
}

func newFlight() *flight { return &flight{done: make(chan struct{})} }

func newRemote(address string, onError func(error), t timing) *remote {
	r := &remote{url: address, onError: onError, timing: t, stopped: make(chan struct{}), asked: make(chan struct{}, 1), next: newFlight()}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.client = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment,
			// A connection for each fetch: they are minutes apart.
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		},
		// A redirect is an answer that is no key set: it could lead from https to http.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return r
}

// start begins to fetch, and waits for the first answer.
func (r *remote) start(ctx context.Context) {
	first := r.next // of nobody else yet
	go r.run()
	wait := time.NewTimer(r.timing.first)
	defer wait.Stop()
	select {
	case <-first.done:
	case <-wait.C:
	case <-ctx.Done():
	}
}

func (r *remote) close() {
	r.cancel()
	<-r.stopped
}

// run is the goroutine that fetches.
func (r *remote) run() {
	defer close(r.stopped)
	for retry := r.timing.retry; ; {
		var wait time.Duration
		if err := r.fetch(); err != nil {
			if r.ctx.Err() != nil {
				return
			}
			wait = retry
			retry = min(2*retry, r.timing.refresh)
		} else {
			wait, retry = r.timing.refresh, r.timing.retry
		}
		// Gateways that were started together do not stay together.
		timer := time.NewTimer(wait*9/10 + rand.N(wait/5+1))
		select {
		case <-timer.C:
		case <-r.asked:
			timer.Stop()
		case <-r.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// fetch is one flight, from its begin to its end.
func (r *remote) fetch() error {
	r.mu.Lock()
	f := r.next
	r.flight, r.next, r.began = f, newFlight(), time.Now()
	sought := r.sought
	r.sought, r.absent = nil, nil
	select {
	case <-r.asked: // this fetch serves all who asked until now
	default:
	}
	r.mu.Unlock()

	set, err := r.get()
	if err == nil {
		r.live.Store(set)
	}
	r.mu.Lock()
	r.flight = nil
	if err == nil {
		r.absent = sought
	}
	r.mu.Unlock()
	if err != nil && r.onError != nil && r.ctx.Err() == nil {
		r.onError(err) // before those that wait for this fetch go on
	}
	f.err = err
	close(f.done)
	return err
}

// key finds the key that a header names, and asks for the set again if it is not there.
func (r *remote) key(ctx context.Context, h header) (any, error) {
	key, err := r.live.Load().find(ctx, h)
	if err != errUnknown {
		return key, err
	}
	f, after, absent := r.join(kidHash(h))
	switch {
	case absent:
		return r.live.Load().find(ctx, h) // it may have come between the two, with the set that it was sought for
	case f == nil:
		return nil, ErrUnavailable
	}
	defer r.leave()
	wait := time.NewTimer(r.timing.ask)
	defer wait.Stop()
	select {
	case <-f.done:
	case <-wait.C:
		return nil, ErrUnavailable
	case <-r.ctx.Done():
		return nil, ErrUnavailable
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if key, err = r.live.Load().find(ctx, h); err == errUnknown && (f.err != nil || !after) {
		err = ErrUnavailable // the set may have it by now
	}
	return key, err
}

// join returns a fetch to wait for and whether it begins after this call, or nil if there is
// none to wait for. With a fetch the caller must call leave. absent reports that the key is
// known not to exist.
func (r *remote) join(kid uint64) (f *flight, after, absent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := r.flight == nil && time.Since(r.began) < r.timing.gap
	if _, absent = r.absent[kid]; absent && fresh {
		return nil, false, true
	}
	if r.sought == nil {
		r.sought = make(map[uint64]struct{})
	}
	if len(r.sought) < soughtMax {
		r.sought[kid] = struct{}{}
	}
	switch {
	case fresh, r.waiting == waitersMax:
		return nil, false, false
	case r.flight != nil:
		f = r.flight
	default:
		f, after = r.next, true
		select {
		case r.asked <- struct{}{}:
		default: // somebody has asked already
		}
	}
	r.waiting++
	return f, after, false
}

func (r *remote) leave() {
	r.mu.Lock()
	r.waiting--
	r.mu.Unlock()
}

// get fetches and parses the set.
func (r *remote) get() (*keySet, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.timing.fetch)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	fault := func(err error) error { return fmt.Errorf("key set of %s: %w", req.URL.Host, err) }
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := r.client.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // the URL may have a secret query
		}
		return nil, fault(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fault(fmt.Errorf("the server responded with %d %s", res.StatusCode, http.StatusText(res.StatusCode)))
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, setBytesMax+1))
	if err != nil {
		return nil, fault(err)
	}
	if len(body) > setBytesMax {
		return nil, fault(fmt.Errorf("the response is longer than %d KiB", setBytesMax>>10))
	}
	set, err := parseKeySet(body)
	if err != nil {
		return nil, fault(err)
	}
	return set, nil
}

// keySet holds the keys of a set by algorithm: a kid finds only a key for the header's alg.
// It does not change.
type keySet [algorithms]struct {
	byID keyfunc.Keyfunc
	keys []any
}

// parseKeySet returns the keys that can be used and skips others: providers also publish keys
// for encryption, for other algorithms, and shared secrets.
func parseKeySet(body []byte) (*keySet, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, errors.New("the response is not a key set")
	}
	if len(doc.Keys) > setKeysMax {
		return nil, fmt.Errorf("the set has %d keys, more than %d", len(doc.Keys), setKeysMax)
	}
	set := new(keySet)
	var stores [algorithms]*jwkset.MemoryJWKSet
	count := 0
	for _, raw := range doc.Keys {
		algs, key := parseKey(raw)
		if len(algs) > 0 {
			count++
		}
		for _, alg := range algs {
			if stores[alg] == nil {
				stores[alg] = jwkset.NewMemoryStorage()
				f, err := keyfunc.New(keyfunc.Options{Storage: stores[alg]})
				if err != nil {
					return nil, err
				}
				set[alg].byID = f
			}
			if err := stores[alg].KeyWrite(context.Background(), key); err != nil {
				return nil, err
			}
			set[alg].keys = append(set[alg].keys, key.Key())
		}
	}
	if count == 0 {
		// Probably a mistake at the provider: the last good set stays.
		return nil, fmt.Errorf("none of the %d keys in the set is a public key for RS, ES or EdDSA signatures", len(doc.Keys))
	}
	return set, nil
}

// parseKey parses one key, and returns the algorithms that it is for: none if it cannot be used.
func parseKey(raw []byte) (algs []algorithm, _ jwkset.JWK) {
	var none jwkset.JWK
	var m jwkset.JWKMarshal
	if json.Unmarshal(raw, &m) != nil || m.KTY == jwkset.KtyOct {
		return nil, none
	}
	if m.USE != "" && m.USE != jwkset.UseSig || len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return nil, none
	}
	// Only the public part, without certificates: neither they nor their addresses are used.
	public := jwkset.JWKMarshal{KTY: m.KTY, KID: m.KID, ALG: m.ALG, CRV: m.CRV, X: m.X, Y: m.Y, N: m.N, E: m.E}
	key, err := jwkset.NewJWKFromMarshal(public, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return nil, none
	}
	of, err := algorithmOf(key.Key())
	if err != nil {
		return nil, none
	}
	for a := of; a < algorithms && a.family() == of; a++ {
		if m.ALG == "" || m.ALG.String() == a.String() { // not an RSA key for PS256, say
			algs = append(algs, a)
		}
	}
	return algs, key
}

// find returns the key that a header names, or errUnknown. A header without a kid means the
// only key of its algorithm: trying several would multiply the cost of a bad token.
func (s *keySet) find(ctx context.Context, h header) (any, error) {
	if s == nil || len(s[h.alg].keys) == 0 {
		return nil, errUnknown
	}
	of := s[h.alg]
	if !h.hasKid {
		if len(of.keys) > 1 {
			return nil, errNoKeyID
		}
		return of.keys[0], nil
	}
	key, err := of.byID.KeyfuncCtx(ctx)(&jwt.Token{Header: map[string]any{"alg": h.alg.String(), jwkset.HeaderKID: h.kid}})
	if err != nil {
		return nil, errUnknown // it is in memory: nothing else goes wrong
	}
	return key, nil
}
