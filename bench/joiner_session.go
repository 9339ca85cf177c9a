package bench

import (
	"context"
	"errors"
)

// bySubscription joins with a subscription on a connection that stays: 100,000 joins are
// not 100,000 connections.
type bySubscription struct {
	*joiner
	sub *subscription
}

func (j *bySubscription) hint() string {
	return "does the channel keep a history that clients may recover from (history_size, history_ttl and force_recovery of its namespace)?"
}

func (j *bySubscription) ready(ctx context.Context) error {
	if j.connected() {
		return nil
	}
	early, err := j.connect(ctx, j.recovery.target, j.stay())
	if err != nil {
		return err
	}
	if err := j.introduce(early); err != nil {
		j.drop()
		return err
	}
	return nil
}

func (j *bySubscription) enter(_ context.Context, since *position) error {
	r := j.recovery
	j.extend(j.stay())
	s := j.conn.session
	if j.sub == nil {
		j.sub = s.join(r.target.audience.channels[0], since)
	} else {
		s.subscribe(j.sub, since)
	}
	j.stand(since)
	err := j.answers()
	if err == nil && since == nil {
		if j.leads[0].inEpoch([]byte(j.sub.epoch)); j.sub.epoch == "" {
			err = errors.New("the subscription has no position: " + j.hint())
		}
	}
	if err != nil {
		j.drop()
	}
	return err
}

// introduce makes the new connection one of the protocol.
func (j *bySubscription) introduce(early []byte) error {
	a := j.recovery.target.audience
	token, err := a.tokenOf(j.index)
	if err != nil {
		return err
	}
	j.sub, j.conn.session = nil, newClientSession(a.dialect)
	j.conn.session.connect(token)
	if err := j.feed(&j.conn, early, j.clock.now()); err != nil {
		return err
	}
	return j.answers()
}

func (j *bySubscription) leave() error {
	j.conn.session.unsubscribe(j.sub)
	return j.answers()
}

// answers sends the commands that were asked for, and reads until all are answered.
func (j *bySubscription) answers() error {
	s := j.conn.session
	err := j.answer(&j.conn, s.flush())
	for err == nil && len(s.asked) > 0 {
		err = j.read()
	}
	return err
}
