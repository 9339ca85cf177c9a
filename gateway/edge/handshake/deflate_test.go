package handshake

import (
	"strings"
	"testing"
)

func TestDeflateIsAgreedToWhereItsTermsAreMet(t *testing.T) {
	const answer = "permessage-deflate;server_no_context_takeover;client_no_context_takeover"
	const windowed = answer + ";server_max_window_bits=15"
	const field = "\r\nSec-WebSocket-Extensions: "
	for _, test := range []struct{ what, offer, want string }{
		{"Chromium, ws, Python", "permessage-deflate; client_max_window_bits", answer},
		{"Firefox", "permessage-deflate", answer},
		{"gorilla", "permessage-deflate; server_no_context_takeover; client_no_context_takeover", answer},
		{"a window of 15 bits", "permessage-deflate; server_max_window_bits=15", windowed},
		{"in quotes", `permessage-deflate; server_max_window_bits="15"; client_max_window_bits="8"`, windowed},
		{"all of them", "permessage-deflate; client_max_window_bits=9; server_max_window_bits=15; client_no_context_takeover; server_no_context_takeover", windowed},
		{"tabs and spaces", "permessage-deflate \t; \tclient_max_window_bits \t", answer},
		{"a smaller window", "permessage-deflate; server_max_window_bits=14", ""},
		{"a smaller window, else any", "permessage-deflate; server_max_window_bits=10, permessage-deflate", answer},
		{"else any, in another field", "permessage-deflate; server_max_window_bits=10" + field + "permessage-deflate", answer},
		{"the first that can be met", "permessage-deflate; server_max_window_bits=15, permessage-deflate", windowed},
		{"only one of two that can be met", "permessage-deflate, permessage-deflate; server_max_window_bits=15", answer},
		{"only one of two fields", "permessage-deflate" + field + "permessage-deflate", answer},
		{"another extension before it", "x-webkit-deflate-frame; a=b, permessage-deflate", answer},
		{"another extension alone", "x-webkit-deflate-frame", ""},
		{"a name that begins like it", "permessage-deflate2", ""},
		{"an unknown parameter", "permessage-deflate; dictionary", ""},
		{"an unknown parameter, else any", "permessage-deflate; dictionary=1, permessage-deflate", answer},
		{"a parameter twice", "permessage-deflate; client_max_window_bits; client_max_window_bits=10", ""},
		{"a value where none may be", "permessage-deflate; client_no_context_takeover=1", ""},
		{"no value where one must be", "permessage-deflate; server_max_window_bits", ""},
		{"a window of 7 bits", "permessage-deflate; client_max_window_bits=7", ""},
		{"a window of 16 bits", "permessage-deflate; client_max_window_bits=16", ""},
		{"a window of 08 bits", "permessage-deflate; client_max_window_bits=08", ""},
		{"a window of x bits", "permessage-deflate; server_max_window_bits=x", ""},
		{"empty", "", ""},
		{"nothing but commas", ",,", ""},
		{"malformed", "permessage-deflate; =", ""},
		{"malformed, behind a good one", "permessage-deflate, ;", ""},
		{"malformed, in another field", "permessage-deflate" + field + `"`, ""},
		{"a quote that does not end", `permessage-deflate; server_max_window_bits="15`, ""},
	} {
		for _, upgrade := range []string{"Upgrade: websocket", "Upgrade: foo, websocket"} { // a list takes the upgrader twice
			head := withFields(strings.Replace(good, "Upgrade: websocket", upgrade, 1), "Sec-WebSocket-Extensions: "+test.offer+"\r\n")
			if _, reject := verdict(head); reject != nil {
				t.Fatalf("%s: %v", test.what, reject)
			}
			var w countingWriter
			agreed, err := NewUpgrader(nil, true).Upgrade([]byte(head), &w)
			if err != nil {
				t.Errorf("%s, %s: %v", test.what, upgrade, err)
				continue
			}
			got := readAnswer(t, []byte(w.String())).Header.Values("Sec-WebSocket-Extensions")
			if strings.Join(got, "|") != test.want || agreed.Deflate != (test.want != "") || w.writes != 1 {
				t.Errorf("%s, %s: answered %q, want %q; agreed to %v", test.what, upgrade, got, test.want, agreed.Deflate)
			}
		}
	}
}

func TestBrowsersThatKeepTheirContextGetNoDeflate(t *testing.T) {
	const safari = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/VERSION Safari/605.1.15"
	const iPhone = "Mozilla/5.0 (iPhone; CPU iPhone OS SYSTEM like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
	version := func(v string) string { return strings.Replace(safari, "VERSION", v, 1) }
	system := func(s, browser string) string { return strings.Replace(iPhone, "SYSTEM", s, 1) + browser }
	for agent, want := range map[string]bool{
		version("14.1.2"): true, version("15.0"): false, version("15.1"): false, version("15.2"): false, version("15.3"): false,
		version("15.3.1"): false, version("15.4"): true, version("15.6.1"): true, version("16.0"): true, version("15"): true, version("15.10"): true,
		system("15_0", "Version/15.0 Mobile/15E148 Safari/604.1"):                false,
		system("15_3_1", "CriOS/98.0.4758.85 Mobile/15E148 Safari/604.1"):        false,
		system("15_2", "FxiOS/39.0 Mobile/15E148 Safari/605.1.15"):               false,
		system("15_4", "CriOS/98.0.4758.85 Mobile/15E148 Safari/604.1"):          true,
		system("15_7", "Version/15.6.6 Mobile/15E148 Safari/604.1"):              true,
		system("16_1", "Version/16.1 Mobile/15E148 Safari/604.1"):                true,
		strings.Replace(version("15.1"), " Version", " Chrome/98.0 Version", 1):  true,
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0": true,
		"": true,
	} {
		head := withFields(good, "Sec-WebSocket-Extensions: permessage-deflate\r\nUSER-agent: "+agent+"\r\n")
		var w countingWriter
		agreed, err := NewUpgrader(nil, true).Upgrade([]byte(head), &w)
		if err != nil || agreed.Deflate != want {
			t.Errorf("%q: %v, %v, want %v", agent, agreed.Deflate, err, want)
		}
	}
}
