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

// place is a listener of a running gateway, which is asked over HTTP.
type place struct {
	url    *url.URL // for a Unix socket, with a host that means nothing; a path only where --url has one
	unix   string   // the socket's path
	hint   string   // where its address comes from
	tls    *tls.Config
	apiKey string
}

// place finds whom to ask: where, when it is given, else the first listener of the
// settings; internal says which kind.
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
	hint := envName(flag) + ", --url"
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
		return place{}, opts.explain(usagef("--%s %s: the system chooses the port, so it is not known here: give --url", flag, text))
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
		return place{}, usagef("--url %s: not a URL to ask: give one such as http://127.0.0.1:8000, or unix:/path", where)
	}
	return place{url: u, hint: "--url"}, nil
}

func unixPlace(socket, hint string) place {
	return place{url: &url.URL{Scheme: "http", Host: "localhost"}, unix: socket, hint: hint}
}

// below gives the place of a path below this one, such as /healthz.
func (p place) below(path string) place {
	u := *p.url
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/")+path, ""
	p.url = &u
	return p
}

// String is how errors name it: without the query, which may hold a secret.
func (p place) String() string {
	if p.unix != "" {
		return strings.TrimSpace("unix:" + p.unix + " " + p.url.Path)
	}
	u := *p.url
	u.RawQuery = ""
	return u.Redacted()
}

// answer is what came back, whatever its status.
type answer struct {
	status int
	text   string // the status in words
	body   []byte
}

// answerMax bounds an answer's body; what is longer is cut.
const answerMax = 16 << 20

// ask sends one request.
func (p place) ask(ctx context.Context, timeout time.Duration, method string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: p.tls} // and no proxy: the question is about this one
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
		return a, fmt.Errorf("%s: the answer breaks off: %w", p, err)
	}
	return a, nil
}

// explain puts an error of the transport into words, with a way on.
func (p place) explain(err error, timeout time.Duration) error {
	if told := explainTLS(err); told != nil {
		return told
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %v: the gateway is stuck or the machine too busy, or give a longer --timeout", timeout)
	case errors.As(err, new(tls.RecordHeaderError)):
		return errors.New("it does not speak TLS: give an http:// address, or the port where it does")
	}
	return fmt.Errorf("%w: is the gateway running, and is this its address? (%s)", bareNetError(err), p.hint)
}

// refused is the error of an answer that is not 200.
func (p place) refused(a answer) error {
	why, _, _ := strings.Cut(string(bytes.TrimSpace(a.body)), "\n")
	var told struct { // by the internal listener
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(a.body, &told) == nil {
		why = told.Error.Message
	}
	if why == "" || len(why) > 200 || strings.HasPrefix(why, "<") { // a page of something else
		why = "this may not be a gateway"
	}
	return fmt.Errorf("%s: the answer is %s: %s", p, cell(a.text), cell(why))
}

// bareNetError strips what a line that names the address says already.
func bareNetError(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err
	}
	return bareError(err)
}

// cell makes one short line of text that somebody else has written: without what
// could play tricks on a terminal.
func cell(s string) string {
	s = strings.Map(printable, strings.ToValidUTF8(s, ""))
	if runes := []rune(s); len(runes) > cellMax {
		s = string(runes[:cellMax-3]) + "..."
	}
	return s
}

// cellMax is how many characters cell leaves.
const cellMax = 200
