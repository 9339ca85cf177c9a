package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"sluice/gateway/loop"
)

// The inspector shows an operator the connections that stand out, and ends one. Each
// loop chooses among its own and describes only those that can be in the answer.

// inspectMost bounds how many connections one answer holds.
const inspectMost = 1000

// inspectKeys are what an answer can be sorted by.
var inspectKeys = map[string]func(*loop.Conn) uint64{
	"pending": func(c *loop.Conn) uint64 { return uint64(c.Pending()) },
	"lag":     (*loop.Conn).Lag,
	"age":     func(c *loop.Conn) uint64 { return uint64(c.Stuck()) },
	"id":      (*loop.Conn).ID,
}

// connectionList is an answer of the inspector.
type connectionList struct {
	Total       int64              `json:"total"`
	Sort        string             `json:"sort"`
	Connections []loop.Description `json:"connections"`
}

// What the inspector refuses.
var (
	errBadSort  = errors.New("invalid sort: use pending, lag, age or id")
	errBadLimit = fmt.Errorf("invalid limit: use a number from 1 to %d", inspectMost)
)

// worst returns the connections that stand out most, or an error of eachLoop.
func (n *Node) worst(ctx context.Context, sort string, limit int) (connectionList, error) {
	key, ok := inspectKeys[sort]
	switch {
	case !ok:
		return connectionList{}, errBadSort
	case limit < 1 || limit > inspectMost:
		return connectionList{}, errBadLimit
	}
	rows := []loop.Description{}
	for more, err := range loop.EachLoop(ctx, n.Set, func(l *loop.Loop) []loop.Description { return l.Describe(key, limit) }) {
		if err != nil {
			return connectionList{}, err
		}
		rows = append(rows, more...)
	}
	slices.SortFunc(rows, func(a, b loop.Description) int { return cmp.Or(cmp.Compare(b.Key, a.Key), cmp.Compare(a.ID, b.ID)) })
	return connectionList{n.Connections(), sort, rows[:min(len(rows), limit)]}, nil
}

// closeConnection closes a connection for an operator. It reports whether there was an open one,
// or returns an error of eachLoop.
func (n *Node) closeConnection(ctx context.Context, id uint64) (closed bool, _ error) {
	for closed, err := range loop.EachLoop(ctx, n.Set, func(l *loop.Loop) bool { return l.End(id) }) {
		if err != nil || closed {
			return closed, err
		}
	}
	return false, nil
}
