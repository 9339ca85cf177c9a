package cli

import (
	"testing"
	"time"
)

func TestCountsAreWrittenWithTheirThousandsApart(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 19744: "19,744", 1048576: "1,048,576", -1000: "-1,000", -100: "-100"} {
		if got := FormatCount(n); got != want {
			t.Errorf("FormatCount(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestSizesOfOthersAreRounded(t *testing.T) {
	for bytes, want := range map[int]string{0: "0B", 1023: "1023B", 1024: "1KiB", 1536: "1.5KiB", 520 << 20: "520MiB", 24684092 << 10: "23.5GiB"} {
		if got := AboutSize(bytes); got != want {
			t.Errorf("AboutSize(%d) = %q, want %q", bytes, got, want)
		}
	}
}

func TestDurationsAreWrittenShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", 5 * time.Minute: "5m", time.Hour: "1h", 90 * time.Second: "1m30s", 90 * time.Minute: "1h30m",
		10 * time.Minute: "10m", 10 * time.Hour: "10h", 10 * time.Second: "10s", 1500 * time.Millisecond: "1.5s",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%d) = %q, want %q", d, got, want)
		}
	}
}
