package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/hooktest"
)

// outcome is what clients see of an answer: of hooks about connections and subscriptions.
type outcome struct {
	word           string // see package hooktest
	raw, refused   string // with Config.Refuse "http", and "close"
	stream         string // SSE
	reply          string // of the Centrifugo protocol
	unidirectional string
}

func (o *outcome) of(column string, refuse Refuse) string {
	switch column {
	case "raw":
		if refuse == RefuseClose {
			return o.refused
		}
		return o.raw
	case "SSE":
		return o.stream
	case "Centrifugo":
		return o.reply
	}
	return o.unidirectional
}

// notAsked is the text for clients of raw WebSocket and SSE that a backend cannot be asked about.
const notAsked = "The application cannot be asked at the moment."

// failed are the answers that decide nothing.
var failed = []string{"fails", "created", "none", "redirect", "busy", "broken", "text", "number"}

// past is the outcome of an answer that accepts until a time that is over.
var past = outcome{"past", "403 expired", "close 1008 expired", "403 expired", "error 110 expired", "close 3005 connection expired"}

// outcomes returns the outcomes of all words. in is what a client of the Centrifugo protocol sees that may.
func outcomes(in string) (all []outcome) {
	all = []outcome{
		{"", "in", "in", "in", in, "in"},
		{"nothing", "in", "in", "in", in, "in"},
		{"nulls", "in", "in", "in", in, "in"},
		{"error", "403 not you", "close 1008 not you", "403 not you", "error 403 not you", "close 3004 internal server error"},
		{"unauthorized", "401 who are you?", "close 1008 who are you?", "401 who are you?", "error 401 who are you?", "close 3004 internal server error"},
		{"later", "403 try later", "close 1008 try later", "403 try later", "error 1000 try later, temporary", "close 3004 internal server error"},
		{"disconnect", "close 4501 banned", "close 4501 banned", "close 4501 banned", "close 4501 banned", "close 4501 banned"},
		{"reconnect", "close 4001 move", "close 4001 move", "close 4001 move", "close 4001 move", "close 4001 move"},
		{"all", "close 4501 banned", "close 4501 banned", "close 4501 banned", "close 4501 banned", "close 4501 banned"},
		{"both", "403 not you", "close 1008 not you", "403 not you", "error 403 not you", "close 3004 internal server error"},
		{"+100", "in", "in", "in", in, "in"},
	}
	for _, word := range failed {
		all = append(all, outcome{word, "503 " + notAsked, "close 1013 " + notAsked, "503 " + notAsked, "error 100 internal server error, temporary", "close 3004 internal server error"})
	}
	return all
}

// eachBackend runs a test with each backend.
func eachBackend(t *testing.T, test func(t *testing.T, url string)) {
	t.Parallel()
	for _, kind := range hooktest.Kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, hooktest.Run(t, kind))
		})
	}
}

// wantAsked compares what a backend was asked.
func wantAsked(t *testing.T, why, url string, want ...string) {
	t.Helper()
	if got := hooktest.Asked(t, url); !slices.Equal(got, want) {
		t.Errorf("%s: asked\n%s\nwant\n%s", why, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// transports is how backends see clients.
var transports = map[string]string{
	"raw": "websocket/json/json", "raw JSON": "websocket/json/json", "SSE": "uni_sse/json/json",
	"Centrifugo JSON": "websocket/json/json", "Centrifugo Protobuf": "websocket/protobuf/json",
	"unidirectional WebSocket": "uni_websocket/json/json", "unidirectional SSE": "uni_sse/json/json", "unidirectional HTTP": "uni_http_stream/json/json",
	"emulated HTTP": "http_stream/json/json", "emulated SSE": "sse/json/json", "emulated HTTP Protobuf": "http_stream/protobuf/json",
}

// What each answer about a connection comes to, for clients of each protocol.
func TestBackendsDecideAboutConnections(t *testing.T) {
	eachBackend(t, func(t *testing.T, url string) {
		for _, refuse := range []Refuse{RefuseHTTP, RefuseClose} {
			s := start(t, Config{Hooks: hooksOf(t, fmt.Sprintf(hooksFile, url)), Refuse: refuse})
			const noCredentials = "close 3501 bad request"
			for _, o := range append(outcomes("in"), past,
				outcome{"empty", noCredentials, noCredentials, noCredentials, noCredentials, noCredentials},
				outcome{"null", noCredentials, noCredentials, noCredentials, noCredentials, noCredentials}) {
				for _, way := range ways {
					if refuse == RefuseClose && way.column != "raw" {
						continue
					}
					why, session := way.name+", "+o.word, strings.TrimSuffix("ann-"+o.word, "-")
					c := way.open(t, s, session, "x")
					if got, want := c.next(), o.of(way.column, refuse); got != want {
						t.Errorf("%s: %q, want %q", why, got, want)
					}
					c.Vanish()
					of := transports[way.name]
					want := []string{"connect " + of + " session=" + session}
					if way.column == "raw" || way.column == "SSE" {
						if want[0] += " channels=x"; o.raw == "in" {
							who := "user=" + session + " channel=x tenant=4"
							if o.word != "" && o.word != "+100" {
								who = "user= channel=x"
							}
							want = append(want, "subscribe "+of+" "+who)
						}
					}
					wantAsked(t, why, url, want...)
				}
			}
		}
	})
}

// What each answer about a subscription comes to.
func TestBackendsDecideAboutSubscriptions(t *testing.T) {
	eachBackend(t, func(t *testing.T, url string) {
		for _, refuse := range []Refuse{RefuseHTTP, RefuseClose} {
			s := start(t, Config{Hooks: hooksOf(t, fmt.Sprintf(hooksFile, url)), Refuse: refuse})
			all := append(outcomes("subscribed"), past, outcome{"empty", "in", "in", "in", "subscribed", ""}, outcome{"null", "in", "in", "in", "subscribed", ""})
			for _, o := range all {
				name := strings.TrimSuffix("x-"+o.word, "-")
				if o.word == "" || o.word == "+100" {
					o.reply += fmt.Sprintf(` {"topic":%q}`, name)
				}
				for _, way := range ways {
					if way.column == "unidirectional" || refuse == RefuseClose && way.column != "raw" {
						continue
					}
					why := way.name + ", " + o.word
					c := way.open(t, s, "ann", name)
					of := transports[way.name]
					asked := []string{"connect " + of + " session=ann channels=" + name, "subscribe " + of + " user=ann channel=" + name + " tenant=4"}
					if way.column == "Centrifugo" {
						if got := c.next(); got != "in" {
							t.Fatalf("%s: %s", why, got)
						}
						c.send(fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q,"data":{"k":[1,"ü"]}}}`, name))
						asked = []string{"connect " + of + " session=ann", asked[1] + ` data={"k":[1,"ü"]}`}
					}
					if got, want := c.next(), o.of(way.column, refuse); got != want {
						t.Errorf("%s: %q, want %q", why, got, want)
					}
					c.Vanish()
					wantAsked(t, why, url, asked...)
				}
			}
		}
	})
}

// What each answer about a publication comes to for the client that publishes, and for one that listens.
func TestBackendsDecideAboutPublications(t *testing.T) {
	eachBackend(t, func(t *testing.T, url string) {
		s := start(t, Config{Hooks: hooksOf(t, fmt.Sprintf(hooksFile, url)), Raw: RawPublish})
		for _, way := range ways {
			if way.column != "raw" && way.column != "Centrifugo" {
				continue
			}
			listener := clienttest.Dial(t, s, "/ws/x?mode=subscribe", "Cookie: session=bob")
			open := func() *speaks {
				c := way.open(t, s, "ann", "x")
				if got := c.next(); got != "in" {
					t.Fatal(got)
				}
				if way.column == "Centrifugo" {
					return c
				}
				c.send = func(payload string) { c.Send(clienttest.Text(payload)) }
				return c
			}
			c := open()
			const rejected, failed = `{"error":{"code":403,"message":"not you"}}`, `{"error":{"code":100,"message":"internal server error","temporary":true}}`
			for _, o := range []struct {
				word, text string // that is published; "" for none
				raw, reply string // to the client; "" for nothing beside what is published
			}{
				{"", "p", "", "published"},
				{"nothing", "p-nothing", "", "published"},
				{"empty", "p-empty", "", "published"},
				{"null", "p-null", "", "published"},
				{"nulls", "p-nulls", "", "published"}, // and not null
				{"change", "changed", "", "published"},
				{"error", "", rejected, "error 403 not you"},
				{"both", "", rejected, "error 403 not you"},
				{"later", "", `{"error":{"code":1000,"message":"try later","temporary":true}}`, "error 1000 try later, temporary"},
				{"fails", "", failed, "error 100 internal server error, temporary"},
				{"created", "", failed, "error 100 internal server error, temporary"},
				{"none", "", failed, "error 100 internal server error, temporary"},
				{"redirect", "", failed, "error 100 internal server error, temporary"},
				{"broken", "", failed, "error 100 internal server error, temporary"},
				{"text", "", failed, "error 100 internal server error, temporary"},
				{"number", "", failed, "error 100 internal server error, temporary"},
				{"disconnect", "", "close 4501 banned", "close 4501 banned"},
				{"reconnect", "", "close 4001 move", "close 4001 move"},
				{"all", "", "close 4501 banned", "close 4501 banned"},
			} {
				why, payload := way.name+", "+o.word, fmt.Sprintf("%q", strings.TrimSuffix("p-"+o.word, "-"))
				wants := o.reply
				if way.column == "Centrifugo" {
					c.send(fmt.Sprintf(`{"id":3,"publish":{"channel":"x","data":%s}}`, payload))
				} else {
					c.send(payload)
					wants = o.raw
				}
				if way.name == "raw" && strings.HasPrefix(wants, "{") { // there are no records in which to say it
					wants = "close 1008 " + strings.Split(wants, `"`)[7]
					if strings.Contains(o.raw, "code\":100,") {
						wants = "close 1013 internal server error"
					}
				}
				if wants != "" {
					for {
						got := c.next()
						if way.name == "raw JSON" && strings.HasPrefix(got, `{"`) && !strings.HasPrefix(got, `{"error"`) {
							continue // a position, or what it has published itself
						}
						if way.name == "raw" && strings.HasPrefix(got, `"`) {
							continue
						}
						if got != wants {
							t.Errorf("%s: %q, want %q", why, got, wants)
						}
						break
					}
				}
				if strings.HasPrefix(wants, "close") {
					c.Vanish()
					c = open()
				}
				if o.text != "" {
					listener.WantText(why, fmt.Sprintf("%q", o.text))
				}
			}
			for _, line := range hooktest.Asked(t, url) {
				if strings.HasPrefix(line, "malformed") || strings.HasPrefix(line, "publish") && !strings.HasPrefix(line, "publish "+transports[way.name]+` user=ann channel=x tenant=4 data="p`) {
					t.Errorf("%s: %s", way.name, line)
				}
			}
			c.Vanish()
			listener.Vanish()
		}
	})
}

// What each answer to a request of a client comes to.
func TestBackendsAnswerRequests(t *testing.T) {
	eachBackend(t, func(t *testing.T, url string) {
		s := start(t, Config{Hooks: hooksOf(t, fmt.Sprintf(hooksFile, url))})
		for _, way := range ways {
			if way.column != "Centrifugo" {
				continue
			}
			all := outcomes("result")
			all = append(all, outcome{word: "empty", reply: "result"}, outcome{word: "null", reply: "result"})
			for _, o := range all {
				method := strings.TrimSuffix("m-"+o.word, "-")
				if o.word == "" || o.word == "+100" {
					o.reply = fmt.Sprintf(`result {"data":{"n":1},"method":%q,"user":"ann"}`, method)
				}
				c := way.open(t, s, "ann", "")
				c.next()
				c.send(fmt.Sprintf(`{"id":2,"rpc":{"method":%q,"data":{"n":1}}}`, method))
				if got := sorted(c.next()); got != o.reply {
					t.Errorf("%s, %s: %q, want %q", way.name, o.word, got, o.reply)
				}
				c.Vanish()
				of := transports[way.name]
				wantAsked(t, way.name, url, "connect "+of+" session=ann", "rpc "+of+" user=ann method="+method+` tenant=4 data={"n":1}`)
			}
			c := way.open(t, s, "ann", "")
			c.next()
			c.send(`{"id":2,"rpc":{}}`)
			if got, want := sorted(c.next()), `result {"data":null,"method":"","user":"ann"}`; got != want {
				t.Errorf("%s, without a method: %q, want %q", way.name, got, want)
			}
			wantAsked(t, way.name, url, "connect "+transports[way.name]+" session=ann", "rpc "+transports[way.name]+" user=ann tenant=4")
			c.Vanish()
		}
	})
}
