package config

// Place is what has a fault.
type Place int

const (
	InFile       Place = iota // the hooks file
	InFlag                    // a flag
	InNamespaces              // the namespaces file
)

// Fault is something that is wrong.
type Fault struct {
	In    Place
	Where string // the path of a key, the flag, or a namespace; "" for a file as a whole
	Err   error
}

func (f Fault) Error() string {
	if f.Where == "" {
		return f.Err.Error()
	}
	return f.Where + ": " + f.Err.Error()
}

// Unwrap returns Err.
func (f Fault) Unwrap() error { return f.Err }

// Faults returns the faults that an error of [Parse], [Flags.Config], [Merge] or [Config.Check] lists.
func Faults(err error) (list []Fault) {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range all.Unwrap() {
			list = append(list, err.(Fault)) // reader.fault has made it
		}
	}
	return list
}
