package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"sluice/gateway/hook"

	"github.com/google/go-cmp/cmp"
)

// decided is an answer of a test, decoded.
type decided struct {
	Result any    // nil for none
	Err    error  // of the application
	Fault  string // a part of what is wrong with the answer
}

func decisionOf[A any](a *A, err error) (d decided) {
	if a != nil && err == nil {
		d.Result = a
	}
	if err == nil || isDecision(err) {
		d.Err = err
		return d
	}
	d.Fault = err.Error()
	return d
}

// What a backend can answer, for each event.
func TestAnswers(t *testing.T) {
	type decoder = func(string) decided
	connect := func(b string) decided { return decisionOf(connectEvent.decode([]byte(b))) }
	refresh := func(b string) decided { return decisionOf(refreshEvent.decode([]byte(b))) }
	subscribe := func(b string) decided { return decisionOf(subscribeEvent.decode([]byte(b))) }
	subRefresh := func(b string) decided { return decisionOf(subRefreshEvent.decode([]byte(b))) }
	publish := func(b string) decided { return decisionOf(publishEvent.decode([]byte(b))) }
	rpc := func(b string) decided { return decisionOf(rpcEvent.decode([]byte(b))) }
	all := []decoder{connect, refresh, subscribe, subRefresh, publish, rpc}
	deciding := []decoder{connect, subscribe, publish, rpc}
	timing := []decoder{refresh, subRefresh}

	for name, c := range map[string]struct {
		of   []decoder
		body string
		want decided
	}{
		// The envelope.
		"no result":              {all, ` {} `, decided{}},
		"null":                   {all, `{"result":null,"error":null,"disconnect":null}`, decided{}},
		"a null document":        {all, `null`, decided{}},
		"unknown fields":         {all, `{"status":"ok","results":{}}`, decided{}},
		"nothing":                {all, ``, decided{Fault: "the body is empty"}},
		"an array":               {all, `[]`, decided{Fault: "cannot unmarshal array"}},
		"half of it":             {all, `{"result":{}`, decided{Fault: "unexpected end"}},
		"something behind it":    {all, `{"result":{}}{}`, decided{Fault: "after top-level value"}},
		"HTML":                   {all, `<html>`, decided{Fault: "invalid character '<'"}},
		"a result that is true":  {all, `{"result":true}`, decided{Fault: "cannot unmarshal bool"}},
		"error":                  {deciding, `{"error":{"code":1000,"message":"no","temporary":true}}`, decided{Err: &hook.Error{Code: 1000, Message: "no", Temporary: true}}},
		"error, also of refresh": {timing, `{"error":{"code":1000}}`, decided{Err: &hook.Error{Code: 1000}}},
		"error without a code":   {deciding, `{"error":{"message":"no"}}`, decided{Fault: "error.code"}},
		"error without anything": {deciding, `{"error":{}}`, decided{Fault: "error.code"}},
		"error with a text code": {all, `{"error":{"code":"403"}}`, decided{Fault: "error.code"}},
		"error with a fraction":  {all, `{"error":{"code":403.0}}`, decided{Fault: "error.code"}},
		"disconnect":             {all, `{"disconnect":{"code":4501,"reason":"banned"}}`, decided{Err: &hook.Disconnect{Code: 4501, Reason: "banned"}}},
		"disconnect, no code":    {deciding, `{"disconnect":{}}`, decided{Fault: "disconnect.code"}},
		"disconnect, bad code":   {deciding, `{"disconnect":{"code":5000}}`, decided{Fault: "disconnect.code: 5000"}},
		"error before result":    {deciding, `{"result":{},"error":{"code":400}}`, decided{Err: &hook.Error{Code: 400}}},
		"disconnect before both": {deciding, `{"disconnect":{"code":4000},"result":{},"error":{"code":400}}`, decided{Err: &hook.Disconnect{Code: 4000}}},
		"case does not matter":   {deciding, `{"Error":{"CODE":400}}`, decided{Err: &hook.Error{Code: 400}}},

		// Connect.
		"connect, empty": {[]decoder{connect}, `{"result":{}}`, decided{Result: &hook.ConnectResult{}}},
		"connect, full": {[]decoder{connect}, `{"result":{"user":"u7","expire_at":1900000000,"info":{"n": "x"},"data":[1],"meta":{"t":1},"channels":["a","b"],
			"subs":{"c":{"info":{"i":1},"data":"d","cache_recover":true,"expire_at":5,"override":{"presence":{"value":true},"join_leave":{},"force_recovery":null}},"d":null},
			"caps":[{"channels":["x"],"allow":["pub"]}],"labels":{"a":"b"}}}`,
			decided{Result: &hook.ConnectResult{User: "u7", ExpireAt: 1900000000, Info: []byte(`{"n": "x"}`), Data: []byte(`[1]`), Meta: []byte(`{"t":1}`),
				Channels: []string{"a", "b"}, Subs: map[string]hook.SubscribeOptions{
					"c": {ExpireAt: 5, Info: []byte(`{"i":1}`), Data: []byte(`"d"`), CacheRecover: true, Override: hook.Override{Presence: new(true), JoinLeave: new(false)}},
					"d": {},
				}}}},
		"connect, base64":        {[]decoder{connect}, `{"result":{"info":1,"b64info":"eyJhIjoxfQ==","data":2,"b64data":"AAEC"}}`, decided{Result: &hook.ConnectResult{Info: []byte(`{"a":1}`), Data: []byte{0, 1, 2}}}},
		"connect, nulls":         {[]decoder{connect}, `{"result":{"user":null,"expire_at":null,"info":null,"b64info":null,"data":null,"meta":null,"channels":[null,"a"],"subs":null}}`, decided{Result: &hook.ConnectResult{Channels: []string{"a"}}}},
		"connect, number":        {[]decoder{connect}, `{"result":{"user":7}}`, decided{Fault: "result.user"}},
		"connect, bad base64":    {[]decoder{connect}, `{"result":{"b64info":"eyJhIjoxfQ"}}`, decided{Fault: "b64info"}},
		"connect, info no JSON":  {[]decoder{connect}, `{"result":{"b64info":"AAEC"}}`, decided{Fault: "b64info: it is not JSON"}},
		"connect, bad sub":       {[]decoder{connect}, `{"result":{"subs":{"c":{"b64data":"?"}}}}`, decided{Fault: `subs["c"]: b64data`}},
		"connect, bare override": {[]decoder{connect}, `{"result":{"subs":{"c":{"override":{"presence":true}}}}}`, decided{Fault: "override.presence"}},
		"line breaks":            {[]decoder{connect}, "{\"result\":{\"info\":{\n\t\"a\": \"\\n\"\r\n},\"data\":[\n]}}", decided{Result: &hook.ConnectResult{Info: []byte(`{"a":"\n"}`), Data: []byte(`[]`)}}},

		// Times.
		"time as a text":     {all[:4], `{"result":{"expire_at":"1900000000"}}`, decided{Fault: "expire_at"}},
		"time as a fraction": {all[:4], `{"result":{"expire_at":1900000000.5}}`, decided{Fault: "expire_at"}},
		"time as 12.0":       {all[:4], `{"result":{"expire_at":12.0}}`, decided{Fault: "expire_at"}},
		"time as 1.7e9":      {all[:4], `{"result":{"expire_at":1.7e9}}`, decided{Fault: "expire_at"}},
		"time below zero":    {all[:4], `{"result":{"expire_at":-1}}`, decided{Fault: "expire_at: it is negative"}},

		// Refresh and sub-refresh.
		"refresh":                   {[]decoder{refresh}, `{"result":{"expired":true,"expire_at":9,"info":1,"meta":{}}}`, decided{Result: &hook.RefreshResult{Expired: true, ExpireAt: 9, Info: []byte("1"), Meta: []byte("{}")}}},
		"refresh, result first":     {[]decoder{refresh}, `{"result":{"expire_at":9},"error":{"code":1},"disconnect":{"code":4000}}`, decided{Result: &hook.RefreshResult{ExpireAt: 9}}},
		"refresh, a bad error":      {[]decoder{refresh}, `{"result":{},"error":{}}`, decided{Result: &hook.RefreshResult{}}},
		"no result, a bad error":    {timing, `{"error":{"message":"no"}}`, decided{Err: &hook.Error{Message: "no"}}},
		"no result, a bad code":     {timing, `{"disconnect":{"code":1}}`, decided{Err: &hook.Disconnect{Code: 1}}},
		"sub-refresh":               {[]decoder{subRefresh}, `{"result":{"expired":true,"expire_at":9,"b64info":"e30="}}`, decided{Result: &hook.SubRefreshResult{Expired: true, ExpireAt: 9, Info: []byte("{}")}}},
		"sub-refresh, result first": {[]decoder{subRefresh}, `{"result":{},"disconnect":{"code":4000}}`, decided{Result: &hook.SubRefreshResult{}}},

		// Subscribe.
		"subscribe": {[]decoder{subscribe}, `{"result":{"expire_at":9,"info":{},"data":null,"b64data":"","allow":["pub"],"override":{"force_push_join_leave":{"value":true},"force_positioning":{"value":false}}}}`,
			decided{Result: &hook.SubscribeResult{ExpireAt: 9, Info: []byte("{}"), Override: hook.Override{ForcePushJoinLeave: new(true), ForcePositioning: new(false)}}}},

		// Publish.
		"publish":            {[]decoder{publish}, `{"result":{"data":{"a":1},"b64data":"AAEC","skip_history":true,"tags":{"t":"1"},"idempotency_key":"k","delta":true,"version":18446744073709551615,"version_epoch":"e"}}`, decided{Result: &hook.PublishResult{Data: []byte(`{"a":1}`), SkipHistory: true, Tags: map[string]string{"t": "1"}, IdempotencyKey: "k", Delta: true, Version: 1<<64 - 1, VersionEpoch: "e"}}},
		"publish, unchanged": {[]decoder{publish}, `{"result":{"data":null}}`, decided{Result: &hook.PublishResult{}}},
		"publish, bytes":     {[]decoder{publish}, `{"result":{"data":null,"b64data":"AAEC"}}`, decided{Result: &hook.PublishResult{Data: []byte{0, 1, 2}}}},
		"publish, bad bytes": {[]decoder{publish}, `{"result":{"b64data":"!"}}`, decided{Fault: "b64data"}},
		"publish, version":   {[]decoder{publish}, `{"result":{"version":-1}}`, decided{Fault: "version"}},

		// RPC.
		"rpc":        {[]decoder{rpc}, `{"result":{"data":{"id":3}}}`, decided{Result: &hook.RPCResult{Data: []byte(`{"id":3}`)}}},
		"rpc, empty": {[]decoder{rpc}, `{"result":{}}`, decided{Result: &hook.RPCResult{}}},
		"rpc, bytes": {[]decoder{rpc}, `{"result":{"data":1,"b64data":"AAEC"}}`, decided{Result: &hook.RPCResult{Data: []byte{0, 1, 2}}}},
	} {
		for _, decode := range c.of {
			got := decode(c.body)
			if c.want.Fault != "" && strings.Contains(got.Fault, c.want.Fault) {
				got.Fault = c.want.Fault
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s: %s\n%s", name, c.body, diff)
			}
		}
	}
}

// Whatever a backend answers is a decision that can be acted on, or a fault.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"result":{}}`, `{"error":{"code":1}}`, `{"disconnect":{"code":4000}}`, `{"result":{"info":{"a":[1, 2]},"b64data":"AA=="}}`, "{\"result\":{\"data\":{\n}}}",
		`{"result":{"subs":{"a":{"override":{"presence":{"value":true}},"info":null}}}}`, `{"result":{"expire_at":-1}}`, `{"result":null,"RESULT":{"Data":1}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		connect, err := connectEvent.decode(b)
		check(t, b, err)
		if connect != nil && err == nil {
			sound(t, connect.ExpireAt, connect.Info, connect.Meta)
			for _, o := range connect.Subs {
				sound(t, o.ExpireAt, o.Info)
			}
		}
		refresh, err := refreshEvent.decode(b)
		check(t, b, err)
		if refresh != nil && err == nil {
			sound(t, refresh.ExpireAt, refresh.Info, refresh.Meta)
		}
		subscribe, err := subscribeEvent.decode(b)
		check(t, b, err)
		if subscribe != nil && err == nil {
			sound(t, subscribe.ExpireAt, subscribe.Info)
		}
		subRefresh, err := subRefreshEvent.decode(b)
		check(t, b, err)
		if subRefresh != nil && err == nil {
			sound(t, subRefresh.ExpireAt, subRefresh.Info)
		}
		publish, err := publishEvent.decode(b)
		check(t, b, err)
		rpc, err := rpcEvent.decode(b)
		check(t, b, err)
		// What was decoded does not share memory with the buffer, which is used again.
		dataOf := func() (list [][]byte) {
			if connect != nil {
				list = append(list, connect.Info, connect.Data, connect.Meta)
			}
			if publish != nil {
				list = append(list, publish.Data)
			}
			if rpc != nil {
				list = append(list, rpc.Data)
			}
			return list
		}
		want := bytes.Join(dataOf(), nil)
		for i := range b {
			b[i] = 'X'
		}
		if !bytes.Equal(want, bytes.Join(dataOf(), nil)) {
			t.Errorf("%q: the answer changes with its buffer", before)
		}
	})
}

func check(t *testing.T, b []byte, err error) {
	t.Helper()
	if err == nil && !json.Valid(b) {
		t.Errorf("%q is accepted", b)
	}
	if e, ok := errors.AsType[*hook.Error](err); ok && e.Code == 0 {
		t.Error("an error without a code")
	}
	if d, ok := errors.AsType[*hook.Disconnect](err); ok && !hook.ClosesWith(d.Code) {
		t.Errorf("a disconnect with code %d", d.Code)
	}
}

func sound(t *testing.T, at int64, documents ...[]byte) {
	t.Helper()
	if at < 0 {
		t.Errorf("expires at %d", at)
	}
	for _, b := range documents {
		if b != nil && (!json.Valid(b) || string(b) == "null") {
			t.Errorf("%q is not JSON, or null", b)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	b.ReportAllocs()
	body := []byte(`{"result":{"user":"u7","expire_at":1900000000,"info":{"name":"x"}}}`)
	for range b.N {
		if _, err := connectEvent.decode(body); err != nil {
			b.Fatal(err)
		}
	}
}
