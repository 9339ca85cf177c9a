package channel

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func tagsOf(e Extra) map[string]string {
	var all map[string]string
	for tags := e.Tags; len(tags) > 0; {
		var key, value []byte
		if all == nil {
			all = map[string]string{}
		}
		key, value, tags = tags.Next()
		all[string(key)] = string(value)
	}
	return all
}

func TestExtra(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, test := range []struct {
		who  *Who
		tags map[string]string
	}{
		{},
		{&Who{}, nil},
		{&Who{User: []byte("u"), Client: []byte("c"), ConnInfo: []byte(`{"a":1}`), ChanInfo: []byte("\xff")}, nil},
		{nil, map[string]string{"": "", "k": "v", long: long}},
		{&Who{User: []byte(long), ChanInfo: []byte("x")}, map[string]string{"k": ""}},
	} {
		var b []byte
		if who := test.who; who != nil {
			b = AppendWho(nil, who.Info())
		}
		b = AppendTags(b, test.tags)
		e := ParseExtra(b)
		if e.HasWho != (test.who != nil) {
			t.Errorf("%q: HasWho is %t", b, e.HasWho)
		} else if got := e.Who; e.HasWho {
			want := *test.who
			if string(got.User) != string(want.User) || string(got.Client) != string(want.Client) ||
				string(got.ConnInfo) != string(want.ConnInfo) || string(got.ChanInfo) != string(want.ChanInfo) {
				t.Errorf("%q: got %q, want %q", b, got, want)
			}
		}
		if diff := cmp.Diff(test.tags, tagsOf(e)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", b, diff)
		}
	}
}

func TestAnExtraIsWellFormedAndTheSameForTheSame(t *testing.T) {
	tags := map[string]string{"k\xff": "v\xff"}
	for i := range 20 {
		tags[strings.Repeat("x", i)] = "v"
	}
	b := AppendTags(AppendWho(nil, &ClientInfo{User: "u\xff", Client: "c\xff"}), tags)
	e := ParseExtra(b)
	if got := tagsOf(e); string(e.Who.User) != "u\ufffd" || string(e.Who.Client) != "c\ufffd" || got["k\ufffd"] != "v\ufffd" || len(got) != len(tags) {
		t.Errorf("%+v %v", e, got)
	}
	for range 20 {
		if diff := cmp.Diff(string(b), string(AppendTags(AppendWho(nil, &ClientInfo{User: "u\xff", Client: "c\xff"}), tags))); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestAnExtraThatIsNotOneSaysNothing(t *testing.T) {
	who, tag := string(AppendWho(nil, &ClientInfo{User: "u", Client: "c"})), string(AppendTags(nil, map[string]string{"k": "v"}))
	for _, b := range []string{
		"x", who + "x", who + tag + "x", who + who, tag + who, "x" + tag,
		who[:len(who)-1], who[:1], who + tag[:len(tag)-1], tag[:1],
		"w\x01", "w\x01u\x05c", "t\x00", "t\x00\x01",
		"t\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",     // a length that no slice has
		"t\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", // one that no integer has
		"t\x00\x80", // half a length
	} {
		if e := ParseExtra([]byte(b)); e.HasWho || e.Tags != nil {
			t.Errorf("%q: %+v", b, e)
		}
	}
}

// FuzzParseExtra: what can be read is read to its end, and lies within the bytes.
func FuzzParseExtra(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendTags(AppendWho(nil, &ClientInfo{User: "u", Client: "c", ConnInfo: []byte("{}")}), map[string]string{"a": "b", "c": ""}))
	f.Add([]byte("w\x80\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e := ParseExtra(b)
		n := 0
		if e.HasWho {
			n += 5 + len(e.Who.User) + len(e.Who.Client) + len(e.Who.ConnInfo) + len(e.Who.ChanInfo)
		}
		for tags := e.Tags; len(tags) > 0; {
			var key, value []byte
			key, value, tags = tags.Next()
			n += 3 + len(key) + len(value)
		}
		if n > len(b) {
			t.Errorf("%q: parts of %d bytes", b, n)
		}
	})
}
