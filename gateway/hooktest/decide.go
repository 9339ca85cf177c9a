package hooktest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// answer is the JSON of all answers.
type answer struct {
	Result     any         `json:"result,omitempty"` // a result, perhaps without a field
	Error      *failed     `json:"error,omitempty"`
	Disconnect *disconnect `json:"disconnect,omitempty"`
}

type failed struct {
	Code      int    `json:"code"`
	Message   string `json:"message"`
	Temporary bool   `json:"temporary,omitempty"`
}

type disconnect struct {
	Code   int    `json:"code"`
	Reason string `json:"reason"`
}

type result map[string]any

// decision decides about a request: by what it says if its word is none of the known ones.
type decision func(*request) (r result, word string)

func connect(q *request) (result, string) {
	user := q.cookies["session"]
	return result{"user": user, "info": map[string]string{"name": user}, "meta": map[string]int{"tenant": 4}}, behind(user, "-")
}

func refresh(q *request) (result, string) { return result{}, later(*q.User) }

func subscribe(q *request) (result, string) {
	return result{"info": map[string]string{"at": *q.Channel}, "data": map[string]string{"topic": *q.Channel}}, behind(*q.Channel, "-")
}

func subRefresh(q *request) (result, string) { return result{}, later(*q.Channel) }

func publish(q *request) (result, string) {
	var text string
	if json.Unmarshal(q.Data, &text) != nil { // it is no string, so it has no word
		return result{}, ""
	}
	word := behind(text, "-")
	if word == "change" {
		return result{"data": "changed", "tags": map[string]string{"by": "hook"}}, word
	}
	return result{}, word
}

func rpc(q *request) (result, string) {
	method := ""
	if q.Method != nil {
		method = *q.Method
	}
	if q.B64Data != nil {
		return result{"b64data": *q.B64Data}, behind(method, "-")
	}
	return result{"data": map[string]any{"method": method, "user": *q.User, "data": q.Data}}, behind(method, "-")
}

// behind returns the part behind the last separator, "" without one.
func behind(s, separator string) string {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[i+len(separator):]
	}
	return ""
}

// later returns the word for when the time is over.
func later(s string) string {
	word, _, _ := strings.Cut(behind(s, "@"), "-")
	return word
}

// String returns the line of /asked.
func (q *request) String() string {
	line := []string{q.event, fmt.Sprintf("%s/%s/%s", q.Transport, q.Protocol, q.Encoding)}
	if session := q.cookies["session"]; session != "" {
		line = append(line, "session="+session)
	}
	for _, f := range []struct {
		name  string
		value *string
	}{{"user", q.User}, {"channel", q.Channel}, {"method", q.Method}} {
		if f.value != nil {
			line = append(line, f.name+"="+*f.value)
		}
	}
	if q.Channels != nil {
		line = append(line, "channels="+strings.Join(q.Channels, ","))
	}
	if q.Meta != nil {
		line = append(line, fmt.Sprint("tenant=", q.Meta.Tenant))
	}
	switch {
	case q.Data != nil:
		line = append(line, "data="+string(q.Data))
	case q.B64Data != nil:
		line = append(line, "b64data="+*q.B64Data)
	}
	return strings.Join(line, " ")
}

func (b *Backend) note(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, line)
}

func reply(w http.ResponseWriter, what any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(what) // ignored: the gateway has gone
}
