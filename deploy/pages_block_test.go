package deploy_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A fenced block is marked in its info string, after the language:
//
//	sh run                 executed, and has to exit with 0
//	sh run fails           executed, and has to exit with another code
//	sh run background      executed, but goes on until the page's end
//	sh run restart         the same, after the page's earlier ones have been ended
//	LANGUAGE checked       looked at by a tool of the language
//	sh needs docker        not executed: what it needs, in one to four words
//	LANGUAGE file=NAME     written to that name before later blocks run
//	LANGUAGE output        what a block before it prints
//
// Only a block of commands has to be marked.

// page is a Markdown file of the repository.
type page struct {
	name   string // with slashes, from the repository's top
	prose  string // its text; lines of fenced blocks are empty
	blocks []block
}

// block is a fenced block of a page.
type block struct {
	Line     int // of the opening fence, from 1
	Language string
	Text     string

	Run, Fails, Background, Restart, Checked, Output bool
	Needs, File                                      string
}

// fault is what is wrong with a page, and where.
type fault struct {
	Line int
	Text string
}

func faultf(line int, format string, args ...any) fault {
	return fault{line, fmt.Sprintf(format, args...)}
}

// shell reports whether the block's lines are commands that a reader may type.
func (b block) shell() bool {
	return slices.Contains([]string{"sh", "bash", "shell", "console"}, b.Language)
}

var fence = regexp.MustCompile("^( *)(`{3,}|~{3,}) *([^`]*)$")

// parse reads a page. Its blocks are read as far as they are understood.
func parse(name, text string) (*page, []fault) {
	p := &page{name: name}
	var faults []fault
	var prose strings.Builder
	var open *block
	var indent, end string
	number := 0
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		number++
		m := fence.FindStringSubmatch(line)
		switch {
		case open == nil && m != nil:
			indent, end = m[1], m[2]
			b, bad := newBlock(number, m[3])
			faults = append(faults, bad...)
			open = &b
		case open == nil:
			prose.WriteString(line)
		case m != nil && m[3] == "" && strings.HasPrefix(m[2], end):
			faults = append(faults, p.add(*open)...)
			open = nil
		default:
			open.Text += strings.TrimPrefix(line, indent) + "\n"
		}
		prose.WriteByte('\n')
	}
	if open != nil {
		faults = append(faults, faultf(open.Line, "the block has no end"))
	}
	p.prose = prose.String()
	return p, faults
}

// newBlock reads an info string.
func newBlock(line int, info string) (block, []fault) {
	b := block{Line: line}
	var faults []fault
	wrong := func(format string, args ...any) { faults = append(faults, faultf(line, format, args...)) }
	words := strings.Fields(info)
	if len(words) == 0 {
		return b, nil
	}
	b.Language = strings.ToLower(words[0])
	kinds := 0
words:
	for i, word := range words[1:] {
		name, file := strings.CutPrefix(word, "file=")
		switch {
		case word == "run":
			b.Run = true
			kinds++
		case word == "fails":
			b.Fails = true
		case word == "background":
			b.Background = true
		case word == "restart":
			b.Background, b.Restart = true, true
		case word == "checked":
			b.Checked = true
			kinds++
		case word == "output":
			b.Output = true
			kinds++
		case word == "needs":
			b.Needs = strings.Join(words[i+2:], " ")
			if n := len(words) - i - 2; n < 1 || n > 4 {
				wrong("needs is followed by one to four words, not by %d", n)
			}
			kinds++
			break words
		case file && filepath.IsLocal(name):
			b.File = name
		case file:
			wrong("file=%s is not a name below the page's directory", name)
		default:
			wrong("unknown mark %q", word)
		}
	}
	switch {
	case kinds > 1:
		wrong("more than one of run, checked, output and needs")
	case (b.Run || b.Needs != "") && !b.shell():
		wrong("run and needs are marks of sh, not of %s", b.Language)
	case b.Fails && (!b.Run || b.Background):
		wrong("fails is a mark of a block to run, not in the background")
	case b.Background && !b.Run:
		wrong("background and restart are marks of a block to run")
	case b.shell() && kinds == 0 && b.File == "" && len(faults) == 0:
		wrong("a block of commands is marked run, checked or needs WORDS")
	}
	return b, faults
}

// add appends a block whose text is complete.
func (p *page) add(b block) []fault {
	var faults []fault
	ran := slices.ContainsFunc(p.blocks, func(earlier block) bool { return earlier.Run })
	if b.Output && !ran {
		faults = append(faults, faultf(b.Line, "the output of a block, but none before it is run"))
	}
	if b.shell() && regexp.MustCompile(`(?m)^[$>] `).MatchString(b.Text) {
		faults = append(faults, faultf(b.Line, "a prompt: the block cannot be pasted as it is"))
	}
	p.blocks = append(p.blocks, b)
	return faults
}
