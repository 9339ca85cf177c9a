package deploy_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

var update = flag.Bool("update", false, "record in testdata/stable what is stable")

// stable are the parts of STABILITY.md that a program can list, by the name of the file in
// testdata/stable that records them: one line for each thing that users depend on.
var stable = map[string]func(t *testing.T) []string{
	"settings": stableSettings,
	"metrics":  stableMetrics,
	"openapi":  stableOpenAPI,
	"records":  stableRecords,
	"codes":    stableCodes,
	"go-api":   stableGoAPI,
	"module":   stableModule,
}

const (
	stableGone = `Users depend on what is gone or has changed: keep it as STABILITY.md says. If it has to go, add a line to UPGRADING.md that says what to do.`
	stableNew  = `What is new will be stable: add a line to CHANGELOG.md.`
	stableDone = `Then record it: go test ./deploy -run TestWhatIsStableIsRecorded -update`
)

func TestWhatIsStableIsRecorded(t *testing.T) {
	t.Parallel()
	for name, list := range stable {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines := slices.Compact(slices.Sorted(slices.Values(list(t))))
			if len(lines) < 10 {
				t.Fatalf("found %d lines", len(lines))
			}
			file := filepath.Join("testdata/stable", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			recorded := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
			for _, line := range recorded {
				if !slices.Contains(lines, line) {
					t.Errorf("gone: %s", line)
				}
			}
			if t.Failed() {
				t.Error(stableGone)
			}
			added := false
			for _, line := range lines {
				if !slices.Contains(recorded, line) {
					added = true
					t.Errorf("new: %s", line)
				}
			}
			if added {
				t.Error(stableNew)
			}
			if t.Failed() {
				t.Errorf("%s: %s", file, stableDone)
			}
		})
	}
}

// stableSettings lists the flags of all commands, with their variables and defaults, and the
// keys of the configuration file.
func stableSettings(t *testing.T) []string {
	entry := regexp.MustCompile(`(?m)^ {2,6}(?:-\w, )?(--[a-z-]+)\b(.*\n(?: {10,}.*\n)*)`)
	variable, fallback := regexp.MustCompile(`\[\$(SLUICE_\w+)\]`), regexp.MustCompile(`\(default "?(.+?)"?\)$`)
	var lines []string
	eachCommand(t, nil, func(path []string) {
		for _, m := range entry.FindAllStringSubmatch(helpOf(t, path...), -1) {
			line, text := strings.Join(path, " ")+" "+m[1], strings.Join(strings.Fields(m[2]), " ")
			if v := variable.FindStringSubmatch(text); v != nil {
				line += " " + v[1]
			}
			if v := fallback.FindStringSubmatch(text); v != nil {
				line += " default " + v[1]
			}
			lines = append(lines, line)
		}
	})
	for _, m := range regexp.MustCompile(`(?m)^(?:# )?([a-z-]+) +=`).FindAllStringSubmatch(command(t, sluice(t), "config"), -1) {
		lines = append(lines, "key "+m[1])
	}
	return lines
}

// eachCommand calls f for each command that the shell completes below one.
func eachCommand(t *testing.T, path []string, f func(path []string)) {
	t.Helper()
	words := append(append([]string{"__complete"}, path...), "")
	for line := range strings.Lines(command(t, sluice(t), words...)) {
		name, _, ok := strings.Cut(line, "\t")
		below := append(path[:len(path):len(path)], name)
		if ok && commandWord.MatchString(name) && helpOf(t, below...) != "" {
			f(below)
			eachCommand(t, below, f)
		}
	}
}

// stableMetrics lists the gateway's own metrics, with the values of labels other than loop.
func stableMetrics(t *testing.T) []string {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(metrics(t)))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for name, family := range families {
		if !strings.HasPrefix(name, "sluice_") {
			continue // go_ and process_: the client library's
		}
		for _, m := range family.Metric {
			var labels []string
			for _, l := range m.Label {
				value := l.GetValue()
				switch l.GetName() {
				case "loop":
					if value != "none" {
						value = "N"
					}
				case "version", "commit", "goversion":
					value = "TEXT"
				}
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), value))
			}
			line := name + "{" + strings.Join(labels, ",") + "} " + strings.ToLower(family.GetType().String())
			lines = append(lines, strings.Replace(line, "{}", "", 1))
		}
	}
	return lines
}

// stableOpenAPI lists the description of the server API but for its texts and examples.
func stableOpenAPI(t *testing.T) []string {
	status, text, err := get("http://" + serve(t).Internal + "/api/openapi.json")
	if err != nil || status != 200 {
		t.Fatalf("/api/openapi.json: %d, %v", status, err)
	}
	var lines []string
	var list func(at string, v any)
	list = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				_, isText := value.(string)
				if key == "examples" || isText && slices.Contains([]string{"description", "summary", "title"}, key) {
					continue
				}
				list(at+" "+key, value)
			}
			if len(v) == 0 {
				lines = append(lines, at+": {}")
			}
		case []any:
			for _, value := range v {
				list(at, value)
			}
		default:
			lines = append(lines, fmt.Sprintf("%s: %v", at, v))
		}
	}
	var document any
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	list("", document)
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], " ")
	}
	return lines
}

// stableRecords lists the fields of records, of events, of what the internal listener responds and
// of the JSON of commands.
func stableRecords(t *testing.T) []string {
	g := serve(t, "--greeting", "hello")
	var lines []string
	fields := func(what, object string) {
		t.Helper()
		for _, line := range fieldsOf(t, object) {
			lines = append(lines, what+": "+line)
		}
	}
	post := func(path, body, kind string) string {
		t.Helper()
		resp, err := client.Post("http://"+g.Internal+path, kind, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	receipt := post("/publish/news", "text", "text/plain")
	fields("POST /publish", receipt)
	post("/publish/news", "\x01", "application/octet-stream")
	fields("error of the internal listener", post("/publish/%FF", "x", "text/plain"))

	records := func(query string, n int) (texts []string) {
		t.Helper()
		conn, reader, _, err := ws.Dial(t.Context(), "ws://"+g.Public+"/ws/news?format=json&"+query)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		var from io.ReadWriter = conn
		if reader != nil {
			from = struct {
				io.Reader
				io.Writer
			}{reader, conn}
		}
		for range n {
			text, err := wsutil.ReadServerText(from)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(text))
		}
		return texts
	}
	got := records("history=2", 3)
	fields("record greeting", got[0])
	fields("record publication, text", got[1])
	fields("record publication, binary", got[2])
	fields("record gap, false", records("since=now", 2)[1])
	fields("record gap, true", records("since=none:1", 2)[1])

	status, list, err := get("http://" + g.Internal + "/api/connections")
	if err != nil || status != http.StatusOK {
		t.Fatalf("/api/connections: %d, %v", status, err)
	}
	fields("GET /api/connections", list)
	var connections struct{ Connections []json.RawMessage }
	if err := json.Unmarshal([]byte(list), &connections); err != nil || len(connections.Connections) == 0 {
		t.Fatalf("%s: %v", list, err)
	}
	fields("GET /api/connections, connection", string(connections.Connections[0]))
	var one struct{ ID string }
	if err := json.Unmarshal(connections.Connections[0], &one); err != nil {
		t.Fatal(err)
	}
	fields("POST /api/connections/{id}/close", post("/api/connections/"+one.ID+"/close", "", ""))

	fields("sluice version --json", command(t, sluice(t), "version", "--json"))
	var settings []json.RawMessage
	if err := json.Unmarshal([]byte(command(t, sluice(t), "config", "--json", "--listen", ":8000")), &settings); err != nil || len(settings) == 0 {
		t.Fatalf("sluice config --json: %v", err)
	}
	fields("sluice config --json, setting", string(settings[0]))

	// Of a stream, until after the publications and from then to its end.
	stream := events(t, g.Public, "/sse/news?since=none:1")
	var event string
	for line := range stream {
		field, value, _ := strings.Cut(line, ": ")
		if field == "" {
			event = ""
			continue
		}
		lines = append(lines, "SSE: field "+field)
		switch {
		case field == "event":
			event = value
			lines = append(lines, "SSE: event "+event)
		case field == "data" && strings.HasPrefix(value, "{"):
			fields("SSE: event "+event, value)
		case field == "data" && event == "binary": // the second publication
			if err := g.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
	}
	return lines
}

// fieldsOf lists the fields of a JSON object with their types.
func fieldsOf(t *testing.T, object string) (lines []string) {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(object), &fields); err != nil {
		t.Fatalf("%s: %v", object, err)
	}
	for name, value := range fields {
		kind := "number"
		switch value[0] {
		case '"':
			kind = "string"
		case 't', 'f':
			kind = "boolean"
		case '[':
			kind = "array"
		case '{':
			kind = "object"
			for _, line := range fieldsOf(t, string(value)) {
				lines = append(lines, name+"."+line)
			}
		}
		lines = append(lines, name+" "+kind)
	}
	return lines
}

// stableCodes lists the codes and labels of two pages, which the gateway's own tests compare with
// its tables.
func stableCodes(t *testing.T) []string {
	var lines []string
	code := regexp.MustCompile(`^\d{3,4}$`)
	protocol := shipped(t, "../gateway/PROTOCOL.md")
	for client, page := range map[string]string{"raw": protocol, "Centrifugo": shipped(t, "../gateway/centrifugo/README.md")} {
		for _, row := range rows(page, 5) { // code, reason text, label
			if code.MatchString(row[0]) {
				line := fmt.Sprintf("%s, close: %s %s (%s)", client, row[0], row[1], row[2])
				lines = append(lines, strings.ReplaceAll(line, "`", ""))
			}
		}
	}
	word := regexp.MustCompile("(?:^|`)([a-z]+(?:_[a-z]+)*)(?:`|$)")
	for cells, what := range map[int]string{4: "raw, refusal", 3: "POST /publish, error"} {
		for _, row := range rows(protocol, cells) { // status, labels or codes
			for _, m := range word.FindAllStringSubmatch(row[1], -1) {
				if code.MatchString(row[0]) {
					lines = append(lines, fmt.Sprintf("%s: %s %s", what, row[0], m[1]))
				}
			}
		}
	}
	return lines
}

// stableModule lists the declarations of the JavaScript client.
func stableModule(t *testing.T) (lines []string) {
	owner := ""
	for line := range strings.Lines(shipped(t, "../gateway/web/page/sluice.d.ts")) {
		line = strings.TrimSpace(line)
		declared, exported := strings.CutPrefix(line, "export ")
		switch {
		case line == "" || line == "}" || strings.HasPrefix(line, "/") || strings.HasPrefix(line, "*"):
		case exported:
			owner = strings.TrimSuffix(declared, " {")
			lines = append(lines, owner)
		default:
			lines = append(lines, owner+": "+line)
		}
	}
	return lines
}

// stableGoAPI lists what package gateway exports, the fields and methods of its types, and what
// STABILITY.md names of other packages.
func stableGoAPI(t *testing.T) (lines []string) {
	exports := map[string]string{} // files with export data, by package
	for line := range strings.Lines(command(t, "go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", "../gateway")) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		exports[path] = file
	}
	packages := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	for path, names := range map[string][]string{
		"sluice/gateway":                  nil, // all
		"sluice/gateway/access/auth":      {"New", "Options"},
		"sluice/gateway/access/namespace": {"Parse"},
	} {
		pkg, err := packages.Import(path)
		if err != nil {
			t.Fatal(err)
		}
		if names == nil {
			names = pkg.Scope().Names()
		}
		for _, name := range names {
			if o := pkg.Scope().Lookup(name); o != nil && o.Exported() {
				lines = append(lines, goObject(o)...)
			}
		}
	}
	return lines
}

// goObject lists an object of a package. Names of parameters are left out: they may change.
func goObject(o types.Object) (lines []string) {
	name := o.Pkg().Name() + "." + o.Name()
	of := func(t types.Type) string { return types.TypeString(t, (*types.Package).Name) }
	nameless := func(tuple *types.Tuple) *types.Tuple {
		var vars []*types.Var
		for v := range tuple.Variables() {
			vars = append(vars, types.NewParam(token.NoPos, nil, "", v.Type()))
		}
		return types.NewTuple(vars...)
	}
	signature := func(f types.Object) string {
		s := f.Type().(*types.Signature)
		return of(types.NewSignatureType(nil, nil, nil, nameless(s.Params()), nameless(s.Results()), s.Variadic()))
	}
	switch o.(type) {
	case *types.Const:
		return []string{"const " + name + " " + of(o.Type())}
	case *types.Var:
		return []string{"var " + name + " " + of(o.Type())}
	case *types.Func:
		return []string{"func " + name + " " + signature(o)}
	}
	lines = []string{"type " + name}
	if s, ok := o.Type().Underlying().(*types.Struct); ok {
		for f := range s.Fields() {
			if f.Exported() {
				lines = append(lines, "field "+name+"."+f.Name()+" "+of(f.Type()))
			}
		}
	}
	for m := range types.NewMethodSet(types.NewPointer(types.Unalias(o.Type()))).Methods() {
		if m.Obj().Exported() {
			lines = append(lines, "method "+name+"."+m.Obj().Name()+" "+signature(m.Obj()))
		}
	}
	return lines
}
