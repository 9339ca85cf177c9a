package control

import (
	"context"
	"encoding/json"
	"time"

	"sluice/gateway/api"
	"sluice/gateway/engine"
)

// What a request asks of one node, each node does for itself: the one that has the request asks all others
// through the engine, and does its own part meanwhile. Questions and answers are JSON, of the API's own
// types.

// question is what a node asks the others.
type question struct {
	Method  string          `json:"method"`
	Request json.RawMessage `json:"request"`
}

// questionsMost bounds the questions that a node works at.
const questionsMost = 256

// parts are what a node does for another one, by method: the same that it does for itself.
var parts = map[string]func(*Node, context.Context, []byte) (any, error){
	"subscribe":     part((*Node).subscribe),
	"unsubscribe":   part((*Node).unsubscribe),
	"disconnect":    part((*Node).disconnect),
	"refresh":       part((*Node).refresh),
	"channels":      part((*Node).channels),
	"channel_stats": part((*Node).channelStats),
}

func part[R, A any](do func(*Node, context.Context, *R) (A, error)) func(*Node, context.Context, []byte) (any, error) {
	return func(n *Node, ctx context.Context, request []byte) (any, error) {
		r := new(R)
		if err := json.Unmarshal(request, r); err != nil {
			return nil, err
		}
		return do(n, ctx, r)
	}
}

// failed is the answer of a node that could not do its part. It stands for no answer.
var failed = []byte("failed")

// Answer answers what another node asks: the function for engine.Answer.
func (n *Node) Answer(request []byte, reply func([]byte)) {
	if n.answering.Add(1) > questionsMost {
		n.answering.Add(-1)
		reply(failed)
		return
	}
	go func() {
		defer n.answering.Add(-1)
		ctx, cancel := context.WithTimeout(context.Background(), engine.AskPatience)
		defer cancel()
		reply(n.answer(ctx, request))
	}()
}

func (n *Node) answer(ctx context.Context, request []byte) []byte {
	var q question
	if json.Unmarshal(request, &q) != nil || parts[q.Method] == nil {
		return failed // a newer node's
	}
	result, err := parts[q.Method](n, ctx, q.Request)
	if err != nil {
		return failed // it will say that the result is partial
	}
	b, err := json.Marshal(result)
	if err != nil {
		return failed
	}
	return b
}

// everywhere has all nodes do their part of a request: do is this node's. It returns this node's result, and
// those of the others that answered in time.
func everywhere[R, A any](ctx context.Context, n *Node, method string, r *R, do func(*Node, context.Context, *R) (A, error)) (own A, others []A, partial bool, err error) {
	type answered struct {
		all     [][]byte
		missing int
	}
	answers := make(chan answered, 1)
	request, err := json.Marshal(r)
	if err == nil {
		request, err = json.Marshal(question{method, request})
	}
	if err != nil {
		return own, nil, false, err
	}
	n.Engine.Ask(request, func(all [][]byte, missing int) { answers <- answered{all, missing} })
	if own, err = do(n, ctx, r); err != nil {
		return own, nil, false, err
	}
	timer := time.NewTimer(engine.Patience) // an engine's bound is less
	defer timer.Stop()
	var a answered
	select {
	case a = <-answers:
		partial = a.missing > 0
	case <-timer.C:
		partial = true
	case <-ctx.Done():
		partial = true
	}
	for _, b := range a.all {
		var one A
		if json.Unmarshal(b, &one) != nil {
			partial = true
			continue
		}
		others = append(others, one)
	}
	return own, others, partial, nil
}

// actEverywhere is everywhere for what acts on connections.
func actEverywhere[R any](ctx context.Context, n *Node, method string, r *R, do func(*Node, context.Context, *R) (api.Empty, error)) (api.ActionResult, error) {
	_, _, partial, err := everywhere(ctx, n, method, r, do)
	return api.ActionResult{Partial: partial}, err
}
