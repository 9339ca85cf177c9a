package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sluice/bench/clienttls"
	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/client"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
)

// Place is a listener of a running gateway, for requests over HTTP.
type Place struct {
	URL    *url.URL // for a Unix socket, with a host that means nothing; it has a path only if --url has
	unix   string   // the socket's path
	hint   string   // what sets its address
	TLS    *tls.Config
	APIKey string
}

// PlaceOf returns the listener at the URL where, or if that is empty, the first listener of
// the settings: the internal one or a public one.
func PlaceOf(s *serve.Settings, opts *option.Options, where string, internal bool) (Place, error) {
	if where != "" {
		return PlaceAt(where)
	}
	scheme, flag, text := "http", "internal-listen", s.InternalListen
	if !internal {
		flag, text = "listen", s.Listen[0]
	}
	if text == "off" && len(s.TLSListen) > 0 {
		scheme, flag, text = "https", "tls-listen", s.TLSListen[0]
	}
	hint := cli.EnvName(flag) + " or --url"
	e, err := serve.ParseEndpoint(flag, text)
	if err != nil {
		return Place{}, opts.Explain(err)
	}
	if e.Network == "unix" {
		p := unixPlace(e.Address, hint)
		p.URL.Scheme = scheme
		return p, nil
	}
	host, port, err := net.SplitHostPort(e.Address)
	if err != nil {
		return Place{}, err
	}
	if port == "0" {
		return Place{}, opts.Explain(cli.OptionUsage(flag, " %s: the system chooses the port, so it is unknown here; use --url", text))
	}
	switch ip := net.ParseIP(host); {
	case host == "" || ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
	case ip.Equal(net.IPv6unspecified):
		host = "::1"
	}
	return Place{URL: &url.URL{Scheme: scheme, Host: net.JoinHostPort(host, port)}, hint: hint}, nil
}

// PlaceAt returns the listener at a URL or at unix:/path.
func PlaceAt(where string) (Place, error) {
	if socket, ok := strings.CutPrefix(where, "unix:"); ok && socket != "" {
		return unixPlace(socket, "--url"), nil
	}
	u, err := url.Parse(where)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return Place{}, cli.OptionUsage("url", " %s: not an http or https URL; use one such as http://127.0.0.1:8000, or unix:/path", where)
	}
	return Place{URL: u, hint: "--url"}, nil
}

func unixPlace(socket, hint string) Place {
	return Place{URL: &url.URL{Scheme: "http", Host: "localhost"}, unix: socket, hint: hint}
}

// Below returns the place with a path appended, such as /healthz.
func (p Place) Below(path string) Place {
	u := *p.URL
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/")+path, ""
	p.URL = &u
	return p
}

// String returns the place's name for errors: without the query, which may contain a
// secret.
func (p Place) String() string {
	if p.unix != "" {
		return strings.TrimSpace("unix:" + p.unix + " " + p.URL.Path)
	}
	u := *p.URL
	u.RawQuery = ""
	return u.Redacted()
}

// Answer is an HTTP response with any status.
type Answer struct {
	Status int
	text   string // the status line, such as "404 Not Found"
	Body   []byte
}

// answerMax is the longest body that is read; the rest is cut off.
const answerMax = 16 << 20

// Ask sends one request and returns the answer.
func (p Place) Ask(ctx context.Context, timeout time.Duration, method string) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: p.TLS} // without a proxy: the question is about this listener
	if p.unix != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.unix)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, p.URL.String(), nil)
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", p, err)
	}
	if p.APIKey != "" {
		req.Header.Set("X-API-Key", p.APIKey)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", p, p.explain(err, timeout))
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode, text: resp.Status}
	a.Body, err = io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil && a.Status == http.StatusOK {
		return a, fmt.Errorf("%s: incomplete response: %w", p, err)
	}
	return a, nil
}

// explain turns an error of the transport into what, why and how to fix it.
func (p Place) explain(err error, timeout time.Duration) error {
	if told, _ := clienttls.Explain(err); told != nil {
		return told
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no response within %v: the gateway is stuck or the machine is overloaded (or --timeout is too short)", timeout)
	case errors.As(err, new(tls.RecordHeaderError)):
		return errors.New("the server does not speak TLS; use http://, or its TLS port")
	}
	return fmt.Errorf("%w; is the gateway running at this address? (set it with %s)", cli.BareNetError(err), p.hint)
}

// Refused returns the error for an answer that is not 200.
func (p Place) Refused(a Answer) error {
	why, _, _ := strings.Cut(string(bytes.TrimSpace(a.Body)), "\n")
	most := 200
	if json.Valid(a.Body) { // a gateway's, perhaps with all that is wrong with a configuration
		why, most = client.InternalError(a.Body), 2000
	}
	if why == "" || len(why) > most || strings.HasPrefix(why, "<") { // a page of some other server
		why = "this may not be a gateway"
	}
	return fmt.Errorf("%s: the server responded with %s: %s", p, cli.Cell(a.text), cli.Cell(why))
}
