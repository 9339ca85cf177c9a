package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestABatchIsDoneInOrderWithAReplyForEachCommand(t *testing.T) {
	node := &fake{}
	h := New(node, Options{OnError: func(_ string, err error) { t.Error(err) }})
	status, got, _ := ask(h, "batch", `{"commands":[
		{"publish":{"channel":"a","data":1}}, {"publish":{"channel":"unknown","data":1}}, {"publish":{}},
		{"unsubscribe":{"user":"42"}}, {"info":{}, "publish":null, "x":1}, {}, null, {"batch":{"commands":[]}},
		{"broadcast":{"channels":["a","unknown"],"data":2}}]}`)
	want := `{"replies":[` + strings.Join([]string{
		`{"publish":{"offset":1,"epoch":"xyz","subscribers":3}}`,
		`{"error":{"code":102,"message":"unknown channel"}}`,
		`{"error":{"code":107,"message":"channel is required"}}`,
		`{"unsubscribe":{}}`,
		`{"info":{"nodes":[]}}`,
		`{"error":{"code":104,"message":"commands[5] does not name a method that a batch can call"}}`,
		`{"error":{"code":104,"message":"commands[6] does not name a method that a batch can call"}}`,
		`{"error":{"code":104,"message":"commands[7] does not name a method that a batch can call"}}`,
		`{"broadcast":{"responses":[{"result":{"offset":2,"epoch":"xyz","subscribers":3}},{"error":{"code":102,"message":"unknown channel"}}]}}`,
	}, ",") + `]}`
	if status != 200 {
		t.Errorf("status %d", status)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	wantCalls := []string{`publish ["a","1",false,null,false]`, `publish ["unknown","1",false,null,false]`, `unsubscribe {"user":"42"}`, `info null`}
	if diff := cmp.Diff(wantCalls, node.calls[:4]); diff != "" {
		t.Error(diff)
	}
}

func TestAMalformedCommandRefusesTheWholeBatch(t *testing.T) {
	node := &fake{}
	status, _, _ := ask(New(node, Options{}), "batch", `{"commands":[{"publish":{"channel":"a","data":1}},{"publish":{"channel":1}}]}`)
	if status != 400 || len(node.calls) > 0 {
		t.Errorf("status %d, calls %v", status, node.calls)
	}
}

func TestABroadcastHasAResponseForEachChannelInOrder(t *testing.T) {
	node := &fake{}
	h := New(node, Options{})
	var channels, want []string
	for i := range 200 {
		switch i {
		case 7:
			channels, want = append(channels, `""`), append(want, `{"error":{"code":107,"message":"channels[7] is empty"}}`)
		case 150:
			channels, want = append(channels, `"unknown"`), append(want, `{"error":{"code":102,"message":"unknown channel"}}`)
		default:
			channels, want = append(channels, fmt.Sprintf(`"c%d"`, i)), append(want, `{"result":{}}`)
		}
	}
	_, got, _ := ask(h, "broadcast", `{"channels":[`+strings.Join(channels, ",")+`],"b64data":"aGk=","tags":{"k":"v"},"skip_history":true}`, transport...)
	var answer struct {
		Result struct{ Responses []json.RawMessage }
	}
	if err := json.Unmarshal([]byte(got), &answer); err != nil {
		t.Fatal(err)
	}
	for i, raw := range answer.Result.Responses {
		if s := string(raw); s != want[i] && !(want[i] == `{"result":{}}` && strings.HasPrefix(s, `{"result":{"offset":`)) {
			t.Errorf("%d: %s, want %s", i, s, want[i])
		}
	}
	if len(answer.Result.Responses) != 200 || len(node.calls) != 199 {
		t.Errorf("%d responses, %d calls", len(answer.Result.Responses), len(node.calls))
	}
	if !slices.Contains(node.calls, `publish ["c199","hi",true,{"k":"v"},true]`) {
		t.Error(node.calls)
	}
}

func TestErrorsInsideAnAnswerAreLoggedToo(t *testing.T) {
	var logged atomic.Int64
	h := New(&fake{err: errors.New("disk is on fire")}, Options{OnError: func(string, error) { logged.Add(1) }})
	for method, want := range map[string]string{
		"broadcast": `{"result":{"responses":[{"error":{"code":100,"message":"internal server error","temporary":true}},{"error":{"code":100,"message":"internal server error","temporary":true}}]}}`,
		"batch":     `{"replies":[{"error":{"code":100,"message":"internal server error","temporary":true}}]}`,
	} {
		if status, got, _ := ask(h, method, `{"channels":["a","b"],"data":1,"commands":[{"info":{}}]}`, transport...); status != 200 || got != want {
			t.Errorf("%s: %d %s", method, status, got)
		}
	}
	if logged.Load() != 3 {
		t.Errorf("%d logged, want 3", logged.Load())
	}
}

// TestSeveralAreDoneAtOnce fails if one channel that pushes back holds up another: each
// publication waits until another one is there.
func TestSeveralAreDoneAtOnce(t *testing.T) {
	for method, body := range map[string]string{
		"broadcast": `{"channels":["a","b"],"data":1}`,
		"batch":     `{"parallel":true,"commands":[{"publish":{"channel":"a","data":1}},{"publish":{"channel":"b","data":1}}]}`,
	} {
		meet := make(chan struct{})
		h := New(&fake{publish: func(*PublishRequest) {
			select {
			case meet <- struct{}{}:
			case <-meet:
			}
		}}, Options{})
		if status, got, _ := ask(h, method, body); status != 200 || strings.Count(got, `"offset"`) != 2 {
			t.Errorf("%s: %d %s", method, status, got)
		}
	}
}

func TestNoMoreThanSoManyAtOnce(t *testing.T) {
	var running, most atomic.Int64
	h := New(&fake{publish: func(*PublishRequest) {
		n := running.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		running.Add(-1)
	}}, Options{})
	ask(h, "broadcast", `{"data":1,"channels":[`+strings.Repeat(`"a",`, 999)+`"a"]}`)
	if most.Load() > atOnce {
		t.Errorf("%d at once", most.Load())
	}
}

func TestAPanicOfTheNodeReachesTheServer(t *testing.T) {
	h := New(&fake{publish: func(*PublishRequest) { panic("broken") }}, Options{})
	for method, body := range map[string]string{
		"publish":   `{"channel":"a","data":1,"idempotency_key":"k"}`,
		"broadcast": `{"channels":["a","b"],"data":1,"idempotency_key":"k"}`,
	} {
		func() {
			defer func() {
				if p := recover(); p != "broken" {
					t.Errorf("%s: recovered %v", method, p)
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/api/"+method, strings.NewReader(body)))
		}()
	}
	if n := len(h.window.flights); n > 0 {
		t.Errorf("%d keys are still being waited for", n)
	}
}

// A request of many parts is answered in time, however long each of them takes.
func TestWhatDoesNotBeginInTimeIsNotDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each, parts = 4 * time.Second, 10
		done := int(requestMost/each) + 1 // the last one begins in time
		refused := `{"code":100,"message":"the request took too long, and this part of it was not done","temporary":true}`
		for _, test := range []struct {
			method, part, separator string
			done                    int
		}{
			{"batch", `{"publish":{"channel":"a","data":1}}`, ",", done},
			{"", `{"method":"publish","params":{"channel":"a","data":1}}`, "\n", done},
			{"broadcast", `"a"`, ",", atOnce * done},
		} {
			node := &fake{publish: func(*PublishRequest) { time.Sleep(each) }}
			n := test.done + parts
			body := strings.Repeat(test.separator+test.part, n)[1:]
			switch test.method {
			case "batch":
				body = `{"commands":[` + body + `]}`
			case "broadcast":
				body = `{"data":1,"channels":[` + body + `]}`
			}
			begun := time.Now()
			_, got, _ := ask(New(node, Options{}), test.method, body)
			if took := time.Since(begun); took != each*time.Duration(done) || len(node.calls) != test.done || strings.Count(got, refused) != parts {
				t.Errorf("%s: %d of %d were done in %v, and %d refused", test.method, len(node.calls), n, took, strings.Count(got, refused))
			}
		}
	})
}
