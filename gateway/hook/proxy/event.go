package proxy

import (
	"errors"
	"fmt"

	"sluice/gateway/hook"
)

// event is how the requests of an event are written, and its answers read.
type event[Q hook.Request, A any] struct {
	name    string // as in metrics
	repeats bool   // a call has no effect of its own: it may be repeated if its connection was closed, and shared
	write   func(w *writer, e *Endpoint, q Q)
	decode  func(b []byte) (*A, error)
}

var connectEvent = event[*hook.ConnectRequest, hook.ConnectResult]{
	name: "connect", repeats: true,
	write: func(w *writer, e *Endpoint, q *hook.ConnectRequest) {
		w.payload(q.Data, e.cfg.Binary)
		w.string("name", q.Name)
		w.string("version", q.Version)
		w.strings("channels", q.Channels)
	},
	decode: func(b []byte) (*hook.ConnectResult, error) { return decode(b, false, (*wireConnect).result) },
}

type wireConnect struct {
	User string `json:"user"`
	wireExpiry
	wireInfo
	wireData
	Channels []*string           `json:"channels"`
	Subs     map[string]*wireSub `json:"subs"`
	Meta     raw                 `json:"meta"`
}

type wireSub struct {
	wireExpiry
	wireInfo
	wireData
	Override     *wireOverride `json:"override"`
	CacheRecover bool          `json:"cache_recover"`
}

func (w *wireConnect) result() (*hook.ConnectResult, error) {
	a := &hook.ConnectResult{User: w.User, Meta: w.Meta}
	var errs [3]error
	a.ExpireAt, errs[0] = w.expireAt()
	a.Info, errs[1] = w.info()
	a.Data, errs[2] = w.data()
	for _, channel := range w.Channels {
		if channel != nil {
			a.Channels = append(a.Channels, *channel)
		}
	}
	if len(w.Subs) > 0 {
		a.Subs = make(map[string]hook.SubscribeOptions, len(w.Subs))
	}
	for channel, s := range w.Subs {
		if s == nil {
			s = new(wireSub)
		}
		o, err := s.options()
		if err != nil {
			return nil, fmt.Errorf("subs[%q]: %w", channel, err)
		}
		a.Subs[channel] = o
	}
	return a, errors.Join(errs[:]...)
}

func (w *wireSub) options() (o hook.SubscribeOptions, err error) {
	o = hook.SubscribeOptions{Override: w.Override.override(), CacheRecover: w.CacheRecover}
	var errs [3]error
	o.ExpireAt, errs[0] = w.expireAt()
	o.Info, errs[1] = w.info()
	o.Data, errs[2] = w.data()
	return o, errors.Join(errs[:]...)
}

var refreshEvent = event[*hook.RefreshRequest, hook.RefreshResult]{
	name: "refresh", repeats: true,
	write: func(w *writer, e *Endpoint, q *hook.RefreshRequest) {
		w.always("user", q.Client.User)
		w.meta(e, q.Client)
	},
	// Centrifugo looks for a result alone.
	decode: func(b []byte) (*hook.RefreshResult, error) { return decode(b, true, (*wireRefresh).result) },
}

type wireRefresh struct {
	Expired bool `json:"expired"`
	wireExpiry
	wireInfo
	Meta raw `json:"meta"`
}

func (w *wireRefresh) result() (*hook.RefreshResult, error) {
	a := &hook.RefreshResult{Expired: w.Expired, Meta: w.Meta}
	var errs [2]error
	a.ExpireAt, errs[0] = w.expireAt()
	a.Info, errs[1] = w.info()
	return a, errors.Join(errs[:]...)
}

var subscribeEvent = event[*hook.SubscribeRequest, hook.SubscribeResult]{
	name: "subscribe", repeats: true,
	write: func(w *writer, e *Endpoint, q *hook.SubscribeRequest) {
		w.always("user", q.Client.User)
		w.string("channel", q.Channel)
		w.string("token", q.Token)
		w.meta(e, q.Client)
		w.payload(q.Data, e.cfg.Binary)
	},
	decode: func(b []byte) (*hook.SubscribeResult, error) { return decode(b, false, (*wireSubscribe).result) },
}

type wireSubscribe struct {
	wireExpiry
	wireInfo
	wireData
	Override *wireOverride `json:"override"`
}

func (w *wireSubscribe) result() (*hook.SubscribeResult, error) {
	a := &hook.SubscribeResult{Override: w.Override.override()}
	var errs [3]error
	a.ExpireAt, errs[0] = w.expireAt()
	a.Info, errs[1] = w.info()
	a.Data, errs[2] = w.data()
	return a, errors.Join(errs[:]...)
}

var subRefreshEvent = event[*hook.SubRefreshRequest, hook.SubRefreshResult]{
	name: "sub_refresh", repeats: true,
	write: func(w *writer, e *Endpoint, q *hook.SubRefreshRequest) {
		w.always("user", q.Client.User)
		w.string("channel", q.Channel)
		w.meta(e, q.Client)
	},
	decode: func(b []byte) (*hook.SubRefreshResult, error) { return decode(b, true, (*wireSubRefresh).result) },
}

type wireSubRefresh struct {
	Expired bool `json:"expired"`
	wireExpiry
	wireInfo
}

func (w *wireSubRefresh) result() (*hook.SubRefreshResult, error) {
	a := &hook.SubRefreshResult{Expired: w.Expired}
	var errs [2]error
	a.ExpireAt, errs[0] = w.expireAt()
	a.Info, errs[1] = w.info()
	return a, errors.Join(errs[:]...)
}

var publishEvent = event[*hook.PublishRequest, hook.PublishResult]{
	name: "publish",
	write: func(w *writer, e *Endpoint, q *hook.PublishRequest) {
		w.always("user", q.Client.User)
		w.string("channel", q.Channel)
		w.payload(q.Data, e.cfg.Binary)
		w.meta(e, q.Client)
	},
	decode: func(b []byte) (*hook.PublishResult, error) { return decode(b, false, (*wirePublish).result) },
}

type wirePublish struct {
	wireData
	SkipHistory    bool              `json:"skip_history"`
	Tags           map[string]string `json:"tags"`
	IdempotencyKey string            `json:"idempotency_key"`
	Delta          bool              `json:"delta"`
	Version        uint64            `json:"version"`
	VersionEpoch   string            `json:"version_epoch"`
}

func (w *wirePublish) result() (*hook.PublishResult, error) {
	a := &hook.PublishResult{
		Data: w.Data, SkipHistory: w.SkipHistory, Tags: w.Tags, IdempotencyKey: w.IdempotencyKey,
		Delta: w.Delta, Version: w.Version, VersionEpoch: w.VersionEpoch,
	}
	var err error
	if a.Data == nil { // here the other form goes first
		a.Data, err = w.data()
	}
	return a, err
}

var rpcEvent = event[*hook.RPCRequest, hook.RPCResult]{
	name: "rpc",
	write: func(w *writer, e *Endpoint, q *hook.RPCRequest) {
		w.always("user", q.Client.User)
		w.string("method", q.Method)
		w.payload(q.Data, e.cfg.Binary)
		w.meta(e, q.Client)
	},
	decode: func(b []byte) (*hook.RPCResult, error) { return decode(b, false, (*wireRPC).result) },
}

type wireRPC struct{ wireData }

func (w *wireRPC) result() (*hook.RPCResult, error) {
	data, err := w.data()
	return &hook.RPCResult{Data: data}, err
}
