package handshake

import (
	"strings"

	"sluice/gateway/route"
)

// field is a header field that this package has a rule for.
type field uint8

const (
	fieldOther field = iota
	fieldHost
	fieldOrigin
	fieldUpgrade
	fieldConnection
	fieldVersion
	fieldKey
	fieldProtocol
	fieldLength
	fieldEncoding
	fieldTrailer
	fieldForwarded
	fieldExpect
	fieldKinds
)

// fields collects what the header says; it is judged when all of it has been
// seen, because the rules depend on whether it is an upgrade.
type fields struct {
	value [fieldKinds]string // of the last one of its kind
	count [fieldKinds]uint8  // cannot overflow: there are at most HeadLinesMax lines

	webSocket   bool     // an Upgrade field names websocket
	badUpgrade  bool     // but not as it has to
	protocol    []string // of all Sec-WebSocket-Protocol fields
	unmet       bool     // an Expect field asks for what is not known here
	badProtocol bool     // one of them is not a list of tokens
	forwarded   []string // values of X-Forwarded-For, in order
}

// add takes a line of the header.
func (f *fields) add(line string) *route.Reject {
	if line[0] == ' ' || line[0] == '\t' {
		return rejectFold
	}
	name, value, ok := strings.Cut(line, ":")
	if !ok || !allIn(name, inToken) {
		return rejectFieldName
	}
	for i := range len(value) {
		if classes[value[i]]&inValue == 0 {
			if value[i] == '\r' {
				return rejectCR
			}
			return rejectControl
		}
	}
	kind := kindOf(name)
	if kind == fieldOther {
		return nil
	}
	value = trim(value)
	f.value[kind] = value
	f.count[kind]++
	switch kind {
	case fieldUpgrade:
		f.addUpgrade(value)
	case fieldProtocol:
		f.addProtocols(value)
	case fieldExpect:
		f.unmet = f.unmet || !equalFold(value, "100-continue")
	case fieldForwarded:
		f.forwarded = append(f.forwarded, value)
	}
	return nil
}

func kindOf(name string) field {
	switch len(name) {
	case len("Host"):
		return is(name, "host", fieldHost)
	case len("Origin"):
		return is(name, "origin", fieldOrigin) | is(name, "expect", fieldExpect)
	case len("Upgrade"):
		return is(name, "upgrade", fieldUpgrade) | is(name, "trailer", fieldTrailer)
	case len("Connection"):
		return is(name, "connection", fieldConnection)
	case len("X-Forwarded-For"):
		return is(name, "x-forwarded-for", fieldForwarded)
	case len("Content-Length"):
		return is(name, "content-length", fieldLength)
	case len("Transfer-Encoding"):
		return is(name, "transfer-encoding", fieldEncoding) | is(name, "sec-websocket-key", fieldKey)
	case len("Sec-WebSocket-Version"):
		return is(name, "sec-websocket-version", fieldVersion)
	case len("Sec-WebSocket-Protocol"):
		return is(name, "sec-websocket-protocol", fieldProtocol)
	}
	return fieldOther
}

// is returns kind when name is the lower-case name, else fieldOther, which is 0.
func is(name, lower string, kind field) field {
	if equalFold(name, lower) {
		return kind
	}
	return fieldOther
}

// addUpgrade takes an Upgrade field: a list of protocols, each with or without a
// version. websocket with a version, or in what is no such list, is noticed all the
// same: it is refused, instead of being taken for a request that does not ask.
func (f *fields) addUpgrade(list string) {
	plain := false
	for list != "" {
		var element string
		if element, list = cutElement(list); element == "" {
			continue
		}
		name, version, versioned := strings.Cut(element, "/")
		webSocket := equalFold(trim(name), "websocket")
		f.webSocket, plain = f.webSocket || webSocket, plain || webSocket && !versioned
		f.badUpgrade = f.badUpgrade || webSocket && versioned || !Token(name) || versioned && !Token(version)
	}
	f.badUpgrade = f.badUpgrade || !plain
}

// addProtocols takes a Sec-WebSocket-Protocol field. One without any is as good as
// none: there are libraries that send it.
func (f *fields) addProtocols(list string) {
	if f.protocol == nil && list != "" {
		f.protocol = make([]string, 0, 1+strings.Count(list, ","))
	}
	for list != "" {
		var element string
		if element, list = cutElement(list); element == "" {
			continue
		}
		if !allIn(element, inToken) {
			f.badProtocol = true
			return
		}
		f.protocol = append(f.protocol, element)
	}
}

// checkRequest checks what every request must have: its host, and where it ends (RFC 9112
// section 6.3).
func (f *fields) checkRequest(http10 bool) *route.Reject {
	length, encoding := f.count[fieldLength], f.count[fieldEncoding]
	switch {
	case f.count[fieldHost] > 1:
		return rejectHostTwice
	case f.count[fieldHost] == 0 && !http10:
		return rejectHostMissing
	case f.count[fieldHost] == 1 && !validHost(f.value[fieldHost]):
		return rejectHost
	case f.count[fieldOrigin] > 1:
		return rejectOriginTwice
	case encoding > 0 && (length > 0 || http10):
		return rejectFraming
	case length > 1:
		return rejectLengthTwice
	case length == 1 && !validLength(f.value[fieldLength]):
		return rejectLength
	case encoding > 1:
		return rejectEncodingTwice
	case encoding == 1 && !equalFold(f.value[fieldEncoding], "chunked"):
		return rejectEncoding
	case encoding == 1 && f.count[fieldTrailer] > 0:
		return rejectTrailer
	case f.unmet:
		return rejectExpect
	}
	return nil
}

// checkUpgrade checks what RFC 6455 section 4.2.1 requires of a client.
func (f *fields) checkUpgrade(method string, http10 bool) *route.Reject {
	switch {
	case method != "GET":
		return rejectMethod
	case http10:
		return rejectHTTP10
	case f.count[fieldEncoding] > 0 || strings.Trim(f.value[fieldLength], "0") != "":
		return rejectBody
	case f.count[fieldUpgrade] > 1:
		return rejectUpgradeTwice
	case f.badUpgrade:
		return rejectUpgrade
	case f.count[fieldConnection] > 1:
		return rejectConnectionTwice
	case !hasUpgradeToken(f.value[fieldConnection]):
		return rejectConnection
	case f.count[fieldVersion] > 1:
		return rejectVersionTwice
	case f.value[fieldVersion] != "13":
		return rejectVersion
	case f.count[fieldKey] > 1:
		return rejectKeyTwice
	case f.count[fieldKey] == 0:
		return rejectKeyMissing
	case !validKey(f.value[fieldKey]):
		return rejectKey
	case f.badProtocol:
		return rejectProtocol
	}
	return nil
}

func validHost(s string) bool {
	_, ok := parseAuthority(s)
	return ok
}

// validLength takes as many digits as an int64 surely holds.
func validLength(s string) bool { return len(s) <= 18 && isDigits(s) }

// hasUpgradeToken reports whether a Connection field is a list of tokens and one
// of them is Upgrade.
func hasUpgradeToken(list string) bool {
	found := false
	for list != "" {
		var element string
		if element, list = cutElement(list); element == "" {
			continue
		}
		if !allIn(element, inToken) {
			return false
		}
		found = found || equalFold(element, "upgrade")
	}
	return found
}

// validKey reports whether s is 16 bytes in base64: 22 digits and the padding.
// The last digit carries four bits that mean nothing; decoders pass over them,
// and clients that draw their key digit by digit rely on it.
func validKey(s string) bool {
	return len(s) == 24 && s[22:] == "==" && allIn(s[:22], inBase64)
}
