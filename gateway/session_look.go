package gateway

import (
	"time"

	"sluice/gateway/access/namespace"
	"sluice/gateway/centrifugo"
	"sluice/gateway/channel"

	"github.com/centrifugal/protocol"
)

// What clients may query: presence and history.

// presenceMax bounds the subscribers that a reply lists.
const presenceMax = 1000

// presence lists the subscribers of a channel.
func (c *conn) presence(name string) (*protocol.PresenceResult, *protocol.Error) {
	c.plant("presence")
	if fault := c.may(namespace.Presence, name); fault != nil {
		return nil, fault
	}
	all, ok := c.loop.server.present.List(name, presenceMax)
	if !ok {
		return nil, centrifugo.ErrorLimitExceeded
	}
	room := c.room()
	for _, who := range all {
		if room -= 48 + infoBytes(who.User, who.ConnInfo, who.ChanInfo); room < 0 {
			return nil, centrifugo.ErrorLimitExceeded
		}
	}
	enc := c.session().format.Encoding
	r := &protocol.PresenceResult{Presence: make(map[string]*protocol.ClientInfo, len(all))}
	for _, who := range all {
		r.Presence[who.Client] = &protocol.ClientInfo{User: who.User, Client: who.Client, ConnInfo: centrifugo.Raw(enc, who.ConnInfo), ChanInfo: centrifugo.Raw(enc, who.ChanInfo)}
	}
	return r, nil
}

// presenceStats counts the subscribers of a channel.
func (c *conn) presenceStats(name string) (*protocol.PresenceStatsResult, *protocol.Error) {
	if fault := c.may(namespace.Presence, name); fault != nil {
		return nil, fault
	}
	clients, users := c.loop.server.present.Count(name)
	return &protocol.PresenceStatsResult{NumClients: uint32(clients), NumUsers: uint32(users)}, nil
}

// history returns a channel's history.
func (c *conn) history(req *protocol.HistoryRequest) (*protocol.HistoryResult, *protocol.Error) {
	c.plant("history")
	if fault := c.may(namespace.History, req.Channel); fault != nil {
		return nil, fault
	}
	q := historyQuery{channel: req.Channel, limit: int(req.Limit), reverse: req.Reverse, most: recoverMax, bytes: c.loop.cfg.MaxPending / 2}
	if req.Since != nil {
		since := askSince(req.Since.Epoch, req.Since.Offset)
		q.since = &since
	}
	kept, ok := c.loop.server.kept(&q)
	if !ok {
		return nil, centrifugo.ErrorUnrecoverablePosition
	}
	r := &protocol.HistoryResult{Publications: []*protocol.Publication{}, Epoch: kept.Newest.Epoch.String(), Offset: kept.Newest.Offset}
	room := c.room()
	for i := range kept.Publications {
		p := centrifugo.Publication(c.session().format.Encoding, &kept.Publications[i])
		if room -= listedBytes(p); room < 0 {
			if i == 0 {
				return nil, centrifugo.ErrorLimitExceeded // to give none would say that there is none
			}
			break
		}
		r.Publications = append(r.Publications, p)
	}
	return r, nil
}

// historyQuery asks for a part of a channel's history.
type historyQuery struct {
	channel string
	since   *channel.Ask // only what is after it, before it with reverse; nil for all
	limit   int          // 0: only the newest place; negative: as many as there are
	reverse bool
	most    int // bound of limit; negative for none
	bytes   int // bound of a reply; 0 for none
}

// kept answers it. false: since is of another order than the channel has.
func (s *Server) kept(q *historyQuery) (channel.Collected, bool) {
	most := channel.Bounds{Count: q.limit, Bytes: q.bytes}
	if q.most >= 0 && (q.limit < 0 || q.limit > q.most) {
		most.Count = q.most
	}
	ask := channel.Ask{Kind: channel.AskNewest, N: 1 << 30}
	if q.since != nil {
		ask = *q.since
	} else if q.reverse {
		ask = channel.Ask{Kind: channel.AskNow}
	}
	now := time.Now().UnixMilli()
	var out channel.Collected
	switch ch := s.space.Find(q.channel); {
	case ch == nil: // none is made for a look: it could cost others their history
		out.Newest = s.space.Next(q.channel)
	case q.reverse:
		out = ch.CollectBack(ask, most, now)
	default:
		out = ch.Collect(ask, most, now)
	}
	if ask.Kind == channel.AskSince && ask.At.Epoch != out.Newest.Epoch {
		return out, false
	}
	return out, true
}
