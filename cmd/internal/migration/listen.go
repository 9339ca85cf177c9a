package migration

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"net"
	"path/filepath"
	"strings"

	"sluice/gateway"
)

// listeners converts http_server.
func (c *conversion) listeners() {
	h := c.root.get("http_server")
	port, ok := c.port(h.get("port"), "8000")
	host, _ := h.get("address").text()
	public := net.JoinHostPort(host, port)
	if !isHost(host) {
		h.get("address").mark(lost, "%s is no address; sluice listens on loopback until listen is set", quoted(host))
		host, public = "127.0.0.1", net.JoinHostPort("127.0.0.1", port)
	}
	plain := c.secure(h, public, port)
	if h.get("port") == nil && h.get("address") == nil && plain {
		c.advise("sluice.conf: listen = %s, Centrifugo's default, which other machines can reach", public)
	}
	if ok {
		h.get("port").mark(kept, "the port of listen, or of tls-listen")
	}
	h.get("address").mark(kept, "the host of listen, or of tls-listen")
	c.internal(h, host, port)
	if !h.get("tls_autocert.enabled").on() {
		h.get("tls_autocert").mark(idle, "http_server.tls_autocert is off")
	}
	h.get("tls_autocert").mark(lost, "sluice does not fetch certificates; let a tool such as certbot or a proxy do it, and set tls-cert and tls-key")
	h.get("http3").lose("sluice does not speak HTTP/3")
	h.get("h2c_external").lose("sluice does not speak HTTP/2 without TLS; WebSocket and SSE use HTTP/1.1")
}

// isHost reports whether a text can be an address, or a name that has one.
func isHost(s string) bool {
	return net.ParseIP(s) != nil || !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
}

// isLocal reports whether only this machine can reach an address. It asks no name server.
func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// port returns a port as text.
func (c *conversion) port(n *node, otherwise string) (port string, ok bool) {
	i, err := n.number()
	s, _ := n.text()
	switch {
	case n.null(), err == nil && i == 0:
		return otherwise, true
	case err != nil || i < 0 || i > 65535:
		n.mark(lost, "it is no port; sluice uses %s", otherwise)
		return otherwise, false
	}
	return strings.TrimSpace(s), true
}

// secure sets the listener for clients, with TLS or without, and reports whether it is plain.
func (c *conversion) secure(h *node, public, port string) (plain bool) {
	t := h.get("tls")
	if !t.get("enabled").on() {
		t.mark(idle, "http_server.tls is off")
		if h.get("tls_autocert.enabled").on() {
			// Clients that spoke TLS must not begin to send their tokens in the clear.
			c.must("listen", net.JoinHostPort("127.0.0.1", port))
			c.advise("http_server.tls_autocert: the listener is on loopback, without TLS, until you set tls-listen, tls-cert and tls-key, or put a proxy in front")
			return false
		}
		c.must("listen", public)
		return true
	}
	cert, withCert := c.pem(t.get("cert_pem"), "tls-cert.pem")
	key, withKey := c.pem(t.get("key_pem"), "tls-key.pem")
	ca, withCA := c.pem(t.get("client_ca_pem"), "tls-client-ca.pem")
	if !withCert || !withKey || !withCA && !t.get("client_ca_pem").off() {
		t.mark(lost, "a certificate, its key or the CA of clients cannot be read")
		c.must("listen", net.JoinHostPort("127.0.0.1", port))
		c.advise("http_server.tls: the listener is on loopback, without TLS, until you set tls-listen, tls-cert and tls-key")
		return false
	}
	c.must("listen", "off")
	c.must("tls-listen", public)
	c.must("tls-cert", cert)
	c.must("tls-key", key)
	t.get("enabled").mark(kept, "tls-listen")
	t.get("cert_pem").mark(kept, "tls-cert")
	t.get("key_pem").mark(kept, "tls-key")
	if withCA {
		c.must("tls-client-ca", ca)
		t.get("client_ca_pem").mark(kept, "tls-client-ca")
	}
	t.mark(idle, "it has no effect on a server")
	return false
}

// pem returns the path of a file with a value, which is PEM, PEM in base64 or a path.
func (c *conversion) pem(n *node, name string) (path string, ok bool) {
	s, err := n.text()
	if err != nil || s == "" {
		return "", false
	}
	const begin = "-----BEGIN"
	if strings.Contains(s, begin) {
		return c.file(name, []byte(s)), true
	}
	if b, err := base64.StdEncoding.DecodeString(s); err == nil && strings.Contains(string(b), begin) {
		return c.file(name, b), true
	}
	path, err = filepath.Abs(s)
	return path, err == nil && c.settable("tls-cert", path) == nil
}

// internal converts the listener for the API, metrics and health. sluice has it without TLS.
func (c *conversion) internal(h *node, host, port string) {
	n, at := h.get("internal_port"), h.get("internal_address")
	defaultPort := "9000"
	if port == defaultPort {
		defaultPort = "9001"
	}
	loopback := net.JoinHostPort("127.0.0.1", defaultPort)
	tls := h.get("internal_tls")
	secured := tls.get("enabled").on() || h.get("tls.enabled").on() && !h.get("tls_external").on()
	tls.lose("sluice's internal listener has no TLS, so it is on loopback; put a proxy in front")
	h.get("tls_external").mark(idle, "sluice's internal listener never has TLS")
	own, ok := c.port(n, "")
	if own == "" || own == port {
		if n.off() {
			n.mark(idle, "off")
		} else if ok {
			n.mark(changed, "the API, metrics and health are never on the clients' port: internal-listen = %s", loopback)
		}
		at.lose("sluice's internal listener is on loopback: internal-listen = %s", loopback)
		c.must("internal-listen", loopback)
		c.advise("the API is at http://%s/api, no longer on the clients' port; for backends on other machines, set internal-listen", loopback)
		return
	}
	address, _ := at.text()
	if address == "" {
		address = host
	}
	text := net.JoinHostPort(address, own)
	switch {
	case !isHost(address):
		c.must("internal-listen", loopback)
		n.mark(lost, "%s is no address; internal-listen = %s", quoted(address), loopback)
	case secured && !isLocal(address):
		text = net.JoinHostPort("127.0.0.1", own)
		c.must("internal-listen", text)
		n.mark(changed, "internal-listen = %s, on loopback, because sluice's has no TLS", text)
		c.advise("the API is at http://%s/api, on loopback, because sluice's internal listener has no TLS", text)
	default:
		c.must("internal-listen", text)
		n.mark(kept, "internal-listen")
		at.mark(kept, "internal-listen")
	}
	at.mark(lost, "the internal listener is on loopback")
}

// origins converts client.allowed_origins. Patterns of sluice match one label with a star.
func (c *conversion) origins() {
	n := c.root.get("client.allowed_origins")
	list, err := n.texts()
	if err != nil {
		n.mark(lost, "%v", err)
		return
	}
	cookies := c.forwards("Cookie")
	var good, bad []string
	for _, origin := range list {
		fault := gateway.Config{AllowedOrigins: []string{origin}}.Validate()
		switch {
		case (origin == "*" || origin == "null") && cookies:
			bad = append(bad, origin)
			c.advise("client.allowed_origins: %q is left out, because a hook gets cookies, and any web page could act as its visitors; set allowed-origins to your pages' origins", origin)
		case fault != nil || c.set("allowed-origins", origin) != nil:
			bad = append(bad, origin)
		default:
			good = append(good, origin)
		}
	}
	switch {
	case len(list) == 0:
		n.mark(idle, "there are none: pages of the gateway's own host may connect")
	case len(bad) > 0:
		n.mark(lost, "not: %s; the others are in allowed-origins", strings.Join(bad, " "))
	case strings.Contains(strings.Join(good, " "), "://*"):
		n.mark(changed, "allowed-origins; here a * matches one label, so https://*.example.com does not match https://a.b.example.com")
	default:
		n.mark(kept, "allowed-origins")
	}
}

// api converts http_api. The API always needs a key, unless it is insecure in Centrifugo too.
func (c *conversion) api() {
	a := c.root.get("http_api")
	key, _ := a.get("key").text()
	ok := key != "" && !strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' })
	disabled, insecure := a.get("disabled").on(), a.get("insecure").on()
	switch {
	case ok && !disabled:
		a.get("key").mark(kept, "the file api-key")
		a.get("insecure").lose("requests need the key")
	case insecure && !disabled:
		a.get("insecure").mark(changed, "there is no api-key-file, so the internal listener is on loopback")
		c.loopback()
		a.mark(idle, "the API has no key")
		return
	default:
		var random [32]byte
		rand.Read(random[:]) // never fails
		key = hex.EncodeToString(random[:])
		a.get("key").lose("it cannot be a header's value; the file api-key has a new one")
		a.get("disabled").lose("sluice's API cannot be off alone; the file api-key has a new key, which nobody knows")
		a.get("insecure").lose("requests need the key")
		c.advise("the API needs the key in the file api-key, which is new")
	}
	c.must("api-key-file", c.file("api-key", []byte(key+"\n")))
	c.fixed(a.get("handler_prefix"), "/api")
	a.get("external").lose("the API is never on the clients' port")
	a.get("error_mode").lose("a request asks for it with the header X-Centrifugo-Error-Mode: transport")
	a.mark(idle, "off")
}

// loopback moves the internal listener to loopback.
func (c *conversion) loopback() {
	for i, s := range c.settings {
		if s.name != "internal-listen" {
			continue
		}
		if host, port, err := net.SplitHostPort(s.value); err == nil && !isLocal(host) {
			c.settings[i].value = net.JoinHostPort("127.0.0.1", port)
			c.advise("internal-listen = %s: other machines cannot reach the API, because it has no key", c.settings[i].value)
		}
	}
}

// fixed decides about a path that sluice always has.
func (c *conversion) fixed(n *node, path string) {
	switch s, err := n.text(); {
	case err == nil && (s == path || s == ""):
		n.mark(idle, "the same path")
	default:
		n.mark(lost, "the path is always %s; let a proxy in front rewrite it", path)
	}
}
