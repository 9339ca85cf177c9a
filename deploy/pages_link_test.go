package deploy_test

import (
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

var (
	heading   = regexp.MustCompile(`(?m)^ {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*$`)
	namedByID = regexp.MustCompile(`<\w+ [^>]*(?:id|name)="([^"]+)"`)
	inLink    = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
	tag       = regexp.MustCompile(`<[^>]+>`)
	codeSpan  = regexp.MustCompile("`+[^`]+`+")
	target    = regexp.MustCompile(`\]\(\s*<?([^)>\s]+)|(?m:^\[[^\]]+\]:[ \t]*(\S+))|(?:src|srcset|href)="([^"]+)"`)
	ofLines   = regexp.MustCompile(`^L\d+(?:-L\d+)?$`)
)

// anchors returns what a link into the page may name after the #, by GitHub's rule:
// a heading in lower case, without punctuation, a hyphen for each space, and a
// number behind the second heading of the same name and each further one.
func (p *page) anchors() map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(p.prose, -1) {
		text := tag.ReplaceAllString(inLink.ReplaceAllString(m[1], "$1"), "")
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsNumber(r):
				return unicode.ToLower(r)
			}
			return -1
		}, text)
		unique := slug
		for n := 1; found[unique]; n++ {
			unique = slug + "-" + strconv.Itoa(n)
		}
		found[unique] = true
	}
	for _, m := range namedByID.FindAllStringSubmatch(p.prose, -1) {
		found[m[1]] = true
	}
	return found
}

// deadLinks returns the relative links of a page that lead nowhere in a repository.
func (p *page) deadLinks(repository fs.FS, pages map[string]*page) []fault {
	var faults []fault
	// An example of a link, in a span of code, is none.
	prose := codeSpan.ReplaceAllStringFunc(p.prose, func(span string) string {
		return strings.Map(func(r rune) rune {
			if r == '\n' {
				return r
			}
			return ' '
		}, span)
	})
	for _, m := range target.FindAllStringSubmatchIndex(prose, -1) {
		for group := 2; group < len(m); group += 2 {
			if m[group] < 0 {
				continue
			}
			link := prose[m[group]:m[group+1]]
			if why := p.dead(link, repository, pages); why != "" {
				faults = append(faults, faultf(1+strings.Count(prose[:m[group]], "\n"), "link %s: %s", link, why))
			}
		}
	}
	return faults
}

// dead returns why a link leads nowhere, or "".
func (p *page) dead(link string, repository fs.FS, pages map[string]*page) string {
	u, err := url.Parse(link)
	if err != nil {
		return err.Error()
	}
	if u.Scheme != "" {
		return "" // to another place, which is not asked
	}
	name := p.name
	if u.Path != "" {
		name = path.Join(path.Dir(p.name), u.Path)
	}
	if u.Host != "" || strings.HasPrefix(u.Path, "/") || !fs.ValidPath(name) {
		return "not a path within the repository"
	}
	info, err := fs.Stat(repository, name)
	if err != nil {
		return "no such file"
	}
	if u.Fragment == "" {
		return ""
	}
	if info.IsDir() {
		name = path.Join(name, "README.md")
	}
	to, isPage := pages[name]
	switch {
	case isPage && !to.anchors()[u.Fragment]:
		return name + " has no heading of that name"
	case !isPage && !ofLines.MatchString(u.Fragment):
		return name + " is not a page, and has no headings"
	}
	return ""
}
