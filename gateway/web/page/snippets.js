// The code that the page offers to copy. Pure.

import { channelURL, moduleURL, streamURL } from "./address.js";

// snippetsFor returns whole programs for a channel: each reads it, reconnects where that takes code,
// and publishes. publishURL is where programs publish, "" if the page does not know.
export function snippetsFor({ address, channel, publishURL }) {
  const where = {
    module: moduleURL(address),
    socket: channelURL(address, channel),
    stream: streamURL(address, channel),
    ...internal(publishURL, channel),
    channel,
  };
  return [
    { id: "javascript", name: "JavaScript", language: "js", code: javascript(where), words: "For a page of your own. sluice.js has types and no dependencies: import it from here, or copy it into your project. A page of another origin has to be named in --allowed-origins." },
    { id: "curl", name: "curl", language: "sh", code: curl(where), words: "Publish as a backend, then read over SSE." },
    { id: "node", name: "Node", language: "js", code: node(where), words: "Node.js 22 or later, without packages." },
    { id: "python", name: "Python", language: "py", code: python(where), words: "Python 3, without packages. Over SSE." },
    { id: "go", name: "Go", language: "go", code: go(where), words: "Go's standard library. Over SSE." },
  ];
}

const javascript = ({ module, socket }) => `import { subscribe } from ${JSON.stringify(module)};

const channel = subscribe(${JSON.stringify(socket)}, {
  history: 10,
  onMessage(m) { console.log(m.from, m.data); },
  onGap() { console.warn("messages may be lost: load the current state again"); },
  onState(s) { console.log(s.state, s.reason ?? ""); },
});
// later, while it is open: channel.publish("hello")
`;

const curl = ({ publish, api, stream, key, channel }) => {
  const header = key && ` -H 'X-API-Key: ${key}'`;
  return `curl -d 'hello from a shell'${header} ${quote(publish)}

# the same with the server API, which has presence, history and more
curl -d ${quote(JSON.stringify({ channel, data: { text: "hello from a shell" } }))}${header} ${quote(api)}

curl -N ${quote(withQuery(stream, "history=10"))}
`;
};

const node = ({ module, socket, publish, key }) => `// first: curl -fo sluice.mjs ${module}
import { subscribe } from ${JSON.stringify("./sluice.mjs")};

subscribe(${JSON.stringify(socket)}, {
  history: 10,
  onMessage(m) { console.log(m.from, m.data); },
  onGap() { console.warn("messages may be lost: load the current state again"); },
  onState(s) { if (s.reason) console.warn(s.state, s.reason); },
});

const response = await fetch(${JSON.stringify(publish)}, {
  method: "POST",
  body: "hello from Node",${key && `\n  headers: { "X-API-Key": ${JSON.stringify(key)} },`}
});
console.log(await response.text()); // its position in the channel
`;

const python = ({ stream, publish, key }) => `import http.client, json, random, time, urllib.request

message = urllib.request.Request(${JSON.stringify(publish)}, b"hello from Python"${key && `, {"X-API-Key": ${JSON.stringify(key)}}`})
print(urllib.request.urlopen(message).read().decode())  # its position in the channel

stream = ${JSON.stringify(withQuery(stream, "format=json"))}
start, failures = "history=10", 0
while True:
    try:
        with urllib.request.urlopen(f"{stream}&{start}", timeout=60) as lines:  # a comment comes every 25 s
            event = {}
            for line in lines:
                if line != b"\\n":
                    field, _, value = line.decode().rstrip("\\n").partition(": ")
                    event[field] = value
                    continue
                if "id" in event:
                    start = "since=" + event["id"]
                kind, data = event.get("event", "message"), event.get("data")
                event = {}
                if kind == "gap":
                    print("messages may be lost: load the current state again")
                elif kind == "close" and json.loads(data)["code"] == 1008:
                    raise SystemExit(data)  # it would be closed again
                elif kind == "message" and data:
                    m = json.loads(data)
                    print(m["from"], m.get("data", m.get("base64")))
                    failures = 0
    except (OSError, http.client.HTTPException) as error:
        if getattr(error, "code", 500) in (400, 401, 403, 404):
            raise  # it would be refused again
    time.sleep(random.uniform(0.5, 1) * 2 ** min(failures, 4))
    failures += 1
`;

const go = ({ stream, publish, key }) => `package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"time"
)

const stream = ${JSON.stringify(withQuery(stream, "format=json"))}

var start, failures = "history=10", 0

func main() {
	message, err := http.NewRequest("POST", ${JSON.stringify(publish)}, strings.NewReader("hello from Go"))
	if err != nil {
		log.Fatal(err)
	}
${key && `	message.Header.Set("X-API-Key", ${JSON.stringify(key)})\n`}	response, err := http.DefaultClient.Do(message)
	if err != nil {
		log.Fatal(err)
	}
	io.Copy(os.Stdout, response.Body) // its position in the channel
	response.Body.Close()
	for {
		if response, err = http.Get(stream + "&" + start); err == nil {
			switch response.StatusCode {
			case 200:
				read(response.Body)
			case 400, 401, 403, 404:
				log.Fatal(response.Status) // it would be refused again
			}
			response.Body.Close()
		}
		time.Sleep(time.Duration(float64(500*time.Millisecond)*(1+rand.Float64())) << min(failures, 4))
		failures++
	}
}

func read(body io.Reader) {
	event := map[string]string{}
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20) // longer than any line: JSON can make a message six times as long
	for lines.Scan() {
		if field, value, _ := strings.Cut(lines.Text(), ": "); lines.Text() != "" {
			event[field] = value
			continue
		}
		if event["id"] != "" {
			start = "since=" + event["id"]
		}
		switch data := event["data"]; {
		case event["event"] == "gap":
			fmt.Println("messages may be lost: load the current state again")
		case event["event"] == "close" && strings.Contains(data, \`"code":1008,\`):
			log.Fatal(data) // it would be closed again
		case event["event"] == "" && data != "":
			var m struct{ From, Data, Base64 string }
			json.Unmarshal([]byte(data), &m)
			fmt.Println(m.From, m.Data, m.Base64)
			failures = 0
		}
		clear(event)
	}
}
`;

// tokensFor makes a connection token and a subscription token. The file is the gateway's.
export function tokensFor(channel) {
  const make = "sluice token make --token-hmac-secret-file secret --user 42";
  return `${make}\n${make} --channel ${quote(channel)}\n`;
}

// internal is where programs publish. Where the page does not know, it shows an address
// to fill in, with the key that such an address asks for.
function internal(publishURL, channel) {
  const base = (publishURL || "http://INTERNAL-ADDRESS:9000").replace(/\/+$/, "");
  return { publish: `${base}/publish/${encodeURIComponent(channel)}`, api: `${base}/api/publish`, key: publishURL ? "" : "KEY" };
}

const withQuery = (url, parameter) => `${url}${url.includes("?") ? "&" : "?"}${parameter}`;

// quote makes one word of a POSIX shell out of any text.
export function quote(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
