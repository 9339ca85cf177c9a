package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/gobwas/ws"
	"github.com/spf13/cobra"
)

// clientFlags are what pub and sub are told about the gateway and the way to it.
type clientFlags struct {
	clientTLS
	url       string
	tokenFile string
	token     string // the environment's; the file comes before it
	headers   []string
	timeout   time.Duration
	retry     retryBound
}

// tokenVariable has the token itself. There is no flag for that, because a flag's value is in the
// list of processes and in the history of a shell.
const tokenVariable = envPrefix + "TOKEN"

// The groups of the commands' help that both have.
var (
	addressGroup = flagGroup{"Gateway", append([]string{"url", "token-file", "header"}, clientTLSNames...)}
	retryGroup   = flagGroup{"Connection", []string{"timeout", "retry"}}
)

func (c *clientFlags) register(cmd *cobra.Command, env []string, retry, retryUsage string) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&c.url, "url", "ws://127.0.0.1:8000", "`URL` of the gateway: ws or wss (http and https mean the same), a host, and the path that it is below, if any")
	f.StringVar(&c.tokenFile, "token-file", "", "a `FILE` with the client's token, which is read at each connect; "+tokenVariable+" can have the token itself instead")
	f.StringArrayVar(&c.headers, "header", nil, "a line `'K: V'` for the request, such as 'Authorization: Bearer KEY'; repeatable")
	c.clientTLS.register(cmd)
	f.DurationVar(&c.timeout, "timeout", 10*time.Second, "`TIME` for one connect with its upgrade, and for the end of a connection")
	_ = c.retry.Set(retry) // a constant that it takes
	f.Var(&c.retry, "retry", retryUsage)
	bindEnv(cmd, env, append([]string{"url", "token-file"}, clientTLSNames...)...)
	file := f.Lookup("token-file")
	file.Annotations[envAnnotation] = append(file.Annotations[envAnnotation], tokenVariable)
	for _, entry := range env {
		if value, ours := strings.CutPrefix(entry, tokenVariable+"="); ours {
			c.token = value
		}
	}
}

// readToken returns the client's token, "" for none.
func (c *clientFlags) readToken() (string, error) {
	if c.tokenFile == "" {
		return strings.TrimSpace(c.token), nil
	}
	const mend = "give a file with a token, as 'sluice token make' prints it"
	text, _, err := readKeyFile("token-file", c.tokenFile, false, mend)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", usagef("--token-file %s: the file is empty: %s", c.tokenFile, mend)
	}
	return token, nil
}

// target is a channel of a gateway, and how to get there.
type target struct {
	base    *url.URL // scheme ws or wss; the path has no slash at its end
	channel string
	token   func() (string, error)
	header  http.Header
	tls     *tls.Config
	timeout time.Duration
}

// target checks the flags; its errors are usage errors.
func (c *clientFlags) target(channel string) (*target, error) {
	if channel == "" {
		return nil, usagef("the channel's name is empty: give one, such as news")
	}
	if c.timeout <= 0 {
		return nil, usagef("--timeout %v: must be more than 0: give a time such as 10s", c.timeout)
	}
	base, err := parseBase(c.url)
	if err != nil {
		return nil, usagef("--url %s: %w", c.url, err)
	}
	if _, err := c.readToken(); err != nil {
		return nil, err
	}
	t := &target{base: base, channel: channel, token: c.readToken, timeout: c.timeout, header: http.Header{}}
	for _, line := range c.headers {
		key, value, err := parseHeader(line)
		if err != nil {
			return nil, usagef("--header %q: %w", line, err)
		}
		t.header.Add(key, value)
	}
	t.tls, err = c.config()
	return t, err
}

// parseBase reads the address of a gateway.
func parseBase(text string) (*url.URL, error) {
	const form = "give one such as ws://127.0.0.1:8000 or wss://example.com/prefix"
	u, err := url.Parse(text)
	if err != nil {
		if parse := (*url.Error)(nil); errors.As(err, &parse) {
			err = parse.Err
		}
		return nil, fmt.Errorf("not an address: %w: %s", err, form)
	}
	switch strings.ToLower(u.Scheme) {
	case "ws", "http":
		u.Scheme = "ws"
	case "wss", "https":
		u.Scheme = "wss"
	default:
		return nil, fmt.Errorf("its scheme is none of ws, wss, http and https: %s", form)
	}
	switch {
	case u.Hostname() == "":
		return nil, fmt.Errorf("no host is named: %s", form)
	case u.User != nil:
		return nil, errors.New("a user and a password in it would not be sent: give --header 'Authorization: ...'")
	case u.Fragment != "":
		return nil, errors.New("what is behind # would not be sent: leave it out, or write it as %23")
	}
	// Both forms of the path are cut, so that what was escaped stays so.
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}

// parseHeader reads "Key: value".
func parseHeader(line string) (key, value string, err error) {
	key, value, found := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	switch {
	case !found, key == "", strings.ContainsFunc(key, notInHeaderName):
		return "", "", errors.New("not a header: write 'Key: value'")
	case strings.ContainsFunc(value, unicode.IsControl):
		return "", "", errors.New("the value has a control character: a header is one line of text")
	}
	switch key = http.CanonicalHeaderKey(key); key {
	case "Upgrade", "Connection", "Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Extensions",
		"Sec-Websocket-Protocol", "Content-Length", "Transfer-Encoding":
		return "", "", errors.New("this one belongs to the upgrade itself: leave it out")
	}
	return key, value, nil
}

// notInHeaderName tells what RFC 9110 section 5.6.2 leaves out of a token.
func notInHeaderName(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// name is the base as errors have it: without a password, and without a token, which opens
// the gateway to whoever reads it.
func (t *target) name() string {
	u := *t.base
	if q := u.Query(); q.Has("token") {
		q.Set("token", "...")
		u.RawQuery = q.Encode()
	}
	return u.Redacted()
}

// url is where the channel is, with query beside what the base has of its own.
func (t *target) url(query url.Values) string {
	u := *t.base
	q := u.Query()
	for key, values := range query {
		q[key] = values
	}
	if t.channel == "." || t.channel == ".." {
		// Segments that proxies take out of a path, escaped or not.
		q.Set("channel", t.channel)
		u.RawPath = u.EscapedPath() + "/ws"
		u.Path += "/ws"
	} else {
		u.RawPath = u.EscapedPath() + "/ws/" + url.PathEscape(t.channel)
		u.Path += "/ws/" + t.channel
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// refusal is an HTTP answer in place of the upgrade.
type refusal struct {
	status int
	text   string // its body, in one line
	token  bool   // one was sent
}

func (r *refusal) Error() string {
	s := fmt.Sprintf("refused with %d %s", r.status, http.StatusText(r.status))
	if r.text != "" {
		s += " (" + r.text + ")"
	}
	switch r.status {
	case http.StatusRequestURITooLong:
		s += ": the token stands in the URL: is its file the right one?"
	case http.StatusNotFound:
		s += ": is the channel the right one, and --url the gateway's own address, without /ws?"
	case http.StatusUnauthorized, http.StatusForbidden:
		if r.token {
			s += ": a token was sent: 'sluice token verify' says what is in it, and the gateway's log why it was rejected, if it was"
			break
		}
		s += ": a token can be given with --token-file or " + tokenVariable + ", and what a proxy wants to see with --header"
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		s += ": try again later"
	case http.StatusBadRequest:
		s += ": mend what it names"
	default:
		s += ": is --url the address of a gateway?"
	}
	return s
}

// temporary tells whether another try may end differently.
func (r *refusal) temporary() bool {
	return r.status == http.StatusTooManyRequests || r.status >= 500 && r.status != http.StatusNotImplemented
}

// dial connects and upgrades. The connection belongs to the caller.
func (t *target) dial(ctx context.Context, query url.Values) (*link, error) {
	var refused *refusal
	d := ws.Dialer{
		Timeout: t.timeout, TLSConfig: t.tls, Header: ws.HandshakeHeaderHTTP(t.header), ReadBufferSize: linkBuffer,
		OnStatusError: func(status int, _ []byte, resp io.Reader) { refused = readRefusal(status, resp) },
	}
	if host := t.header.Get("Host"); host != "" {
		d.Host = host
		t.header.Del("Host")
		defer t.header.Set("Host", host) // for the next time
	}
	token, err := t.token()
	if err != nil {
		return nil, err
	}
	if token != "" {
		query = maps.Clone(query)
		query.Set("token", token)
	}
	conn, early, _, err := d.Dial(ctx, t.url(query))
	switch {
	case refused != nil:
		refused.token = token != ""
		return nil, fmt.Errorf("connect to %s: %w", t.name(), refused)
	case ctx.Err() != nil:
		if err == nil {
			conn.Close() // nothing was sent yet
		}
		return nil, fmt.Errorf("connect to %s: interrupted: %w", t.name(), context.Cause(ctx))
	case err != nil:
		return nil, fmt.Errorf("connect to %s: %w", t.name(), t.explain(err))
	}
	return newLink(conn, early), nil
}

// readRefusal reads the answer's body, as far as a line of an error holds it. The
// dialer's deadline bounds it.
func readRefusal(status int, resp io.Reader) *refusal {
	r := &refusal{status: status}
	answer, err := http.ReadResponse(bufio.NewReader(resp), nil)
	if err != nil {
		return r // without a text
	}
	body, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<10)) // what has come will do
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "")), " ")
	text = strings.TrimRight(strings.Map(printable, text), ".")
	if runes := []rune(text); len(runes) > 300 {
		text = string(runes[:300]) + "..."
	}
	r.text = text
	return r
}

// printable leaves out what could play tricks on a terminal.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return -1
}

// explain puts an error of the dialer into words, with a way on.
func (t *target) explain(err error) error {
	var (
		plain   tls.RecordHeaderError
		dns     *net.DNSError
		timeout interface{ Timeout() bool }
	)
	if told := explainTLS(err); told != nil {
		return told
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return temporary{errors.New("connection refused: is sluice running there? start it, or give its address with --url")}
	case errors.As(err, &dns):
		return temporary{fmt.Errorf("the name %s leads nowhere: %s: check --url", dns.Name, dns.Err)}
	case errors.As(err, &plain):
		return errors.New("it does not speak TLS: give a ws:// address, or the port where it does")
	case errors.Is(err, ws.ErrMalformedResponse), errors.Is(err, ws.ErrHandshakeBadProtocol):
		return errors.New("its answer is not HTTP: give a wss:// address where it speaks TLS, or the right port")
	case errors.Is(err, ws.ErrHandshakeBadUpgrade), errors.Is(err, ws.ErrHandshakeBadConnection), errors.Is(err, ws.ErrHandshakeBadSecAccept):
		return fmt.Errorf("its answer is not WebSocket: %w: is --url the address of a gateway?", err)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return temporary{fmt.Errorf("no answer within %v: check the address, or give it longer with --timeout", t.timeout)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return temporary{errors.New("it closed the connection without an answer: is --url the address of a gateway, ws or wss as it speaks?" + t.withoutCertificate())}
	}
	return temporary{fmt.Errorf("%w: check --url", err)}
}

// withoutCertificate adds what a gateway that wants a certificate may not have come
// to say: its last words are lost where it resets the connection.
func (t *target) withoutCertificate() string {
	if t.base.Scheme != "wss" || len(t.tls.Certificates) > 0 {
		return ""
	}
	return " Does it want a certificate (--cert)?"
}

// temporary is an error after which another try may end differently.
type temporary struct{ error }

func (t temporary) Unwrap() error { return t.error }
