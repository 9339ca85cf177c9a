//go:build faults

package loop_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/access"
	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/api"
	"sluice/gateway/centrifugo"
	"sluice/gateway/channel"
	"sluice/gateway/control"
	"sluice/gateway/engine/local"
	"sluice/gateway/loop"
	"sluice/gateway/presence"
	"sluice/gateway/raw"
	"sluice/gateway/route"
)

func init() { loop.MachineServers = newMachineServer }

// machineServer is what is around a machine's loop, as a server has it.
type machineServer struct {
	testing.TB
	*loop.MachineConfig
	policy     *access.Policy
	present    *presence.Table
	verifiers  *access.Verifiers
	centrifugo *centrifugo.Protocol
	protocols  route.Registration
}

// machineKey is a key for tokens that are too expensive for a loop, so that they are verified
// when the script says so.
var machineKey = sync.OnceValues(func() (*auth.Verifier, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	return auth.New(context.Background(), auth.Options{PublicKeys: [][]byte{pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}})
})

func newMachineServer(t testing.TB, cfg *loop.MachineConfig) loop.MachineServer {
	s := &machineServer{TB: t, MachineConfig: cfg, present: presence.New()}
	rights := access.Config{History: cfg.History, HistoryTTL: time.Minute}
	blind := rights // of raw clients: some may not see what was published before they came
	if cfg.Guarded {
		var err error
		if rights.Tokens, err = machineKey(); err != nil {
			t.Fatal(err)
		}
		o := namespace.Options{HistorySize: cfg.History, HistoryTTL: time.Minute, AllowRecovery: true, Presence: true, JoinLeave: true,
			AllowSubscribeForClient: true, AllowSubscribeForAnonymous: true, AllowPublishForSubscriber: true, AllowPresenceForClient: true,
			AllowHistoryForSubscriber: true, AllowPublishForAnonymous: true, AllowRawPublish: true}
		rights.Namespaces = namespace.Everywhere(o)
		o.AllowRecovery, o.AllowHistoryForSubscriber = false, false
		blind = rights
		blind.Namespaces = namespace.Everywhere(o)
	}
	s.policy = access.New(rights)
	s.verifiers = access.NewVerifiers(rights.Tokens, 16, nil)
	plain := raw.New(raw.Config{Greeting: cfg.Greeting, HandshakeTimeout: time.Second, Policy: access.New(blind), Verifiers: s.verifiers, Logger: cfg.Logger})
	sessions := centrifugo.New(centrifugo.Config{Policy: s.policy, Presence: s.present, Verifiers: s.verifiers, Version: "machine", Loops: 1,
		MaxMessage: cfg.MaxMessage, MaxPending: cfg.MaxPending, PingInterval: cfg.PingInterval, Logger: cfg.Logger})
	s.centrifugo = sessions.Variants[0].Protocol.(*centrifugo.Protocol)
	s.protocols = route.Join(sessions, plain)
	return s
}

func (s *machineServer) Protocols() ([]*loop.Variant, []string) {
	return s.protocols.Variants, s.protocols.Sharing
}

func (s *machineServer) Keep(name string) channel.Keep {
	o := s.policy.Options(name)
	return channel.Keep{Count: o.HistorySize, TTL: o.HistoryTTL.Milliseconds()}
}

func (s *machineServer) Hello(r *loop.MachineRequest) (h loop.Hello) {
	h.ListenOnly = r.Stream
	later, reject := s.parse(&h, r)
	if reject == nil && r.LastEventID != "" {
		reject = later.Authorize(context.Background(), &h, nil)
	}
	if reject != nil {
		s.Fatalf("%+v: %s", *r, reject.Text)
	}
	return h
}

// parse reads a request by its route.
func (s *machineServer) parse(h *loop.Hello, r *loop.MachineRequest) (route.Later, *route.Reject) {
	for _, to := range s.protocols.Routes {
		for _, pattern := range to.Paths {
			if name, ok := route.Fits(pattern, r.Path); ok && !r.Stream {
				return to.Parse(h, &route.Request{RawPath: r.Path, RawQuery: r.Query}, name)
			}
		}
		for _, stream := range to.Streams {
			if name, ok := route.Fits(stream.Path, r.Path); ok && r.Stream {
				req := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: r.Path, RawQuery: r.Query}, Header: http.Header{}}
				req.SetPathValue("channel", name)
				if r.LastEventID != "" {
					req.Header.Set("Last-Event-ID", r.LastEventID)
				}
				return stream.Parse(h, req)
			}
		}
	}
	s.Fatalf("there is no route for %s", r.Path)
	return nil, nil
}

func (s *machineServer) Verify(how byte) bool {
	x := s.verifiers.Take()
	if x == nil {
		return false
	}
	switch how >> 4 & 7 {
	case 1:
		x.Err = auth.ErrExpired
	case 2:
		x.Err = auth.ErrUnavailable
	case 3:
		x.Err = &auth.InvalidError{}
	default:
		now := s.Clock().Unix()
		x.Connection = auth.Connection{User: "u" + string('0'+how&1), Channels: []string{"b"}, Info: []byte(`{"n":1}`)}
		x.Subscription = auth.Subscription{User: x.Connection.User, Channel: loop.MachineChannels[how>>1&1], Info: []byte(`{}`)}
		if how&8 != 0 {
			x.Connection.ExpireAt, x.Subscription.ExpireAt = now+int64(how>>6)-1, now+int64(how>>6)-1
		}
	}
	x.Done()
	return true
}

func (s *machineServer) Ask(set *loop.Set, what int, how byte) {
	n := &control.Node{Set: set, Space: s.Space, Policy: s.policy, Engine: local.Engine{Space: s.Space, Present: s.present},
		Connections: func() int64 { return 0 }, AppendJSON: centrifugo.AppendData, Text: strings.Clone}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // nobody waits for the answer
	user, name := [...]string{"", "u0", "u1", ""}[how&3], loop.MachineChannels[how>>2%3]
	switch what {
	case 0, 1:
		n.Subscribe(ctx, &api.SubscribeRequest{User: user, Channel: name, Info: []byte(`{}`)}) // ignored: see above; so are the others
	case 2, 3:
		n.Unsubscribe(ctx, &api.UnsubscribeRequest{User: user, Channel: name})
	case 4:
		n.Unsubscribe(ctx, &api.UnsubscribeRequest{User: user})
	case 5:
		n.Disconnect(ctx, &api.DisconnectRequest{User: user})
	case 6:
		n.Refresh(ctx, &api.RefreshRequest{User: user, Expired: how&16 != 0, ExpireAt: s.Clock().Unix() + int64(how>>6) - 1, Info: []byte(`{"n":2}`)})
	case 7:
		n.HistoryRemove(ctx, name)
	case 10:
		n.Info(ctx)
	}
}

// Joining reads a field that no other package has a use for.
func (s *machineServer) Joining() int {
	announcers := reflect.ValueOf(s.centrifugo).Elem().FieldByNameFunc(func(name string) bool { return strings.EqualFold(name, "announcers") })
	return announcers.Index(0).Len()
}

func (s *machineServer) Present() *presence.Table { return s.present }
