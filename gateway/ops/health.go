package ops

import "net/http"

// Health returns the answer of /healthz on every listener. stuck: an event loop has been for so
// long that the process may have to be restarted.
func Health(stuck bool) (status int, text string) {
	if stuck {
		return http.StatusServiceUnavailable, "unhealthy: an event loop is stuck; its stack is in the log"
	}
	return http.StatusOK, "ok"
}

// Readiness returns the answer of /readyz. serving: connections are accepted; waits: what the start
// still waits for, "" for nothing; stalled: an event loop does not respond.
func Readiness(serving bool, waits string, stalled bool) (status int, text string) {
	switch {
	case !serving:
		return http.StatusServiceUnavailable, "not ready: starting or shutting down"
	case waits != "":
		return http.StatusServiceUnavailable, "not ready: " + waits
	case stalled:
		return http.StatusServiceUnavailable, "not ready: an event loop is not responding"
	}
	return http.StatusOK, "ok"
}
