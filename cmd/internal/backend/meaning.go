package backend

import (
	"fmt"
	"slices"
	"time"

	"sluice/gateway/hook"
	"sluice/gateway/hook/proxy"
)

// events are the events of hooks, in the order in which a client has them.
var events = []string{"connect", "subscribe", "publish", "rpc", "refresh", "sub_refresh"}

// probes returns those of the events that were named, in their order.
func (t *test) probes() []probe {
	known := t.who
	known.User = t.user
	if t.meta != "" {
		known.Meta = []byte(t.meta)
	}
	data, given := []byte(t.data), []byte(nil)
	if t.dataGiven {
		given = data
	}
	all := map[string]probe{
		"connect":     ask(t, "connect", (*proxy.Endpoint).Connect, &hook.ConnectRequest{Client: &t.who, Data: given, Name: "js", Channels: []string{t.channel}}, connectMeans),
		"subscribe":   ask(t, "subscribe", (*proxy.Endpoint).Subscribe, &hook.SubscribeRequest{Client: &known, Channel: t.channel, Data: given}, subscribeMeans),
		"publish":     ask(t, "publish", (*proxy.Endpoint).Publish, &hook.PublishRequest{Client: &known, Channel: t.channel, Data: data}, publishMeans),
		"rpc":         ask(t, "rpc", (*proxy.Endpoint).RPC, &hook.RPCRequest{Client: &known, Method: t.method, Data: data}, rpcMeans),
		"refresh":     ask(t, "refresh", (*proxy.Endpoint).Refresh, &hook.RefreshRequest{Client: &known}, refreshMeans),
		"sub_refresh": ask(t, "sub_refresh", (*proxy.Endpoint).SubRefresh, &hook.SubRefreshRequest{Client: &known, Channel: t.channel}, subRefreshMeans),
	}
	var list []probe
	for _, name := range events {
		if slices.Contains(t.events, name) {
			list = append(list, all[name])
		}
	}
	return list
}

// refused says what an error, a disconnect or a failure means to clients; raw reports whether clients of raw WebSocket and
// SSE have this event when they connect.
func refused(err error, raw bool) string {
	r := hook.Refuse(err, true)
	text := ""
	switch {
	case r.Disconnect != nil && r.Disconnect.Code >= 4000 && r.Disconnect.Code < 4500:
		return fmt.Sprintf("disconnect %d %q: the connection is closed with that code, and the client reconnects", r.Disconnect.Code, r.Disconnect.Reason)
	case r.Disconnect != nil:
		return fmt.Sprintf("disconnect %d %q: the connection is closed with that code, and the client does not reconnect", r.Disconnect.Code, r.Disconnect.Reason)
	case hook.Decided(err):
		text = fmt.Sprintf("error %d %q: a client of the Centrifugo protocol gets that reply", r.Error.Code, r.Error.Message)
	default:
		text = fmt.Sprintf("no decision: %v. A client of the Centrifugo protocol gets error %d %q, and tries again", err, r.Error.Code, r.Error.Message)
	}
	if raw {
		text += fmt.Sprintf("; one of raw WebSocket or SSE is refused with HTTP %d", r.Status)
	}
	return text
}

// until continues a text with a time, 0 for none.
func until(unix int64) string {
	if unix == 0 {
		return ""
	}
	return " until " + timeText(unix)
}

func connectMeans(a *hook.ConnectResult, err error) string {
	if a != nil {
		a, err = new(hook.Set).Connected(a, err, time.Now().Unix())
	}
	switch {
	case err != nil:
		return refused(err, true)
	case a == nil:
		return "no result: the client is disconnected with 3501, unless allow_anonymous_connect_without_token is set"
	}
	text := "the client is connected as an anonymous one"
	if a.User != "" {
		text = fmt.Sprintf("the client is connected as the user %q", a.User)
	}
	text += until(a.ExpireAt)
	if n := len(a.Channels) + len(a.Subs); n > 0 {
		text += fmt.Sprintf(", and subscribed to %d channels", n)
	}
	return text
}

func subscribeMeans(a *hook.SubscribeResult, err error) string {
	switch err = hook.Subscribed(a, err, time.Now().Unix()); {
	case err != nil:
		return refused(err, true)
	case a == nil:
		return "the client is subscribed: an answer without a result allows it"
	}
	return "the client is subscribed" + until(a.ExpireAt)
}

func publishMeans(a *hook.PublishResult, err error) string {
	switch {
	case err != nil:
		return refused(err, false)
	case a == nil:
		return "it is published unchanged: an answer without a result allows it"
	case a.Data == nil:
		return "it is published unchanged"
	}
	return "the data of the answer is published instead"
}

func rpcMeans(a *hook.RPCResult, err error) string {
	switch {
	case err != nil:
		return refused(err, false)
	case a == nil || a.Data == nil:
		return "the client gets a reply without data"
	}
	return "the client gets a reply with the data of the answer"
}

// failedRefresh says what a failure means, after which the client stays.
func failedRefresh(err error) string {
	return fmt.Sprintf("no decision: %v. The client stays, and the hook is asked again after 60s", err)
}

func refreshMeans(a *hook.RefreshResult, err error) string {
	now := time.Now().Unix()
	at, expired := hook.Refresh(a, err, now, now)
	switch {
	case err != nil && !hook.Decided(err):
		return failedRefresh(err)
	case expired && (a == nil || a.Expired):
		return "expired: the connection is closed with 3005"
	case expired:
		return "expired: there is no expire_at in the future, and the connection is closed with 3005"
	}
	return "the client stays connected" + until(at)
}

func subRefreshMeans(a *hook.SubRefreshResult, err error) string {
	at, expired := hook.SubRefresh(a, err, time.Now().Unix())
	switch {
	case err != nil && !hook.Decided(err):
		return failedRefresh(err)
	case expired:
		return "expired: the client is unsubscribed with 2501"
	case at == 0:
		return "the client stays subscribed, and that never expires again"
	}
	return "the client stays subscribed" + until(at)
}
