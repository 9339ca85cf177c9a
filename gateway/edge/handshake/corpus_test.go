package handshake

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sluice/gateway/route"
)

// defect is a request and how it must end: mostly one with a single fault.
type defect struct {
	name, head string
	status     int
	reason     string
}

// defects are the requests of testdata/handshakes.txt that must not be served. They
// seed the fuzz targets, too.
func defects(t testing.TB) (all []defect) {
	for _, d := range corpus(t) {
		if d.status != http.StatusSwitchingProtocols {
			all = append(all, d)
		}
	}
	return all
}

// corpus reads testdata/handshakes.txt, which says how it is written.
func corpus(t testing.TB) (all []defect) {
	t.Helper()
	b, err := os.ReadFile("testdata/handshakes.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		parts := strings.SplitN(line, " | ", 3)
		if len(parts) != 3 {
			t.Fatalf("%q: not status and reason, name, bytes", line)
		}
		var d defect
		_, err1 := fmt.Sscan(parts[0], &d.status, &d.reason)
		head, err2 := expand(parts[2])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		d.name, d.head = d.reason+", "+parts[1], head
		all = append(all, d)
	}
	return all
}

var (
	brace  = regexp.MustCompile(`\{[^{}]*\}`)
	macros = map[string]string{
		"{get}": `GET /ws HTTP/1.1\r\n`, "{host}": `Host: example.com\r\n`, "{up}": `Upgrade: websocket\r\n`, "{conn}": `Connection: Upgrade\r\n`,
		"{key}": `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n`, "{ver}": `Sec-WebSocket-Version: 13\r\n`,
		"{ws}": "{up}{conn}{key}{ver}", "{good}": "{host}{ws}",
	}
)

// expand gives the bytes that a line of the corpus stands for.
func expand(s string) (string, error) {
	var err error
	for brace.MatchString(s) {
		s = brace.ReplaceAllStringFunc(s, func(word string) string {
			if text, times, ok := strings.Cut(strings.Trim(word, "{}"), "*"); ok {
				n, e := strconv.Atoi(times)
				err = errors.Join(err, e)
				return strings.Repeat(text, n)
			}
			if macros[word] == "" {
				err = errors.Join(err, fmt.Errorf("no macro %s", word))
			}
			return macros[word]
		})
	}
	raw, e := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	return raw, errors.Join(err, e)
}

// serve makes the calls that the gateway makes of a connection's first bytes, in its
// order.
func serve(b []byte) (route.Request, *route.Reject) {
	n, reject := End(b, 0)
	switch {
	case reject != nil:
		return route.Request{}, reject
	case n == 0:
		return route.Request{}, rejectIncomplete
	}
	head := b[EmptyLine(b):n]
	req, reject := Parse(head)
	if reject != nil || !req.Upgrade {
		return req, reject
	}
	if _, err := NewUpgrader(nil, false).Upgrade(head, io.Discard); err != nil && !errors.As(err, &reject) {
		panic(err) // writing to nowhere does not fail
	}
	return req, reject
}
