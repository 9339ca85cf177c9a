package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/poller/leaktest"

	"github.com/google/go-cmp/cmp"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// fake is the other side of the door. It records what it is asked for, as JSON of the request.
type fake struct {
	err     error                 // of every call, if there is one
	publish func(*PublishRequest) // before it answers
	history HistoryResult
	clients map[string]channel.ClientInfo
	info    InfoResult
	partial bool // of all results

	mu     sync.Mutex
	calls  []string // guarded by mu
	offset uint64   // guarded by mu
}

func (f *fake) called(name string, request any) error {
	b, err := json.Marshal(request)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, name+" "+string(b))
	return f.err
}

func (f *fake) Publish(_ context.Context, r *PublishRequest) (PublishResult, error) {
	if f.publish != nil {
		f.publish(r)
	}
	err := f.called("publish", []any{r.Channel, string(r.Payload), r.Binary, r.Tags, r.SkipHistory})
	if r.Channel == "unknown" {
		err = ErrUnknownChannel
	}
	if err != nil {
		return PublishResult{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.offset++
	return PublishResult{Offset: f.offset, Epoch: "xyz", Subscribers: 3}, nil
}

func (f *fake) Subscribe(_ context.Context, r *SubscribeRequest) (ActionResult, error) {
	return ActionResult{f.partial}, f.called("subscribe", r)
}
func (f *fake) Unsubscribe(_ context.Context, r *UnsubscribeRequest) (ActionResult, error) {
	return ActionResult{f.partial}, f.called("unsubscribe", r)
}
func (f *fake) Disconnect(_ context.Context, r *DisconnectRequest) (ActionResult, error) {
	return ActionResult{f.partial}, f.called("disconnect", r)
}
func (f *fake) Refresh(_ context.Context, r *RefreshRequest) (ActionResult, error) {
	return ActionResult{f.partial}, f.called("refresh", r)
}
func (f *fake) Presence(_ context.Context, name string) (PresenceResult, error) {
	return PresenceResult{f.clients, f.partial}, f.called("presence", name)
}
func (f *fake) PresenceStats(_ context.Context, channel string) (PresenceStatsResult, error) {
	return PresenceStatsResult{3, 2, f.partial}, f.called("presence_stats", channel)
}
func (f *fake) History(_ context.Context, r *HistoryRequest) (HistoryResult, error) {
	return f.history, f.called("history", r)
}
func (f *fake) HistoryRemove(_ context.Context, channel string) error {
	return f.called("history_remove", channel)
}
func (f *fake) Channels(_ context.Context, pattern string) (ChannelsResult, error) {
	return ChannelsResult{map[string]ChannelInfo{"news": {3}}, f.partial}, f.called("channels", pattern)
}
func (f *fake) ChannelStats(_ context.Context, r *ChannelStatsRequest) (ChannelStatsResult, error) {
	if r.Channel == "nobody's" {
		return ChannelStatsResult{NumChannels: 1}, f.called("channel_stats", r)
	}
	return ChannelStatsResult{1, []ChannelStats{{"news", 3, 0.5}}, f.partial}, f.called("channel_stats", r)
}
func (f *fake) Info(context.Context) (InfoResult, error) { return f.info, f.called("info", nil) }

// ask sends a request and gives the answer's status and body.
func ask(h http.Handler, method, body string, header ...string) (int, string, http.Header) {
	return request(h, http.MethodPost, "/api/"+method, body, header...)
}

func request(h http.Handler, verb, path, body string, header ...string) (int, string, http.Header) {
	r := httptest.NewRequest(verb, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, strings.TrimSuffix(w.Body.String(), "\n"), w.Header()
}

var transport = []string{"X-Centrifugo-Error-Mode", "transport"}

func TestRequestsReachTheNodeAndAnswersHaveCentrifugosShape(t *testing.T) {
	node := &fake{
		clients: map[string]channel.ClientInfo{"b0c1": {User: "42", Client: "b0c1", ConnInfo: json.RawMessage(`{"name":"Ann"}`)}},
		history: HistoryResult{
			Publications: []Publication{
				{Offset: 1, Data: json.RawMessage(`{"a":"<&>"}`), Tags: map[string]string{"k": "v"}, Info: &channel.ClientInfo{User: "42", Client: "b0c1"}},
				{Offset: 4, Prev: 1, Data: json.RawMessage("hello")},
				{Offset: 5, Prev: 4, B64Data: []byte("1")},
				{Offset: 9, Prev: 5, Data: json.RawMessage("\"\xff\"")},
			},
			Epoch: "xyz", Offset: 9,
		},
		info: InfoResult{Nodes: []NodeInfo{{UID: "u1", Name: "edge-1", Version: "1.0", NumClients: 3, NumUsers: 2, NumSubs: 4, NumChannels: 1, Uptime: 60, Process: &Process{1.5, 6500}}}},
	}
	for _, tt := range []struct{ method, body, call, want string }{
		{"publish", `{"channel":"news","data": {"x":  "<a>&\u2028", "n": 1.0e3}, "tags":{"k":"v"},"skip_history":true,"delta":true,"unknown":[1]}`,
			`publish ["news","{\"x\":  \"\u003ca\u003e\u0026\\u2028\", \"n\": 1.0e3}",false,{"k":"v"},true]`,
			`{"result":{"offset":1,"epoch":"xyz","subscribers":3}}`},
		{"publish", `{"channel":"news","data":null}`, `publish ["news","null",false,null,false]`, `{"result":{"offset":2,"epoch":"xyz","subscribers":3}}`},
		{"publish", `{"channel":"news","b64data":"aGk=","data":1}`, `publish ["news","hi",true,null,false]`, `{"result":{"offset":3,"epoch":"xyz","subscribers":3}}`},
		{"subscribe", `{"user":"42","channel":"news","client":"b0c1","info":{"a":1},"data":[2],"expire_at":19,"recover_since":{"offset":5,"epoch":"e"},"override":null,"session":""}`,
			`subscribe {"user":"42","channel":"news","client":"b0c1","info":{"a":1},"data":[2],"expire_at":19,"recover_since":{"offset":5,"epoch":"e"},"override":null}`, `{"result":{}}`},
		{"unsubscribe", `{"user":"42"}`, `unsubscribe {"user":"42"}`, `{"result":{}}`},
		{"unsubscribe", `{"client":"b0c1","channel":"news"}`, `unsubscribe {"channel":"news","client":"b0c1"}`, `{"result":{}}`},
		{"disconnect", `{"user":"42","whitelist":["a","b"],"disconnect":{"code":4500,"reason":"banned"}}`,
			`disconnect {"user":"42","whitelist":["a","b"],"disconnect":{"code":4500,"reason":"banned"}}`, `{"result":{}}`},
		{"disconnect", `{"user":"42","disconnect":{}}`, `disconnect {"user":"42"}`, `{"result":{}}`},
		{"refresh", `{"user":"42","client":"c","expired":true,"expire_at":19,"info":{}}`, `refresh {"user":"42","client":"c","expired":true,"expire_at":19,"info":{}}`, `{"result":{}}`},
		{"presence", `{"channel":"news"}`, `presence "news"`, `{"result":{"presence":{"b0c1":{"user":"42","client":"b0c1","conn_info":{"name":"Ann"}}}}}`},
		{"presence_stats", `{"channel":"news"}`, `presence_stats "news"`, `{"result":{"num_clients":3,"num_users":2}}`},
		{"history", `{"channel":"news","limit":-1,"since":{"offset":7,"epoch":"e"},"reverse":true}`, `history {"channel":"news","limit":-1,"since":{"offset":7,"epoch":"e"},"reverse":true}`,
			`{"result":{"publications":[{"offset":1,"prev":0,"data":{"a":"<&>"},"info":{"user":"42","client":"b0c1"},"tags":{"k":"v"}},{"offset":4,"prev":1,"data":null,"b64data":"aGVsbG8="},{"offset":5,"prev":4,"data":null,"b64data":"MQ=="},{"offset":9,"prev":5,"data":null,"b64data":"Iv8i"}],"epoch":"xyz","offset":9}}`},
		{"history_remove", `{"channel":"news"}`, `history_remove "news"`, `{"result":{}}`},
		{"channels", ``, `channels ""`, `{"result":{"channels":{"news":{"num_clients":3}}}}`},
		{"channel_stats", ``, `channel_stats {"sort":"rate","limit":20}`, `{"result":{"num_channels":1,"channels":[{"channel":"news","num_clients":3,"publications_per_second":0.5}]}}`},
		{"channel_stats", `{"sort":"clients","limit":100}`, `channel_stats {"sort":"clients","limit":100}`, `{"result":{"num_channels":1,"channels":[{"channel":"news","num_clients":3,"publications_per_second":0.5}]}}`},
		{"channel_stats", `{"channel":"nobody's"}`, `channel_stats {"channel":"nobody's","sort":"rate","limit":20}`, `{"result":{"num_channels":1,"channels":[]}}`},
		{"channels", `{"pattern":"n*"}`, `channels "n*"`, `{"result":{"channels":{"news":{"num_clients":3}}}}`},
		{"info", ` `, `info null`, `{"result":{"nodes":[{"uid":"u1","name":"edge-1","version":"1.0","num_clients":3,"num_users":2,"num_subs":4,"num_channels":1,"uptime":60,"process":{"cpu":1.5,"rss":6500}}]}}`},
	} {
		node.calls = nil
		h := New(node, Options{OnError: func(method string, err error) { t.Errorf("%s: %v", method, err) }})
		status, got, header := ask(h, tt.method, tt.body, "Content-Type", "application/x-www-form-urlencoded") // curl -d
		if status != 200 || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: status %d, %q", tt.method, status, header.Get("Content-Type"))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: answer (-want +got):\n%s", tt.method, diff)
		}
		if diff := cmp.Diff([]string{tt.call}, node.calls); diff != "" {
			t.Errorf("%s: calls (-want +got):\n%s", tt.method, diff)
		}
	}
}

func TestEmptyAnswersAreNotNull(t *testing.T) {
	h := New(&fake{}, Options{})
	for method, want := range map[string]string{
		"presence": `{"result":{"presence":{}}}`,
		"history":  `{"result":{"publications":[],"epoch":"","offset":0}}`,
		"info":     `{"result":{"nodes":[]}}`,
	} {
		if _, got, _ := ask(h, method, `{"channel":"news"}`); got != want {
			t.Errorf("%s: %s, want %s", method, got, want)
		}
	}
	if _, got, _ := ask(h, "batch", `{"commands":[]}`); got != `{"replies":[]}` {
		t.Errorf("batch: %s", got)
	}
}

// TestWhatIsRefusedHasOneClearMessage has every refusal before the Node is asked: malformed
// requests have status 400 in either mode, others only in transport mode.
func TestWhatIsRefusedHasOneClearMessage(t *testing.T) {
	many := func(n int, s string) string { return strings.Repeat(s+",", n-1) + s }
	for _, tt := range []struct {
		method, body string
		status       int // 200 is 400 in transport mode
		code         int
		message      string
	}{
		{"publish", `{`, 400, 107, "the body is not valid JSON: unexpected end of JSON input (byte 1)"},
		{"publish", `{} x`, 400, 107, "the body is not valid JSON: invalid character 'x' after top-level value (byte 4)"},
		{"publish", "{\"channel\":\"\xff\"}", 400, 107, "the body is not UTF-8: send bytes as b64data"},
		{"publish", `[]`, 400, 107, "the body must be an object, not array"},
		{"publish", `{"channel":5}`, 400, 107, "channel must be a string, not number"},
		{"publish", `{"channel":"a","tags":{"k":1}}`, 400, 107, "each of tags must be a string, not number"},
		{"broadcast", `{"channels":[1]}`, 400, 107, "each of channels must be a string, not number"},
		{"broadcast", `{"CHANNELS":"a"}`, 400, 107, "channels must be an array, not string"},
		{"publish", `{"channel":"a","tags":[]}`, 400, 107, "tags must be an object, not array"},
		{"publish", `{"skip_history":"yes"}`, 400, 107, "skip_history must be true or false, not string"},
		{"history", `{"since":{"offset":-1}}`, 400, 107, "since.offset must be an integer from 0 to 18446744073709551615, not number -1"},
		{"history", `{"limit":1.5}`, 400, 107, "limit must be a 64-bit integer, not number 1.5"},
		{"history", `{"limit":` + strings.Repeat("9", 100) + `}`, 400, 107, "limit must be a 64-bit integer, not number 999999999999999999999999999999999..."},
		{"disconnect", `{"disconnect":{"code":4294967296}}`, 400, 107, "disconnect.code must be an integer from 0 to 4294967295, not number 4294967296"},
		{"disconnect", `{"whitelist":"a"}`, 400, 107, "whitelist must be an array, not string"},
		{"batch", `{"commands":{}}`, 400, 107, "commands must be an array, not object"},
		{"batch", `{"commands":[1]}`, 400, 107, "commands[0] must be an object, not number"},
		{"batch", `{"commands":[{},{"publish":[]}]}`, 400, 107, "commands[1].publish must be an object, not array"},
		{"batch", `{"commands":[{},{"publish":{"channel":1}}]}`, 400, 107, "commands[1].publish.channel must be a string, not number"},
		{"batch", `{"commands":[{"publish":{},"info":{}}]}`, 400, 107, "commands[0] has two methods, publish and info: send one command per method"},
		{"batch", ``, 400, 107, "commands is required"},
		{"batch", `{"commands":[` + many(1001, "{}") + `]}`, 400, 106, "commands has 1001 entries; the limit is 1000"},

		{"publish", ``, 200, 107, "channel is required"},
		{"publish", `{"channel":"a"}`, 200, 107, "data or b64data is required"},
		{"publish", `{"channel":"a","b64data":"?"}`, 200, 107, "b64data is not base64 (RFC 4648 section 4, with padding)"},
		{"publish", `{"channel":"a","data":1,"version":2}`, 200, 108, "version is not supported"},
		{"broadcast", `{"data":1}`, 200, 107, "channels is required: list at least one"},
		{"broadcast", `{"channels":["a"]}`, 200, 107, "data or b64data is required"},
		{"broadcast", `{"data":1,"channels":[` + many(10001, `""`) + `]}`, 200, 106, "channels has 10001 entries; the limit is 10000"},
		{"subscribe", `{"user":"42"}`, 200, 107, "channel is required"},
		{"subscribe", `{"channel":"a"}`, 200, 107, "user or client is required"},
		{"subscribe", `{"channel":"a","user":"42","expire_at":-1}`, 200, 107, "expire_at must not be negative (it is a time in Unix seconds)"},
		{"subscribe", `{"channel":"a","user":"42","override":{"presence":{"value":true}}}`, 200, 108, "override is not supported"},
		{"subscribe", `{"channel":"a","user":"42","b64info":"e30="}`, 200, 108, "b64info is not supported"},
		{"subscribe", `{"channel":"a","user":"42","b64data":"e30="}`, 200, 108, "b64data is not supported"},
		{"subscribe", `{"channel":"a","user":"42","session":"s"}`, 200, 108, "session is not supported"},
		{"unsubscribe", `{"channel":"a"}`, 200, 107, "user or client is required"},
		{"unsubscribe", `{"user":"42","session":"s"}`, 200, 108, "session is not supported"},
		{"disconnect", `{}`, 200, 107, "user or client is required"},
		{"disconnect", `{"user":"42","session":"s"}`, 200, 108, "session is not supported"},
		{"disconnect", `{"user":"42","label_filter":{"key":"k"}}`, 200, 108, "label_filter is not supported"},
		{"disconnect", `{"user":"42","disconnect":{"code":1005}}`, 200, 107, "disconnect.code must be between 3000 and 4999, not 1005"},
		{"disconnect", `{"user":"42","disconnect":{"reason":"x"}}`, 200, 107, "disconnect.code must be between 3000 and 4999, not 0"},
		{"disconnect", `{"user":"42","disconnect":{"code":3000,"reason":"` + strings.Repeat("x", 124) + `"}}`, 200, 107, "disconnect.reason has 124 bytes; the limit is 123"},
		{"refresh", `{}`, 200, 107, "user or client is required"},
		{"refresh", `{"user":"42","session":"s"}`, 200, 108, "session is not supported"},
		{"refresh", `{"user":"42","expire_at":-1}`, 200, 107, "expire_at must not be negative (it is a time in Unix seconds)"},
		{"presence", `{}`, 200, 107, "channel is required"},
		{"presence_stats", `{}`, 200, 107, "channel is required"},
		{"history", `{}`, 200, 107, "channel is required"},
		{"history_remove", `{}`, 200, 107, "channel is required"},
		{"channel_stats", `{"sort":"name"}`, 200, 107, "sort must be rate or clients"},
		{"channel_stats", `{"limit":101}`, 200, 107, "limit must be between 1 and 100"},
		{"channel_stats", `{"limit":-1}`, 200, 107, "limit must be between 1 and 100"},

		{"publish", `"` + strings.Repeat("x", 70_000) + `"`, 413, 106, "the body is larger than 65536 bytes"},
		{"rpc", `{}`, 404, 104, "unknown method: the methods are batch, broadcast, channel_stats, channels, disconnect, history, history_remove, info, presence, presence_stats, publish, refresh, subscribe, unsubscribe"},
		{"publish/", `{}`, 404, 104, "unknown method: the methods are batch, broadcast, channel_stats, channels, disconnect, history, history_remove, info, presence, presence_stats, publish, refresh, subscribe, unsubscribe"},
	} {
		node := &fake{}
		h := New(node, Options{MaxBody: 64 << 10, OnError: func(method string, err error) { t.Errorf("%s: %v", method, err) }})
		e := fmt.Sprintf(`{"code":%d,"message":%s}`, tt.code, quote(tt.message))
		status, got, _ := ask(h, tt.method, tt.body)
		if want := `{"error":` + e + `}`; status != tt.status || got != want {
			t.Errorf("%s %.80s\n got %d %s\nwant %d %s", tt.method, tt.body, status, got, tt.status, want)
		}
		wantStatus := tt.status
		if wantStatus == 200 {
			wantStatus = 400
		}
		if status, got, _ := ask(h, tt.method, tt.body, transport...); status != wantStatus || got != e {
			t.Errorf("%s %.80s, transport mode\n got %d %s\nwant %d %s", tt.method, tt.body, status, got, wantStatus, e)
		}
		if len(node.calls) > 0 {
			t.Errorf("%s %.80s: the node was asked: %v", tt.method, tt.body, node.calls)
		}
	}
}

func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(s) // a string
	return strings.TrimSpace(b.String())
}

func TestOtherVerbsAreToldWhichOneItIs(t *testing.T) {
	h := New(&fake{}, Options{})
	for _, tt := range []struct{ verb, path, allow, want string }{
		{"GET", "/api/publish", "POST", `{"error":{"code":107,"message":"API methods must be called with POST, not GET"}}`},
		{"GET", "/api", "POST", `{"error":{"code":107,"message":"API methods must be called with POST, not GET"}}`},
		{"DELETE", "/api/batch", "POST", `{"error":{"code":107,"message":"API methods must be called with POST, not DELETE"}}`},
		{"POST", "/api/openapi.json", "GET, HEAD", `{"error":{"code":107,"message":"use GET for openapi.json, not POST"}}`},
	} {
		status, got, header := request(h, tt.verb, tt.path, "")
		if status != http.StatusMethodNotAllowed || header.Get("Allow") != tt.allow || got != tt.want {
			t.Errorf("%s %s: %d, Allow %q, %s", tt.verb, tt.path, status, header.Get("Allow"), got)
		}
	}
}

func TestABodyThatBreaksOffIsRefused(t *testing.T) {
	r := httptest.NewRequest("POST", "/api/publish", io.MultiReader(strings.NewReader("{"), broken{}))
	w := httptest.NewRecorder()
	New(&fake{}, Options{}).ServeHTTP(w, r)
	if want := `{"error":{"code":107,"message":"the body could not be read"}}`; w.Code != 400 || strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestErrorsOfTheNode(t *testing.T) {
	for _, tt := range []struct {
		err        error
		status     int // in transport mode
		retryAfter string
		want       string
		logged     bool
	}{
		{ErrInternal, 500, "", `{"code":100,"message":"internal server error","temporary":true}`, false},
		{ErrInternal.With("channel is full").Later(1200 * time.Millisecond), 503, "2", `{"code":100,"message":"channel is full","temporary":true}`, false},
		{ErrUnauthorized, 401, "", `{"code":101,"message":"unauthorized"}`, false},
		{ErrUnknownChannel, 404, "", `{"code":102,"message":"unknown channel"}`, false},
		{ErrPermissionDenied, 403, "", `{"code":103,"message":"permission denied"}`, false},
		{ErrMethodNotFound, 404, "", `{"code":104,"message":"method not found"}`, false},
		{ErrAlreadySubscribed, 400, "", `{"code":105,"message":"already subscribed"}`, false},
		{ErrLimitExceeded, 400, "", `{"code":106,"message":"limit exceeded"}`, false},
		{ErrBadRequest.With("<&>"), 400, "", `{"code":107,"message":"<&>"}`, false},
		{fmt.Errorf("presence: %w", ErrNotAvailable), 400, "", `{"code":108,"message":"not available"}`, false},
		{ErrTokenExpired, 401, "", `{"code":109,"message":"token expired"}`, false},
		{ErrExpired, 401, "", `{"code":110,"message":"expired"}`, false},
		{ErrTooManyRequests, 429, "1", `{"code":111,"message":"too many requests","temporary":true}`, false},
		{ErrUnrecoverablePosition, 416, "", `{"code":112,"message":"unrecoverable position"}`, false},
		{errors.New("disk is on fire"), 500, "", `{"code":100,"message":"internal server error","temporary":true}`, true},
		{context.DeadlineExceeded, 500, "", `{"code":100,"message":"internal server error","temporary":true}`, true},
	} {
		for _, m := range methods {
			if m.name == "broadcast" {
				continue
			}
			var logged []string
			node := &fake{err: tt.err}
			h := New(node, Options{OnError: func(method string, err error) { logged = append(logged, method+": "+err.Error()) }})
			body := `{"channel":"news","user":"42","data":1}`
			if status, got, header := ask(h, m.name, body); status != 200 || got != `{"error":`+tt.want+`}` || header.Get("Retry-After") != "" {
				t.Errorf("%s, %v: %d %s", m.name, tt.err, status, got)
			}
			if status, got, header := ask(h, m.name, body, transport...); status != tt.status || got != tt.want || header.Get("Retry-After") != tt.retryAfter {
				t.Errorf("%s, %v, transport mode: %d %s, Retry-After %q", m.name, tt.err, status, got, header.Get("Retry-After"))
			}
			var want []string
			if tt.logged {
				want = []string{m.name + ": " + tt.err.Error(), m.name + ": " + tt.err.Error()}
			}
			if diff := cmp.Diff(want, logged); diff != "" {
				t.Errorf("%s, %v: logged (-want +got):\n%s", m.name, tt.err, diff)
			}
		}
	}
}

func TestARequestThatEndedIsNoErrorOfOurs(t *testing.T) {
	h := New(&fake{err: fmt.Errorf("publish: %w", context.Canceled)}, Options{OnError: func(_ string, err error) { t.Error(err) }})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, "POST", "/api/publish", strings.NewReader(`{"channel":"a","data":1}`))
	r.Header.Set(transport[0], transport[1])
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 503 || !strings.Contains(w.Body.String(), "the request ended before it was complete") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestWhatANodeGivesCannotBreakTheAnswer(t *testing.T) {
	var logged []string
	node := &fake{
		clients: map[string]channel.ClientInfo{"c": {Client: "c", ConnInfo: json.RawMessage("no"), ChanInfo: json.RawMessage("\"\xff\"")}},
		history: HistoryResult{Publications: []Publication{{Info: &channel.ClientInfo{Client: "c", ConnInfo: json.RawMessage("no")}, Data: json.RawMessage("1")}}},
		info:    InfoResult{Nodes: []NodeInfo{{Process: &Process{CPU: math.NaN()}}}},
	}
	h := New(node, Options{OnError: func(method string, err error) { logged = append(logged, method) }})
	if _, got, _ := ask(h, "presence", `{"channel":"news"}`); got != `{"result":{"presence":{"c":{"user":"","client":"c"}}}}` {
		t.Error(got)
	}
	if _, got, _ := ask(h, "history", `{"channel":"news"}`); got != `{"result":{"publications":[{"offset":0,"prev":0,"data":1,"info":{"user":"","client":"c"}}],"epoch":"","offset":0}}` {
		t.Error(got)
	}
	if status, got, _ := ask(h, "info", ``); status != 500 || got != `{"error":{"code":100,"message":"internal server error","temporary":true}}` {
		t.Error(status, got)
	}
	if diff := cmp.Diff([]string{"presence", "presence", "history", "info"}, logged); diff != "" {
		t.Error(diff)
	}
	if node.clients["c"].ConnInfo == nil || node.history.Publications[0].Info.ConnInfo == nil {
		t.Error("the node's own answer was changed")
	}
}
