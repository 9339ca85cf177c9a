package nats

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
)

// JetStream's API: questions and answers in JSON. We ask ourselves, and not through nats.go's interface,
// because an update must keep what a newer server or its operator has set in a stream's configuration, and
// because every question has a bound of its own.

const (
	// answerTimeout is how long one question to a server waits for its answer.
	answerTimeout = 2 * time.Second
	// changeTimeout is that for what makes or changes a stream: servers agree on it.
	changeTimeout = 10 * time.Second
)

// errNoJetStream is errAway where no server has JetStream, or none that has can be reached.
var errNoJetStream = fmt.Errorf("%w: no server answers for JetStream", errAway)

// apiError is an error that a server answers.
type apiError struct {
	Code        int    `json:"code"`
	Err         int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.Err) }

// JetStream's own numbers of errors.
const (
	codeClusterAway     = 10008 // no leader of all
	codeNoMessage       = 10037
	codeNotForAccount   = 10039
	codeNoStorage       = 10047
	codeNoPeers         = 10005
	codeInsufficient    = 10023
	codeNoStream        = 10059
	codeSubjectsOverlap = 10065
	codeNotEnabled      = 10076
	codeStreamOffline   = 10118
)

// hasCode reports whether an error is a server's with one of those numbers.
func hasCode(err error, codes ...int) bool {
	var e *apiError
	if errors.As(err, &e) {
		for _, code := range codes {
			if e.Err == code {
				return true
			}
		}
	}
	return false
}

// api asks JetStream's API, and decodes the answer. A server's own error is an *apiError; no answer in time
// is errAway.
func (l *link) api(ctx context.Context, what string, question, answer any) error {
	timeout := answerTimeout
	if strings.HasPrefix(what, "STREAM.CREATE.") || strings.HasPrefix(what, "STREAM.UPDATE.") {
		timeout = changeTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var body []byte
	if question != nil {
		body, _ = json.Marshal(question) // ignored: all questions can be encoded
	}
	m, err := l.reads.RequestWithContext(ctx, "$JS.API."+what, body)
	if err != nil {
		return away(err)
	}
	var failed struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &failed); err != nil {
		return fmt.Errorf("nats: malformed answer to %s: %w", what, err)
	}
	if failed.Error != nil {
		if hasCode(failed.Error, codeClusterAway, codeStreamOffline, codeNoStream) {
			return fmt.Errorf("%w: %w", errAway, failed.Error)
		}
		return failed.Error
	}
	if answer == nil {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(m.Data))
	d.UseNumber() // a stream's configuration goes back as it came
	if err := d.Decode(answer); err != nil {
		return fmt.Errorf("nats: malformed answer to %s: %w", what, err)
	}
	return nil
}

// away returns the error for a question that nats.go could not ask or that nobody answered.
func away(err error) error {
	if errors.Is(err, natsgo.ErrNoResponders) {
		return errNoJetStream
	}
	return fmt.Errorf("%w: %w", errAway, err)
}
