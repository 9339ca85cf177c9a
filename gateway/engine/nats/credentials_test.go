package nats

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// issuer issues credentials for a server.
type issuer struct {
	t       *testing.T
	account nkeys.KeyPair
	path    string // of the file
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// startIssuer starts a server that wants credentials.
func startIssuer(t *testing.T) (*natstest.Server, *issuer) {
	operator, account := must[nkeys.KeyPair](t)(nkeys.CreateOperator()), must[nkeys.KeyPair](t)(nkeys.CreateAccount())
	text, public := must[string](t), must[string](t)(account.PublicKey())
	signed := text(jwt.NewOperatorClaims(text(operator.PublicKey())).Encode(operator))
	claims := must[*jwt.OperatorClaims](t)(jwt.DecodeOperatorClaims(signed))
	resolver := &natsserver.MemAccResolver{}
	if err := resolver.Store(public, text(jwt.NewAccountClaims(public).Encode(operator))); err != nil {
		t.Fatal(err)
	}
	s := natstest.Start(t, natstest.Options{Tune: func(o *natsserver.Options) {
		o.TrustedOperators, o.AccountResolver = []*jwt.OperatorClaims{claims}, resolver
	}})
	return s, &issuer{t, account, filepath.Join(t.TempDir(), "creds")}
}

// issue writes credentials that are valid for a time, or for ever if that is 0.
func (i *issuer) issue(valid time.Duration) {
	i.t.Helper()
	user, text := must[nkeys.KeyPair](i.t)(nkeys.CreateUser()), must[string](i.t)
	claims := jwt.NewUserClaims(text(user.PublicKey()))
	if valid > 0 {
		claims.Expires = time.Now().Add(valid).Unix()
	}
	creds := must[[]byte](i.t)(jwt.FormatUserConfig(text(claims.Encode(i.account)), must[[]byte](i.t)(user.Seed())))
	err := os.WriteFile(i.path+".new", creds, 0o600)
	if err == nil {
		err = os.Rename(i.path+".new", i.path)
	}
	if err != nil {
		i.t.Fatal(err)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	s, i := startIssuer(t)
	i.issue(0)
	if l, err := dialTest(t, Servers{URLs: []string{s.URL()}, Creds: i.path}, 0, testLog); err != "" || l.main.Flush() != nil {
		t.Errorf("got %q", err)
	}
	if _, err := dialTest(t, Servers{URLs: []string{s.URL()}}, 0, testLog); err == "" {
		t.Error("a server that wants credentials takes a client without")
	}
}

// A gateway whose credentials expire is away, says why, and is there again when the file has new ones.
func TestCredentialsThatExpire(t *testing.T) {
	t.Parallel()
	s, i := startIssuer(t)
	i.issue(3 * time.Second)
	var log logLines
	n := startClusterWith(t, 1, func(c *Config) {
		c.Histories, c.Logger, c.Servers.Creds = nil, log.logger(), i.path
	}, s.URL()).nodes[0]
	w, up := watch(t, n, "none"), func() bool { s := n.Engine.(*Engine).Stats(); return s.Up() }
	defer w.leave()
	newSender(t, n).publishes("none", "a")
	clienttest.WaitFor(t, "the credentials expire", func() bool { return !up() })
	clienttest.WaitFor(t, "old ones are refused, and the log says so", func() bool {
		return strings.Contains(log.String(), "renew the credentials") && strings.Contains(log.String(), "authorization violation")
	})
	if up() {
		t.Error("it is up with old credentials")
	}
	i.issue(0)
	clienttest.WaitFor(t, "the new ones", up)
	newSender(t, n).publishes("none", "b")
	w.has("b")
	if n := strings.Count(log.String(), "authorization violation"); n > 2 {
		t.Errorf("%d lines about one error:\n%s", n, log.String())
	}
}
