package client

import (
	"testing"

	"sluice/gateway/hook"
)

// A hook that does not exist decides nothing: it fails.
func TestMissingHookFails(t *testing.T) {
	var err error
	Pick[*hook.PublishRequest, hook.PublishResult](nil, "chat").Ask(nil, func(_ *hook.PublishResult, e error) { err = e })
	if err == nil || hook.Decided(err) {
		t.Errorf("got %v", err)
	}
}
