package backend

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/clitest"
)

// serve returns a backend with these answers, in order.
func serve(t *testing.T, answers ...string) (url string) {
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // ignored: it is not looked at
		if n >= len(answers) {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, answers[n]) // ignored: the answer is missing then
		n++
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// What is printed is what goes over the wire, except for the password.
func TestPrintsTheBytesThatItSends(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sent := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			sent <- err.Error()
			return
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		var all strings.Builder
		for {
			line, err := r.ReadString('\n')
			if all.WriteString(strings.TrimRight(line, "\r\n") + "\n"); err != nil || line == "\r\n" {
				break
			}
		}
		body := make([]byte, 183)
		io.ReadFull(r, body) // ignored: what is missing is seen
		all.Write(body)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}") // ignored: the answer is missing then
		sent <- all.String()
	}()
	code, stdout, stderr := clitest.Run(newTestCommand(), "", fmt.Sprintf("http://u:p@%s/h?x=1", l.Addr()), "--event", "publish",
		"--header", "x-b: 2", "--header", "Cookie: a=1", "--header", "Cookie: b=2", "--data", `{"<b>": 1}`, "--meta", `{"tenant": 4}`, "--user", "")
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	want := `POST /h?x=1 HTTP/1.1
Host: ` + l.Addr().String() + `
User-Agent: Go-http-client/1.1
Content-Length: 183
Authorization: Basic dTpw
Content-Type: application/json
Cookie: a=1
Cookie: b=2
X-B: 2

{"client":"c9bf9e57-1685-4c89-bafb-ff5af830be8a","transport":"websocket","protocol":"json","encoding":"json","user":"","channel":"news","data":{"\u003cb\u003e":1},"meta":{"tenant":4}}`
	if diff := cmp.Diff(want, <-sent); diff != "" {
		t.Error(diff)
	}
	shown := strings.ReplaceAll("> "+strings.ReplaceAll(strings.ReplaceAll(want, "Basic dTpw", "***"), "\n", "\n> "), "> \n", ">\n")
	if diff := cmp.Diff("publish\n"+shown+"\n< 200\n< {}\nok: it is published unchanged: an answer without a result allows it\n", stdout); diff != "" {
		t.Error(diff)
	}
}

func TestSaysWhatAnswersMean(t *testing.T) {
	for _, test := range []struct {
		event, answer, outcome, meaning string // that begins so
		failed                          bool
	}{
		{"connect", `{"result": {"user": "42", "expire_at": 4000000000, "channels": ["a"], "subs": {"b": {}}}}`, "ok", `the client is connected as the user "42" until 2096-10-02T07:06:40Z, and subscribed to 2 channels`, false},
		{"connect", `{"result": {"user": "42", "expire_at": 1000000000}}`, "ok", `error 110 "expired": a client of the Centrifugo protocol gets that reply`, false},
		{"connect", `{"result": {}}`, "ok", "the client is connected as an anonymous one", false},
		{"connect", `{}`, "ok", "no result: the client is disconnected with 3501", false},
		{"connect", `{"result": {"user": 42}}`, "decode", "no decision: connect hook: http://", true},
		{"connect", `{"error": {"code": 401, "message": "who?"}}`, "error", `error 401 "who?": a client of the Centrifugo protocol gets that reply; one of raw WebSocket or SSE is refused with HTTP 401`, false},
		{"connect", `{"disconnect": {"code": 4000, "reason": "later"}}`, "disconnect", `disconnect 4000 "later": the connection is closed with that code, and the client reconnects`, false},
		{"subscribe", `{}`, "ok", "the client is subscribed: an answer without a result allows it", false},
		{"subscribe", `{"disconnect": {"code": 4501, "reason": "banned"}}`, "disconnect", `disconnect 4501 "banned": the connection is closed with that code, and the client does not reconnect`, false},
		{"publish", `{"result": {"data": "x"}}`, "ok", "the data of the answer is published instead", false},
		{"publish", `{"error": {"code": 400, "message": "no"}}`, "error", `error 400 "no": a client of the Centrifugo protocol gets that reply`, false},
		{"publish", `<html>`, "decode", "no decision: publish hook: http://", true},
		{"rpc", `{"result": {"data": 1}}`, "ok", "the client gets a reply with the data of the answer", false},
		{"refresh", `{}`, "ok", "expired: the connection is closed with 3005", false},
		{"refresh", `{"result": {}}`, "ok", "expired: there is no expire_at in the future", false},
		{"refresh", `{"result": {"expire_at": 4000000000}}`, "ok", "the client stays connected until 2096-10-02T07:06:40Z", false},
		{"refresh", `{`, "decode", "no decision: refresh hook: ", true},
		{"sub_refresh", `{"result": {}}`, "ok", "the client stays subscribed, and that never expires again", false},
		{"sub_refresh", `{"result": {"expired": true}}`, "ok", "expired: the client is unsubscribed with 2501", false},
	} {
		code, stdout, stderr := clitest.Run(newTestCommand(), "", serve(t, test.answer), "--event", test.event, "--json")
		var got struct {
			Events []struct {
				Event, Answer, Outcome, Meaning string
				Status                          int
			}
		}
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || len(got.Events) != 1 {
			t.Fatalf("%s %s: %v, %s%s", test.event, test.answer, err, stdout, stderr)
		}
		if e := got.Events[0]; e.Event != test.event || e.Status != 200 || e.Answer != test.answer || e.Outcome != test.outcome || !strings.HasPrefix(e.Meaning, test.meaning) || (code != 0) != test.failed {
			t.Errorf("%s %s: exit code %d, %+v; want %s, %q", test.event, test.answer, code, e, test.outcome, test.meaning)
		}
	}
}

func TestEventsInTheirOrderAndFaults(t *testing.T) {
	code, stdout, _ := clitest.Run(newTestCommand(), "", serve(t, "{}", "{}", "{}", "{}"), "--event", "rpc", "--event", "connect,subscribe")
	var order []string
	for line := range strings.Lines(stdout) {
		if !strings.ContainsAny(line, ":<> ") && line != "\n" {
			order = append(order, strings.TrimSpace(line))
		}
	}
	if diff := cmp.Diff([]string{"connect", "subscribe", "rpc"}, order); diff != "" || code != 0 {
		t.Errorf("exit code %d, %s\n%s", code, diff, stdout)
	}
	code, stdout, _ = clitest.Run(newTestCommand(), "", serve(t), "--event", "rpc")
	if !strings.Contains(stdout, "< 404\n") || !strings.Contains(stdout, "status: no decision: ") || code != cli.ExitFailed {
		t.Errorf("a status of 404: exit code %d\n%s", code, stdout)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "specify one URL, such as http://127.0.0.1:3000/hook"},
		{[]string{"grpc://x"}, "grpc://x: a gRPC endpoint is not supported"},
		{[]string{"http://169.254.169.254/"}, "http://169.254.169.254/: 169.254.169.254 is an address at which clouds serve credentials"},
		{[]string{"http://x", "--event", "subs"}, "--event subs: there is no such event; "},
		{[]string{"http://x", "--data", "hello"}, "--data: not JSON; "},
		{[]string{"http://x", "--header", "a"}, `--header "a": not a header; `},
		{[]string{"http://x", "--header", "Host: a"}, `--header: "Host" is a header of the call itself`},
		{[]string{"http://x", "--timeout", "0"}, "--timeout 0s: must be greater than 0"},
	} {
		if code, _, stderr := clitest.Run(newTestCommand(), "", test.args...); code != cli.ExitUsage || !strings.HasPrefix(stderr, "sluice: "+test.want) {
			t.Errorf("%q: exit code %d, %q; want %q", test.args, code, stderr, test.want)
		}
	}
}
