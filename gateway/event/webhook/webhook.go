package webhook

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sluice/gateway/event"
	"sluice/gateway/hook/proxy"
)

// Config is an endpoint. The zero value of a field is "none", or the default that is named.
type Config struct {
	URL     string
	Secrets []Secret // deliveries are signed with each of them: two while one is replaced
	// StaticHeaders are sent with every delivery.
	StaticHeaders map[string]string
	UserAgent     string
	TLS           *tls.Config
	Timeout       time.Duration // of a connection, and of its TLS handshake; 5 s
	InFlight      int           // that of the event.Options; 16
}

// Webhook is an endpoint. It implements event.Receiver.
type Webhook struct {
	// Set at construction.
	url       *url.URL
	name      string
	secrets   []Secret
	header    http.Header
	transport http.RoundTripper
	close     func()
	now       func() time.Time
}

const (
	answerMax = 64 << 10
	// shownMax bounds what an error repeats of an answer.
	shownMax = 200
)

// New returns a Webhook. It does not connect.
func New(c Config) (*Webhook, error) {
	if err := proxy.CheckEndpoint(c.URL); err != nil {
		return nil, err
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, errors.New("it is not a URL") // not the error: the URL may hold a password
	}
	timeout := cmp.Or(c.Timeout, 5*time.Second)
	transport := proxy.Transport{Timeout: timeout, TLS: c.TLS, InFlight: cmp.Or(c.InFlight, 16)}.New()
	w := &Webhook{
		url: u, name: proxy.Redacted(u), secrets: c.Secrets, header: make(http.Header),
		transport: transport, close: transport.CloseIdleConnections, now: time.Now,
	}
	if u.User != nil {
		password, _ := u.User.Password()
		r := http.Request{Header: w.header}
		r.SetBasicAuth(u.User.Username(), password)
	}
	if c.UserAgent != "" {
		w.header.Set("User-Agent", c.UserAgent)
	}
	for name, value := range c.StaticHeaders {
		w.header.Set(name, value)
	}
	w.header.Set("Content-Type", "application/json")
	w.header["Idempotency-Key"] = nil // is not sent: http.Transport may send the request again if its connection was idle and is closed
	return w, nil
}

// String returns the endpoint as logs show it.
func (w *Webhook) String() string { return w.name }

// Close closes the idle connections.
func (w *Webhook) Close() { w.close() }

// Deliver implements event.Receiver.
func (w *Webhook) Deliver(ctx context.Context, b *event.Batch) error {
	body := b.Body()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.name, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	r.URL, r.Host = w.url, w.url.Host
	r.Header = w.header.Clone()
	w.sign(r.Header, b.ID, body)
	resp, err := w.transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	defer resp.Body.Close() // ignored: everything that counts was read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	switch {
	case resp.StatusCode == http.StatusGone:
		return fmt.Errorf("%s: the status is 410: %w", w.name, event.ErrGone)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return w.failed(resp, fmt.Errorf("the status is %d: redirects are not followed", resp.StatusCode))
	case resp.StatusCode/100 != 2:
		return w.failed(resp, fmt.Errorf("the status is %d and not 2xx: %s", resp.StatusCode, shown(answer)))
	case err != nil:
		return fmt.Errorf("%s: %w", w.name, err)
	}
	var said struct {
		Error json.RawMessage `json:"error"`
	}
	// Ignored: an answer that is no JSON object has no error, as one that is empty.
	if json.Unmarshal(answer, &said) == nil && len(said.Error) > 0 && string(said.Error) != "null" {
		return w.failed(resp, fmt.Errorf("the answer is an error: %s", shown(said.Error)))
	}
	return nil
}

// sign sets the headers by which a receiver verifies a delivery.
func (w *Webhook) sign(h http.Header, id string, body []byte) {
	timestamp := strconv.FormatInt(w.now().Unix(), 10)
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", timestamp)
	var all []byte
	for i, s := range w.secrets {
		if i > 0 {
			all = append(all, ' ')
		}
		all = s.sign(all, id, timestamp, body)
	}
	if all != nil {
		h.Set("Webhook-Signature", string(all))
	}
}

// failed returns the error of an answer, with the time after which the receiver wants another attempt.
func (w *Webhook) failed(resp *http.Response, err error) error {
	err = fmt.Errorf("%s: %w", w.name, err)
	after := strings.TrimSpace(resp.Header.Get("Retry-After"))
	if after == "" {
		return err
	}
	// RFC 9110 section 10.2.3: seconds or a date.
	if seconds, bad := strconv.ParseUint(after, 10, 31); bad == nil {
		return &event.Later{After: time.Duration(seconds) * time.Second, Err: err}
	}
	if at, bad := http.ParseTime(after); bad == nil {
		return &event.Later{After: at.Sub(w.now()), Err: err}
	}
	return err
}

// shown returns the beginning of an answer as logs show it.
func shown(answer []byte) string {
	if len(answer) > shownMax {
		answer = append(answer[:shownMax:shownMax], "..."...)
	}
	return strconv.Quote(string(answer))
}
