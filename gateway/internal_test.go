package gateway

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
)

// An operator knows settings by other names than fields.
func TestErrorsOfPublishingAreLoggedWithTheOperatorsNames(t *testing.T) {
	var log clienttest.Records
	s := start(t, Config{ChannelRate: 1, FieldName: func(field string) string { return "--" + field },
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	for range 2 {
		r := httptest.NewRequest("POST", "http://localhost/publish/x", strings.NewReader("x"))
		s.InternalHandler(Internal{}).ServeHTTP(httptest.NewRecorder(), r)
	}
	if !strings.Contains(log.Text(), "rate limit (--ChannelRate)") {
		t.Error(log.Text())
	}
}
