package deploy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// Each of these pages has what the want column says, and nothing else. Tildes in the
// text are back quotes.
var faultyPages = []struct {
	name, text string
	want       []string // LINE: beginning of the fault
}{
	{"an unmarked block", "# P\n\n~~~sh\nls\n~~~\n\n~~~console\n$ ls\n~~~\n",
		[]string{"3: a block of commands is marked", "7: a block of commands is marked", "7: a prompt"}},
	{"an unknown mark", "~~~sh runs\nls\n~~~\n\n~~~js module\n1\n~~~\n", []string{`1: unknown mark "runs"`, `5: unknown mark "module"`}},
	{"marks that exclude each other", "~~~sh run needs docker\ntrue\n~~~\n", []string{"1: more than one of"}},
	{"marks of another language", "~~~js run\n1\n~~~\n", []string{"1: run and needs are marks of sh"}},
	{"background of a block that is not run", "~~~sh checked background\ntrue\n~~~\n", []string{"1: background and restart are marks"}},
	{"too many needs, and none", "~~~sh needs a lot more than four\nls\n~~~\n~~~sh needs\nls\n~~~\n",
		[]string{"1: needs is followed by one to four words, not by 5", "4: needs is followed by one to four words, not by 0"}},
	{"a file elsewhere", "~~~js file=../x.mjs\n1\n~~~\n", []string{"1: file=../x.mjs is not a name below"}},
	{"no end", "~~~sh run\nls\n", []string{"1: the block has no end"}},
	{"output of nothing", "~~~text output\nhello\n~~~\n", []string{"1: the output of a block, but none before it is run"}},

	{"a command that fails", "~~~sh run\ntrue\n~~~\n\n~~~sh run\nexit 3\n~~~\n~~~sh run\nexit 4\n~~~\n", []string{"5: exit status 3"}},
	{"a pipe that fails", "~~~sh run\nfalse | cat\ntrue\n~~~\n", []string{"1: exit status 1"}},
	{"a variable of another block", "~~~sh run\nkey=1\n~~~\n~~~sh run\necho $key\n~~~\n", []string{"4: exit status 1; it printed:\nbash: line 1: key: unbound variable"}},
	{"a background that fails", "~~~sh run background\nsluice serve --listen nowhere\n~~~\n", []string{"1: exit status 2"}},
	{"a background that ends", "~~~sh run background\ntrue\n~~~\n", []string{"1: it does not stay in the background"}},
	{"a background that fails later", "~~~sh run background\ntimeout 1 sluice serve\n~~~\n~~~sh run\nsleep 1.5\n~~~\n", []string{"1: exit status 124"}},
	{"no network", "~~~sh run\ncurl -sS http://192.0.2.1/\n~~~\n", []string{"1: exit status 7"}},
	{"no gateway left over", "~~~sh run\ncurl -sS http://127.0.0.1:8000/healthz\n~~~\n", []string{"1: exit status 7"}},

	{"a refusal", `~~~sh run background
sluice serve
~~~
~~~sh run
curl -s -d hello http://127.0.0.1:9000/publsh/news
~~~
`, []string{"4: exit status 22"}},
	{"an error of the API", `~~~sh run background
sluice serve --insecure
~~~
~~~sh run
curl -s http://127.0.0.1:9000/api/history -d '{"chanel":"news"}'
~~~
~~~sh run
curl -s http://127.0.0.1:9000/api/history -d '{"channel":""}'
~~~
~~~json output
{"error":{"code":107,"message":"channel is required"}}
~~~
`, []string{"4: an error that no output of the page shows"}},
	{"no failure", "~~~sh run fails\nexit 3\n~~~\n~~~sh run fails\ntrue\n~~~\n", []string{"4: it does not fail"}},
	{"a failure in the background", "~~~sh run background fails\nfalse\n~~~\n", []string{"1: fails is a mark of"}},

	{"other text", "~~~sh run\necho hello world\n~~~\n~~~text output\nhello you\n~~~\n", []string{`4: no line is "hello you"`}},
	{"more text", "~~~sh run\necho ann is typing\n~~~\n~~~text output\nann is typing slowly\n~~~\n", []string{`4: no line is "ann is typing slowly"`}},
	{"less text", "~~~sh run\necho ann is typing slowly\n~~~\n~~~text output\nann is typing\n~~~\n", []string{`4: no line is "ann is typing"`}},
	{"another end", "~~~sh run\necho invalid token: it has expired\n~~~\n~~~text output\ninvalid token: it expired yesterday\n~~~\n",
		[]string{`4: no line is "invalid token: it expired yesterday"`}},
	{"another status", "~~~sh run\necho HTTP/1.1 400 Bad Request\n~~~\n~~~text output\nHTTP/1.1 599 Bad Request\n~~~\n", []string{`4: no line is "HTTP/1.1 599`}},
	{"another code", "~~~sh run\necho disconnected: 3503 force\n~~~\n~~~text output\ndisconnected: 4999 force\n~~~\n", []string{`4: no line is "disconnected: 4999`}},
	{"text in another order", "~~~sh run\necho a; echo b\n~~~\n~~~text output\nb\na\n~~~\n", []string{`4: no line is "a"`}},
	{"other keys", `~~~sh run
echo '{"epoch":"2dj16te7ld3h9","offset":1}'
~~~
~~~json output
{"epoch":"3uerd2p4f81rr","offset":1,"subscribers":3}
~~~
`, []string{`4: keys of the object : the page has ["epoch" "offset" "subscribers"], printed was ["epoch" "offset"]`}},
	{"other values", `~~~sh run
echo '{"epoch":"2dj16te7ld3h9","at":1,"from":"api","data":"goal!"}'
~~~
~~~json output
{"epoch":"3uerd2p4f81rr","at":2,"from":"nobody","data":"goal!"}
~~~
~~~json output
{"epoch":"3uerd2p4f81rr","at":2,"from":"api","data":"nonsense"}
~~~
~~~json output
{"epoch":"no epoch","at":2,"from":"api","data":"goal!"}
~~~
~~~text output
{"epoch":"3uerd2p4f81rr","at":"2","from":"api","data":"goal!"}
~~~
`, []string{"4: .from: the page has nobody, printed was api", "7: .data: the page has nonsense", "10: .epoch: the page has no epoch", `13: no line is "{`}},
	{"other numbers", `~~~sh run
echo '{"result":{"num_clients":1,"num_users":1}}'
~~~
~~~json output
{"result":{"num_clients":1,"num_users":99}}
~~~
`, []string{"4: .result.num_users: the page has 99, printed was 1"}},
	{"another kind of value", "~~~sh run\necho '[1]'\n~~~\n~~~json output\n[\"1\"]\n~~~\n", []string{"4: [0]: the page has string, printed was float64"}},
	{"a shorter array", "~~~sh run\necho '[1,2]'\n~~~\n~~~json output\n[1]\n~~~\n", []string{"4: array : the page has 1 values"}},

	{"unknown flags and commands", `~~~sh checked
sluice serve --listen :8000 --lissen :9000
sluice publish news
sluice bench fanin --url ws://127.0.0.1
~~~
~~~sh needs docker
# sluice --nothing
echo hello | sluice pub \
    news --time 1 && SLUICE_RAW=x ./sluice -Z
~~~
`, []string{"2: sluice serve has no flag --lissen", "3: sluice has no command publish", "4: sluice bench has no command fanin",
		"8: sluice pub has no flag --time", "8: sluice has no flag -Z"}},
	{"unknown flags in prose", "Say ~sluice sub --noise~ or\n~sluice serve --help~, or ~sluice\nbench idle --pid PID~, or ~sluice lisp~.\n",
		[]string{"1: sluice sub has no flag --noise", "3: sluice has no command lisp"}},
	{"no shell", "~~~sh checked\nif true\n~~~\n", []string{"1: bash: exit status 2"}},
	{"no JSON", "~~~json checked\n{\"a\":1,}\n~~~\n~~~json file=a.json\n{\n~~~\n", []string{"1: invalid character '}'", "4: unexpected end of JSON"}},
	{"Go that gofmt changes", "~~~go checked\nx:=1\n~~~\n", []string{"1: not as gofmt writes it"}},
	{"checked by nothing", "~~~cobol checked\n1\n~~~\n", []string{`1: checked: no tool for "cobol" is known`}},

	{"dead links", `# What's it? ~a-b~

## Same
## Same

[1](other.md) [2](#whats-it-a-b) [3](#same-1) [4](other.md#there) [5](../LICENSE) [6](https://example.com/#x)
[7](missing.md) [8](#same-2) ![9](no.png)
[10](other.md#nowhere)
[11](../LICENSE#there) ~[12](code.md)~ <img src="gone.svg">
[13](../../outside)
`, []string{"7: link missing.md: no such file", "7: link #same-2: ", "7: link no.png: no such file", "8: link other.md#nowhere: deploy/recipes/other.md has no heading",
		"9: link ../LICENSE#there: deploy/LICENSE is not a page", "9: link gone.svg: no such file", "10: link ../../outside: no such file"}},

	{"nothing", `# A page that holds

~~~sh run background
sluice serve --raw=publish
~~~

~~~sh run background
sluice sub news
~~~

1. In a list:

   ~~~sh run
   curl -d 'goal!' http://127.0.0.1:9000/publish/news
   ~~~

   ~~~json output
   {"epoch":"2dj16te7ld3h9","offset":1,"subscribers":1}
   ~~~

~~~text output
goal!
~~~

~~~sh run fails
curl -i http://127.0.0.1:8000/sse/news?since=never
~~~

~~~text output
HTTP/1.1 400 Bad Request
...
~~~

~~~sh run
date -u "+%FT%TZ $(cat /proc/sys/kernel/random/uuid)"
printf '%s\n' "  took 12ms on 127.0.0.1:40123" 'data: {"at":1,"id":"7","rtt_us":1}'
~~~

~~~text output
2025-11-21T08:00:00Z 164f6507-8fed-4fdc-af0d-005d63320381
took 1.5s on 127.0.0.1:51000
data: {"rtt_us": 20, "at": 1763712000123, "id": "12"}
~~~

~~~text file=dir/channels.txt
news
~~~

~~~sh run restart
sluice serve --max-connections 1
~~~

~~~sh run
test "$(cat dir/channels.txt)" = news # from the block above
sluice health && echo "it is $(date)"
~~~

~~~text output
...
it is ...
~~~

~~~sh needs docker
exit 1
~~~

~~~js
an example, of no mark
~~~
`, nil},
}

func TestFaultsOfPagesAreFound(t *testing.T) {
	t.Parallel()
	for _, tt := range faultyPages {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := strings.ReplaceAll(strings.ReplaceAll(tt.text, "~~~", "```"), "~", "`")
			p, faults := parse("deploy/recipes/page.md", text)
			if len(faults) == 0 {
				for _, b := range p.blocks {
					faults = append(faults, check(t, b)...)
				}
				faults = append(faults, unknownInProse(t, p)...)
			}
			if len(faults) == 0 {
				other, _ := parse("deploy/recipes/other.md", "# There\n")
				tree := fstest.MapFS{"LICENSE": {}, "deploy/LICENSE": {}, "deploy/recipes/page.md": {}, other.name: {}}
				faults = p.deadLinks(tree, map[string]*page{p.name: p, other.name: other})
			}
			if len(faults) == 0 {
				runPage(t, p, func(f fault) { faults = append(faults, f) })
			}
			slices.SortStableFunc(faults, func(a, b fault) int { return a.Line - b.Line })
			var got []string
			for i, f := range faults {
				text := fmt.Sprintf("%d: %s", f.Line, f.Text)
				if i < len(tt.want) && strings.HasPrefix(text, tt.want[i]) {
					text = tt.want[i]
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
