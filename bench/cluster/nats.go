package main

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/bench/child"
)

// subscriptions returns the number of subscriptions of all of a server's clients, 0 if it is not up.
func subscriptions(s *child.NATS) int {
	var subs struct {
		Total int `json:"num_subscriptions"`
	}
	body, err := s.Get("/subsz")
	if err != nil || json.Unmarshal(body, &subs) != nil {
		return 0
	}
	return subs.Total
}

// readers counts the questions that gateways ask of streams, as the servers hear them.
type readers struct {
	conn *nats.Conn

	mu     sync.Mutex
	bySubj map[string]int // readings of a channel's history, by its subject: those that begin one
	heads  int            // questions for the newest message of channels
}

// Readers begins to count.
func (r *Run) Readers(servers []*child.NATS) *readers {
	c := &readers{bySubj: map[string]int{}, conn: must(nats.Connect(child.URLs(servers)))}
	for _, subject := range []string{"$JS.API.DIRECT.GET.>", "$JS.API.STREAM.MSG.GET.>"} {
		must(c.conn.Subscribe(subject, c.heard))
	}
	noError(c.conn.Flush())
	return c
}

func (c *readers) heard(m *nats.Msg) {
	var question struct {
		NextBy string   `json:"next_by_subj"`
		LastBy string   `json:"last_by_subj"`
		Multi  []string `json:"multi_last"`
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case json.Unmarshal(m.Data, &question) == nil && question.NextBy != "":
		c.bySubj[question.NextBy]++
	default:
		c.heads++
	}
}

// take returns how often each channel was read since the last call: at the most, and all together.
func (c *readers) take() (most, all, heads int) {
	noError(c.conn.FlushTimeout(10 * time.Second)) // what was asked before has been heard
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.bySubj {
		most, all = max(most, n), all+n
	}
	heads = c.heads
	clear(c.bySubj)
	c.heads = 0
	return most, all, heads
}
