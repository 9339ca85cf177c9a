package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzRequest sends any body to any method: whatever it is, it is answered with JSON and a status
// that is described, and what reaches the node is what was said.
func FuzzRequest(f *testing.F) {
	var d document
	if err := json.Unmarshal(description, &d); err != nil {
		f.Fatal(err)
	}
	names := append(allMethods(), "", "rpc")
	for path, verbs := range d.Paths {
		i := slices.Index(names, verbs["post"].OperationID)
		for _, example := range verbs["post"].RequestBody.Content["application/json"].Examples {
			f.Add(uint8(max(i, 0)), []byte(example.Value), path < "/api/d")
		}
	}
	f.Add(uint8(0), []byte(`{"commands":[{"publish":{"channel":"a","b64data":"AA==","idempotency_key":"k"}},{}]}`), true)
	f.Add(uint8(len(names)-2), []byte(`{"method":"publish","params":{"channel":"a","data":1}}`+"\n"+`{"method":"x"}`), false)
	f.Fuzz(func(t *testing.T, method uint8, body []byte, mode bool) {
		node := answering()
		node.publish = func(r *PublishRequest) {
			if r.Channel == "" || !r.Binary && !isJSON(r.Payload) {
				t.Errorf("published: %q, %q", r.Channel, r.Payload)
			}
		}
		h := New(node, Options{MaxBody: 4 << 10, OnError: func(method string, err error) { t.Error(method, err) }})
		var header []string
		if mode {
			header = transport
		}
		status, got, _ := ask(h, names[int(method)%len(names)], string(body), header...)
		for line := range strings.SplitSeq(got, "\n") {
			if !json.Valid([]byte(line)) || !utf8.ValidString(line) || line[0] != '{' {
				t.Errorf("answer: %q", got)
			}
		}
		switch status {
		case http.StatusOK, http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge:
		default:
			t.Errorf("status %d: %s", status, got)
		}
		// 404 is also what the node says of the channel "unknown".
		if status != http.StatusOK && status != http.StatusNotFound && len(node.calls) > 0 {
			t.Errorf("status %d, but the node was asked: %v", status, node.calls)
		}
	})
}
