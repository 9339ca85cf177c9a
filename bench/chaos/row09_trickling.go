package main

import "time"

// tricklingReaders: the slowest reader takes a tenth of what the channel brings, the
// fastest half as much again; every tenth stops altogether for a while. So some keep
// up, some fall behind for a while, some are cut and come back with their position.
func tricklingReaders(r *Run) error {
	trickling := Param(r, "trickling", 100, 500)
	bystanders := Param(r, "bystanders", 20, 100)
	bytes := Param(r, "channel_bytes_per_second", 400_000, 10_000) // with the records around the payloads
	size := Param(r, "message_bytes", 512, 512)
	lasts := Param(r, "lasts", 2000*time.Millisecond, 90*time.Second)
	flags := Param(r, "gateway", []string{"--max-message", "2KiB", "--channel-buffer", "64KiB", "--send-buffer", "8KiB", "--history", "10000", "--history-bytes", "16MiB"},
		[]string{"--max-message", "4KiB", "--channel-buffer", "64KiB", "--send-buffer", "16KiB", "--history", "10000", "--history-bytes", "16MiB"})
	const recordBytes = 120 // what a record has besides its payload, about
	g := must(r.Start(append(flags, r.policy("row")...)...))
	must(r.Join(g, bystanders, ClientOptions{Name: "reader", Channel: "row", Whole: true}))
	slow := must(r.Join(g, trickling, ClientOptions{Name: "trickling", Channel: "row", ComeBack: true, ReceiveBuffer: 4 << 10}))
	for _, c := range slow {
		c.Pace(bytes/10 + r.random.IntN(bytes*14/10))
	}
	p := r.Publish(g, "row", float64(bytes)/float64(size+recordBytes), size)
	for part := range 2 {
		for i := 0; i < len(slow); i += 10 {
			if part == 0 {
				slow[i].Stall()
			} else {
				slow[i].Pace(bytes)
			}
		}
		noError(r.Pause(lasts / 2))
	}
	must(r.StopPublishing(p))
	for _, c := range slow { // what is still due to them comes at once
		c.Pace(0)
	}
	r.Settle(30 * time.Second)
	noError(r.Judge(g))
	told := 0
	for _, c := range slow {
		if c.account.gaps() || c.account.ends(Resumed, -1) > 0 {
			told++
		}
	}
	r.Count("kept_up", float64(len(slow)-told))
	r.Count("told", float64(told))
	return nil
}
