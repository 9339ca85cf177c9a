package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"sluice/gateway/hook"
)

// envelope is an answer. encoding/json decodes it, as Centrifugo does: names have no case,
// unknown ones are ignored, the last of several counts, and numbers must be integers.
type envelope[R any] struct {
	Result     *R              `json:"result"`
	Error      *wireError      `json:"error"`
	Disconnect *wireDisconnect `json:"disconnect"`
}

type wireError struct {
	Code      uint32 `json:"code"`
	Message   string `json:"message"`
	Temporary bool   `json:"temporary"`
}

type wireDisconnect struct {
	Code   uint32 `json:"code"`
	Reason string `json:"reason"`
}

// raw is JSON within an answer; nil for null. Line breaks are removed, because they end a message
// in some protocols.
type raw []byte

func (r *raw) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*r = nil
		return nil
	}
	if bytes.ContainsAny(b, "\n\r") {
		var compact bytes.Buffer
		if err := json.Compact(&compact, b); err != nil {
			return err
		}
		*r = compact.Bytes()
		return nil
	}
	*r = bytes.Clone(b)
	return nil
}

type wireOverride struct {
	Presence           *wireBool `json:"presence"`
	JoinLeave          *wireBool `json:"join_leave"`
	ForceRecovery      *wireBool `json:"force_recovery"`
	ForcePositioning   *wireBool `json:"force_positioning"`
	ForcePushJoinLeave *wireBool `json:"force_push_join_leave"`
}

type wireBool struct {
	Value bool `json:"value"`
}

func (o *wireOverride) override() (to hook.Override) {
	if o == nil {
		return to
	}
	for _, x := range []struct {
		from *wireBool
		to   **bool
	}{
		{o.Presence, &to.Presence}, {o.JoinLeave, &to.JoinLeave}, {o.ForceRecovery, &to.ForceRecovery},
		{o.ForcePositioning, &to.ForcePositioning}, {o.ForcePushJoinLeave, &to.ForcePushJoinLeave},
	} {
		if x.from != nil {
			*x.to = &x.from.Value
		}
	}
	return to
}

// wireBytes are bytes in either of two forms. The one in base64 counts if it is not empty.
type wireInfo struct {
	Info    raw    `json:"info"`
	B64Info string `json:"b64info"`
}

type wireData struct {
	Data    raw    `json:"data"`
	B64Data string `json:"b64data"`
}

type wireExpiry struct {
	ExpireAt int64 `json:"expire_at"`
}

func (w *wireInfo) info() ([]byte, error) {
	if w.B64Info == "" {
		return w.Info, nil
	}
	b, err := base64.StdEncoding.DecodeString(w.B64Info)
	if err != nil {
		return nil, fmt.Errorf("b64info: %w", err)
	}
	if !json.Valid(b) {
		return nil, errors.New("b64info: it is not JSON")
	}
	return b, nil
}

func (w *wireData) data() ([]byte, error) {
	if w.B64Data == "" {
		return w.Data, nil
	}
	b, err := base64.StdEncoding.DecodeString(w.B64Data)
	if err != nil {
		return nil, fmt.Errorf("b64data: %w", err)
	}
	return b, nil
}

func (w *wireExpiry) expireAt() (int64, error) {
	if w.ExpireAt < 0 {
		return 0, errors.New("expire_at: it is negative")
	}
	return w.ExpireAt, nil
}

// decode decodes an answer. Its error is a hook.Error or a hook.Disconnect, or says what is wrong
// with the answer. A disconnect goes before an error, and that before a result, unless resultAlone:
// then only a result counts, and what is wrong with the others is not a failure.
func decode[R, A any](b []byte, resultAlone bool, result func(*R) (*A, error)) (*A, error) {
	var e envelope[R]
	if err := json.Unmarshal(b, &e); err != nil {
		if len(b) == 0 {
			err = errors.New("the body is empty")
		}
		return nil, err
	}
	switch {
	case e.Result != nil && resultAlone:
	case e.Disconnect != nil:
		if !resultAlone && !hook.ClosesWith(e.Disconnect.Code) {
			return nil, fmt.Errorf("disconnect.code: %d is not a code of a Close frame; use one from 4000 to 4999", e.Disconnect.Code)
		}
		return nil, &hook.Disconnect{Code: e.Disconnect.Code, Reason: e.Disconnect.Reason}
	case e.Error != nil:
		if !resultAlone && e.Error.Code == 0 {
			return nil, errors.New("error.code: it is missing or 0; use one from 400 to 1999")
		}
		return nil, &hook.Error{Code: e.Error.Code, Message: e.Error.Message, Temporary: e.Error.Temporary}
	case e.Result == nil:
		return nil, nil
	}
	return result(e.Result)
}
