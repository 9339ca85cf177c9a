package backing

import (
	"context"
	"fmt"
)

// Verdict is how bad a Finding is.
type Verdict int

const (
	Fine     Verdict = iota
	Unknown          // it cannot be found out from here
	Doubtful         // it works, until the named situation occurs
	Broken           // it does not work
)

// Finding is one thing that Check has found out, in a line with names of settings in braces.
type Finding struct {
	Verdict Verdict
	Text    string
}

// Check looks at what the settings name: the data directory, or the NATS servers. It changes
// nothing there. messageMax is the size of the largest message; stored says that some channels keep a
// history that is stored.
func Check(ctx context.Context, s *Store, messageMax int, stored bool) []Finding {
	if s.form() == Memory {
		return nil
	}
	var f findings
	s.check(ctx, &f, messageMax, stored)
	return f
}

type findings []Finding

func (f *findings) add(v Verdict, format string, args ...any) {
	*f = append(*f, Finding{v, fmt.Sprintf(format, args...)})
}
