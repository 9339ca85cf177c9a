package setting

import (
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// color is an enumeration.
type color int

// pair is the element of a list that parses itself.
type pair struct{ a, b string }

func (p *pair) UnmarshalText(text []byte) error {
	var ok bool
	if p.a, p.b, ok = strings.Cut(string(text), "="); !ok {
		return errors.New("must be a pair")
	}
	return nil
}

type inner struct {
	File string `name:"file" group:"Files" meta:"FILE" reload:"on SIGHUP" help:"a file"`
}

// all has a setting of each kind.
type all struct {
	Size     int            `name:"size" group:"Numbers" unit:"bytes" default:"64KiB" min:"125B, the size of a control frame" max:"64MiB" large:"is too large: it is one piece" help:"a size"`
	Kernel   int64          `name:"kernel" group:"Numbers" unit:"bytes" default:"auto" min:"4KiB" small:"is too small; double it" off:"the kernel's" help:"a buffer"`
	Inner    inner          // a struct whose settings are in their own group
	Count    int            `name:"count" group:"Numbers" default:"64" min:"1" help:"a number"`
	Auto     int            `name:"auto" group:"Numbers" default:"auto" auto:"200, unlimited for loopback" off:"no limit" help:"a limit"`
	Rate     int            `name:"rate" group:"Numbers" unit:"/s" default:"off" max:"1000000, or off" off:"no limit" help:"a rate"`
	Loops    int            `name:"loops" group:"Numbers" default:"auto" help:"loops"`
	Timeout  time.Duration  `name:"timeout" group:"Times" default:"25s" min:"1s" off:"never" help:"a timeout"`
	Window   time.Duration  `name:"window" group:"Times" default:"0s" max:"1s" large:"is out of range; use 0 to 1s" help:"a window"`
	Late     time.Duration  `name:"late" group:"Times" default:"5s" help:"a time limit for {Count}"`
	Color    color          `name:"color" group:"Words" words:"auto,red,blue" default:"auto" help:"a color"`
	Level    string         `name:"level" group:"Words" words:"debug,info" default:"info" help:"a level"`
	NoPage   bool           `name:"page" group:"Words" default:"on" help:"a page"`
	Trial    bool           `name:"trial" group:"Words" default:"off" help:"a trial"`
	Texts    []string       `name:"texts" group:"Lists" help:"texts"`
	Networks []netip.Prefix `name:"networks" group:"Lists" help:"networks"`
	Pairs    []pair         `name:"pairs" group:"Lists" words:"a=b" help:"pairs"`
	Hook     func()         // not a setting
}

func row(t *testing.T, p *all, name string) *Row {
	t.Helper()
	for _, r := range Rows(p) {
		if r.Name == name {
			return &r
		}
	}
	t.Fatalf("no row %q", name)
	return nil
}

func TestRowsAreByGroupInTheOrderOfTheirFields(t *testing.T) {
	var got []string
	for _, r := range Rows(new(all)) {
		got = append(got, r.Group+": "+r.Name+" "+r.Meta)
	}
	want := []string{
		"Numbers: size SIZE", "Numbers: kernel SIZE", "Numbers: count N", "Numbers: auto N", "Numbers: rate RATE", "Numbers: loops N", "Files: file FILE",
		"Times: timeout TIME", "Times: window TIME", "Times: late TIME", "Words: color WORD", "Words: level WORD", "Words: page WORD", "Words: trial ",
		"Lists: texts LIST", "Lists: networks LIST", "Lists: pairs LIST",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if r := row(t, new(all), "auto"); r.Help != "a limit; auto: 200, unlimited for loopback" || r.Field != "Auto" {
		t.Errorf("%s: %s", r.Field, r.Help)
	}
}

func TestValuesAreStoredInTheirFields(t *testing.T) {
	var got all
	for _, set := range []struct{ name, text string }{
		{"size", "64K"}, {"kernel", "off"}, {"count", "7"}, {"auto", "off"}, {"rate", "50/s"}, {"loops", "auto"}, {"timeout", "off"}, {"window", "0s"},
		{"late", "90s"}, {"color", "blue"}, {"level", "debug"}, {"page", "off"}, {"trial", "on"}, {"file", "/x"}, {"texts", "a"}, {"texts", "b"},
		{"networks", "10.0.0.0/8"}, {"networks", "::1"}, {"pairs", "x=y"},
	} {
		if err := row(t, &got, set.name).Set(set.text); err != nil {
			t.Errorf("%s %s: %v", set.name, set.text, err)
		}
	}
	want := all{
		Size: 64 << 10, Kernel: -1, Inner: inner{"/x"}, Count: 7, Auto: -1, Rate: 50, Timeout: -1, Late: 90 * time.Second,
		Color: 2, Level: "debug", NoPage: true, Trial: true, Texts: []string{"a", "b"},
		Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}, Pairs: []pair{{"x", "y"}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(pair{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestWrongValuesSayWhatToWrite(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"size", "64KB", "must be a size: a whole number of bytes, or one with the unit B, KiB, MiB or GiB, such as 64KiB"},
		{"size", "0", "must be greater than 0"},
		{"size", "off", "must be a size: a whole number of bytes, or one with the unit B, KiB, MiB or GiB, such as 64KiB"},
		{"kernel", "0", "must be greater than 0, auto or off"},
		{"count", "0", "must be a whole number of at least 1"},
		{"count", "auto", "must be a whole number of at least 1"},
		{"auto", "0", "must be a whole number of at least 1, auto or off"},
		{"loops", "0", "must be a whole number of at least 1, or auto"},
		{"rate", "5/m", "must be a rate: a whole number per second, such as 50 or 50/s, or off"},
		{"rate", "auto", "must be a rate: a whole number per second, such as 50 or 50/s, or off"},
		{"timeout", "25", "must be a duration with a unit, such as 500ms, 10s or 2m"},
		{"timeout", "0", "must be greater than 0, or off"},
		{"window", "-1s", "must not be negative"},
		{"late", "-1s", "must be greater than 0"},
		{"color", "green", "must be one of auto, red, blue"},
		{"trial", "yes", "must be one of on, off"},
		{"networks", "10.0.0.1/8", "has host bits set; did you mean 10.0.0.0/8 or 10.0.0.1?"},
		{"networks", "::ffff:0:0/96", "an IPv4 network in IPv6 notation; write it as IPv4, such as 10.0.0.0/8"},
		{"networks", "proxy", "must be an address or network, such as 192.0.2.7 or 10.0.0.0/8"},
		{"pairs", "x", "must be a pair"},
	} {
		var p all
		if err := row(t, &p, tt.name).Set(tt.text); err == nil || err.Error() != tt.want {
			t.Errorf("%s %s: %v, want %s", tt.name, tt.text, err, tt.want)
		}
	}
}

func TestDefaultsFillInWhatIsZero(t *testing.T) {
	got := all{Count: 9, Timeout: -1}
	Defaults(&got)
	want := all{Size: 64 << 10, Count: 9, Rate: -1, Timeout: -1, Late: 5 * time.Second, Level: "info"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(pair{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(all{Auto: 200}, Auto[all](), cmp.AllowUnexported(pair{})); diff != "" {
		t.Error(diff)
	}
}

func TestNumbersOutOfBoundsAreFaults(t *testing.T) {
	for _, tt := range []struct {
		config all
		want   string
	}{
		{all{}, ""},
		{all{Kernel: -1, Auto: -1, Rate: -1, Timeout: -1}, ""},
		{all{Size: 125, Kernel: 4096, Count: 1, Rate: 1e6, Timeout: time.Second, Window: time.Second}, ""},
		{all{Size: 124}, "Size 124B is too small: use at least 125B, the size of a control frame"},
		{all{Size: 64<<20 + 1}, "Size 67108865B is too large: it is one piece; use at most 64MiB"},
		{all{Kernel: 1024}, "Kernel 1KiB is too small: double it"},
		{all{Count: -1, Loops: -1}, "Count -1 is too small: use at least 1\nLoops -1 must not be negative: omit it for the default"},
		{all{Rate: 1e6 + 1}, "Rate 1000001 is too large: use at most 1000000, or off"},
		{all{Timeout: time.Millisecond}, "Timeout 1ms is too short: timeouts are checked once a second; use at least 1s"},
		{all{Window: 2 * time.Second, Late: -1}, "Window 2s is out of range: use 0 to 1s\nLate -1ns must not be negative: omit it for the default"},
	} {
		if got := Bounds(&tt.config).Error(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int{
		"0": 0, "1": 1, "4096": 4096, "12B": 12, "64KiB": 64 << 10, "64 KiB": 64 << 10, "3MiB": 3 << 20, "1GiB": 1 << 30,
		"64K": 64 << 10, "64 K": 64 << 10, "64M": 64 << 20, "1G": 1 << 30, "9223372036854775807": math.MaxInt,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "B", "K", "KiB", "64KB", "64k", "64kib", "64T", "1.5MiB", "-1", "-1KiB", "+1", "1_000", "0x10", "64KiBB", "64KK",
		"9223372036854775808", "9007199254740992KiB", "9223372036854775807G",
	} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestSizesAreWrittenAsTheyAreRead(t *testing.T) {
	for bytes, want := range map[int]string{
		0: "0B", 1: "1B", 1023: "1023B", 1024: "1KiB", 1536: "1536B", 64 << 10: "64KiB", 512 << 20: "512MiB", 3 << 30: "3GiB",
	} {
		got := FormatSize(bytes)
		if got != want {
			t.Errorf("FormatSize(%d) = %q, want %q", bytes, got, want)
		}
		if back, err := ParseSize(got); err != nil || back != bytes {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", got, back, err, bytes)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"listen", "internal-listen", "max-message", "max-channels", "raw", "SLUICE_RAW"}
	for word, want := range map[string]string{
		"lisen": "listen", "listen": "listen", "LISTEN": "listen", "max_mesage": "max-message", "maxmessage": "max-message", "SLUICE_RWA": "SLUICE_RAW",
		"max-chanels": "max-channels", "internal-lsiten": "internal-listen", "rwa": "raw", "colour": "", "": "", strings.Repeat("listen", 20): "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
