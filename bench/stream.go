package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// request asks for an SSE stream and returns the bytes that came after the head of the
// answer.
func (t target) request(c net.Conn) (early []byte, err error) {
	encoding := ""
	if t.compress {
		encoding = "Accept-Encoding: gzip\r\n"
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n%s\r\n", t.url.RequestURI(), t.url.Host, encoding); err != nil {
		return nil, err
	}
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", t.url, explainUpgrade(err))
	}
	kind := resp.Header.Get("Content-Type")
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("GET %s: the server responded with %s instead of 200%s; check --path", t.url, resp.Status, firstLine(resp.Body))
	case !strings.HasPrefix(kind, "text/event-stream"):
		return nil, fmt.Errorf("GET %s: the response is %q, not an SSE stream (text/event-stream); check --path", t.url, kind)
	case t.compress && resp.Header.Get("Content-Encoding") != "gzip":
		return nil, fmt.Errorf("GET %s: the server did not agree to compress (gzip); turn it on there (sluice serve --compression shared)", t.url)
	case len(resp.TransferEncoding) > 0 || resp.ContentLength >= 0:
		return nil, fmt.Errorf("GET %s: the SSE stream is chunked or has a Content-Length, which is not supported: only streams that end with their connection are", t.url)
	}
	return takeBuffered(br) // not through resp.Body, which adds nothing here
}

// firstLine returns the beginning of what a server says about a refusal.
func firstLine(body io.Reader) string {
	b, _ := io.ReadAll(io.LimitReader(body, 200)) // ignored: less is said then
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	if line == "" {
		return ""
	}
	return " (" + line + ")"
}
