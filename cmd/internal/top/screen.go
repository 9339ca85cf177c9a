package top

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"sluice/cmd/internal/cli"
)

// screen is a terminal on which top draws pictures.
type screen struct {
	out  io.Writer
	size func() (columns, lines int)
	keys chan byte // closed at the end of input

	in   *os.File    // nil: no keyboard
	mode *term.State // of in, as it was before
}

// Control sequences of ECMA-48 and of xterm. The picture is on the alternate screen, so
// that the user's own screen is back afterwards.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l" // alternate screen, no cursor, no line wrapping
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	cursorHome  = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
	bold        = "\x1b[1m"
	reverse     = "\x1b[7m"
	red         = "\x1b[31m"
	normal      = "\x1b[m"
)

// newScreen returns nil if stdout is not a terminal.
func newScreen(stdin io.Reader, stdout io.Writer) *screen {
	out, ok := stdout.(*os.File)
	if !ok || !term.IsTerminal(int(out.Fd())) {
		return nil
	}
	s := &screen{out: out, keys: make(chan byte)}
	s.size = func() (int, int) {
		columns, lines, err := term.GetSize(int(out.Fd()))
		if err != nil || columns < 1 || lines < 1 { // a serial line has no size
			return 80, 24
		}
		return columns, lines
	}
	if in, ok := stdin.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		s.in = in
	}
	return s
}

// enter prepares the terminal. The caller must call leave.
func (s *screen) enter() error {
	if s.in != nil {
		mode, err := term.MakeRaw(int(s.in.Fd()))
		if err != nil {
			return fmt.Errorf("cannot set up the terminal: %w; print one table with --once", err)
		}
		s.mode = mode
		go s.read()
	}
	if _, err := io.WriteString(s.out, enterScreen); err != nil {
		s.leave()
		return fmt.Errorf("standard output: %w", cli.BareError(err))
	}
	return nil
}

// leave restores the terminal.
func (s *screen) leave() {
	io.WriteString(s.out, leaveScreen) // error ignored: a terminal that is gone needs no restoring
	if s.mode != nil {
		_ = term.Restore(int(s.in.Fd()), s.mode) // likewise
	}
}

// read forwards keys. It outlives the picture: a read of a terminal cannot be canceled,
// and the process ends then.
func (s *screen) read() {
	defer close(s.keys)
	var p [64]byte
	for {
		n, err := s.in.Read(p[:])
		if err != nil {
			return
		}
		if n > 0 && p[0] == '\x1b' {
			continue // an arrow or the like
		}
		for _, key := range p[:n] {
			s.keys <- key
		}
	}
}

// draw shows lines, from the top.
func (s *screen) draw(lines []string) error {
	var b strings.Builder
	b.WriteString(cursorHome)
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n") // raw mode does not add the CR
		}
		b.WriteString(line + clearLine)
	}
	b.WriteString(clearBelow)
	if _, err := io.WriteString(s.out, b.String()); err != nil {
		return fmt.Errorf("standard output: %w", cli.BareError(err))
	}
	return nil
}

// fitting returns how many connections fit on a screen.
func (t *top) fitting(_, lines int) int {
	n := max(lines-headLines, 1)
	if t.limit > 0 {
		n = min(n, t.limit)
	}
	return n
}

// watch draws until the user quits or ctx ends. If a look fails, its error is shown above
// the result of the last one that succeeded.
func (t *top) watch(ctx context.Context, s *screen, first view) error {
	type looked struct {
		view
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	defer looking.Wait()
	defer cancel()
	looks := make(chan looked, 1)
	var p pace
	look := func() {
		once, limit := *t, t.fitting(s.size())
		looking.Go(func() {
			v, err := once.look(ctx, limit)
			looks <- looked{v, err}
		})
	}
	tick := time.NewTicker(t.interval)
	defer tick.Stop()
	keys, now, earlier := s.keys, first, view{}
	var trouble error
	for {
		if err := s.draw(t.picture(s, now, earlier, trouble)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if p.begin(false) {
				look()
			}
		case key, ok := <-keys:
			switch {
			case !ok:
				keys = nil
			case key == 'q' || key == 'Q' || key == '\x03' || key == '\x04': // Ctrl-C and Ctrl-D send no signal here
				return nil
			case t.sortBy(key):
				if p.begin(true) {
					look()
				}
			}
		case l := <-looks:
			if trouble = l.err; trouble == nil {
				if l.at.Sub(now.at) >= t.interval/2 { // a rate over a shorter time is unsteady
					earlier = now
				}
				now = l.view
			}
			if p.end() {
				look()
			}
		}
	}
}

// pace says when to look: one look at a time. A tick during another one is left out, so that a gateway that answers
// slowly is not asked without a pause. A key is not: what it changed has to be seen.
type pace struct{ busy, again bool }

// begin reports whether a look is to begin now.
func (p *pace) begin(key bool) bool {
	if p.busy {
		p.again = p.again || key
		return false
	}
	p.busy = true
	return true
}

// end ends a look, and reports whether the next one is to begin at once.
func (p *pace) end() bool {
	p.busy, p.again = p.again, false
	return p.busy
}

// sortBy changes the sort if the key stands for one, and reports whether it does.
func (t *top) sortBy(key byte) bool {
	for _, name := range topSorts {
		if key|0x20 == name[0] {
			t.sort = name
			return true
		}
	}
	return false
}

// picture returns the screen's lines, cut to its size. The last column stays empty: the
// sequence that clears the rest of a line would clear it too.
func (t *top) picture(s *screen, now, earlier view, trouble error) []string {
	columns, lines := s.size()
	head := now.head(t.place, earlier, trouble)
	picture := append(append(head, ""), now.table(true)...)
	picture = picture[:min(len(picture), lines)]
	for i, line := range picture {
		if runes := []rune(line); len(runes) >= columns {
			picture[i] = string(runes[:columns-1])
		}
	}
	if !t.color {
		return picture
	}
	style := map[int]string{0: bold, len(head) + 1: reverse}
	if trouble != nil {
		style[len(head)-1] = red
	}
	for i, how := range style {
		if i < len(picture) {
			picture[i] = how + picture[i] + normal
		}
	}
	return picture
}
