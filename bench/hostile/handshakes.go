package hostile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"

	"sluice/bench"
)

// goodEvery is how often a case is a handshake that must be accepted.
const goodEvery = 50

// Handshakes sends upgrade requests, almost all of which must be refused. Wrong
// answers are a 101 for one of those, anything but a 101 for the one in fifty that is
// valid, bytes that are not one HTTP response, a 500, and silence. The error says that an
// answer was wrong, or is as of [bench.Fanout].
func Handshakes(ctx context.Context, o Options) (*bench.Result, error) {
	return measure(ctx, "handshakes", o, func(k *attack, r *rand.Rand, n int) error {
		g := requests{Rand: r, host: k.run.URL().Host, path: k.run.URL().RequestURI()}
		good := (n+1)%goodEvery == 0
		b := joinLines(g.good())
		if !good {
			b = g.bad()
		}
		return k.handshake(r, n, b, good)
	})
}

// handshake sends one request and judges the answer.
func (k *attack) handshake(r *rand.Rand, n int, b []byte, good bool) error {
	why := upgradeRefusal(b)
	if good && why != "" {
		return wrongf("the checker itself refuses a valid request: %s: %s", why, quoted(b))
	}
	c, err := k.dial(n)
	if err != nil {
		return err
	}
	defer c.Close()
	writeCut(c, r, b)
	if why != "" && waitsForMore(b) {
		if r.IntN(4) == 0 {
			k.count("cut_off")
			return nil // gone without a word
		}
		c.CloseWrite() // ignored: then there is an answer already
	}
	method, _, _ := strings.Cut(string(b[:min(len(b), 20)]), " ")
	resp, err := readAnswer(c, method)
	switch {
	case err != nil:
		return wrongf("%v; sent %s", err, quoted(b))
	case resp == nil && good:
		return wrongf("a valid request got no response: %s", quoted(b))
	case resp == nil:
		k.count("unanswered")
		return nil
	}
	status := resp.StatusCode
	k.count(statusMetric(status))
	switch {
	case status == http.StatusSwitchingProtocols && why != "":
		return wrongf("101 for a request that must be refused (%s): %s", why, quoted(b))
	case status != http.StatusSwitchingProtocols && good:
		return wrongf("%d for a valid request: %s", status, quoted(b))
	case status == http.StatusSwitchingProtocols:
		return checkAccept(resp, b)
	case status == http.StatusInternalServerError:
		return wrongf("500, an internal server error, for %s", quoted(b))
	}
	if why == "" {
		k.count("refused_unasked")
	}
	return nil
}

// waitsForMore reports whether a server may wait for the rest of what was sent: of a
// head, or of a body that it may read before it answers.
func waitsForMore(b []byte) bool {
	lower := bytes.ToLower(b)
	return !bytes.Contains(b, []byte("\r\n\r\n")) || bytes.Contains(lower, []byte("content-length")) || bytes.Contains(lower, []byte("transfer-encoding"))
}

// readAnswer reads one response and the end of the connection behind it, nil when it
// ends without. A 101 is read up to its empty line.
func readAnswer(c net.Conn, method string) (*http.Response, error) {
	br := bufio.NewReaderSize(c, 1<<10)
	if _, err := br.Peek(1); err != nil {
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			return nil, errors.New("no response, and the connection stays open")
		}
		return nil, nil
	}
	for {
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return nil, errors.New("the response is not HTTP: " + err.Error())
		}
		switch {
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return resp, nil
		case resp.StatusCode < 200:
			continue
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return nil, errors.New("the response is incomplete: " + err.Error())
		}
		if method == http.MethodHead { // a refusal that came before the method was known to be that
			return resp, nil
		}
		if rest, _ := br.Peek(1); len(rest) > 0 { // the error is the end that is waited for
			return nil, errors.New("extra bytes after the response " + resp.Status)
		}
		return resp, nil
	}
}

// checkAccept checks a 101 against RFC 6455 section 4.2.2.
func checkAccept(resp *http.Response, b []byte) error {
	// RFC 9112 section 2.2: a server should ignore an empty line before the request.
	// net/http does not.
	b = bytes.TrimPrefix(b, []byte("\r\n"))
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return wrongf("101 for a request that net/http refuses: %v: %s", err, quoted(b))
	}
	sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if h := resp.Header; h.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) ||
		!strings.EqualFold(h.Get("Upgrade"), "websocket") || !hasToken(h.Get("Connection"), "upgrade") {
		return wrongf("a 101 that no client accepts, %v: %s", h, quoted(b))
	}
	return nil
}

// answerStatuses are those that are counted by themselves.
var answerStatuses = []int{101, 200, 400, 403, 404, 405, 414, 417, 426, 431, 501, 503, 505}

func statusMetric(status int) string {
	for _, s := range answerStatuses {
		if s == status {
			return "answered_" + strconv.Itoa(s)
		}
	}
	return "answered_otherwise"
}

func init() {
	var answers [][2]string
	for _, s := range answerStatuses {
		answers = append(answers, [2]string{statusMetric(s), strconv.Itoa(s) + " " + http.StatusText(s)})
	}
	answers = append(answers, [2]string{statusMetric(0), "any other status"}, [2]string{"unanswered", "closed without a response"}, [2]string{"cut_off", "client left without waiting"})
	register("handshakes", "hostile handshakes", "requests, one in fifty of them valid", [][2]string{{"refused_unasked", "refused although the RFCs allow them"}},
		bench.Table{Title: "responses", Rows: answers})
}
