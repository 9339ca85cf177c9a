package main

import "sluice/bench/hostile"

// frameReasons are the reasons of connections_closed_total that a client's own frames
// bring about, by the code of the Close frame that it gets. A client may also
// have asked for a code, by a Close frame of its own.
var frameReasons = []struct{ code, reason string }{
	{"1002", "protocol_error"}, {"1007", "bad_utf8"}, {"1008", "too_many_fragments"}, {"1009", "message_too_big"},
}

func hostileFrames(r *Run) error {
	cases := Param(r, "cases", 3000, 1_000_000)
	g := must(r.Start())
	o := r.hostile(g, cases)
	o.Path = "/echo"
	res, err := hostile.Frames(r.ctx, o)
	noError(r.attacked(res, err, cases))
	var c map[string]float64
	r.Await(letGoWithin, func() bool {
		c, err = g.Counters()
		return err != nil || c["connections_closed_total"] == float64(cases)
	})
	noError(err)
	closed := func(reason string) float64 { return c["connections_closed_total{"+reason+"}"] }
	r.Check("C6 closed", c["connections_closed_total"] == float64(cases), "%d sessions, %.0f counted by reason", cases, c["connections_closed_total"])
	told, counted := int64(0), closed("client_close")
	for code, n := range res.Closes {
		told += n
		r.Count("close_"+code, float64(n))
	}
	for _, f := range frameReasons {
		counted += closed(f.reason)
		r.Check("C6 "+f.code, closed(f.reason) > 0 && closed(f.reason) <= float64(res.Closes[f.code]),
			"%d Close frames with this code, including those that clients asked for; %.0f counted as %s", res.Closes[f.code], closed(f.reason), f.reason)
	}
	r.Check("C6 Close frames", counted == float64(told), "%d Close frames, %.0f counted by reason", told, counted)
	return nil
}
