package handshake

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"sluice/gateway/route"
)

func TestParseFindsWhatEndWouldHaveFound(t *testing.T) {
	for _, d := range defects(t) {
		if _, reject := Parse([]byte(d.head)); reject == nil {
			t.Errorf("%s: accepted", d.name)
		}
	}
}

// An answer has one meaning, closes the connection, and quotes nothing.
func TestAnswersAreWholeAndFixed(t *testing.T) {
	for _, r := range route.Rejects() {
		answer := r.Append(nil)
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
		if err != nil {
			t.Fatalf("%s: %v", r.Reason, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != r.Text+"\n" || resp.ContentLength != int64(len(body)) {
			t.Errorf("%s: got %q, %v", r.Reason, body, err)
		}
		if !bytes.HasSuffix(answer, body) || resp.StatusCode != r.Status || !resp.Close {
			t.Errorf("%s: got %q", r.Reason, answer)
		}
		if r.Error() != r.Text || !strings.HasSuffix(r.Text, ".") {
			t.Errorf("%s: %q is no sentence", r.Reason, r.Text)
		}
		if r.Status == 405 && resp.Header.Get("Allow") != "GET" {
			t.Error("405 without Allow")
		}
		if r.Status == 426 && (resp.Header.Get("Sec-WebSocket-Version") != "13" ||
			resp.Header.Get("Upgrade") != "websocket" || !bytes.Contains(answer, []byte("\r\nConnection: close, Upgrade\r\n"))) {
			t.Errorf("426 with %v", resp.Header)
		}
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	busy := route.Reject{Status: 503, Text: "Come back later.", Header: "Retry-After: 2\r\n"}
	got := string(busy.Append([]byte("before|")))
	want := "before|HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 17\r\nX-Content-Type-Options: nosniff\r\n" +
		"Retry-After: 2\r\n\r\nCome back later.\n"
	if got != want {
		t.Errorf("got %q", got)
	}
}
