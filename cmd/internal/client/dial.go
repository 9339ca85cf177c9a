package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
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

	"sluice/bench/clienttls"
	"sluice/bench/wsclient"
	"sluice/cmd/internal/cli"
)

// clientFlags are the flags of pub and sub for the gateway and the connection to it.
type clientFlags struct {
	clienttls.Flags
	url       string
	tokenFile string
	token     string // from the environment; the file overrides it
	headers   []string
	timeout   time.Duration
	retry     retryBound
}

// tokenVariable holds the token itself. There is no flag for it, because a flag's value is
// visible in the process list and in the shell's history.
const tokenVariable = cli.EnvPrefix + "TOKEN"

// The groups in the help of both commands.
var (
	addressGroup = cli.Flags("Gateway", append([]string{"url", "token-file", "header"}, clienttls.Names...)...)
	retryGroup   = cli.Flags("Connection", "timeout", "retry")
)

func (c *clientFlags) register(cmd *cobra.Command, env []string, retry, retryUsage string) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&c.url, "url", "ws://127.0.0.1:8000", "`URL` of the gateway: ws or wss (http and https work too), a host, and a path prefix if it has one")
	f.StringVar(&c.tokenFile, "token-file", "", "`FILE` with the client's token, read on every connection attempt; "+tokenVariable+" can hold the token itself instead")
	f.StringArrayVar(&c.headers, "header", nil, "header line `'K: V'` to send with the request, for a proxy that needs one (repeatable); a client's token belongs in --token-file")
	c.Flags.AddFlags(f)
	f.DurationVar(&c.timeout, "timeout", 10*time.Second, "wait at most `TIME` to connect, including the upgrade, and to close")
	_ = c.retry.Set(retry) // a valid constant
	f.Var(&c.retry, "retry", retryUsage)
	cli.BindEnv(cmd, env, append([]string{"url", "token-file"}, clienttls.Names...)...)
	cli.SetEnv(f.Lookup("token-file"), tokenVariable)
	c.token = cli.LookUpEnv(env, tokenVariable)
}

// readToken returns the client's token, or "".
func (c *clientFlags) readToken() (string, error) {
	if c.tokenFile == "" {
		return strings.TrimSpace(c.token), nil
	}
	const advice = "use a file with a token, such as the output of 'sluice token make'"
	text, _, err := cli.ReadKeyFile("token-file", c.tokenFile, false, advice)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", cli.Usagef("--token-file %s: the file is empty; %s", c.tokenFile, advice)
	}
	return token, nil
}

// target is a channel of a gateway, and how to connect to it.
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
		return nil, cli.Usagef("the channel name is empty: use one such as news")
	}
	if c.timeout <= 0 {
		return nil, cli.Usagef("--timeout %v: must be greater than 0, such as 10s", c.timeout)
	}
	base, err := parseBase(c.url)
	if err != nil {
		return nil, cli.Usagef("--url %s: %w", c.url, err)
	}
	if _, err := c.readToken(); err != nil {
		return nil, err
	}
	t := &target{base: base, channel: channel, token: c.readToken, timeout: c.timeout, header: http.Header{}}
	for _, line := range c.headers {
		key, value, err := parseHeader(line)
		if err != nil {
			return nil, cli.Usagef("--header %q: %w", line, err)
		}
		t.header.Add(key, value)
	}
	if t.tls, err = c.Config(); err != nil {
		return nil, cli.Usagef("%w", err)
	}
	return t, nil
}

// parseBase parses the address of a gateway.
func parseBase(text string) (*url.URL, error) {
	const form = "use one such as ws://127.0.0.1:8000 or wss://example.com/prefix"
	u, err := url.Parse(text)
	if err != nil { // such as 127.0.0.1:8000, which has no scheme
		u = &url.URL{}
	}
	switch strings.ToLower(u.Scheme) {
	case "ws", "http":
		u.Scheme = "ws"
	case "wss", "https":
		u.Scheme = "wss"
	default:
		return nil, fmt.Errorf("not a ws, wss, http or https URL; %s", form)
	}
	switch {
	case u.Hostname() == "":
		return nil, fmt.Errorf("missing host: %s", form)
	case u.User != nil:
		return nil, errors.New("a user and password in the URL are not sent; use --header 'Authorization: ...'")
	case u.Fragment != "":
		return nil, errors.New("the part after # is not sent; remove it, or write # as %23")
	}
	// Both forms of the path are cut, so that what was escaped stays escaped.
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}

// parseHeader parses "Key: value".
func parseHeader(line string) (key, value string, err error) {
	key, value, found := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	switch {
	case !found, key == "", strings.ContainsFunc(key, notInHeaderName):
		return "", "", errors.New("must have the form 'Key: value'")
	case strings.ContainsFunc(value, unicode.IsControl):
		return "", "", errors.New("the value contains a control character; a header is one line of text")
	}
	switch key = http.CanonicalHeaderKey(key); key {
	case "Upgrade", "Connection", "Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Extensions",
		"Sec-Websocket-Protocol", "Content-Length", "Transfer-Encoding":
		return "", "", errors.New("this header belongs to the WebSocket upgrade; omit it")
	}
	return key, value, nil
}

// notInHeaderName reports whether RFC 9110 section 5.6.2 excludes r from a token.
func notInHeaderName(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// name returns the base for errors: without a password, and without a token, which would
// give access to anyone who reads the message.
func (t *target) name() string {
	u := *t.base
	if q := u.Query(); q.Has("token") {
		q.Set("token", "...")
		u.RawQuery = q.Encode()
	}
	return u.Redacted()
}

// url returns the channel's URL, with query added to the base's own query.
func (t *target) url(query url.Values) string {
	u := *t.base
	q := u.Query()
	for key, values := range query {
		q[key] = values
	}
	if t.channel == "." || t.channel == ".." {
		// Proxies remove these segments from a path, escaped or not.
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

// refusal is an HTTP answer instead of the upgrade.
type refusal struct {
	status   int
	text     string // its body, on one line
	internal bool   // the gateway's internal listener has answered
	token    bool   // a token was sent
}

func (r *refusal) Error() string {
	s := fmt.Sprintf("refused with %d %s", r.status, http.StatusText(r.status))
	if r.text != "" && !r.internal { // the internal listener lists its endpoints
		s += " (" + r.text + ")"
	}
	switch {
	case r.internal:
		s += "; this is the gateway's internal listener; clients connect to the public one, by default on port 8000"
	case r.status == http.StatusRequestURITooLong:
		s += ", because the token makes the URL too long; is it the right file?"
	case r.status == http.StatusNotFound:
		s += "; check the channel, and that --url is the gateway's address without /ws"
	case r.status == http.StatusUnauthorized || r.status == http.StatusForbidden:
		if r.token {
			s += "; a token was sent. Check it with 'sluice token verify', and see the gateway's log"
			break
		}
		s += "; specify a token with --token-file or " + tokenVariable + ", or, for a proxy, the header it requires with --header"
	case r.status == http.StatusServiceUnavailable || r.status == http.StatusTooManyRequests:
		s += "; try again later"
	case r.status == http.StatusBadRequest && r.text != "":
		// The text says what to fix.
	default:
		s += ": is --url the address of a gateway?"
	}
	return s
}

// temporary reports whether another try may end differently.
func (r *refusal) temporary() bool {
	return r.status == http.StatusTooManyRequests || r.status >= 500 && r.status != http.StatusNotImplemented
}

// dial connects and upgrades. The connection belongs to the caller.
func (t *target) dial(ctx context.Context, query url.Values) (*wsclient.Conn, error) {
	token, err := t.token()
	if err != nil {
		return nil, err
	}
	if token != "" {
		query = maps.Clone(query)
		query.Set("token", token)
	}
	conn, err := wsclient.Dialer{TLS: t.tls, Header: t.header, Timeout: t.timeout}.Dial(ctx, t.url(query))
	var refused *wsclient.Refusal
	switch {
	case errors.As(err, &refused):
		err = newRefusal(refused, token != "")
	case err != nil && ctx.Err() != nil:
		err = fmt.Errorf("interrupted: %w", err)
	case err != nil:
		err = t.explain(err)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", t.name(), err)
	}
	return conn, nil
}

// newRefusal reads the answer's body, as much as an error of one line can contain.
func newRefusal(answer *wsclient.Refusal, token bool) *refusal {
	r := &refusal{status: answer.Status, token: token}
	body := answer.Body
	if message := InternalError(body); message != "" { // a proxy may write its errors like that, too
		r.internal = r.status == http.StatusNotFound && strings.HasPrefix(message, "not found. Endpoints: POST /publish/")
		body = []byte(message)
	}
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "")), " ")
	text = strings.TrimRight(strings.Map(cli.Printable, text), ".")
	if runes := []rune(text); len(runes) > 300 {
		text = string(runes[:300]) + "..."
	}
	r.text = text
	return r
}

// explain turns an error of the dialer into what, why and how to fix it.
func (t *target) explain(err error) error {
	var (
		plain   tls.RecordHeaderError
		dns     *net.DNSError
		timeout interface{ Timeout() bool }
	)
	if told, again := clienttls.Explain(err); again {
		return temporary{told}
	} else if told != nil {
		return told
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return temporary{errors.New("connection refused; is sluice running there? Start it, or specify its address with --url")}
	case errors.As(err, &dns):
		return temporary{fmt.Errorf("cannot resolve %s: %s; check --url", dns.Name, dns.Err)}
	case errors.As(err, &plain):
		return errors.New("the server does not speak TLS; use ws://, or its TLS port")
	case errors.Is(err, ws.ErrMalformedResponse), errors.Is(err, ws.ErrHandshakeBadProtocol):
		return errors.New("the response is not HTTP; use wss:// if the server speaks TLS, or check the port")
	case errors.Is(err, ws.ErrHandshakeBadUpgrade), errors.Is(err, ws.ErrHandshakeBadConnection), errors.Is(err, ws.ErrHandshakeBadSecAccept):
		return fmt.Errorf("the response is not a WebSocket upgrade: %w; is --url the address of a gateway?", err)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return temporary{fmt.Errorf("no response within %v; check the address, or raise --timeout", t.timeout)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return temporary{errors.New("the server closed the connection without a response; is --url the address of a gateway, with the right scheme (ws or wss)?" + t.withoutCertificate())}
	}
	return temporary{fmt.Errorf("%w; check --url", err)}
}

// withoutCertificate adds what a gateway that requires a certificate may not have been
// able to say: its alert is lost if it resets the connection.
func (t *target) withoutCertificate() string {
	if t.base.Scheme != "wss" || len(t.tls.Certificates) > 0 {
		return ""
	}
	return " Does it require a client certificate (--cert)?"
}

// temporary is an error after which another try may end differently.
type temporary struct{ error }

func (t temporary) Unwrap() error { return t.error }

// internalError is an error of the internal listener.
type internalError struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// InternalError returns the message in an error of the internal listener, or "".
func InternalError(body []byte) string {
	var answer internalError
	_ = json.Unmarshal(body, &answer) // then there is no message
	return answer.Error.Message
}

// InternalErrorCode returns the code in an error of the internal listener, or "".
func InternalErrorCode(body []byte) string {
	var answer internalError
	_ = json.Unmarshal(body, &answer) // then there is no code
	return answer.Error.Code
}
