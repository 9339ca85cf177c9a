package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEveryFaultOfAConfigSaysHowToMendIt(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{"defaults", Config{}, nil},
		{"off where that is possible", Config{History: -1, PingInterval: -1, WriteTimeout: -1, SendBuffer: -1, LoopTimeout: -1}, nil},
		{"sizes", Config{MaxMessage: 64<<20 + 1, SendBuffer: 1 << 10}, []string{
			"--max-message 67108865B is too large: messages are encoded in one piece; use at most 64MiB",
			"--channel-buffer 256KiB cannot hold two messages of --max-message 67108865B: use at least 134219778B",
			"--max-pending 256KiB cannot hold the reply to a message of --max-message 67108865B: use at least 67141633B",
			"--send-buffer 1KiB is too small for TCP to work well: use at least 4KiB"}},
		{"small sizes", Config{MaxMessage: 100}, []string{
			"--max-message 100B is too small: use at least 125B, the size of a control frame"}},
		{"buffers", Config{ChannelBuffer: 2 << 30, MaxPending: 64 << 10}, []string{
			"--channel-buffer 2GiB is too large: use at most 1GiB",
			"--max-pending 64KiB cannot hold the reply to a message of --max-message 64KiB: use at least 96KiB",
			"--max-buffered 512MiB cannot hold a few channels of --channel-buffer 2GiB: use at least 16GiB"}},
		{"history", Config{HistoryBytes: 1000, History: 2 << 20, HistoryTTL: time.Millisecond}, []string{
			"--history 2097152 is too large: use at most 1048576",
			"--history-ttl 1ms is too short: timeouts are checked once a second; use at least 1s",
			"--history-bytes 1000B is too small: use at least 1KiB, or --history off"}},
		{"a stuck loop", Config{LoopTimeout: 10 * time.Second}, []string{
			"--loop-timeout 10s is too short: the process must run long enough to log a stuck loop's stack, which happens after 10 s; use at least 11s, or off"}},
		{"greeting", Config{Greeting: strings.Repeat("x", 70_000)}, []string{
			"--greeting has 70000 bytes, more than --max-message 64KiB: use a shorter one"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			if err := tt.cfg.Validate(); err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
