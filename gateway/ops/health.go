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

// Readiness returns the answer of /readyz. draining: the gateway shuts down; serving: connections are accepted; waits: what
// the start still waits for, "" for nothing; stalled: an event loop does not respond.
func Readiness(draining, serving bool, waits string, stalled bool) (status int, text string) {
	switch {
	case draining:
		return http.StatusServiceUnavailable, "not ready: draining"
	case !serving:
		return http.StatusServiceUnavailable, "not ready: starting"
	case waits != "":
		return http.StatusServiceUnavailable, "not ready: " + waits
	case stalled:
		return http.StatusServiceUnavailable, "not ready: an event loop is not responding"
	}
	return http.StatusOK, "ok"
}
