package chaos

import "sluice/bench"

func init() {
	register(Row{Number: 19, Name: "join race", Run: joinRace,
		What: "clients join from a position in the past while messages are published; none sees a missing, repeated or wrong message"})
}

func joinRace(r *Run) error {
	joins := Size(r, "joins", 2000, 100_000)
	rate := Param(r, "messages_per_second", 1000.0, 2000.0)
	if r.part > 1 {
		rate /= 4 // what a slow gateway cannot carry is not the question
	}
	g, err := r.Start("--history", "10000", "--history-bytes", "16MiB")
	if err != nil {
		return err
	}
	res, err := bench.Recover(r.ctx, bench.RecoverOptions{
		Options: bench.Options{URL: "ws://" + g.Addr, Path: "/ws/row", PID: g.PID()}, Joins: joins, Rate: rate,
	})
	if res != nil && res.Verdict == bench.VerdictInvalid && !r.judgesSpeed() {
		res.Verdict = bench.VerdictOK // the rate was not held, which is a matter of speed
	}
	if err := r.measured(res, err); err != nil {
		return err
	}
	m := res.Metrics
	r.Check("joins", m["joins"] == float64(joins) && m["failed"] == 0, "%.0f of %d, %.0f failed", m["joins"], joins, m["failed"])
	for _, name := range []string{"holes", "repeats", "wrong", "gaps", "foreign"} {
		r.Check(name, m[name] == 0, "%.0f in %.0f messages", m[name], m["recovered"]+m["live"])
	}
	return nil
}
