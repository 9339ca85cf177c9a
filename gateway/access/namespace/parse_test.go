package namespace

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const everything = `{
  "without_namespace": {
    "history_size": 10, "history_ttl": "90s", "allow_recovery": true, "allow_positioning": false, "force_recovery_mode": "stream"
  },
  "namespaces": [{
    "allow_raw_publish": true, "name": "chat", "history_size": 1048576, "history_ttl": "24h", "durable": false,
    "force_recovery": true, "allow_recovery": true, "force_positioning": true, "allow_positioning": true,
    "force_recovery_mode": "cache", "presence": true, "join_leave": true, "force_push_join_leave": true,
    "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true,
    "allow_publish_for_client": true, "allow_publish_for_subscriber": true, "allow_publish_for_anonymous": true,
    "allow_presence_for_client": true, "allow_presence_for_subscriber": true, "allow_presence_for_anonymous": true,
    "allow_history_for_client": true, "allow_history_for_subscriber": true, "allow_history_for_anonymous": true,
    "subscribe_proxy_enabled": true, "subscribe_proxy_name": "rooms", "publish_proxy_enabled": true, "publish_proxy_name": "default",
    "sub_refresh_proxy_enabled": true, "sub_refresh_proxy_name": "", "allow_user_limited_channels": true
  }, {"name": "off", "history_size": 0, "history_ttl": "0s", "force_recovery_mode": "", "presence": false}]
}`

func TestAFileIsReadWholly(t *testing.T) {
	chat := allOn()
	chat.Name, chat.HistorySize, chat.HistoryTTL, chat.ForceRecoveryMode, chat.Durable = "chat", 1<<20, 24*time.Hour, Cache, new(false)
	chat.SubscribeProxyName, chat.PublishProxyName = "rooms", "default"
	want := []*Options{
		{HistorySize: 10, HistoryTTL: 90 * time.Second, AllowRecovery: true},
		chat,
		{Name: "off"},
	}
	for name, file := range map[string]string{
		"bare":    everything,
		"wrapped": `{"channel": ` + everything + `}`,
	} {
		s, err := Parse([]byte(file))
		if err != nil {
			t.Fatal(name, err)
		}
		var got []*Options
		for o := range s.All() {
			got = append(got, o)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(name, diff)
		}
		if o, ok := s.Lookup("chat:a"); !ok || o != got[1] {
			t.Errorf("%s: a lookup gives %v, %v", name, o, ok)
		}
	}
}

func TestFilesThatSayLittleAreAccepted(t *testing.T) {
	for _, file := range []string{
		`{}`, ` { } `, `{"channel":{}}`, `{"namespaces":[]}`, `{"without_namespace":{}}`, "\n{\"namespaces\":[{\"name\":\"..\"}]}\n",
		`{"namespaces":[{"name":"chat","history_size":-0}]}`, `{"namespaces":[{"n\u0061me":"ch\u0061t"}]}`,
	} {
		if _, err := Parse([]byte(file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// Each option sets the field that is named like it, and no other.
func TestOptionsSetTheFieldsThatAreNamedLikeThem(t *testing.T) {
	values := map[string]string{"history_size": "7", "history_ttl": `"7s"`, "force_recovery_mode": `"cache"`,
		"subscribe_proxy_name": `"a"`, "publish_proxy_name": `"a"`, "sub_refresh_proxy_name": `"a"`, "channel_regex": `"a"`}
	fields := map[string]bool{"Name": true}
	for _, x := range known {
		value, other := values[x.name]
		if !other {
			value = "true"
		}
		var o Options
		if err := o.read(member{x.name, value}); err != nil {
			t.Fatal(err)
		}
		var set []string
		for i, v := range reflect.ValueOf(o).Fields() {
			if !v.IsZero() {
				set = append(set, i.Name)
				fields[i.Name] = true
			}
		}
		want := strings.ReplaceAll(x.name, "_", "")
		if len(set) != 1 || !strings.EqualFold(set[0], want) {
			t.Errorf("%s sets %q", x.name, set)
		}
	}
	if want := reflect.TypeFor[Options]().NumField(); len(fields) != want {
		t.Errorf("%d fields can be set, want %d: %v", len(fields), want, fields)
	}
}

// chatWith gives a file with one namespace of these options.
func chatWith(options string) string {
	return `{"namespaces":[{"name":"chat",` + options + `}]}`
}

// faultCases are files and all that is said of them.
var faultCases = []struct{ name, file, want string }{
	// The file.
	{"empty", "", `the file is empty; write at least {"namespaces": []}`},
	{"blank", " \n\t", `the file is empty; write at least {"namespaces": []}`},
	{"cut", `{"namespaces": [`, `line 1, column 16: invalid JSON: unexpected end of JSON input. The mistake is at or just before this position`},
	{"comma", "{\n  \"namespaces\": [],\n}", `line 3, column 1: invalid JSON: invalid character '}' looking for beginning of object key string. The mistake is at or just before this position`},
	{"comment", "{} // ours", `line 1, column 4: invalid JSON: invalid character '/' after top-level value. The mistake is at or just before this position`},
	{"trailing", "{}\n{}", `line 2, column 1: invalid JSON: invalid character '{' after top-level value. The mistake is at or just before this position`},
	{"array", `[{"name":"chat"}]`, `the file is an array; write an object, {"without_namespace": {...}, "namespaces": [...]}`},
	{"null", `null`, `the file is an empty value; write an object, {"without_namespace": {...}, "namespaces": [...]}`},
	{"twice", `{"namespaces":[],"namespaces":[]}`, `"namespaces" appears more than once; remove all but one`},
	{"thrice", `{"namespaces":[],"namespaces":[],"namespaces":[]}`, `"namespaces" appears more than once; remove all but one`},
	{"twice by escape", `{"namespaces":[],"n\u0061mespaces":[]}`, `"namespaces" appears more than once; remove all but one`},
	{"unknown", `{"namespace":[]}`, `"namespace" is unknown: did you mean "namespaces"?`},
	{"unlike", `{"servers":[]}`, `"servers" is not a known option; remove it`},
	{"option above", `{"presence":true}`, `"presence" is a channel option in the wrong place; move it into "without_namespace" or into a namespace`},
	{"foreign option above", `{"delta_publish":true}`, `"delta_publish" is a channel option in the wrong place; move it into "without_namespace" or into a namespace`},
	{"foreign above", `{"max_length":255}`, `max_length: this Centrifugo option is not supported: sluice has one limit for all channel names; remove it`},
	{"boundary", `{"channel":{"namespace_boundary":"/"}}`, `channel: namespace_boundary: this Centrifugo option is not supported: sluice always uses ':', '#', ',' and '$' here; remove it`},
	{"channel is no object", `{"channel":[]}`, `channel: [] is an array; write an object, {...}`},
	{"beside channel", `{"channel":{},"engine":{}}`, `"engine" is next to "channel", but if a file has "channel", sluice reads only that and "client"; move it into "channel" if it belongs there, or remove it`},
	{"namespaces beside channel", `{"namespaces":[],"channel":{}}`, `"namespaces" is next to "channel", but if a file has "channel", sluice reads only that and "client"; move it into "channel" if it belongs there, or remove it`},
	{"without is no object", `{"without_namespace":true}`, `without_namespace: true is a boolean; write an object, {...}`},
	{"namespaces is no array", `{"namespaces":{"chat":{}}}`, `namespaces: {"chat":{}} is an object; write an array of objects, [{"name": "chat", ...}]`},
	{"namespace is no object", `{"namespaces":["chat"]}`, `namespaces[0]: "chat" is a string; write an object, {...}`},

	// Names.
	{"nameless", `{"namespaces":[{"name":"chat"},{}]}`, `namespaces[1]: name: missing, so no channel would belong to this namespace; add it, for example "name": "chat"`},
	{"name is no string", `{"namespaces":[{"name":7}]}`, `namespaces[0]: name: 7 is a number; write a string, for example "chat"`},
	{"name with colon", `{"namespaces":[{"name":"chat:"}]}`, `namespaces[0]: name: "chat:" must consist of two or more of the characters a-z, A-Z, 0-9, '-', '_' and '.', without ':'; for example, "chat"`},
	{"short name", `{"namespaces":[{"name":"c"}]}`, `namespaces[0]: name: "c" must consist of two or more of the characters a-z, A-Z, 0-9, '-', '_' and '.', without ':'; for example, "chat"`},
	{"name with line end", `{"namespaces":[{"name":"chat\n"}]}`, `namespaces[0]: name: "chat\n" must consist of two or more of the characters a-z, A-Z, 0-9, '-', '_' and '.', without ':'; for example, "chat"`},
	{"same name", `{"namespaces":[{"name":"chat"},{"name":"chat"}]}`, `namespaces[1]: name: "chat" is already the name of another namespace; rename or remove one of them`},
	{"name without namespace", `{"without_namespace":{"name":"chat"}}`, `without_namespace: name: not allowed for channels without a namespace; remove it, or move the options into "namespaces"`},

	// Keys.
	{"slip", chatWith(`"presense":true`), `namespace "chat": "presense" is unknown: did you mean "presence"?`},
	{"case", chatWith(`"Presence":true`), `namespace "chat": "Presence" is unknown: did you mean "presence"?`},
	{"left out", chatWith(`"alow_publish_for_subscribers":true`), `namespace "chat": "alow_publish_for_subscribers" is unknown: did you mean "allow_publish_for_subscriber"?`},
	{"no option", chatWith(`"colour":"red"`), `namespace "chat": "colour" is not a known option; remove it`},
	{"long key", chatWith(`"` + strings.Repeat("x", 99) + `":1`), `namespace "chat": "` + strings.Repeat("x", 64) + `..." is not a known option; remove it`},
	{"option twice", chatWith(`"presence":true,"presence":false`), `namespaces[0]: "presence" appears more than once; remove all but one`},
	{"proxy of streams", chatWith(`"subscribe_stream_proxy_enabled":true`), `namespace "chat": subscribe_stream_proxy_enabled: this Centrifugo option is not supported: sluice asks no backend for streams (use a subscribe hook, and publish by the server API); remove it`},
	{"proxy's name alone", chatWith(`"publish_proxy_name":"a"`), `namespace "chat": publish_proxy_name: has no effect without publish_proxy_enabled; add "publish_proxy_enabled": true, or remove publish_proxy_name`},
	{"proxy's name", chatWith(`"publish_proxy_name":7,"publish_proxy_enabled":true`), `namespace "chat": publish_proxy_name: 7 is not a name; write that of a hook, for example "default"`},
	{"delta", chatWith(`"allowed_delta_types":["fossil"]`), `namespace "chat": allowed_delta_types: this Centrifugo option is not supported: sluice sends whole publications, never deltas; remove it`},
	{"regex", `{"without_namespace":{"channel_regex":"["},"namespaces":[{"name":"aa","channel_regex":1}]}`, "without_namespace: channel_regex: \"[\" is not a regular expression of Go (RE2): error parsing regexp: missing closing ]: `[`\n" +
		`namespace "aa": channel_regex: 1 is a number; write a regular expression in quotes, for example "^[a-z0-9]+$"`},
	{"client", `{"client":{"subscribe_to_user_personal_channel":{"enabled":1,"single":true,"personal_channel_namespace":2},"proxy":{},"token":1},"channel":{}}`,
		`client.subscribe_to_user_personal_channel: enabled: 1 is a number; write true or false without quotes` + "\n" +
			`client.subscribe_to_user_personal_channel: "single" is not a known option; remove it` + "\n" +
			`client.subscribe_to_user_personal_channel: personal_channel_namespace: 2 is a number; write the name of a namespace` + "\n" +
			`client: "proxy" belongs in the file of hooks; move it there` + "\n" +
			`client: "token" is not a known option; remove it`},
	{"personal, off", `{"client":{"subscribe_to_user_personal_channel":{"enabled":false,"single_connection":true}}}`,
		`client.subscribe_to_user_personal_channel: it has no effect without enabled; add "enabled": true, or remove it`},
	{"personal, without its namespace", `{"client":{"subscribe_to_user_personal_channel":{"enabled":true,"personal_channel_namespace":"me"}}}`,
		`client.subscribe_to_user_personal_channel: personal_channel_namespace: there is no namespace "me"; add it, or remove this`},
	{"personal, without presence", `{"client":{"subscribe_to_user_personal_channel":{"enabled":true,"single_connection":true}},"without_namespace":{}}`,
		`client.subscribe_to_user_personal_channel: single_connection: needs presence, to find a user's other connections; add "presence": true to the namespace of the personal channels, or remove single_connection`},

	// Values.
	{"flag as string", chatWith(`"presence":"true"`), `namespace "chat": presence: "true" is a string; write true or false without quotes`},
	{"flag as number", chatWith(`"join_leave":1`), `namespace "chat": join_leave: 1 is a number; write true or false without quotes`},
	{"flag as null", chatWith(`"presence":null`), `namespace "chat": presence: null is an empty value; write true or false without quotes`},
	{"size as string", chatWith(`"history_size":"10"`), `namespace "chat": history_size: "10" is a string; write the number of publications to keep, without quotes, for example 100`},
	{"size in half", chatWith(`"history_size":1.5`), `namespace "chat": history_size: 1.5 is not an integer; write one from 0 to 1048576`},
	{"size with exponent", chatWith(`"history_size":1e3`), `namespace "chat": history_size: 1e3 is not an integer; write one from 0 to 1048576`},
	{"size of no type", chatWith(`"history_size":99999999999999999999`), `namespace "chat": history_size: 99999999999999999999 is out of range; write an integer from 0 to 1048576`},
	{"size too big", chatWith(`"history_size":1048577,"history_ttl":"1s"`), `namespace "chat": history_size: 1048577 is more than 1048576, the most that one channel can keep; write a smaller number`},
	{"size negative", chatWith(`"history_size":-1`), `namespace "chat": history_size: -1 must not be negative; write the number of publications to keep, or 0 for no history`},
	{"ttl as number", chatWith(`"history_size":1,"history_ttl":300`), `namespace "chat": history_ttl: 300 is a number without a unit; write a string with a unit, for example "300s"`},
	{"ttl without unit", chatWith(`"history_size":1,"history_ttl":"300"`), `namespace "chat": history_ttl: "300" is not a duration with a unit: write, for example, "90s", "5m" or "24h"`},
	{"ttl in days", chatWith(`"history_size":1,"history_ttl":"7d"`), `namespace "chat": history_ttl: "7d" is not a duration with a unit: write, for example, "90s", "5m" or "24h"`},
	{"durable as number", chatWith(`"history_size":1,"history_ttl":"1s","durable":1`), `namespace "chat": durable: 1 is a number; write true or false without quotes`},
	{"durable without history", chatWith(`"durable":false`), `namespace "chat": durable: says whether the history is stored, and there is no history; add history_size and history_ttl, or remove durable`},
	{"durable with a history of 0", chatWith(`"history_size":0,"durable":true`), `namespace "chat": durable: says whether the history is stored, and there is no history; add history_size and history_ttl, or remove durable`},
	{"durable with a bad size", chatWith(`"history_size":-1,"durable":true`), `namespace "chat": history_size: -1 must not be negative; write the number of publications to keep, or 0 for no history`},
	{"ttl as object", chatWith(`"history_size":1,"history_ttl":{"s": 1}`), `namespace "chat": history_ttl: {"s": 1} is an object; write a string with a unit, for example "300s"`},
	{"ttl too short", chatWith(`"history_size":1,"history_ttl":"999ms"`), `namespace "chat": history_ttl: 999ms is less than 1s, too short for a client to reconnect; write at least "1s"`},
	{"ttl negative", chatWith(`"history_size":1,"history_ttl":"-1s"`), `namespace "chat": history_ttl: -1s is negative; write how long to keep publications, for example "300s"`},
	{"mode", chatWith(`"force_recovery_mode":"last"`), `namespace "chat": force_recovery_mode: "last" is not a recovery mode; write "stream" for everything missed, or "cache" for the newest publication only`},
	{"mode as flag", chatWith(`"force_recovery_mode":true`), `namespace "chat": force_recovery_mode: true is not a recovery mode; write "stream" for everything missed, or "cache" for the newest publication only`},
	{"long value", chatWith(`"presence":[` + strings.Repeat("1, ", 40) + `1]`), `namespace "chat": presence: [` + strings.Repeat("1, ", 21) + `... is an array; write true or false without quotes`},

	// Together.
	{"size alone", chatWith(`"history_size":10`), `namespace "chat": history_size: has no effect without history_ttl; add it, for example "history_ttl": "300s", or remove history_size`},
	{"ttl alone", chatWith(`"history_ttl":"10s"`), `namespace "chat": history_ttl: has no effect without history_size; add it, for example "history_size": 100, or remove history_ttl`},
	{"recovery alone", chatWith(`"force_recovery":true`), `namespace "chat": force_recovery: has no effect without a history; add history_size and history_ttl, or remove force_recovery`},
	{"allowed recovery alone", chatWith(`"allow_recovery":true`), `namespace "chat": allow_recovery: has no effect without a history; add history_size and history_ttl, or remove allow_recovery`},
	{"positioning alone", chatWith(`"force_positioning":true`), `namespace "chat": force_positioning: has no effect without a history; add history_size and history_ttl, or remove force_positioning`},
	{"history right alone", chatWith(`"allow_history_for_subscriber":true`), `namespace "chat": allow_history_for_subscriber: has no effect without a history; add history_size and history_ttl, or remove allow_history_for_subscriber`},
	{"cache alone", chatWith(`"history_size":1,"history_ttl":"1s","force_recovery_mode":"cache"`), `namespace "chat": force_recovery_mode: "cache" has no effect, because no client can recover: add "force_recovery": true or "allow_recovery": true, or remove force_recovery_mode`},
	{"push alone", chatWith(`"force_push_join_leave":true`), `namespace "chat": force_push_join_leave: has no effect without join_leave; add "join_leave": true, or remove force_push_join_leave`},
	{"presence right alone", chatWith(`"allow_presence_for_client":true`), `namespace "chat": allow_presence_for_client: has no effect without presence; add "presence": true, or remove allow_presence_for_client`},
	{"anonymous alone", `{"without_namespace":{"allow_subscribe_for_anonymous":true}}`, `without_namespace: allow_subscribe_for_anonymous: grants nothing by itself; it extends another permission to anonymous clients: add allow_subscribe_for_client, or remove allow_subscribe_for_anonymous`},
	{"anonymous publishing alone", chatWith(`"allow_publish_for_anonymous":true`), `namespace "chat": allow_publish_for_anonymous: grants nothing by itself; it extends another permission to anonymous clients: add allow_publish_for_client or allow_publish_for_subscriber, or remove allow_publish_for_anonymous`},

	// Many at once, and nothing that only follows from another fault.
	{"all at once", `{"proxy":{},"without_namespace":{"presence":0,"allow_presence_for_client":true},
		"namespaces":[{"name":"chat","history_size":"5","history_ttl":"1m","force_recovery":true,"join_leav":true},{"name":"?","presence":1}]}`,
		`proxy: this Centrifugo option is not supported: sluice reads its hooks from a file of their own; remove it
without_namespace: presence: 0 is a number; write true or false without quotes
namespace "chat": history_size: "5" is a string; write the number of publications to keep, without quotes, for example 100
namespace "chat": "join_leav" is unknown: did you mean "join_leave"?
namespaces[1]: name: "?" must consist of two or more of the characters a-z, A-Z, 0-9, '-', '_' and '.', without ':'; for example, "chat"
namespaces[1]: presence: 1 is a number; write true or false without quotes`},
}

func TestFaultsOfAFileAreNamed(t *testing.T) {
	for _, c := range faultCases {
		s, err := Parse([]byte(c.file))
		if err == nil || s != nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		if diff := cmp.Diff(c.want, err.Error()); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestEveryForeignOptionIsRefusedAsOne(t *testing.T) {
	for name := range foreign {
		if optionOf(name) != nil {
			t.Errorf("%s is also known", name)
		}
		_, err := Parse([]byte(chatWith(fmt.Sprintf("%q:false", name))))
		if err == nil || !strings.Contains(err.Error(), name+": this Centrifugo option is not supported") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name := range foreignAbove {
		_, err := Parse(fmt.Appendf(nil, `{"channel":{%q:null}}`, name))
		if err == nil || !strings.Contains(err.Error(), "channel: "+name+": this Centrifugo option is not supported") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNamespacesAreBounded(t *testing.T) {
	many := func(n int) []byte {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`{"name":"ns%d"}`, i))
		}
		return []byte(`{"namespaces":[` + strings.Join(list, ",") + `]}`)
	}
	if _, err := Parse(many(1000)); err != nil {
		t.Error(err)
	}
	_, err := Parse(many(1001))
	want := "namespaces: there are more than 1000; put channels with the same options into one namespace"
	if err == nil || err.Error() != want {
		t.Errorf("1001: %v", err)
	}
}

func TestOptionsFromCodeAreValidated(t *testing.T) {
	o := Options{Name: "any name", HistorySize: -1, HistoryTTL: time.Millisecond, ForceRecoveryMode: 2, ForcePushJoinLeave: true}
	want := `history_size: -1 must not be negative; write the number of publications to keep, or 0 for no history
history_ttl: 1ms is less than 1s, too short for a client to reconnect; write at least "1s"
force_recovery_mode: 2 is not a recovery mode: use Stream or Cache
force_push_join_leave: has no effect without join_leave; add "join_leave": true, or remove force_push_join_leave`
	if err := o.Validate(); err == nil || err.Error() != want {
		t.Error(cmp.Diff(want, fmt.Sprint(err)))
	}
	if err := (&Options{Name: "any name"}).Validate(); err != nil {
		t.Error(err)
	}
}
