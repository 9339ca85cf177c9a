// The code that the page offers to copy. Pure.

// javascriptFor is a whole client: it reads, publishes, comes back by itself and
// goes on where it was. url has a query already.
export function javascriptFor(url) {
  return `const url = ${JSON.stringify(url)};
let ws, since = "now", tries = 0;
function connect() {
  ws = new WebSocket(\`\${url}&since=\${since}\`);
  ws.onopen = () => { tries = 0; };
  ws.onmessage = (event) => {
    const m = JSON.parse(event.data);
    if (m.gap) console.warn("away too long: messages were lost");
    if ("offset" in m) since = \`\${m.epoch}:\${m.offset}\`;
    if ("data" in m) console.log(m.from, m.data);
  };
  const wait = () => (500 + 500 * Math.random()) * 2 ** Math.min(tries++, 4);
  ws.onclose = () => setTimeout(connect, wait());
}
connect(); // then ws.send("hello") publishes
`;
}

// curlFor publishes one message. Where the page was not told the address for
// publishing it shows one to fill in, with the key that such an address asks for.
export function curlFor(publishURL, channel) {
  const base = publishURL || "http://INTERNAL-ADDRESS:9000";
  const key = publishURL ? "" : " -H 'X-API-Key: KEY'";
  const target = `${base.replace(/\/+$/, "")}/publish/${encodeURIComponent(channel)}`;
  return `curl -d 'hello from a shell'${key} ${quote(target)}`;
}

// quote makes one word of a POSIX shell out of any text.
export function quote(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
