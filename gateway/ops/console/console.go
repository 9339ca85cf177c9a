package console

import (
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"math"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"sluice/gateway/asset"
)

// Console serves the page, and knows the sessions of browsers that have logged in.
type Console struct {
	files  map[string]asset.File
	keyed  bool    // there is a key to log in with
	logins guesses // keys of the page's form
	keys   guesses // those that programs send, with a count of their own: neither keeps the other out
	logger *slog.Logger
	now    func() time.Time // tests have their own

	key      sessionHash // of the key
	sessions *Sessions
}

// New returns a Console. With the key "" nobody can log in, or has to.
func New(key string, sessions *Sessions, logger *slog.Logger) *Console {
	hash := sha256.Sum256([]byte(key))
	return &Console{key: hash, sessions: sessions, files: loadFiles(key != ""), keyed: key != "", logins: guesses{key: hash}, keys: guesses{key: hash}, logger: logger, now: time.Now}
}

// TooManyGuesses is what a request is answered whose address has sent too many wrong keys.
const TooManyGuesses = "too many wrong API keys from this address: wait a minute"

// Right reports whether a program's key is the right one. If too many were wrong, that is not said, and retry is
// after how many seconds it is.
func (c *Console) Right(r *http.Request, key string) (right bool, retry int) {
	v, wait := c.keys.compare(key, addressOf(r), c.now())
	return v == keyRight, int(math.Ceil(wait.Seconds()))
}

// addressOf returns where a request comes from. A Unix socket has no address.
func addressOf(r *http.Request) netip.Addr {
	at, _ := netip.ParseAddrPort(r.RemoteAddr)
	return at.Addr()
}

// Serve answers what needs neither key nor session: the page's files, and logging in and out. It
// returns false for everything else.
func (c *Console) Serve(w http.ResponseWriter, r *http.Request) bool {
	f, isFile := c.file(r)
	enters := c.keyed && r.Method == http.MethodPost && (r.URL.Path == "/login" || r.URL.Path == "/logout")
	switch {
	case !isFile && !enters:
		return false
	case !Own(r) && !visits(r):
		refuse(w, r, http.StatusForbidden, "this is not a request of the gateway's own page; if a proxy is in between, it has to pass the Host header on unchanged")
	case isFile:
		serveFile(f, w, r)
	case r.URL.Path == "/login":
		c.login(w, r)
	default:
		c.logout(w, r)
	}
	return true
}

// LoggedIn reports whether the request has the cookie of an open session. The caller has to see
// that it is the page's own, too.
func (c *Console) LoggedIn(r *http.Request) bool {
	for _, cookie := range r.CookiesNamed(cookieName(r)) {
		if c.keyed && c.sessions.open(cookie.Value, c.key, c.now()) {
			return true
		}
	}
	return false
}

// cookieName has the port in it: a browser has one jar for all ports of a host, and there may be
// a gateway on each.
func cookieName(r *http.Request) string {
	if _, port, err := net.SplitHostPort(r.Host); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			return "sluice_session_" + strconv.FormatUint(n, 10)
		}
	}
	return "sluice_session"
}

// loginMost bounds the body of a login, in bytes and time: anybody can send one.
const (
	loginBytesMost = 4 << 10
	loginMost      = 5 * time.Second
)

func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	http.NewResponseController(w).SetReadDeadline(c.now().Add(loginMost)) // ignored: only a test's writer has none
	r.Body = http.MaxBytesReader(w, r.Body, loginBytesMost)
	key, ok := keyIn(r)
	if !ok {
		refuse(w, r, http.StatusBadRequest, `send the API key as JSON, {"key":"..."}, or as the field key of a form`)
		return
	}
	switch verdict, wait := c.logins.compare(key, addressOf(r), c.now()); verdict {
	case keyUnread:
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		refuse(w, r, http.StatusTooManyRequests, TooManyGuesses)
		return
	case keyWrong:
		c.logger.Warn("login refused: wrong API key", "remote", r.RemoteAddr)
		refuse(w, r, http.StatusUnauthorized, "the API key is wrong")
		return
	}
	c.endSessions(r)
	c.setCookie(w, r, c.sessions.begin(c.key, c.now()), int(sessionTime.Seconds()))
	c.logger.Info("operator logged in", "remote", r.RemoteAddr)
	c.done(w, r)
}

func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	c.endSessions(r)
	c.setCookie(w, r, "", -1)
	c.done(w, r)
}

// keyIn returns the key that a login brings.
func keyIn(r *http.Request) (key string, ok bool) {
	if !isForm(r) {
		var body struct{ Key *string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Key == nil {
			return "", false
		}
		return *body.Key, true
	}
	if err := r.ParseForm(); err != nil || !r.PostForm.Has("key") {
		return "", false
	}
	return strings.TrimSpace(r.PostForm.Get("key")), true
}

// isForm reports whether a page without JavaScript sends the request.
func isForm(r *http.Request) bool {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // what cannot be parsed is no form
	return kind == "application/x-www-form-urlencoded"
}

// endSessions ends those whose cookies the request has.
func (c *Console) endSessions(r *http.Request) {
	for _, cookie := range r.CookiesNamed(cookieName(r)) {
		c.sessions.end(cookie.Value, c.key)
	}
}

func (c *Console) setCookie(w http.ResponseWriter, r *http.Request, id string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(r), Value: id, Path: "/", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// Behind a proxy with TLS the listener itself has none; the page's address says it.
		Secure: r.TLS != nil || strings.HasPrefix(r.Header.Get("Origin"), "https://"),
	})
}

// done answers a login or logout: a form goes on to the page.
func (c *Console) done(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if isForm(r) {
		w.Header().Set("Location", "./") // relative, for a proxy's path
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// refuse answers with an error as the internal listener's other errors are.
func refuse(w http.ResponseWriter, r *http.Request, status int, message string) {
	if isForm(r) {
		http.Error(w, message, status)
		return
	}
	code := map[int]string{http.StatusBadRequest: "bad_request", http.StatusUnauthorized: "unauthorized", http.StatusForbidden: "forbidden", http.StatusTooManyRequests: "rate"}[status]
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": code, "message": message}}) // ignored: the browser may be gone
}
