package api

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Libraries of before Centrifugo v5 send the method in the body, and several commands on a line
// each.
func TestCommandsOnLinesAreAnsweredLineByLine(t *testing.T) {
	node := &fake{}
	h := New(node, Options{OnError: func(_ string, err error) { t.Error(err) }})
	status, got, _ := ask(h, "", `{"id":1,"method":"publish","params":{"channel":"a","data":1}}
{"method":"publish","params":{"channel":"unknown","data":1}}
{"id":3,"method":"publish","params":{}}{"method":"info"}
{"id":5,"method":"rpc","params":{}}
`)
	want := strings.Join([]string{
		`{"id":1,"result":{"offset":1,"epoch":"xyz","subscribers":3}}`,
		`{"error":{"code":102,"message":"unknown channel"}}`,
		`{"id":3,"error":{"code":107,"message":"channel is required"}}`,
		`{"result":{"nodes":[]}}`,
		`{"id":5,"error":{"code":104,"message":"unknown method: ` + methodNames() + `"}}`,
	}, "\n")
	if diff := cmp.Diff(want, got); status != 200 || diff != "" {
		t.Errorf("status %d: %s", status, diff)
	}
	if diff := cmp.Diff([]string{`publish ["a","1",false,null,false]`, `publish ["unknown","1",false,null,false]`, `info null`}, node.calls); diff != "" {
		t.Error(diff)
	}
}

func TestAMalformedLineRefusesAll(t *testing.T) {
	node := &fake{}
	good := `{"method":"publish","params":{"channel":"a","data":1}}` + "\n"
	for _, body := range []string{"", "[]", good + "{", good + `{"method":5}`, good + `{"method":"publish","params":{"channel":1}}`, strings.Repeat(good, commandsMax+1)} {
		if status, got, _ := ask(New(node, Options{}), "", body); status != 400 || len(node.calls) > 0 {
			t.Errorf("%.60q: status %d, %s, calls %v", body, status, got, node.calls)
		}
	}
}
