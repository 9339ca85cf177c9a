package centrifugo

import (
	"errors"

	"sluice/gateway/access/namespace"
	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/loop"

	"github.com/centrifugal/protocol"
)

// What clients may query: presence and history. The engine answers.

// presenceMax bounds the subscribers that a reply lists.
const presenceMax = 1000

// presence lists the subscribers of a channel.
func (c clientConn) presence(r *protocol.Reply, name string) loop.Wait {
	c.Plant("presence")
	if fault := c.may(namespace.Presence, name); fault != nil {
		return c.fail(r, fault)
	}
	return loop.Query(c.Conn, func(done func(engine.Presence, error)) { c.Loop().Engine().Presence(name, presenceMax, done) },
		func(all engine.Presence, err error) loop.Wait {
			if err != nil {
				return c.fail(r, ErrorInternal)
			}
			r.Presence, r.Error = c.listed(all.List)
			c.answer(r)
			return nil
		})
}

// listed returns subscribers as a reply lists them; all is nil if they are too many.
func (c clientConn) listed(all []*channel.ClientInfo) (*protocol.PresenceResult, *protocol.Error) {
	if all == nil {
		return nil, ErrorLimitExceeded
	}
	room := c.Room()
	for _, who := range all {
		if room -= 48 + infoBytes(who.User, who.ConnInfo, who.ChanInfo); room < 0 {
			return nil, ErrorLimitExceeded
		}
	}
	enc := c.format.Encoding
	r := &protocol.PresenceResult{Presence: make(map[string]*protocol.ClientInfo, len(all))}
	for _, who := range all {
		r.Presence[who.Client] = clientInfo(enc, who)
	}
	return r, nil
}

// presenceStats counts the subscribers of a channel.
func (c clientConn) presenceStats(r *protocol.Reply, name string) loop.Wait {
	if fault := c.may(namespace.Presence, name); fault != nil {
		return c.fail(r, fault)
	}
	return loop.Query(c.Conn, func(done func(engine.Presence, error)) { c.Loop().Engine().Presence(name, 0, done) },
		func(all engine.Presence, err error) loop.Wait {
			if err != nil {
				return c.fail(r, ErrorInternal)
			}
			r.PresenceStats = &protocol.PresenceStatsResult{NumClients: uint32(all.Clients), NumUsers: uint32(all.Users)}
			c.answer(r)
			return nil
		})
}

// history returns a channel's history.
func (c clientConn) history(r *protocol.Reply, req *protocol.HistoryRequest) loop.Wait {
	c.Plant("history")
	if fault := c.may(namespace.History, req.Channel); fault != nil {
		return c.fail(r, fault)
	}
	q := engine.HistoryQuery{Channel: req.Channel, Back: req.Reverse, Most: channel.Bounds{Count: int(req.Limit), Bytes: c.protocol.MaxPending / 2},
		Now: c.Loop().Time().UnixMilli()}
	if req.Since != nil {
		since := loop.AskSince(req.Since.Epoch, req.Since.Offset)
		q.Since = &since
	}
	if q.Most.Count < 0 || q.Most.Count > recoverMax {
		q.Most.Count = recoverMax
	}
	return loop.Query(c.Conn, func(done func(channel.Collected, error)) { c.Loop().Engine().History(q, done) },
		func(kept channel.Collected, err error) loop.Wait {
			switch {
			case errors.Is(err, engine.ErrEpoch):
				return c.fail(r, ErrorUnrecoverablePosition)
			case err != nil:
				return c.fail(r, ErrorInternal)
			}
			r.History, r.Error = c.kept(&kept)
			c.answer(r)
			return nil
		})
}

// kept returns publications of a history as a reply lists them.
func (c clientConn) kept(kept *channel.Collected) (*protocol.HistoryResult, *protocol.Error) {
	r := &protocol.HistoryResult{Publications: []*protocol.Publication{}, Epoch: kept.Newest.Epoch.String(), Offset: kept.Newest.Offset}
	room := c.Room()
	for i := range kept.Publications {
		p := Publication(c.format.Encoding, &kept.Publications[i])
		if room -= listedBytes(p); room < 0 {
			if i == 0 {
				return nil, ErrorLimitExceeded // to give none would say that there is none
			}
			break
		}
		r.Publications = append(r.Publications, p)
	}
	return r, nil
}
