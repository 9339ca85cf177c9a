package hook

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"sluice/gateway/hook/queue"

	"github.com/google/go-cmp/cmp"
)

// What an error of a hook comes to for each kind of client.
func TestRefusals(t *testing.T) {
	long := strings.Repeat("é", 100)
	internal := Refusal{Error: &Error{100, "internal server error", true}, Status: 503, Text: "internal server error", Retry: true,
		CloseCode: 1013, CloseText: "internal server error"}
	overload := Refusal{Error: &Error{111, "too many requests", true}, Status: 503, Text: "too many requests", Retry: true,
		CloseCode: 1013, CloseText: "too many requests"}
	for name, c := range map[string]struct {
		err     error
		ws, sse Refusal
	}{
		"error": {err: fmt.Errorf("x: %w", &Error{1000, "no seats left", false}),
			ws:  Refusal{Error: &Error{1000, "no seats left", false}, Status: 403, Text: "no seats left", CloseCode: 1008, CloseText: "no seats left"},
			sse: Refusal{Error: &Error{1000, "no seats left", false}, Status: 403, Text: "no seats left", CloseCode: 1008, CloseText: "no seats left"}},
		"unauthorized": {err: &Error{401, long, true},
			ws:  Refusal{Error: &Error{401, long, true}, Status: 401, Text: long, CloseCode: 1008, CloseText: long[:122]},
			sse: Refusal{Error: &Error{401, long, true}, Status: 401, Text: long, CloseCode: 1008, CloseText: long[:122]}},
		"disconnect": {err: &Disconnect{4501, "banned"},
			ws:  Refusal{Disconnect: &Disconnect{4501, "banned"}, Status: 101, CloseCode: 4501, CloseText: "banned"},
			sse: Refusal{Disconnect: &Disconnect{4501, "banned"}, Status: 200, CloseCode: 4501, CloseText: "banned"}},
		"a disconnect with a code that no frame may have": {err: &Disconnect{70001, "a\xff"},
			ws:  Refusal{Disconnect: &Disconnect{70001, "a\xff"}, Status: 101, CloseCode: 1008, CloseText: "a\uFFFD"},
			sse: Refusal{Disconnect: &Disconnect{70001, "a\xff"}, Status: 200, CloseCode: 1008, CloseText: "a\uFFFD"}},
		"failure":  {err: errors.New("x"), ws: internal, sse: internal},
		"timeout":  {err: ErrTimeout, ws: internal, sse: internal},
		"overload": {err: ErrOverload, ws: overload, sse: overload},
		"breaker":  {err: &Failure{Outcome: queue.Breaker}, ws: overload, sse: overload},
	} {
		if diff := cmp.Diff(c.ws, Refuse(c.err, true)); diff != "" {
			t.Errorf("%s, WebSocket: %s", name, diff)
		}
		if diff := cmp.Diff(c.sse, Refuse(c.err, false)); diff != "" {
			t.Errorf("%s, SSE: %s", name, diff)
		}
		if text := Refuse(c.err, true).CloseText; len(text) > CloseTextMax || !utf8.ValidString(text) {
			t.Errorf("%s: %q does not fit a Close frame", name, text)
		}
	}
}

// Silence about a client that connects is no acceptance.
func TestNoResultOfAConnectHook(t *testing.T) {
	result, failed := &ConnectResult{User: "u"}, errors.New("x")
	for _, c := range []struct {
		allow bool
		r     *ConnectResult
		err   error
		want  *ConnectResult
		wants error
	}{
		{false, result, nil, result, nil},
		{false, nil, nil, nil, errNoCredentials},
		{true, nil, nil, &ConnectResult{}, nil},
		{true, nil, failed, nil, failed},
		{false, &ConnectResult{ExpireAt: 1000}, nil, &ConnectResult{ExpireAt: 1000}, nil},
		{true, &ConnectResult{ExpireAt: 999}, nil, nil, errExpired},
	} {
		got, err := (&Set{AllowAnonymous: c.allow}).Connected(c.r, c.err, 1000)
		if diff := cmp.Diff(c.want, got); diff != "" || err != c.wants {
			t.Errorf("%+v: %v, %s", c, err, diff)
		}
	}
}

func TestCodesOfCloseFrames(t *testing.T) {
	for code, want := range map[uint32]bool{0: false, 999: false, 1000: true, 1004: false, 1005: false, 1006: false, 1008: true, 1014: true,
		1015: false, 2999: false, 3000: true, 4999: true, 5000: false, 66536: false} {
		if ClosesWith(code) != want {
			t.Errorf("%d: %t", code, !want)
		}
	}
}

// When connections and subscriptions expire, by what their hooks answer.
func TestExpiryAfterARefresh(t *testing.T) {
	const now = 1000
	type ends struct {
		At      int64
		Expired bool
	}
	type answer struct {
		expired bool
		at      int64
	}
	for name, c := range map[string]struct {
		result  *answer
		err     error
		old     int64
		want    ends // of a connection
		wantSub ends // of a subscription
	}{
		"a new time":                  {result: &answer{at: 2000}, old: 990, want: ends{2000, false}, wantSub: ends{2000, false}},
		"a new time that is over":     {result: &answer{at: 1000}, old: 990, want: ends{1000, true}, wantSub: ends{1000, true}},
		"{}, and the old is over":     {result: &answer{}, old: 1000, want: ends{1000, true}},
		"{}, and the old is not over": {result: &answer{}, old: 1001, want: ends{1001, false}},
		"{}, and there was none":      {result: &answer{}, want: ends{}},
		"expired":                     {result: &answer{expired: true, at: 2000}, old: 990, want: ends{0, true}, wantSub: ends{0, true}},
		"no result":                   {old: 5000, want: ends{0, true}, wantSub: ends{0, true}},
		"an error":                    {err: &Error{Code: 500}, old: 5000, want: ends{0, true}, wantSub: ends{0, true}},
		"a disconnect":                {err: &Disconnect{Code: 4500}, old: 5000, want: ends{0, true}, wantSub: ends{0, true}},
		"a timeout":                   {err: ErrTimeout, old: 990, want: ends{1060, false}, wantSub: ends{1060, false}},
		"an overload":                 {err: &Failure{Outcome: queue.Breaker}, old: 990, want: ends{1060, false}, wantSub: ends{1060, false}},
		"a failure":                   {err: errors.New("x"), old: 990, want: ends{1060, false}, wantSub: ends{1060, false}},
	} {
		var r *RefreshResult
		var s *SubRefreshResult
		if c.result != nil {
			r = &RefreshResult{Expired: c.result.expired, ExpireAt: c.result.at}
			s = &SubRefreshResult{Expired: c.result.expired, ExpireAt: c.result.at}
		}
		var got ends
		if got.At, got.Expired = Refresh(r, c.err, c.old, now); got != c.want {
			t.Errorf("%s: a connection: %+v, want %+v", name, got, c.want)
		}
		if got.At, got.Expired = SubRefresh(s, c.err, now); got != c.wantSub {
			t.Errorf("%s: a subscription: %+v, want %+v", name, got, c.wantSub)
		}
	}
}

func TestHeaderNamesHaveNoCase(t *testing.T) {
	h := Header{{"Cookie", "a=1"}, {"x-user", "7"}, {"COOKIE", "b=2"}}
	var all []string
	for v := range h.Values("cookie") {
		all = append(all, v)
	}
	if diff := cmp.Diff([]string{"a=1", "b=2"}, all); diff != "" {
		t.Error(diff)
	}
	if h.Get("X-User") != "7" || h.Get("Cookie") != "a=1" || h.Get("none") != "" {
		t.Error("Get")
	}
}
