package bench

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFailIf(t *testing.T) {
	r := newResult("fanout")
	r.Set("lost", 3)
	r.Set("p99", 0.050)
	r.Set("server_rss", 64<<10)
	r.Set("late", 0.5)
	for _, tc := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"lost>0", []string{"lost>0: lost is 3"}},
		{"lost>3", nil},
		{"lost>=3", []string{"lost>=3: lost is 3"}},
		{"lost==3", []string{"lost==3: lost is 3"}},
		{"lost!=3,lost<3,lost<=2", nil},
		{"lost>0, p99 > 49ms", []string{"lost>0: lost is 3", "p99 > 49ms: p99 is 50.00 ms"}},
		{"p99>50ms", nil},
		{"p99<1s", []string{"p99<1s: p99 is 50.00 ms"}},
		{"server_rss>63KiB", []string{"server_rss>63KiB: server_rss is 64.00 KiB"}},
		{"server_rss>64KiB,server_rss>65.6KB", nil},
		{"late>0.4%", []string{"late>0.4%: late is 0.50 %"}},
		{"cut>0", []string{"cut>0: cut was not measured"}},
	} {
		list, err := ParseFailIf("fanout", tc.text)
		if err != nil {
			t.Errorf("%q: %v", tc.text, err)
			continue
		}
		if diff := cmp.Diff(tc.want, list.Check(r)); diff != "" {
			t.Errorf("%q: want -, got +:\n%s", tc.text, diff)
		}
	}
}

func TestFailIfRefusesWhatItDoesNotKnow(t *testing.T) {
	for text, why := range map[string]string{
		"lost":               "not a comparison",
		"loss>0":             "the metrics are bytes_per_delivery, catch_up, channels, cut, deliver",
		"lost=0":             "unknown operator",
		"lost>many":          "not a number",
		"lost>5%":            "not a number",
		"p99>50":             "write 50s or 50ms",
		"p99>fifty":          "not a duration",
		"server_rss>1parsec": "not a size",
		"lost>0,,p99>1s":     "not a comparison",
		"lost>NaN":           "not a number",
	} {
		_, err := ParseFailIf("fanout", text)
		if err == nil || !strings.Contains(err.Error(), why) || !errors.As(err, new(*UsageError)) {
			t.Errorf("%q: got %v, want a usage error with %q", text, err, why)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "64": 64, "64B": 64, "0.55KB": 550, "64KiB": 65536, "1.5MiB": 3 << 19, "64K": 65536, "1M": 1 << 20, "1G": 1 << 30, "2GB": 2e9} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "KiB", "-1", "1e400", "NaN", "Inf", "64 KiBB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}
