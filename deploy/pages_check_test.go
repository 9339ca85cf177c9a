package deploy_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"go/format"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// errMissing says that this machine lacks something.
var errMissing = errors.New("not tried")

// check looks at a block without executing it, with a tool of its language. Programs
// that a page writes and commands are looked at in any case.
func check(t *testing.T, b block) []fault {
	t.Helper()
	var faults []fault
	wrong := func(err error) {
		switch {
		case errors.Is(err, errMissing):
			missing(t, "line %d: %v", b.Line, err)
		case err != nil:
			faults = append(faults, fault{b.Line, err.Error()})
		}
	}
	tool, known := checkers[b.Language]
	switch {
	case b.shell():
		wrong(checkShell(t, b))
		faults = append(faults, unknownFlags(t, b)...)
	case known && (b.Checked || b.File != ""):
		wrong(tool(t, b))
	case b.Checked:
		wrong(fmt.Errorf("checked: no tool for %q is known", b.Language))
	}
	return faults
}

var checkers = map[string]func(t *testing.T, b block) error{
	"json":      checkJSON,
	"go":        checkGo,
	"nginx":     checkNginx,
	"js":        checkJS,
	"php":       withTool("block.php", "php-cli", "php", "-l"),
	"python":    withTool("block.py", "python3", "python3", "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())"),
	"py":        withTool("block.py", "python3", "python3", "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())"),
	"yaml":      checkYAML,
	"yml":       checkYAML,
	"haproxy":   withTool("haproxy.cfg", "haproxy", "haproxy", "-c", "-f"),
	"caddyfile": withTool("Caddyfile", "caddy", "caddy", "adapt", "--adapter", "caddyfile", "--config"),
}

// withTool returns a check that gives the block, as a file, to a program.
func withTool(name, debianPackage, program string, args ...string) func(t *testing.T, b block) error {
	return func(t *testing.T, b block) error {
		path, err := exec.LookPath(program)
		if err != nil {
			return fmt.Errorf("%w: apt-get install %s", errMissing, debianPackage)
		}
		file := name
		if b.File != "" {
			file = filepath.Base(b.File)
		}
		cmd := exec.CommandContext(t.Context(), path, append(args[:len(args):len(args)], write(t, file, b.Text))...)
		cmd.Env = pageEnvironment(t, t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", program, err, out)
		}
		return nil
	}
}

// checkJSON reads a file's one value; of an example, one after the other, as records
// on lines are.
func checkJSON(_ *testing.T, b block) error {
	if b.File != "" {
		return json.Unmarshal([]byte(b.Text), new(any))
	}
	for d := json.NewDecoder(strings.NewReader(b.Text)); ; {
		switch err := d.Decode(new(any)); err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

func checkShell(t *testing.T, b block) error {
	return withTool("block.sh", "bash", "bash", "-n")(t, b)
}

// checkJS takes every block for a module: what is not one may stand in a module too.
func checkJS(t *testing.T, b block) error {
	b.File = ""
	return withTool("block.mjs", "nodejs", "node", "--check")(t, b)
}

func checkGo(_ *testing.T, b block) error {
	formatted, err := format.Source([]byte(b.Text))
	if err != nil {
		return err
	}
	if !bytes.Equal(bytes.TrimSpace(formatted), bytes.TrimSpace([]byte(b.Text))) {
		return fmt.Errorf("not as gofmt writes it:\n%s", formatted)
	}
	return nil
}

// checkYAML parses the block, and shows Prometheus's files to promtool where it is
// installed.
func checkYAML(t *testing.T, b block) error {
	if exec.Command("python3", "-c", "import yaml").Run() != nil {
		return fmt.Errorf("%w: apt-get install python3-yaml", errMissing)
	}
	parse := withTool("block.yaml", "python3", "python3", "-c", "import sys, yaml; list(yaml.safe_load_all(open(sys.argv[1])))")
	if err := parse(t, b); err != nil {
		return err
	}
	// The files that a configuration names are the reader's.
	for key, subject := range map[string][]string{"groups:": {"check", "rules"}, "scrape_configs:": {"check", "config", "--syntax-only"}} {
		if strings.HasPrefix(b.Text, key) || strings.Contains(b.Text, "\n"+key) {
			err := withTool("block.yaml", "prometheus", "promtool", subject...)(t, b)
			if err != nil && !errors.Is(err, errMissing) {
				return err
			}
		}
	}
	return nil
}

// checkNginx puts the block into what it may stand in, if it is not a whole file. It
// needs root and a network of its own: nginx binds the ports even for a test.
func checkNginx(t *testing.T, b block) error {
	if _, err := exec.LookPath("nginx"); err != nil {
		return fmt.Errorf("%w: apt-get install nginx-light", errMissing)
	}
	if os.Getuid() != 0 {
		return fmt.Errorf("%w: nginx -t needs root", errMissing)
	}
	text, dir := b.Text, t.TempDir()
	if !directive("http").MatchString(text) && !directive("events").MatchString(text) {
		if directive("location").MatchString(text) && !directive("server").MatchString(text) {
			text = "server {\n" + text + "}\n"
		}
		text = "events {}\nhttp {\n" + text + "}\n"
	}
	donor := httptest.NewTLSServer(http.NotFoundHandler()) // has a certificate
	defer donor.Close()
	certificate := donor.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		return err
	}
	pair := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	file := write(t, "pair", string(pair))
	text = regexp.MustCompile(`\b(ssl_certificate|ssl_certificate_key|ssl_trusted_certificate) +[^;]+;`).ReplaceAllString(text, "$1 "+file+";")
	config := write(t, "nginx.conf", "pid "+dir+"/nginx.pid;\n"+regexp.MustCompile(`(?m)^pid .*$`).ReplaceAllString(text, ""))
	faults, err := runInNamespace(t, dir, []block{{Run: true, Text: "nginx -t -e stderr -c " + config}})
	if err == nil && len(faults) > 0 {
		err = errors.New(faults[0].Text)
	}
	return err
}

func directive(name string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^\s*` + name + `\b[^;{]*\{`)
}

// unknownFlags returns the commands and flags of sluice in a block that the binary
// does not know.
func unknownFlags(t *testing.T, b block) []fault {
	t.Helper()
	var faults []fault
	for i, line := range joinedLines(b.Text) {
		for _, words := range sluiceCommands(line) {
			if why := unknown(t, words); why != "" {
				faults = append(faults, fault{b.Line + 1 + i, why})
			}
		}
	}
	return faults
}

// unknownInProse returns the same for commands in spans of code.
func unknownInProse(t *testing.T, p *page) []fault {
	t.Helper()
	var faults []fault
	for _, at := range codeSpan.FindAllStringIndex(p.prose, -1) {
		for _, words := range sluiceCommands(strings.ReplaceAll(strings.Trim(p.prose[at[0]:at[1]], "`"), "\n", " ")) {
			if why := unknown(t, words); why != "" {
				faults = append(faults, fault{1 + strings.Count(p.prose[:at[0]], "\n"), why})
			}
		}
	}
	return faults
}

// joinedLines returns lines; one that goes on after a backslash is where it begins.
func joinedLines(text string) []string {
	lines := strings.Split(text, "\n")
	for i := len(lines) - 1; i > 0; i-- {
		if begin, more := strings.CutSuffix(lines[i-1], "\\"); more {
			lines[i-1], lines[i] = begin+" "+lines[i], ""
		}
	}
	return lines
}

var (
	comment    = regexp.MustCompile(`(^|\s)#.*$`)
	separator  = regexp.MustCompile("[|;&(){}`]+")
	assignment = regexp.MustCompile(`^\w+=`)
	program    = regexp.MustCompile(`^(\./|/\S*/)?sluice$`)
	// before are words that a command may follow.
	before = regexp.MustCompile(`^(sudo|env|exec|time|nohup|timeout|[0-9.]+[smh]?|!|do|then|else|if|while|until|go|run)$`)
)

// sluiceCommands returns the words behind sluice in each command of a line that
// starts it. Quotes are not understood, as far as they hold separators.
func sluiceCommands(line string) [][]string {
	var found [][]string
	for command := range strings.SplitSeq(separator.ReplaceAllString(comment.ReplaceAllString(line, ""), "\x00"), "\x00") {
		words := strings.Fields(command)
		for len(words) > 0 && (assignment.MatchString(words[0]) || before.MatchString(words[0])) {
			words = words[1:]
		}
		if len(words) > 0 && (program.MatchString(words[0]) || words[0] == "./cmd/sluice") {
			found = append(found, words[1:])
		}
	}
	return found
}

// unknown returns why a command line is not one of the binary, or "".
func unknown(t *testing.T, words []string) string {
	t.Helper()
	path := []string{}
	for len(words) > 0 && commandWord.MatchString(words[0]) {
		help := helpOf(t, append(path[:len(path):len(path)], words[0])...)
		if help == "" {
			break
		}
		path, words = append(path, words[0]), words[1:]
	}
	called := strings.Join(append([]string{"sluice"}, path...), " ")
	help := helpOf(t, path...)
	if len(words) > 0 && commandWord.MatchString(words[0]) && strings.Contains(help, "  "+called+" COMMAND") {
		return fmt.Sprintf("%s has no command %s", called, words[0])
	}
	for _, word := range words {
		flag, _, _ := strings.Cut(strings.Trim(word, `"'`), "=")
		if word == "--" {
			break
		}
		if !flagWord.MatchString(flag) || flag == "--help" { // which help does not list everywhere
			continue
		}
		if !regexp.MustCompile(`(?m)^ {2,6}(-\w, )?`+flag+`\b[^-]`).MatchString(help+"\n") && !regexp.MustCompile(`(?m)^ {2}`+flag+`, `).MatchString(help) {
			return fmt.Sprintf("%s has no flag %s", called, flag)
		}
	}
	return ""
}

var (
	commandWord = regexp.MustCompile(`^[a-z]+$`)
	flagWord    = regexp.MustCompile(`^(--[a-z][a-z0-9-]*|-[a-zA-Z])$`)
	helps       sync.Map // by path
)

// helpOf returns the help of a command, or "" where there is no such command.
func helpOf(t *testing.T, path ...string) string {
	t.Helper()
	called := strings.Join(append([]string{"sluice"}, path...), " ")
	if help, ok := helps.Load(called); ok {
		return help.(string)
	}
	cmd := exec.CommandContext(t.Context(), sluice(t), append(path[:len(path):len(path)], "--help")...)
	cmd.Env = environment()
	out, _ := cmd.Output() // ignored: a wrong word is an answer
	help := string(out)
	if !strings.Contains(help, "\nUsage:\n  "+called+" ") {
		help = ""
	}
	helps.Store(called, help)
	return help
}
