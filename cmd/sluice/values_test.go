package main

import (
	"math"
	"testing"
	"time"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]int{
		"0": 0, "1": 1, "4096": 4096, "12B": 12, "64KiB": 64 << 10, "64 KiB": 64 << 10, "3MiB": 3 << 20,
		"1GiB": 1 << 30, "9223372036854775807": math.MaxInt,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "B", "KiB", "64KB", "64K", "64k", "64kib", "1.5MiB", "-1", "-1KiB", "+1", "1_000", "0x10", "64KiBB",
		"9223372036854775808", "9007199254740992KiB", "9223372036854775807GiB",
	} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestSizesAreWrittenAsTheyAreRead(t *testing.T) {
	for bytes, want := range map[int]string{
		1: "1B", 1023: "1023B", 1024: "1KiB", 1536: "1536B", 64 << 10: "64KiB", 512 << 20: "512MiB", 3 << 30: "3GiB",
	} {
		got := formatSize(bytes)
		if got != want {
			t.Errorf("formatSize(%d) = %q, want %q", bytes, got, want)
		}
		if back, err := parseSize(got); err != nil || back != bytes {
			t.Errorf("parseSize(%q) = %d, %v; want %d", got, back, err, bytes)
		}
	}
}

func TestCountsAreWrittenWithTheirThousandsApart(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 19744: "19,744", 1048576: "1,048,576", -1000: "-1,000", -100: "-100"} {
		if got := formatCount(n); got != want {
			t.Errorf("formatCount(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"listen", "internal-listen", "max-message", "max-channels", "raw"}
	for word, want := range map[string]string{
		"lisen": "listen", "listen": "listen", "max_mesage": "max-message", "maxmessage": "max-message",
		"max-chanels": "max-channels", "internal-lsiten": "internal-listen", "rwa": "raw", "colour": "", "": "",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestSizesOfOthersAreRounded(t *testing.T) {
	for bytes, want := range map[int]string{0: "0B", 1023: "1023B", 1024: "1KiB", 1536: "1.5KiB", 520 << 20: "520MiB", 24684092 << 10: "23.5GiB"} {
		if got := aboutSize(bytes); got != want {
			t.Errorf("aboutSize(%d) = %q, want %q", bytes, got, want)
		}
	}
}

func TestDurationsAreWrittenShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", 5 * time.Minute: "5m", time.Hour: "1h", 90 * time.Second: "1m30s", 90 * time.Minute: "1h30m",
		10 * time.Minute: "10m", 10 * time.Hour: "10h", 10 * time.Second: "10s", 1500 * time.Millisecond: "1.5s",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("formatDuration(%d) = %q, want %q", d, got, want)
		}
	}
}
