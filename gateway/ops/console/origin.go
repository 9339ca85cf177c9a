package console

import (
	"net/http"
	"net/url"
	"strings"
)

// ByBrowser reports whether a browser has sent the request. Programs send neither field.
func ByBrowser(r *http.Request) bool {
	return len(r.Header.Values("Origin")) > 0 || len(r.Header.Values("Sec-Fetch-Site")) > 0
}

// Own reports whether a browser's request comes from a page of the host that it is for, or from
// the browser's user. What only reads may come without an Origin, because browsers send none
// then. Another port of the same host is another site's.
func Own(r *http.Request) bool {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch site := r.Header.Values("Sec-Fetch-Site"); {
	case len(site) == 0: // plain HTTP on other addresses than loopback, or an old browser
	case len(site) == 1 && site[0] == "same-origin":
	case len(site) == 1 && site[0] == "none" && reads: // typed, or a bookmark
	default:
		return false
	}
	switch origin := r.Header.Values("Origin"); len(origin) {
	case 0:
		return reads
	case 1:
		u, err := url.Parse(origin[0])
		return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && strings.EqualFold(u.Host, r.Host)
	}
	return false
}

// visits reports whether the request opens the page: a link of any site may do that.
func visits(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Path == "/" && r.Header.Get("Sec-Fetch-Mode") == "navigate" &&
		r.Header.Get("Sec-Fetch-Dest") == "document" && len(r.Header.Values("Origin")) == 0
}
