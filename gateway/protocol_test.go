package gateway

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ofOneProtocol are the files that belong to one protocol, and may know what it is.
var ofOneProtocol = []string{"raw.go", "format.go", "route.go", "stream.go", "route_client.go", "session*.go"}

// protocolWords are what code that knows protocols apart has to name: their values, their
// formats, what only one of them keeps, and the packages of its bytes.
var protocolWords = []string{"rawProtocol", "echoProtocol", "centrifugoProtocol", "rawWebSocket", "echoWebSocket", "rawStream", "clientWebSocket", "clientStream",
	"rawFormat", "jsonFormat", "streamFormat", "speaks", "session", "centrifugo"}

// protocolLeft is how often other files still name them. It only goes down.
var protocolLeft = map[string]int{
	"protocol.go":  5, // the list of them
	"arrival.go":   10,
	"catchup.go":   2,
	"conn.go":      2,
	"inspect.go":   5,
	"invariant.go": 5,
	"node.go":      20,
	"slow.go":      6,
	"upgrade.go":   2,
}

// What a connection speaks is asked by nobody but its protocol.
func TestOnlyItsOwnFilesKnowAProtocol(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		own := slices.ContainsFunc(ofOneProtocol, func(pattern string) bool {
			fits, _ := filepath.Match(pattern, name) // its only error is a malformed pattern
			return fits
		})
		if own || strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		words := slices.Clone(protocolWords)
		for _, spec := range file.Imports {
			if spec.Path.Value == `"github.com/centrifugal/protocol"` {
				words = append(words, "protocol")
			}
		}
		n := 0
		ast.Inspect(file, func(node ast.Node) bool {
			if id, ok := node.(*ast.Ident); ok && slices.Contains(words, id.Name) {
				n++
			}
			return true
		})
		if n != protocolLeft[name] {
			t.Errorf("%s names protocols %d times, want %d", name, n, protocolLeft[name])
		}
	}
}
