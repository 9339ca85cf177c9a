package edge

// Refuse is how a new connection that exceeds a limit is refused.
type Refuse int

const (
	// RefuseHTTP responds to the request with 429 or 503 and Retry-After.
	RefuseHTTP Refuse = iota
	// RefuseClose accepts an upgrade and closes it with code 1013, because a web page
	// cannot see the status of a refused upgrade.
	RefuseClose
)

// String returns the setting as a word: "http" or "close".
func (r Refuse) String() string {
	if r == RefuseClose {
		return "close"
	}
	return "http"
}
