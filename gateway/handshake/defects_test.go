package handshake

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// defects are requests that must not be served, one defect each. The corpus
// seeds the fuzz targets, too.
func defects(t testing.TB) []defect {
	edit := func(old, new string) string { return swap(t, good, old, new) }
	add := func(lines string) string { return withFields(good, lines) }
	addPlain := func(lines string) string { return withFields(plain, lines) }
	const (
		requestLine = "GET /ws HTTP/1.1"
		host        = "Host: example.com"
		upgrade     = "Upgrade: websocket"
		connection  = "Connection: Upgrade"
		key         = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
		version     = "Sec-WebSocket-Version: 13"
	)
	targets := []defect{
		{"absolute URI", "http://example.com/ws", 400, "target"},
		{"absolute ws URI", "ws://example.com/ws", 400, "target"},
		{"authority form", "example.com:80", 400, "target"},
		{"asterisk form", "*", 400, "target"},
		{"no slash", "ws", 400, "target"},
		{"fragment", "/ws#here", 400, "target_byte"},
		{"fragment in the query", "/ws?a#here", 400, "target_byte"},
		{"control byte", "/w\x01s", 400, "control_byte"},
		{"DEL", "/w\x7fs", 400, "control_byte"},
		{"NUL", "/w\x00s", 400, "control_byte"},
		{"tab", "/w\ts", 400, "target_byte"},
		{"UTF-8", "/ws/é", 400, "target_byte"},
		{"high byte in the query", "/ws?\xff", 400, "target_byte"},
		{"space", "/w s", 400, "request_line"},
		{"CR", "/w\rs", 400, "bare_cr"},
		{"percent sign at the end", "/ws%", 400, "target_escape"},
		{"half an escape", "/ws%4", 400, "target_escape"},
		{"escape of no digits", "/ws%zz", 400, "target_escape"},
		{"escape with a sign", "/ws%+1", 400, "target_escape"},
		{"half an escape before the query", "/ws%4?1", 400, "target_escape"},
		{"4 KiB and a byte", "/" + strings.Repeat("x", URIBytesMax), 414, "uri_too_long"},
		{"7 KiB", "/" + strings.Repeat("x", 7<<10), 414, "uri_too_long"},
		{"7 KiB of query", "/?" + strings.Repeat("x", 7<<10), 414, "uri_too_long"},
	}
	lines := []defect{
		{"one part", "GET", 400, "request_line"},
		{"two parts", "GET /ws", 400, "request_line"},
		{"four parts", "GET /ws x HTTP/1.1", 400, "request_line"},
		{"four parts behind", "GET /ws HTTP/1.1 x", 400, "http_version"},
		{"space at the end", "GET /ws HTTP/1.1 ", 400, "http_version"},
		{"space first", " GET /ws HTTP/1.1", 400, "method_token"},
		{"two spaces before the target", "GET  /ws HTTP/1.1", 400, "request_line"},
		{"two spaces before the version", "GET /ws  HTTP/1.1", 400, "request_line"},
		{"no target", "GET  HTTP/1.1", 400, "request_line"},
		{"tabs", "GET\t/ws\tHTTP/1.1", 400, "request_line"},
		{"method that is no token", "G(T /ws HTTP/1.1", 400, "method_token"},
		{"HTTP/0.9", "GET /ws HTTP/0.9", 505, "http_version"},
		{"HTTP/1.0", "GET /ws HTTP/1.0", 400, "http_version"},
		{"HTTP/1.2", "GET /ws HTTP/1.2", 505, "http_version"},
		{"HTTP/2.0", "GET /ws HTTP/2.0", 505, "http_version"},
		{"HTTP/1.10", "GET /ws HTTP/1.10", 400, "http_version"},
		{"HTTP/01.1", "GET /ws HTTP/01.1", 400, "http_version"},
		{"HTTP/1", "GET /ws HTTP/1", 400, "http_version"},
		{"HTTP/1.x", "GET /ws HTTP/1.x", 400, "http_version"},
		{"HTTP/x.1", "GET /ws HTTP/x.1", 400, "http_version"},
		{"http/1.1", "GET /ws http/1.1", 400, "http_version"},
		{"HTTPS/1.1", "GET /ws HTTPS/1.1", 400, "http_version"},
		{"HTTP/1.1 with a tab", "GET /ws HTTP/1.1\t", 400, "http_version"},
		{"POST", "POST /ws HTTP/1.1", 405, "method"},
		{"HEAD", "HEAD /ws HTTP/1.1", 405, "method"},
		{"CONNECT", "CONNECT /ws HTTP/1.1", 405, "method"},
		{"lower-case method", "get /ws HTTP/1.1", 405, "method"},
		{"preface of HTTP/2", "PRI * HTTP/2.0", 505, "http_version"},
	}
	all := []defect{
		{"no Host", edit(host+"\r\n", ""), 400, "missing_host"},
		{"two Hosts", add(host + "\r\n"), 400, "duplicate_host"},
		{"two Hosts, another case", add("hOST: evil.example\r\n"), 400, "duplicate_host"},
		{"plain, no Host", edit("Host", "Hast"), 400, "missing_host"},
		{"plain, two Hosts", addPlain(host + "\r\n"), 400, "duplicate_host"},
		{"two Origins", add("Origin: http://a\r\nOrigin: http://b\r\n"), 400, "duplicate_origin"},

		{"line without a colon", add("Name\r\n"), 400, "field_name"},
		{"space before the colon", add("Name : v\r\n"), 400, "field_name"},
		{"tab before the colon", add("Name\t: v\r\n"), 400, "field_name"},
		{"space before the colon of a known name", edit("Host:", "Host :"), 400, "field_name"},
		{"no name", add(": v\r\n"), 400, "field_name"},
		{"space in a name", add("Na me: v\r\n"), 400, "field_name"},
		{"name that is no token", add("Na(me: v\r\n"), 400, "field_name"},
		{"UTF-8 in a name", add("Näme: v\r\n"), 400, "field_name"},
		{"Kelvin sign in a name", edit("Key", "\u212aey"), 400, "field_name"},
		{"quoted name", add("\"Name\": v\r\n"), 400, "field_name"},
		{"folded value", add("Name: v\r\n more\r\n"), 400, "obs_fold"},
		{"folded value, tab", add("Name: v\r\n\tmore\r\n"), 400, "obs_fold"},
		{"folded line that looks like a field", add("Name: v\r\n Host: b\r\n"), 400, "obs_fold"},
		{"first field folded", edit(host, " "+host), 400, "obs_fold"},
		{"line of one space", add(" \r\n"), 400, "obs_fold"},
		{"bare LF behind the request line", edit("1.1\r\n", "1.1\n"), 400, "bare_lf"},
		{"bare LF in the header", add("A: b\nC: d\r\n"), 400, "bare_lf"},
		{"bare LF at the end", strings.TrimSuffix(good, "\r\n") + "\n", 400, "bare_lf"},
		{"CR in a value", add("A: b\rC: d\r\n"), 400, "bare_cr"},
		{"CR twice", add("A: b\r\r\n"), 400, "bare_cr"},
		{"NUL in a value", add("A: b\x00c\r\n"), 400, "control_byte"},
		{"NUL in a name", add("A\x00: b\r\n"), 400, "control_byte"},
		{"control byte in a value", add("A: \x1b[31m\r\n"), 400, "control_byte"},
		{"DEL in a value", add("A: \x7f\r\n"), 400, "control_byte"},
		{"empty line first", "\r\n" + good, 400, "request_line"},
		{"nothing but an empty line", "\r\n", 400, "request_line"},
		{"no empty line", strings.TrimSuffix(good, "\r\n"), 400, "incomplete"},
		{"65 lines", add(strings.Repeat("A: b\r\n", 59)), 431, "too_many_fields"},
		{"20,000 fields", add(strings.Repeat("A: b\r\n", 20_000)), 431, "too_many_fields"},
		{"8 KiB and more", add("A: " + strings.Repeat("b", 8<<10) + "\r\n"), 431, "head_too_large"},
		{"line of 1 MiB", add("A: " + strings.Repeat("b", 1<<20) + "\r\n"), 431, "head_too_large"},

		{"Content-Length on an upgrade", add("Content-Length: 5\r\n"), 400, "body"},
		{"Transfer-Encoding on an upgrade", add("Transfer-Encoding: chunked\r\n"), 400, "body"},
		{"both on an upgrade", add("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, "ambiguous_length"},
		{"both", addPlain("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400, "ambiguous_length"},
		{"chunks in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "ambiguous_length"},
		{"two lengths", addPlain("Content-Length: 5\r\nContent-Length: 6\r\n"), 400, "duplicate_content_length"},
		{"two equal lengths", addPlain("Content-Length: 5\r\nContent-Length: 5\r\n"), 400, "duplicate_content_length"},
		{"two lengths in a list", addPlain("Content-Length: 5, 5\r\n"), 400, "bad_content_length"},
		{"length with a sign", addPlain("Content-Length: +5\r\n"), 400, "bad_content_length"},
		{"negative length", addPlain("Content-Length: -5\r\n"), 400, "bad_content_length"},
		{"hexadecimal length", addPlain("Content-Length: 0x5\r\n"), 400, "bad_content_length"},
		{"empty length", addPlain("Content-Length:\r\n"), 400, "bad_content_length"},
		{"length above 2^63", addPlain("Content-Length: 9999999999999999999\r\n"), 400, "bad_content_length"},
		{"unknown coding", addPlain("Transfer-Encoding: xchunked\r\n"), 501, "transfer_encoding"},
		{"two codings", addPlain("Transfer-Encoding: gzip, chunked\r\n"), 501, "transfer_encoding"},
		{"identity", addPlain("Transfer-Encoding: identity\r\n"), 501, "transfer_encoding"},
		{"empty coding", addPlain("Transfer-Encoding:\r\n"), 501, "transfer_encoding"},
		{"coding with a vertical tab", addPlain("Transfer-Encoding: \vchunked\r\n"), 400, "control_byte"},
		{"coding twice", addPlain("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400, "duplicate_transfer_encoding"},
		{"trailer", addPlain("Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n"), 400, "trailer"},

		{"Upgrade twice", add(upgrade + "\r\n"), 400, "duplicate_upgrade"},
		{"Upgrade to two protocols", edit(upgrade, "Upgrade: websocket, h2c"), 400, "bad_upgrade"},
		{"Upgrade to another first", edit(upgrade, "Upgrade: h2c, WebSocket"), 400, "bad_upgrade"},
		{"Upgrade with a version", edit(upgrade, "Upgrade: websocket/13"), 400, "bad_upgrade"},
		{"Upgrade with a comma", edit(upgrade, "Upgrade: websocket,"), 400, "bad_upgrade"},
		{"no Connection", edit(connection+"\r\n", ""), 400, "bad_connection"},
		{"Connection twice", add("Connection: keep-alive\r\n"), 400, "duplicate_connection"},
		{"Connection without Upgrade", edit(connection, "Connection: keep-alive"), 400, "bad_connection"},
		{"Connection with close", edit(connection, "Connection: close"), 400, "bad_connection"},
		{"Connection that is near", edit(connection, "Connection: Upgrades"), 400, "bad_connection"},
		{"Connection in quotes", edit(connection, `Connection: "Upgrade"`), 400, "bad_connection"},
		{"Connection with a space", edit(connection, "Connection: keep alive, Upgrade"), 400, "bad_connection"},
		{"Connection with a semicolon", edit(connection, "Connection: Upgrade; x"), 400, "bad_connection"},
		{"empty Connection", edit(connection, "Connection:"), 400, "bad_connection"},
		{"no version", edit(version+"\r\n", ""), 426, "version"},
		{"empty version", edit(version, "Sec-WebSocket-Version:"), 426, "version"},
		{"version 8", edit(version, "Sec-WebSocket-Version: 8"), 426, "version"},
		{"version 14", edit(version, "Sec-WebSocket-Version: 14"), 426, "version"},
		{"version 013", edit(version, "Sec-WebSocket-Version: 013"), 426, "version"},
		{"version list", edit(version, "Sec-WebSocket-Version: 13, 8"), 426, "version"},
		{"version that is no number", edit(version, "Sec-WebSocket-Version: abc"), 426, "version"},
		{"version twice", add(version + "\r\n"), 400, "duplicate_version"},
		{"two versions", add("Sec-WebSocket-Version: 8\r\n"), 400, "duplicate_version"},
		{"no key", edit(key+"\r\n", ""), 400, "missing_key"},
		{"key twice", add(key + "\r\n"), 400, "duplicate_key"},
		{"two keys", add("sec-websocket-key: x3JJHMbDL1EzLkh9GBhXDw==\r\n"), 400, "duplicate_key"},
		{"empty protocols", add("Sec-WebSocket-Protocol:\r\n"), 400, "bad_protocol"},
		{"protocols of commas", add("Sec-WebSocket-Protocol: , ,\r\n"), 400, "bad_protocol"},
		{"protocol with a space", add("Sec-WebSocket-Protocol: chat room\r\n"), 400, "bad_protocol"},
		{"protocol in quotes", add("Sec-WebSocket-Protocol: \"chat\"\r\n"), 400, "bad_protocol"},
		{"second protocols bad", add("Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: (\r\n"), 400, "bad_protocol"},
		{"first protocols bad", add("Sec-WebSocket-Protocol: (\r\nSec-WebSocket-Protocol: chat\r\n"), 400, "bad_protocol"},
	}
	for _, value := range []string{
		"", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ===",
		"!!!!!!!!!!!!!!!!!!!!!!!!", "dGhlIHNhbXBsZSBub25jZQAA", "dGhlIHNhbXBsZSBub25jZQA=", "dGhl HNhbXBsZSBub25jZQ==",
		"dGhlIHNhbXBsZSBub25j====", "dGhlIHNhbXBsZS_ub25jZQ==", "dGhlIHNhbXBsZSBub25=ZQ==", "dGhlIHNhbXBsZSBub25jZQ==AAAA",
		"dGhlIHNhbXBsZSBub25jZQ==,dGhlIHNhbXBsZSBub25jZQ==", "\xc3\xa9GhlIHNhbXBsZSBub25jZQ==",
	} {
		all = append(all, defect{"key " + value, edit(key, "Sec-WebSocket-Key: "+value), 400, "bad_key"})
	}
	for _, value := range []string{
		"", "user@example.com", "user:pw@example.com", "exam ple.com", "example.com, evil.example", "example.com/ws",
		"example.com:x", "example.com:-1", "example.com:80:80", "example.com:65536", "example.com:0x50",
		"http://example.com", "exämple.com", "example.com\\x", "%65xample.com", ".example.com", "example..com", "*", ":80",
		"[::1", "::1", "[::1]x", "[::1]:x", "[]", "[127.0.0.1]", "[fe80::1%25eth0]", "[example.com]", "[::1]]", "127.1", "127.0.0.1.",
		"0177.0.0.1", "256.0.0.1", "2130706433", "<script>", strings.Repeat("x", 255),
	} {
		all = append(all, defect{"Host " + value, edit(host, "Host: "+value), 400, "bad_host"})
		all = append(all, defect{"plain, Host " + value, swap(t, plain, host, "Host: "+value), 400, "bad_host"})
	}
	for _, d := range targets {
		all = append(all, defect{"target: " + d.name, edit("/ws", d.head), d.status, d.reason})
	}
	for _, d := range lines {
		all = append(all, defect{"request line: " + d.name, edit(requestLine, d.head), d.status, d.reason})
	}
	return all
}

type defect struct {
	name, head string
	status     int
	reason     string
}

func TestDefectsAreRefusedWithTheRightStatus(t *testing.T) {
	seen := map[string]bool{"upgrader": true} // nothing can show it
	all := defects(t)
	for _, d := range all {
		seen[d.reason] = true
		_, reject := verdict(d.head)
		if reject == nil {
			t.Errorf("%s: accepted", d.name)
		} else if reject.Status != d.status || reject.Reason != d.reason {
			t.Errorf("%s: got %d %s, want %d %s", d.name, reject.Status, reject.Reason, d.status, d.reason)
		}
	}
	for _, reason := range Reasons() {
		if !seen[reason] {
			t.Errorf("no defect shows the reason %s", reason)
		}
	}
	t.Logf("%d defects", len(all))
}

func TestParseFindsWhatEndWouldHaveFound(t *testing.T) {
	for _, d := range defects(t) {
		if _, reject := Parse([]byte(d.head)); reject == nil {
			t.Errorf("%s: accepted", d.name)
		}
	}
}

// An answer has one meaning, closes the connection, and quotes nothing.
func TestAnswersAreWholeAndFixed(t *testing.T) {
	for _, r := range rejects {
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
	busy := Reject{Status: 503, Reason: "busy", Text: "Come back later.", Header: "Retry-After: 2\r\n"}
	got := string(busy.Append([]byte("before|")))
	want := "before|HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 17\r\nX-Content-Type-Options: nosniff\r\n" +
		"Retry-After: 2\r\n\r\nCome back later.\n"
	if got != want {
		t.Errorf("got %q", got)
	}
}
