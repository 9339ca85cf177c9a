package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// Bounds of what one request asks for.
const (
	commandsMax = 1_000  // of a batch
	channelsMax = 10_000 // of a broadcast
	reasonMax   = 123    // bytes of a close reason: RFC 6455 section 5.5, less the code
	statsMax    = 100    // of the busiest channels
)

// decode reads a request's JSON; at is its place in the body, "" for the whole. An empty body
// is an empty object. Its errors are about the body's form, not about what it asks for.
func decode(body []byte, into any, at string) *Error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	err := json.Unmarshal(body, into)
	var mistyped *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &mistyped):
		field := mistyped.Field
		switch {
		case field == "" && at == "":
			field = "the body"
		case field == "":
			field = at
		case at != "":
			field = at + "." + field
		}
		if isElement(reflect.TypeOf(into).Elem(), mistyped) {
			field = "each of " + field
		}
		return badRequest("%s must be %s, not %s", field, inWords(mistyped.Type), shorten(mistyped.Value))
	case errors.As(err, &syntax):
		return badRequest("the body is not valid JSON: %s (byte %d)", syntax, syntax.Offset)
	}
	return badRequest("the body is not valid JSON: %s", err)
}

// isElement reports whether the wrong type is that of an element of the named field, an array or
// a map, and not of the field itself.
func isElement(t reflect.Type, mistyped *json.UnmarshalTypeError) bool {
	for name := range strings.SplitSeq(mistyped.Field, ".") {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return false
		}
		field, ok := t.FieldByNameFunc(func(goName string) bool {
			f, _ := t.FieldByName(goName)
			jsonName, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			return jsonName == name
		})
		if !ok {
			return false
		}
		t = field.Type
	}
	return (t.Kind() == reflect.Slice || t.Kind() == reflect.Map) && t.Elem() == mistyped.Type
}

// inWords returns the JSON name of a Go type that requests have.
func inWords(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Uint64, reflect.Uint32:
		return fmt.Sprintf("an integer from 0 to %d", uint64(1)<<(t.Bits()-1)-1+uint64(1)<<(t.Bits()-1))
	case reflect.Int, reflect.Int64:
		return fmt.Sprintf("a %d-bit integer", t.Bits())
	case reflect.Slice:
		return "an array"
	}
	return "an object"
}

// shorten keeps what a caller sent from filling the answer.
func shorten(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// given reports whether a field that holds any JSON is there.
func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// isJSON reports whether b may be part of an answer.
func isJSON(b []byte) bool { return json.Valid(b) && utf8.Valid(b) }

func required(name, value string) error {
	if value == "" {
		return badRequest("%s is required", name)
	}
	return nil
}

func userOrClient(user, client string) error {
	if user == "" && client == "" {
		return badRequest("user or client is required")
	}
	return nil
}

// narrowed refuses filters that the gateway does not support: ignoring them, a request would act
// on more connections than the caller means.
func narrowed(session string, labels json.RawMessage) error {
	switch {
	case session != "":
		return notSupported("session")
	case given(labels):
		return notSupported("label_filter")
	}
	return nil
}

func notSupported(field string) error {
	return ErrNotAvailable.With(field + " is not supported")
}

func notNegative(name string, seconds int64) error {
	if seconds < 0 {
		return badRequest("%s must not be negative (it is a time in Unix seconds)", name)
	}
	return nil
}

// first returns the first error that is not nil.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// payload returns the bytes to publish.
func payload(data json.RawMessage, b64 string, version uint64) (p []byte, binary bool, err error) {
	switch {
	case version != 0:
		return nil, false, notSupported("version")
	case b64 != "":
		p, err = base64.StdEncoding.DecodeString(b64)
		if err != nil {
			return nil, false, badRequest("b64data is not base64 (RFC 4648 section 4, with padding)")
		}
		return p, true, nil
	case len(data) == 0:
		return nil, false, badRequest("data or b64data is required")
	}
	return data, false, nil
}

// Request is the request of a method.
type Request interface{ check() error }

// Check returns what is wrong with a request, as the Handler would answer it, nil for nothing: it is for callers of a Node
// within the program.
func Check(r Request) error { return r.check() }

func (r *PublishRequest) check() (err error) {
	if err := required("channel", r.Channel); err != nil {
		return err
	}
	r.Payload, r.Binary, err = payload(r.Data, r.B64Data, r.Version)
	return err
}

func (r *BroadcastRequest) check() (err error) {
	switch n := len(r.Channels); {
	case n == 0:
		return badRequest("channels is required: list at least one")
	case n > channelsMax:
		return ErrLimitExceeded.With(fmt.Sprintf("channels has %d entries; the limit is %d", n, channelsMax))
	}
	r.payload, r.binary, err = payload(r.Data, r.B64Data, r.Version)
	return err
}

func (r *SubscribeRequest) check() error {
	switch {
	case given(r.Override):
		return notSupported("override")
	case r.B64Info != "":
		return notSupported("b64info")
	case r.B64Data != "":
		return notSupported("b64data")
	}
	return first(required("channel", r.Channel), userOrClient(r.User, r.Client), narrowed(r.Session, r.LabelFilter),
		notNegative("expire_at", r.ExpireAt))
}

func (r *UnsubscribeRequest) check() error {
	return first(userOrClient(r.User, r.Client), narrowed(r.Session, r.LabelFilter))
}

func (r *DisconnectRequest) check() error {
	if d := r.Disconnect; d != nil {
		switch {
		case *d == Disconnect{}:
			r.Disconnect = nil
		case d.Code < 3000 || d.Code > 4999:
			return badRequest("disconnect.code must be between 3000 and 4999, not %d", d.Code)
		case len(d.Reason) > reasonMax:
			return badRequest("disconnect.reason has %d bytes; the limit is %d", len(d.Reason), reasonMax)
		}
	}
	return first(userOrClient(r.User, r.Client), narrowed(r.Session, r.LabelFilter))
}

func (r *RefreshRequest) check() error {
	return first(userOrClient(r.User, r.Client), narrowed(r.Session, r.LabelFilter), notNegative("expire_at", r.ExpireAt))
}

func (r *ChannelRequest) check() error  { return required("channel", r.Channel) }
func (r *HistoryRequest) check() error  { return required("channel", r.Channel) }
func (r *ChannelsRequest) check() error { return nil }
func (r *InfoRequest) check() error     { return nil }

func (r *ChannelStatsRequest) check() error {
	if r.Sort == "" {
		r.Sort = "rate"
	}
	if r.Limit == 0 {
		r.Limit = 20
	}
	switch {
	case r.Sort != "rate" && r.Sort != "clients":
		return badRequest("sort must be rate or clients")
	case r.Limit < 0 || r.Limit > statsMax:
		return badRequest("limit must be between 1 and %d", statsMax)
	}
	return nil
}
