package gateway

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"sluice/gateway/access/namespace"
	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/hook"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// The outcomes of a connect hook for clients of the Centrifugo protocol, by what they speak.
func TestHooksDecideAboutCentrifugoClients(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cookie, asked string
		told          string // what a client gets in JSON
		code          ws.StatusCode
		uni           ws.StatusCode // of a unidirectional client; 0 if it is in
	}{
		{"ann", "connect %s ann", `{"id":1,"connect":{"client":"ID","version":"sluice","ping":25,"pong":true}}`, 0, 0},
		{"", "connect %s ", `{"id":1,"connect":{"client":"ID","version":"sluice","ping":25,"pong":true}}`, 0, 0},
		{"nobody", "connect %s nobody", "", 3501, 3501},
		{"ann-error", "connect %s ann-error", `{"id":1,"error":{"code":403,"message":"not you"}}`, 0, 3004},
		{"ann-failure", "connect %s ann-failure", `{"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}`, 0, 3004},
		{"ann-disconnect", "connect %s ann-disconnect", "", 4501, 4501},
	} {
		t.Run(test.cookie, func(t *testing.T) {
			t.Parallel()
			var a application
			s := start(t, Config{Hooks: a.hooks()})
			fields := []string{"Cookie: " + test.cookie}
			if test.cookie == "" {
				fields = nil
			}

			c := clienttest.Dial(t, s, pathClient, fields...)
			if c.Does(`{"id":1,"connect":{}}`); test.told != "" {
				c.WantTold("JSON", test.told)
			} else {
				c.WantClose("JSON", test.code)
			}
			a.want(t, fmt.Sprintf(test.asked, "websocket"))

			c = clienttest.Dial(t, s, pathClient+"?format=protobuf", fields...)
			c.SendsProtobuf(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{}})
			if test.told == "" {
				c.WantClose("Protobuf", test.code)
			} else if r := c.ReadsProtobuf(t); r.Id != 1 || (r.Error != nil) != strings.Contains(test.told, "error") {
				t.Errorf("Protobuf: %+v", r)
			}
			a.want(t, fmt.Sprintf(test.asked, "websocket"))

			for _, target := range []string{"/connection/uni_websocket", "/connection/uni_websocket?cf_connect=" + url.QueryEscape("{}")} {
				c = clienttest.Dial(t, s, target, fields...)
				if !strings.Contains(target, "?") {
					c.Does("{}")
				}
				if test.uni == 0 {
					c.WantTold(target, `{"connect":{"client":"ID","version":"sluice","ping":25}}`)
				} else {
					c.WantClose(target, test.uni)
				}
				a.want(t, fmt.Sprintf(test.asked, "uni_websocket"))
			}

			c = clienttest.Stream(t, s, "/connection/uni_sse", fields...)
			if got := clienttest.Constant(c.Pushed(t)); test.uni == 0 && !strings.HasPrefix(got, `{"connect":{"client":"ID"`) ||
				test.uni != 0 && !strings.HasPrefix(got, fmt.Sprintf(`{"disconnect":{"code":%d,`, test.uni)) {
				t.Errorf("SSE: %s", got)
			}
			a.want(t, fmt.Sprintf(test.asked, "uni_sse"))

			lines := &clienttest.Emulated{Client: clienttest.Lines(t, s, pathUniHTTP, "{}", fields...)}
			if test.uni == 0 {
				lines.WantTold("lines", `{"connect":{"client":"ID","version":"sluice","ping":25}}`)
			} else if got := lines.Told("lines"); !strings.HasPrefix(got, fmt.Sprintf(`{"disconnect":{"code":%d,`, test.uni)) {
				t.Errorf("lines: %s", got)
			}
			a.want(t, fmt.Sprintf(test.asked, "uni_http_stream"))

			const connect = `{"id":1,"connect":{}}`
			for transport, told := range map[string]func() string{
				"http_stream": func() string {
					return (&clienttest.Emulated{Client: clienttest.Lines(t, s, pathHTTP, connect, fields...)}).Told("emulated")
				},
				"sse": func() string {
					return clienttest.Stream(t, s, pathSSE+"?cf_connect="+url.QueryEscape(connect), fields...).Pushed(t)
				},
			} {
				switch got := clienttest.Constant(told()); {
				case test.told == "" && !strings.HasPrefix(got, fmt.Sprintf(`{"push":{"disconnect":{"code":%d,`, test.code)),
					strings.Contains(test.told, "error") && got != test.told,
					strings.Contains(test.told, "connect") && !(strings.HasPrefix(got, test.told[:len(test.told)-2]) && strings.Contains(got, `"session":"`)):
					t.Errorf("%s: %s", transport, got)
				}
				a.want(t, fmt.Sprintf(test.asked, transport))
			}
		})
	}
}

// What a connect hook says of a client it accepts.
func TestConnectHookSaysWhoAClientIs(t *testing.T) {
	t.Parallel()
	yes := true
	var a application
	s := start(t, Config{Hooks: hook.NewSet(hook.Hooks{
		Connect: hook.Func(func(_ context.Context, q *hook.ConnectRequest) (*hook.ConnectResult, error) {
			a.note(q.Client.User, string(q.Data), q.Name, q.Version, fmt.Sprint(q.Channels), q.Client.Headers.Get("Host"), q.Client.Emulated.Get("X-Token"))
			if string(q.Data) == `"many"` {
				return &hook.ConnectResult{Channels: []string{"a:b:c", "\x00"}}, nil
			}
			return &hook.ConnectResult{User: "42", Info: []byte(`{"n":1}`), Data: []byte(`{"hello":true}`), Meta: []byte(`{"m":2}`), Channels: []string{"news"},
				Subs: map[string]hook.SubscribeOptions{"room": {Info: []byte(`"in"`), Data: []byte(`"welcome"`), Override: hook.Override{Presence: &yes}}}}, nil
		}, hook.Options{}),
		RPC: hook.Func(func(_ context.Context, q *hook.RPCRequest) (*hook.RPCResult, error) {
			return &hook.RPCResult{Data: fmt.Appendf(nil, `[%q,%q,%q,%s]`, q.Method, q.Client.User, q.Client.Meta, q.Data)}, verdict(q.Method)
		}, hook.Options{}),
	}), History: -1})
	c := clienttest.Dial(t, s, pathClient)
	c.Does(`{"id":1,"connect":{"data":{"a":1},"name":"js","version":"3","subs":{"z":{},"y":{}},"headers":{"x-token":"t","Host":"h"}}}`)
	got := strings.Replace(clienttest.Constant(c.Told("who it is")), `"room":{"data":"welcome"},"news":{}`, `"news":{},"room":{"data":"welcome"}`, 1) // in any order
	if want := `{"id":1,"connect":{"client":"ID","version":"sluice","data":{"hello":true},"subs":{"news":{},"room":{"data":"welcome"}},"ping":25,"pong":true}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	a.want(t, ` {"a":1} js 3 [y z]  t`)
	if who := present(s, "room"); len(who) != 1 || who[0].User != "42" || string(who[0].ConnInfo) != `{"n":1}` || string(who[0].ChanInfo) != `"in"` {
		t.Errorf("present: %+v", who)
	}
	if who := present(s, "news"); len(who) != 0 {
		t.Errorf("the namespace has no presence: %+v", who)
	}
	c.Does(`{"id":2,"rpc":{"method":"m","data":{"x":1}}}`, `{"id":3,"rpc":{"method":"m-error","data":1}}`, `{"id":4,"rpc":{"method":"m-failure"}}`, `{"id":5,"rpc":{"method":"m-disconnect"}}`)
	c.WantTold("RPC", `{"id":2,"rpc":{"data":["m","42","{\"m\":2}",{"x":1}]}}`)
	c.WantTold("an error", `{"id":3,"error":{"code":403,"message":"not you"}}`)
	c.WantTold("a failure", `{"id":4,"error":{"code":100,"message":"internal server error","temporary":true}}`)
	c.WantClose("a disconnect", 4501)

	c = clienttest.Dial(t, s, pathClient)
	c.Does(`{"id":1,"connect":{"data":"many"}}`)
	c.WantTold("a channel that is none", `{"id":1,"error":{"code":107,"message":"bad request"}}`)
}

// What clients send to the application has no reply: what cannot be passed on ends the connection.
func TestMessagesToTheApplication(t *testing.T) {
	t.Parallel()
	var a application
	set := a.hooks()
	s := start(t, Config{Hooks: set})
	c := clienttest.Dial(t, s, pathClient, "Cookie: ann")
	c.Does(`{"id":1,"connect":{}}`, `{"send":{"data":{}}}`, `{"id":2,"ping":{}}`)
	c.Told("connected")
	c.WantClose("nobody is there to take it", 3508)

	a.want(t, "connect websocket ann")
	message := hook.Func(func(_ context.Context, q *hook.MessageRequest) (*hook.MessageResult, error) {
		a.note("message", q.Client.User, string(q.Data))
		return nil, verdict(strings.Trim(string(q.Data), `"`))
	}, hook.Options{})
	set = a.hooks()
	set.Message = message
	s = start(t, Config{Hooks: set})
	for data, code := range map[string]ws.StatusCode{`"x"`: 0, `"x-error"`: 3004, `"x-disconnect"`: 4501, `"x-failure"`: 3004, ``: 0} {
		c := clienttest.Dial(t, s, pathClient, "Cookie: ann")
		send := `{"send":{"data":` + data + `}}`
		if data == "" {
			send = `{"send":{}}`
		}
		c.Does(`{"id":1,"connect":{}}`, `{"send":{"data":1}}`+"\n"+send+"\n"+`{"id":2,"ping":{}}`)
		c.Told("connected")
		if code == 0 {
			c.WantTold("there is no reply, and the next one goes on", `{"id":2,"ping":{}}`)
		} else {
			c.WantClose(data, code)
		}
		a.want(t, "connect websocket ann", "message ann 1", "message ann "+data)
	}
	message.Close()
	c = clienttest.Dial(t, s, pathClient, "Cookie: ann")
	c.Does(`{"id":1,"connect":{}}`, `{"send":{"data":1}}`)
	c.Told("connected")
	c.WantClose("it is not lost in silence", 3013)
}

// A subscribe hook decides where no token does, and a publish hook in place of permissions.
func TestHooksDecideAboutCommands(t *testing.T) {
	t.Parallel()
	var a application
	s := start(t, Config{Hooks: a.hooks()})
	c := clienttest.Dial(t, s, pathClient, "Cookie: ann")
	c.Does(`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"x","recoverable":true,"positioned":true,"join_leave":true}}`, `{"id":3,"subscribe":{"channel":"x"}}`,
		`{"id":4,"subscribe":{"channel":"x-error"}}`, `{"id":5,"subscribe":{"channel":"x-failure"}}`, `{"id":6,"subscribe":{"channel":"$x"}}`,
		`{"id":7,"publish":{"channel":"x","data":"one"}}`, `{"id":8,"publish":{"channel":"y","data":"x-error"}}`, `{"id":9,"publish":{"channel":"x","data":"change"}}`,
		`{"id":10,"publish":{"channel":"x","data":"x-failure"}}`, `{"id":11,"publish":{"channel":"x","data":"two"}}`)
	for _, want := range []string{
		`{"id":1,"connect":{"client":"ID","version":"sluice","ping":25,"pong":true}}`,
		`{"id":2,"subscribe":{"recoverable":true,"epoch":"E","positioned":true}}`, // the namespace forces it
		`{"id":3,"error":{"code":105,"message":"already subscribed"}}`,
		`{"id":4,"error":{"code":403,"message":"not you"}}`,
		`{"id":5,"error":{"code":100,"message":"internal server error","temporary":true}}`,
		`{"id":6,"error":{"code":103,"message":"permission denied"}}`,
		`{"id":7,"publish":{}}`, `{"push":{"channel":"x","pub":{"data":"one","info":{"user":"ann","client":"ID"},"offset":1}}}`,
		`{"id":8,"error":{"code":403,"message":"not you"}}`,
		`{"id":9,"publish":{}}`, `{"push":{"channel":"x","pub":{"data":"changed","info":{"user":"ann","client":"ID"},"offset":2,"tags":{"by":"hook"}}}}`,
		`{"id":10,"error":{"code":100,"message":"internal server error","temporary":true}}`,
		`{"id":11,"publish":{}}`, `{"push":{"channel":"x","pub":{"data":"two","info":{"user":"ann","client":"ID"},"offset":3}}}`,
	} {
		c.WantTold("in order", want)
	}
	a.want(t, "connect websocket ann", "subscribe ann x", "subscribe ann x-error", "subscribe ann x-failure", `publish ann x "one"`, `publish ann y "x-error"`,
		`publish ann x "change"`, `publish ann x "x-failure"`, `publish ann x "two"`)
	c.Does(`{"id":12,"subscribe":{"channel":"y-disconnect"}}`)
	c.WantClose("a disconnect", 4501)
}

// Where a hook decides, only the namespace and the hook add to a subscription, not what the client asks for. Of a client about
// which no connect hook was asked no end is notified.
func TestSubscribeHookDecidesAboutOptions(t *testing.T) {
	t.Parallel()
	yes := true
	namespaces, err := namespace.Parse([]byte(`{"without_namespace":{"history_size":10,"history_ttl":"1m","allow_recovery":true,"allow_positioning":true,"subscribe_proxy_enabled":true}}`))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{}, 1)
	s := start(t, Config{Namespaces: namespaces, Hooks: hook.NewSet(hook.Hooks{
		Subscribe: hook.Func(func(_ context.Context, q *hook.SubscribeRequest) (*hook.SubscribeResult, error) {
			r := &hook.SubscribeResult{Data: q.Data}
			if q.Channel == "raised" {
				r.Override.ForcePositioning = &yes
			}
			return r, nil
		}, hook.Options{}),
		Disconnect: hook.Func(func(context.Context, *hook.DisconnectRequest) (*hook.DisconnectResult, error) {
			ended <- struct{}{}
			return nil, nil
		}, hook.Options{}),
	})})
	c := member(t, s, "")
	c.Does(`{"id":2,"subscribe":{"channel":"x","recoverable":true,"positioned":true,"data":{"a":1}}}`, `{"id":3,"subscribe":{"channel":"raised"}}`)
	c.WantTold("it asks for nothing", `{"id":2,"subscribe":{"data":{"a":1}}}`)
	c.WantTold("the hook does", `{"id":3,"subscribe":{"epoch":"E","positioned":true}}`)
	c.Vanish()
	s.wantConnections(0)
	s.Quiet()
	if len(ended) > 0 {
		t.Error("the end of a client is notified that no hook has accepted")
	}
}

// question is what a hook was asked. The test answers with the seconds until when a client may stay, 0 if it may not, and
// less if nobody can tell.
type question struct {
	what  string
	reply chan int64
}

// stays returns hooks that let clients in for ten seconds, and to channels for four, and ask the test from then on. Those of
// clients that have ended are in ended.
func stays(now func() int64, questions chan question, ended chan hook.DisconnectRequest) *hook.Set {
	ask := func(what string) (at int64, err error) {
		q := question{what, make(chan int64, 1)}
		questions <- q
		switch n := <-q.reply; {
		case n < 0:
			return 0, errBackend
		case n > 0:
			return now() + n, nil
		}
		return 0, nil
	}
	o := hook.Options{Timeout: clienttest.Patience}
	return hook.NewSet(hook.Hooks{
		Connect: hook.Func(func(context.Context, *hook.ConnectRequest) (*hook.ConnectResult, error) {
			return &hook.ConnectResult{User: "42", ExpireAt: now() + 10}, nil
		}, o),
		Refresh: hook.Func(func(_ context.Context, q *hook.RefreshRequest) (*hook.RefreshResult, error) {
			at, err := ask("refresh " + q.Client.User)
			return &hook.RefreshResult{Expired: at == 0, ExpireAt: at}, err
		}, o),
		Subscribe: hook.Func(func(context.Context, *hook.SubscribeRequest) (*hook.SubscribeResult, error) {
			return &hook.SubscribeResult{ExpireAt: now() + 4}, nil
		}, o),
		SubRefresh: hook.Func(func(_ context.Context, q *hook.SubRefreshRequest) (*hook.SubRefreshResult, error) {
			at, err := ask("sub-refresh " + q.Channel)
			return &hook.SubRefreshResult{Expired: at == 0, ExpireAt: at}, err
		}, o),
		Publish: hook.Func(func(context.Context, *hook.PublishRequest) (*hook.PublishResult, error) { return nil, nil }, o),
		Disconnect: hook.Func(func(_ context.Context, q *hook.DisconnectRequest) (*hook.DisconnectResult, error) {
			ended <- *q
			return nil, nil
		}, o),
	})
}

// A connection and a subscription whose time is over stay for as long as hooks say, and the client goes on meanwhile.
func TestHooksDecideWhoMayStay(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"raw", "Centrifugo"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			questions, ended := make(chan question, 8), make(chan hook.DisconnectRequest, 1)
			var s *server
			s = start(t, Config{Hooks: stays(func() int64 { return s.Clock.Now().Unix() }, questions, ended), PingInterval: -1, History: -1})
			s.Pass(0) // the clock stands
			var c *clienttest.Client
			goesOn := func(why string) {
				t.Helper()
				if kind == "raw" {
					c.Send(clienttest.Text("hello"))
					c.WantText(why, "hello")
					return
				}
				c.Does(`{"id":9,"ping":{}}`)
				c.WantTold(why, `{"id":9,"ping":{}}`)
			}
			next := func(want string) question {
				t.Helper()
				q := clienttest.Receive(t, want, questions)
				if q.what != want {
					t.Fatalf("asked %q, want %q", q.what, want)
				}
				return q
			}
			if kind == "raw" {
				c = clienttest.Dial(t, s, "/ws/x")
			} else {
				c = clienttest.Dial(t, s, pathClient)
				c.Does(`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"x"}}`)
				c.WantTold("its own library is not to refresh it", `{"id":1,"connect":{"client":"ID","version":"sluice"}}`)
				c.WantTold("nor this", `{"id":2,"subscribe":{}}`)
			}
			goesOn("it is in")
			s.Pass(4)
			q := next("sub-refresh x")
			goesOn("while a hook is asked")
			s.Pass(2)
			q.reply <- 1000
			s.Pass(0)
			clienttest.WaitFor(t, "the answer to be heard", func() bool { s.Quiet(); return len(questions) == 0 })
			s.Pass(4) // ten in all
			q = next("refresh 42")
			goesOn("while a hook is asked")
			s.Pass(5)
			if n := len(questions); n > 0 {
				t.Errorf("asked again before the answer")
			}
			q.reply <- -1
			clienttest.WaitFor(t, "it to be asked after a minute", func() bool {
				s.Pass(1)
				return len(questions) > 0
			})
			next("refresh 42").reply <- 0
			c.WantClose("it may not stay", 3005)
			if got := clienttest.Receive(t, "the end to be notified", ended); got.Code != 3005 || got.Client.User != "42" {
				t.Errorf("notified of %+v", got)
			}
		})
	}
}

// A subscription that may not go on ends, and its connection stays.
func TestSubRefreshHookEndsASubscription(t *testing.T) {
	t.Parallel()
	questions, ended := make(chan question, 8), make(chan hook.DisconnectRequest, 1)
	var s *server
	s = start(t, Config{Hooks: stays(func() int64 { return s.Clock.Now().Unix() }, questions, ended), PingInterval: -1})
	s.Pass(0)
	c := member(t, s, "")
	c.Joins("x")
	c.Does(`{"id":3,"sub_refresh":{"channel":"x"}}`, `{"id":4,"ping":{}}`)
	q := clienttest.Receive(t, "a client that asks for itself", questions)
	q.reply <- 20
	c.WantTold("the answer", `{"id":3,"sub_refresh":{"expires":true,"ttl":20}}`)
	c.WantTold("what was behind it", `{"id":4,"ping":{}}`)
	s.Pass(9)
	if len(questions) > 0 {
		t.Error("asked before the time is over")
	}
	s.Pass(1)
	clienttest.Receive(t, "the connection to be asked about", questions).reply <- 1000
	s.Pass(10)
	clienttest.Receive(t, "the subscription to be asked about", questions).reply <- 0
	c.WantTold("it is over", `{"push":{"channel":"x","unsubscribe":{"code":2501,"reason":"subscription expired"}}}`)
	c.Does(`{"id":5,"refresh":{"token":"x"}}`)
	c.WantClose("it is not asked for tokens", 3501)
	if got := clienttest.Receive(t, "the end to be notified", ended); got.Code != 3501 {
		t.Errorf("notified of %+v", got)
	}
}

// A client whose subscription the server began has to connect again when that is over.
func TestSubRefreshHookEndsAConnection(t *testing.T) {
	t.Parallel()
	var s *server
	s = start(t, Config{Hooks: hook.NewSet(hook.Hooks{
		Connect: hook.Func(func(context.Context, *hook.ConnectRequest) (*hook.ConnectResult, error) {
			return &hook.ConnectResult{Subs: map[string]hook.SubscribeOptions{"x": {ExpireAt: s.Clock.Now().Unix() + 4}}}, nil
		}, hook.Options{}),
		SubRefresh: hook.Func(func(context.Context, *hook.SubRefreshRequest) (*hook.SubRefreshResult, error) {
			return nil, nil
		}, hook.Options{}),
	}), PingInterval: -1})
	s.Pass(0)
	c := member(t, s, "")
	s.Pass(4)
	c.WantClose("it is over", 3006)
}

// present returns who is subscribed to a channel.
func present(s *server, name string) []*channel.ClientInfo {
	all, _ := s.present.List(name, 100)
	return all
}

// A connect hook that names a channel twice subscribes the client once.
func TestConnectHookNamesAChannelTwice(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Hooks: hook.NewSet(hook.Hooks{
		Connect: hook.Func(func(context.Context, *hook.ConnectRequest) (*hook.ConnectResult, error) {
			return &hook.ConnectResult{User: "42", Channels: []string{"news", "news"}, Subs: map[string]hook.SubscribeOptions{"news": {}}}, nil
		}, hook.Options{}),
	}), History: -1})
	c := clienttest.Dial(t, s, pathClient)
	c.Does(`{"id":1,"connect":{}}`)
	c.WantTold("it is in", `{"id":1,"connect":{"client":"ID","version":"sluice","subs":{"news":{}},"ping":25,"pong":true}}`)
	s.publish("news", `"one"`)
	s.publish("news", `"two"`)
	for i, want := range []string{"one", "two"} {
		c.WantTold("each comes once", fmt.Sprintf(`{"push":{"channel":"news","pub":{"data":%q,"offset":%d}}}`, want, i+1))
	}
	c.Does(`{"id":2,"unsubscribe":{"channel":"news"}}`)
	c.WantTold("it is out", `{"id":2,"unsubscribe":{}}`)
	s.publish("news", `"three"`)
	c.Does(`{"id":3,"ping":{}}`)
	c.WantTold("it gets nothing more", `{"id":3,"ping":{}}`)
}

// An error or a disconnect of a sub-refresh hook means the same as no result: the subscription does not go on.
func TestSubRefreshHookSaysNo(t *testing.T) {
	t.Parallel()
	for _, says := range []error{&hook.Error{Code: 403, Message: "not you"}, &hook.Disconnect{Code: 4500, Reason: "no"}, nil} {
		s := start(t, Config{Hooks: hook.NewSet(hook.Hooks{
			Connect: hook.Func(func(context.Context, *hook.ConnectRequest) (*hook.ConnectResult, error) {
				return &hook.ConnectResult{Channels: []string{"x"}}, nil
			}, hook.Options{}),
			SubRefresh: hook.Func(func(context.Context, *hook.SubRefreshRequest) (*hook.SubRefreshResult, error) { return nil, says }, hook.Options{}),
		})})
		c := member(t, s, "")
		c.Does(`{"id":3,"sub_refresh":{"channel":"x"}}`)
		c.WantTold(fmt.Sprint(says), `{"id":3,"error":{"code":110,"message":"expired"}}`)
	}
}

// What a client has sent in place of a header belongs to the connect command that had it, and not to the next one.
func TestHeadersOfAConnectCommandAreItsOwn(t *testing.T) {
	t.Parallel()
	var a application
	s := start(t, Config{Hooks: hook.NewSet(hook.Hooks{
		Connect: hook.Func(func(_ context.Context, q *hook.ConnectRequest) (*hook.ConnectResult, error) {
			a.note("connect", q.Client.Emulated.Get("X-Token"), q.Client.Emulated.Get("X-Other"))
			return nil, &hook.Error{Code: 403, Message: "not you"}
		}, hook.Options{}),
	})})
	c := clienttest.Dial(t, s, pathClient)
	c.Does(`{"id":1,"connect":{"headers":{"X-Token":"t"}}}`, `{"id":2,"connect":{"headers":{"x-other":"o"}}}`, `{"id":3,"connect":{}}`)
	for _, id := range []string{"1", "2", "3"} {
		c.WantTold("it may not", `{"id":`+id+`,"error":{"code":403,"message":"not you"}}`)
	}
	a.want(t, "connect t ", "connect  o", "connect  ")
}
