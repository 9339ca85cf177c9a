package main

import (
	"flag"
	"fmt"
	"go/ast"
	gobuild "go/build"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Package gateway still holds what will be several packages. Until each part has a directory of
// its own, where the compiler and arrows keep it from knowing too much, it is a set of files
// here, and its uses of what it must not know are counted. The counts only go down: one more
// use fails, and so does a count that can be lowered:
//
//	go test ./cmd/sluice -run TestParts -lower
var lowerParts = flag.Bool("lower", false, "lower the counts in "+partsFile+" to what there is")

// partsFile has a line for each pair of parts: from, to, and how many uses remain.
const partsFile = "testdata/parts.txt"

var gatewayDir = filepath.Join("..", "..", "gateway")

// part is a set of files that will be a package.
type part struct {
	name     string
	protocol bool   // it may know what only protocols should
	knows    string // parts that it may use, as the design has it
	files    string // patterns; a file is in the first part that has one for it
}

var parts = []part{
	{name: "raw", protocol: true, knows: "loop wire", files: "raw.go raw_*.go"},
	{name: "centrifugo", protocol: true, knows: "loop wire", files: "session*.go"},
	{name: "wire", protocol: true, files: "format.go"}, // it has raw's formats
	{name: "control", knows: "loop", files: "node.go inspect.go"},
	{name: "ops", knows: "control", files: "metrics.go health.go memory.go"},
	{name: "loop", knows: "wire", files: "arrival.go catchup.go conn*.go contain.go encoding.go group.go highest.go identity.go inbox.go invariant.go lifecycle.go " +
		"loop.go plant_*.go pressed.go protocol.go rate.go reason.go secure.go slow.go watchdog.go"},
	{name: "edge", knows: "loop", files: "accept.go admission.go contain_greeting.go greet.go link.go outcome.go route*.go stage.go stream.go turns.go upgrade.go web*.go"},
	{name: "gateway", protocol: true, knows: "raw centrifugo wire control ops loop edge", files: "access.go config.go doc.go internal.go publish*.go server.go validate.go"},
}

func partOf(file string) (part, bool) {
	for _, p := range parts {
		for pattern := range strings.FieldsSeq(p.files) {
			if ok, _ := path.Match(pattern, file); ok { // ignored: the patterns above are good ones
				return p, true
			}
		}
	}
	return part{}, false
}

// protocols is counted like a part: what only a protocol should know, wherever it is declared.
const protocols = "protocols"

// isProtocols reports whether an object is one that only a protocol should know: a protocol and
// its variants, what it keeps of a connection, the concrete formats, and the packages of the
// Centrifugo protocol.
func isProtocols(object types.Object) bool {
	switch object := object.(type) {
	case *types.Var:
		return !object.IsField() && object.Pkg() != nil && object.Parent() == object.Pkg().Scope() && strings.HasSuffix(object.Type().String(), ".variant")
	case *types.TypeName:
		return strings.HasSuffix(object.Name(), "Format") || strings.HasSuffix(object.Name(), "Protocol") && object.Name() != "connProtocol"
	case *types.PkgName:
		return slices.Contains([]string{"sluice/gateway/centrifugo", "github.com/centrifugal/protocol"}, object.Imported().Path())
	}
	return object.Name() == "speaks" || object.Name() == "session"
}

// otherPackages imports every package as an empty one, which is quick: what package gateway itself
// declares is resolved all the same.
type otherPackages map[string]*types.Package

func (o otherPackages) Import(path string) (*types.Package, error) {
	if o[path] == nil {
		o[path] = types.NewPackage(path, path[strings.LastIndex(path, "/")+1:])
		o[path].MarkComplete()
	}
	return o[path], nil
}

// unwantedUses returns where each part uses what it must not know.
func unwantedUses(t *testing.T) map[string][]string {
	t.Helper()
	set := token.NewFileSet()
	pkg, err := gobuild.ImportDir(gatewayDir, 0)
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range pkg.GoFiles {
		if _, ok := partOf(name); !ok {
			t.Errorf("%s is in no part: add it to one", name)
		}
		file, err := parser.ParseFile(set, filepath.Join(gatewayDir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	cfg := types.Config{Importer: otherPackages{}, Error: func(error) {}} // names of other packages are unknown
	self, _ := cfg.Check("gateway", set, files, info)                     // ignored: likewise
	uses := map[string][]string{}
	for id, object := range info.Uses {
		at := set.Position(id.Pos())
		file := filepath.Base(at.Filename)
		from, _ := partOf(file)
		note := func(to string) {
			pair := from.name + " " + to
			uses[pair] = append(uses[pair], fmt.Sprintf("%s:%d %s", file, at.Line, id.Name))
		}
		if isProtocols(object) && !from.protocol {
			note(protocols)
		}
		if object.Pkg() != self || object.Parent() != nil && object.Parent() != self.Scope() {
			continue // another package's, or local to a function
		}
		to, _ := partOf(filepath.Base(set.Position(object.Pos()).Filename))
		if from.name != to.name && !slices.Contains(strings.Fields(from.knows), to.name) {
			note(to.name)
		}
	}
	return uses
}

func TestPartsKnowLittleOfEachOther(t *testing.T) {
	uses, known := unwantedUses(t), map[string]int{}
	body, err := os.ReadFile(partsFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		var from, to string
		var n int
		if _, err := fmt.Sscan(line, &from, &to, &n); err != nil {
			t.Fatalf("%s: %q: %v", partsFile, line, err)
		}
		known[from+" "+to] = n
	}
	for pair, places := range uses {
		if was := known[pair]; len(places) > was {
			slices.Sort(places)
			t.Errorf("%s: %d uses, which were %d; one of these is new:\n\t%s", pair, len(places), was, strings.Join(places, "\n\t"))
		}
	}
	var lowered []string
	for pair, was := range known {
		n := min(len(uses[pair]), was)
		if n < was && !*lowerParts {
			t.Errorf("%s: %d uses are left of %d: run with -lower", pair, n, was)
		}
		if n > 0 {
			lowered = append(lowered, fmt.Sprintln(pair, n))
		}
	}
	if *lowerParts {
		slices.Sort(lowered)
		if err := os.WriteFile(partsFile, []byte(strings.Join(lowered, "")), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}
