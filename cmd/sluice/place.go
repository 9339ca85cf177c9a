package main

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
)

// place is a listener of a running gateway, for requests over HTTP.
type place struct {
	url    *url.URL // for a Unix socket, with a host that means nothing; it has a path only if --url has
	unix   string   // the socket's path
	hint   string   // what sets its address
	tls    *tls.Config
	apiKey string
}

// place returns the listener at the URL where, or if that is empty, the first listener of
// the settings: the internal one or a public one.
func (s *settings) place(opts *options, where string, internal bool) (place, error) {
	if where != "" {
		return placeAt(where)
	}
	scheme, flag, text := "http", "internal-listen", s.internalListen
	if !internal {
		flag, text = "listen", s.listen[0]
	}
	if text == "off" && len(s.tlsListen) > 0 {
		scheme, flag, text = "https", "tls-listen", s.tlsListen[0]
	}
	hint := envName(flag) + " or --url"
	e, err := parseEndpoint(flag, text)
	if err != nil {
		return place{}, opts.explain(err)
	}
	if e.network == "unix" {
		p := unixPlace(e.address, hint)
		p.url.Scheme = scheme
		return p, nil
	}
	host, port, err := net.SplitHostPort(e.address)
	if err != nil {
		return place{}, err
	}
	if port == "0" {
		return place{}, opts.explain(optionUsage(flag, " %s: the system chooses the port, so it is unknown here; use --url", text))
	}
	switch ip := net.ParseIP(host); {
	case host == "" || ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
	case ip.Equal(net.IPv6unspecified):
		host = "::1"
	}
	return place{url: &url.URL{Scheme: scheme, Host: net.JoinHostPort(host, port)}, hint: hint}, nil
}

func placeAt(where string) (place, error) {
	if socket, ok := strings.CutPrefix(where, "unix:"); ok && socket != "" {
		return unixPlace(socket, "--url"), nil
	}
	u, err := url.Parse(where)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return place{}, optionUsage("url", " %s: not an http or https URL; use one such as http://127.0.0.1:8000, or unix:/path", where)
	}
	return place{url: u, hint: "--url"}, nil
}

func unixPlace(socket, hint string) place {
	return place{url: &url.URL{Scheme: "http", Host: "localhost"}, unix: socket, hint: hint}
}

// below returns the place with a path appended, such as /healthz.
func (p place) below(path string) place {
	u := *p.url
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/")+path, ""
	p.url = &u
	return p
}

// String returns the place's name for errors: without the query, which may contain a
// secret.
func (p place) String() string {
	if p.unix != "" {
		return strings.TrimSpace("unix:" + p.unix + " " + p.url.Path)
	}
	u := *p.url
	u.RawQuery = ""
	return u.Redacted()
}

// answer is an HTTP response with any status.
type answer struct {
	status int
	text   string // the status line, such as "404 Not Found"
	body   []byte
}

// answerMax is the longest body that is read; the rest is cut off.
const answerMax = 16 << 20

// ask sends one request and returns the answer.
func (p place) ask(ctx context.Context, timeout time.Duration, method string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: p.tls} // without a proxy: the question is about this listener
	if p.unix != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.unix)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, p.url.String(), nil)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", p, err)
	}
	if p.apiKey != "" {
		req.Header.Set("X-API-Key", p.apiKey)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", p, p.explain(err, timeout))
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, text: resp.Status}
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil && a.status == http.StatusOK {
		return a, fmt.Errorf("%s: incomplete response: %w", p, err)
	}
	return a, nil
}

// explain turns an error of the transport into what, why and how to fix it.
func (p place) explain(err error, timeout time.Duration) error {
	if told := explainTLS(err); told != nil {
		return told
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no response within %v: the gateway is stuck or the machine is overloaded (or --timeout is too short)", timeout)
	case errors.As(err, new(tls.RecordHeaderError)):
		return errors.New("the server does not speak TLS; use http://, or its TLS port")
	}
	return fmt.Errorf("%w; is the gateway running at this address? (set it with %s)", bareNetError(err), p.hint)
}

// refused returns the error for an answer that is not 200.
func (p place) refused(a answer) error {
	why, _, _ := strings.Cut(string(bytes.TrimSpace(a.body)), "\n")
	if json.Valid(a.body) {
		why = internalError(a.body)
	}
	if why == "" || len(why) > 200 || strings.HasPrefix(why, "<") { // a page of some other server
		why = "this may not be a gateway"
	}
	return fmt.Errorf("%s: the server responded with %s: %s", p, cell(a.text), cell(why))
}

// internalError returns the message in an error of the internal listener, or "".
func internalError(body []byte) string {
	var answer struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	_ = json.Unmarshal(body, &answer) // then there is no message
	return answer.Error.Message
}

// bareNetError strips the address from an error, for messages that already name it.
func bareNetError(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err
	}
	return bareError(err)
}

// cell makes one short line of text from outside, without characters that could confuse a
// terminal.
func cell(s string) string {
	s = strings.Map(printable, strings.ToValidUTF8(s, ""))
	if runes := []rune(s); len(runes) > cellMax {
		s = string(runes[:cellMax-3]) + "..."
	}
	return s
}

// cellMax is the greatest number of characters that cell returns.
const cellMax = 200
