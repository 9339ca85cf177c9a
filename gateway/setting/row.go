package setting

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Row is one setting: a field of a struct and what the field's tags say.
type Row struct {
	Field   string   // the struct's field, or tag field: the name that texts have for it
	Name    string   // tag name: of the flag, the key and the variable
	Group   string   // tag group: the heading it appears below
	Meta    string   // tag meta, or by type: the kind of value, such as SIZE; "" for a switch, which is on without a value
	Default string   // tag default, as a user writes it; "": none; "auto": zero, which the gateway resolves
	Off     string   // tag off: what the word off means, which is stored as -1; "": off is not accepted
	Auto    string   // tag auto: the value that auto stands for, and after a comma what else it depends on
	Min     string   // tag min: the least value, and after a comma more advice for a fault
	Max     string   // tag max: likewise the greatest
	Words   []string // tag words, separated by commas: the only values; those of a list are suggestions
	Reload  string   // tag reload: when a change takes effect without a restart; "": never
	Help    string   // tag help: a phrase with fields in braces
	List    bool     // takes several values

	small, large string // tags small and large: why a value is out of bounds, and after a semicolon how to fix it
	value        reflect.Value
}

// Rows returns the settings of the struct that p points to, and of structs in it, by group.
func Rows(p any) []Row {
	rows := appendRows(nil, reflect.ValueOf(p).Elem())
	var groups []string
	for _, r := range rows {
		groups = append(groups, r.Group)
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return slices.Index(groups, a.Group) - slices.Index(groups, b.Group) })
	return rows
}

func appendRows(rows []Row, config reflect.Value) []Row {
	for i := range config.NumField() {
		field := config.Type().Field(i)
		name, tagged := field.Tag.Lookup("name")
		switch {
		case tagged:
			tag := field.Tag.Get
			r := Row{
				Field: cmp.Or(tag("field"), field.Name), Name: name, Group: tag("group"), Default: tag("default"), Off: tag("off"), Auto: tag("auto"), Min: tag("min"), Max: tag("max"),
				Reload: tag("reload"), Help: tag("help"), small: tag("small"), large: tag("large"), value: config.Field(i),
			}
			if words := tag("words"); words != "" {
				r.Words = strings.Split(words, ",")
			}
			if r.Auto != "" {
				r.Help += "; auto: " + r.Auto
			}
			r.kind(tag("meta"), tag("unit"))
			rows = append(rows, r)
		case field.Type.Kind() == reflect.Struct:
			rows = appendRows(rows, config.Field(i))
		}
	}
	return rows
}

// kind sets what follows from the field's type.
func (r *Row) kind(meta, unit string) {
	r.List = r.value.Kind() == reflect.Slice
	switch {
	case r.value.Kind() == reflect.Bool:
		r.Words = []string{"on", "off"}
		if r.Default == "on" {
			r.Meta = "WORD"
		}
	case meta != "":
		r.Meta = meta
	case r.List:
		r.Meta = "LIST"
	case r.Words != nil:
		r.Meta = "WORD"
	case r.value.Type() == reflect.TypeFor[time.Duration]():
		r.Meta = "TIME"
	case unit == "bytes":
		r.Meta = "SIZE"
	case unit == "/s":
		r.Meta = "RATE"
	case r.value.CanInt():
		r.Meta = "N"
	}
}

// Value returns the field's value.
func (r *Row) Value() any { return r.value.Interface() }

// Set stores a value as a user writes it, or adds it to a list. An error continues the value.
func (r *Row) Set(text string) error {
	if r.List {
		return r.add(text)
	}
	word := slices.Index(r.Words, text)
	if r.Words != nil && word < 0 {
		return fmt.Errorf("must be one of %s", strings.Join(r.Words, ", "))
	}
	switch {
	case r.value.Kind() == reflect.String:
		r.value.SetString(text)
	case r.value.Kind() == reflect.Bool:
		r.value.SetBool(text != r.Default)
	case r.Words != nil:
		r.value.SetInt(int64(word))
	default:
		n, err := r.parse(text)
		if err != nil {
			return err
		}
		r.value.SetInt(n)
	}
	return nil
}

// add adds a value to a list.
func (r *Row) add(text string) error {
	elem := reflect.New(r.value.Type().Elem())
	var err error
	switch p := elem.Interface().(type) {
	case *string:
		*p = text
	case *netip.Prefix:
		*p, err = parsePrefix(text)
	case encoding.TextUnmarshaler:
		err = p.UnmarshalText([]byte(text))
	}
	if err == nil {
		r.value.Set(reflect.Append(r.value, elem.Elem()))
	}
	return err
}

// ErrDuration is the error for a text that is not a duration.
var ErrDuration = errors.New("must be a duration with a unit, such as 500ms, 10s or 2m")

// parse returns a number as it is stored. Zero is the default of a field, so it is refused
// where it would mean something else to a user.
func (r *Row) parse(text string) (int64, error) {
	var words []string
	if r.Default == "auto" {
		words = append(words, "auto")
	}
	if r.Off != "" {
		words = append(words, "off")
	}
	if slices.Contains(words, text) {
		return map[string]int64{"auto": 0, "off": -1}[text], nil
	}
	or := strings.Join(words, " or ")
	switch len(words) {
	case 1:
		or = ", or " + or
	case 2:
		or = ", " + or
	}
	switch r.Meta {
	case "SIZE":
		n, err := ParseSize(text)
		if err == nil && n == 0 {
			err = errors.New("must be greater than 0" + or)
		}
		return int64(n), err
	case "TIME":
		d, err := time.ParseDuration(text)
		switch {
		case err != nil:
			return 0, ErrDuration
		case d < 0 && r.Default == "0s":
			return 0, errors.New("must not be negative")
		case d < 0, d == 0 && r.Default != "0s":
			return 0, errors.New("must be greater than 0" + or)
		}
		return int64(d), nil
	}
	unit, form := "", "must be a whole number of at least 1"
	if r.Meta == "RATE" {
		unit, form = "/s", "must be a rate: a whole number per second, such as 50 or 50/s"
	}
	n, err := strconv.Atoi(strings.TrimSuffix(text, unit))
	if err != nil || n < 1 {
		return 0, errors.New(form + or)
	}
	return int64(n), nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		addr, addrErr := netip.ParseAddr(s)
		if addrErr != nil || addr.Zone() != "" {
			return netip.Prefix{}, errors.New("must be an address or network, such as 192.0.2.7 or 10.0.0.0/8")
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	switch {
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, errors.New("an IPv4 network in IPv6 notation; write it as IPv4, such as 10.0.0.0/8")
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("has host bits set; did you mean %v or %v?", prefix.Masked(), prefix.Addr())
	}
	return prefix, nil
}

// Defaults sets the fields that are zero and have a default.
func Defaults(p any) {
	for _, r := range Rows(p) {
		if r.Default != "" && r.Default != "auto" && r.value.IsZero() {
			r.mustSet(r.Default)
		}
	}
}

// Auto returns a struct with the values that auto stands for, where a tag says so.
func Auto[Config any]() (c Config) {
	for _, r := range Rows(&c) {
		if r.Auto != "" {
			r.mustSet(bound(r.Auto))
		}
	}
	return c
}

// mustSet sets a value that a tag has.
func (r *Row) mustSet(text string) {
	if err := r.Set(text); err != nil {
		panic(fmt.Sprintf("%s: %s %v", r.Field, text, err))
	}
}

// bound returns the value that a tag begins with.
func bound(tag string) string {
	value, _, _ := strings.Cut(tag, ",")
	return value
}

// Bounds returns a fault for each number that is out of its bounds. Zero never is: it is a
// default.
func Bounds(p any) (faults Faults) {
	for _, r := range Rows(p) {
		if !r.value.CanInt() || r.Words != nil {
			continue
		}
		n := r.value.Int()
		switch {
		case n == 0, n < 0 && r.Off != "":
		case r.Min != "" && n < r.limit(r.Min):
			why := "is too small"
			if r.Meta == "TIME" {
				why = "is too short: timeouts are checked once a second"
			}
			faults = append(faults, r.fault(cmp.Or(r.small, why), "use at least "+r.Min))
		case r.Max != "" && n > r.limit(r.Max):
			faults = append(faults, r.fault(cmp.Or(r.large, "is too large"), "use at most "+r.Max))
		case n < 0:
			faults = append(faults, r.fault("must not be negative", "omit it for the default"))
		}
	}
	return faults
}

// limit returns a bound as it is stored.
func (r *Row) limit(tag string) int64 {
	n, err := r.parse(bound(tag))
	if err != nil {
		panic(fmt.Sprintf("%s: %s %v", r.Field, tag, err))
	}
	return n
}

// fault returns a fault of the row's value. A fix in why replaces the other one.
func (r *Row) fault(why, fix string) Fault {
	if before, own, ok := strings.Cut(why, "; "); ok {
		why, fix = before, own
	}
	value := fmt.Sprint(r.value)
	if r.Meta == "SIZE" {
		value = FormatSize(int(r.value.Int()))
	}
	return Fault{Field: r.Field, Value: value, Why: why, Fix: fix}
}
