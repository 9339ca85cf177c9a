package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The kinds of option. Each method adds an option to a group; fallback is the default
// as a user would write it.

// adder adds options to one group.
type adder struct {
	opts  *options
	group string
}

// in begins a group.
func (o *options) in(group string) adder { return adder{o, group} }

func (a adder) add(opt *option) {
	opt.group = a.group
	a.opts.list = append(a.opts.list, opt)
	a.opts.byName[opt.name] = opt
}

// text is any string; words are values that a shell may offer.
func (a adder) text(p *string, name, meta, fallback, usage string, words ...string) {
	a.add(&option{name: name, target: p, meta: meta, fallback: fallback, usage: usage, choices: words,
		parse: func(s string) error { *p = s; return nil }})
}

// texts is a list of strings; words are values that a shell may offer.
func (a adder) texts(p *[]string, name, meta, fallback, usage string, words ...string) {
	a.add(&option{name: name, target: p, meta: meta, fallback: fallback, usage: usage, repeatable: true, choices: words,
		parse: func(s string) error { *p = append(*p, s); return nil }})
}

// word is one of a few words.
func (a adder) word(p *string, name, fallback, usage string, words ...string) {
	a.add(&option{name: name, target: p, meta: "WORD", fallback: fallback, usage: usage, choices: words,
		parse: func(s string) error {
			if !slices.Contains(words, s) {
				return fmt.Errorf("must be one of %s", strings.Join(words, ", "))
			}
			*p = s
			return nil
		}})
}

// count is a whole number of at least one. special, if not empty, is a word that is
// accepted too: auto lets the gateway choose (zero in its Config), off is negative there.
func (a adder) count(p *int, name, fallback, special, usage string) {
	a.add(&option{name: name, target: p, meta: "N", fallback: fallback, usage: usage, choices: []string{special},
		parse: func(s string) error {
			if special != "" && s == special {
				*p = 0
				if special == "off" {
					*p = -1
				}
				return nil
			}
			n, err := strconv.Atoi(s)
			if err != nil || n < 1 {
				return errors.New("must be a whole number of at least 1" + orWord(special))
			}
			*p = n
			return nil
		}})
}

// size is a number of bytes. off allows the word "off", which is negative in the
// gateway's Config. If the default is auto, the gateway chooses (zero there).
func (a adder) size(p *int, name, fallback string, off bool, usage string) {
	a.add(&option{name: name, target: p, meta: "SIZE", fallback: fallback, usage: usage, choices: []string{offWord(off)},
		parse: func(s string) error {
			switch {
			case off && s == "off":
				*p = -1
				return nil
			case s == "auto" && fallback == "auto":
				*p = 0
				return nil
			}
			n, err := parseSize(s)
			if err == nil && n == 0 {
				err = errors.New("must be greater than 0" + offAdvice(off))
			}
			*p = n
			return err
		}})
}

// What a duration's zero means on the command line. In gateway.Config zero
// is the default, so it must not get there by accident.
type zero int

const (
	zeroRefused zero = iota
	zeroAllowed      // 0 is a value like any other
	zeroIsOff        // "off" is allowed, a negative duration in the gateway's Config
)

// duration is a time.Duration. If the default is auto, the gateway chooses (zero in its
// Config).
func (a adder) duration(p *time.Duration, name, fallback string, z zero, usage string) {
	a.add(&option{name: name, target: p, meta: "TIME", fallback: fallback, usage: usage, choices: []string{offWord(z == zeroIsOff)},
		parse: func(s string) error {
			switch {
			case z == zeroIsOff && s == "off":
				*p = -1
				return nil
			case s == "auto" && fallback == "auto":
				*p = 0
				return nil
			}
			d, err := time.ParseDuration(s)
			switch {
			case err != nil:
				return errNoDuration
			case d < 0 && z == zeroAllowed:
				return errors.New("must not be negative")
			case d < 0, d == 0 && z != zeroAllowed:
				return errors.New("must be greater than 0" + offAdvice(z == zeroIsOff))
			}
			*p = d
			return nil
		}})
}

var errNoDuration = errors.New("must be a duration with a unit, such as 500ms, 10s or 2m")

func orWord(special string) string {
	if special == "" {
		return ""
	}
	return ", or " + special
}

func offWord(possible bool) string {
	if !possible {
		return ""
	}
	return "off"
}

func offAdvice(possible bool) string {
	if !possible {
		return ""
	}
	return ", or off"
}

// sizeUnits are the units of sizes, largest first; a plain number is bytes.
var sizeUnits = []struct {
	name  string
	bytes int
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// parseSize reads "64KiB".
func parseSize(s string) (int, error) {
	digits, unit := s, 1
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			digits, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > uint64(math.MaxInt/unit) {
		return 0, errors.New("must be a size: a whole number of bytes, or one with the unit B, KiB, MiB or GiB, such as 64KiB")
	}
	return int(n) * unit, nil
}

// formatSize formats a size in the largest unit that leaves a whole number.
func formatSize(bytes int) string {
	for _, u := range sizeUnits {
		if bytes >= u.bytes && bytes%u.bytes == 0 {
			return strconv.Itoa(bytes/u.bytes) + u.name
		}
	}
	return strconv.Itoa(bytes) + "B"
}

// aboutSize formats a size with one decimal.
func aboutSize(bytes int) string {
	for _, u := range sizeUnits {
		if bytes >= u.bytes && u.bytes > 1 {
			return strings.TrimSuffix(strconv.FormatFloat(float64(bytes)/float64(u.bytes), 'f', 1, 64), ".0") + u.name
		}
	}
	return strconv.Itoa(bytes) + "B"
}

// formatDuration formats a duration without trailing zero units: 5m, not 5m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	for _, tail := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, tail) {
			s = s[:len(s)-len("0s")]
		}
	}
	return s
}

// formatCount formats a number with thousands separators.
func formatCount(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// bareError strips the operation and the path from a file error, for messages that
// already name the path.
func bareError(err error) error {
	var path *fs.PathError
	var sys *os.SyscallError
	if errors.As(err, &path) {
		err = path.Err
	}
	if errors.As(err, &sys) {
		err = sys.Err
	}
	return err
}

// nearest returns the known word that word was most likely meant to be, or "".
func nearest(word string, known []string) string {
	best, least := "", max(2, len(word)/4)+1
	for _, k := range known {
		if d := editDistance(word, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// editDistance returns the Levenshtein distance: how many bytes must be inserted,
// deleted or replaced to turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
