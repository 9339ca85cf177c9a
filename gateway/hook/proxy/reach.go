package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
)

// Reach connects to the endpoint as a call does, and closes the connection. It returns what keeps calls from being sent.
func (e *Endpoint) Reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Timeout)
	defer cancel()
	u := e.template.URL
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	conn, err := e.transport.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	defer conn.Close() // ignored: nothing was sent
	if u.Scheme == "http" {
		return nil
	}
	cfg := new(tls.Config)
	if e.cfg.TLS != nil {
		cfg = e.cfg.TLS.Clone()
	}
	cfg.ServerName = cmp.Or(cfg.ServerName, u.Hostname())
	return tls.Client(conn, cfg).HandshakeContext(ctx)
}
