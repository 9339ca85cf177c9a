// Package presence holds who is subscribed to the channels of a node: a table that loops
// update as their clients come and go.
//
// A loop knows only its own clients, and asking all loops would make each query wait for all
// of them. So the table stands beside the loops, with a short lock for each part of the
// channel names. Channels whose options have no presence cost nothing.
//
// The package does not know connections, protocols or permissions.
package presence

import (
	"hash/maphash"
	"maps"
	"sync"

	"sluice/gateway/channel"
)

// shards is how many locks the channels' names are spread over.
const shards = 64

// Table holds who is subscribed, by channel. It is safe for concurrent use.
type Table struct {
	seed   maphash.Seed
	shards [shards]shard
}

type shard struct {
	mu       sync.Mutex
	channels map[string]map[uint64]*channel.ClientInfo // guarded by mu; by channel, then by connection
	// users are the connections of each user, by channel. Guarded by mu.
	//
	// Invariant: it has the channels that Count was called for since they came to be, so
	// that counting again costs nothing, and other channels no memory.
	users map[string]map[string]int
}

// New returns an empty table.
func New() *Table {
	t := &Table{seed: maphash.MakeSeed()}
	for i := range t.shards {
		t.shards[i].channels = make(map[string]map[uint64]*channel.ClientInfo)
		t.shards[i].users = make(map[string]map[string]int)
	}
	return t
}

func (t *Table) shard(name string) *shard {
	return &t.shards[maphash.String(t.seed, name)%shards]
}

// Add records that a connection is subscribed, or changes its info, which must not be changed by the caller from now on.
func (t *Table) Add(name string, conn uint64, info *channel.ClientInfo) {
	s := t.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.channels[name]
	if m == nil {
		m = make(map[uint64]*channel.ClientInfo, 1)
		s.channels[name] = m
	}
	if users := s.users[name]; users != nil {
		if old := m[conn]; old != nil {
			leave(users, old.User)
		}
		users[info.User]++
	}
	m[conn] = info
}

// leave takes one of a user's connections off.
func leave(users map[string]int, user string) {
	if users[user]--; users[user] == 0 {
		delete(users, user)
	}
}

// Remove removes a connection, and returns its info, or nil if it was not subscribed.
func (t *Table) Remove(name string, conn uint64) *channel.ClientInfo {
	s := t.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.channels[name]
	info := m[conn]
	if delete(m, conn); len(m) == 0 {
		delete(s.channels, name)
		delete(s.users, name)
	} else if users := s.users[name]; users != nil && info != nil {
		leave(users, info.User)
	}
	return info
}

// List returns all subscribers, in no particular order, unless there are more than most.
func (t *Table) List(name string, most int) (all []*channel.ClientInfo, ok bool) {
	s := t.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.channels[name]
	if len(m) > most {
		return nil, false
	}
	all = make([]*channel.ClientInfo, 0, len(m))
	for info := range maps.Values(m) {
		all = append(all, info)
	}
	return all, true
}

// Count returns the number of connections subscribed, and of different users among them.
func (t *Table) Count(name string) (clients, users int) {
	s := t.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.channels[name]
	if len(m) == 0 {
		return 0, 0
	}
	of := s.users[name]
	if of == nil {
		of = make(map[string]int)
		for _, info := range m {
			of[info.User]++
		}
		s.users[name] = of
	}
	return len(m), len(of)
}

// Len counts the subscribers of all channels.
func (t *Table) Len() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, m := range s.channels {
			n += len(m)
		}
		s.mu.Unlock()
	}
	return n
}
