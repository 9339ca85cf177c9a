// The code that the page offers to copy. Pure.

// javascriptFor is a whole client, that of gateway/PROTOCOL.md in short: it reads,
// publishes, reconnects and resumes. url has a query already.
export function javascriptFor(url) {
  return `const url = ${JSON.stringify(url)};
let ws, since = "now", last = 0, tries = 0;
function connect() {
  ws = new WebSocket(\`\${url}&since=\${since}\`);
  ws.onmessage = (event) => {
    const m = JSON.parse(event.data);
    if (m.gap || m.prev > last) console.warn("messages may be lost: load the current state again");
    if ("offset" in m) {
      last = m.offset;
      since = \`\${m.epoch}:\${m.offset}\`;
      tries = 0; // not in onopen: a full gateway may accept the connection and close it immediately
    }
    if ("base64" in m) m.data = Uint8Array.from(atob(m.base64), (c) => c.charCodeAt(0));
    if ("data" in m) console.log(m.from, m.data);
  };
  ws.onclose = (event) => {
    if (event.code === 1008 && event.reason !== "no response to ping") return; // it would happen again
    setTimeout(connect, (500 + 500 * Math.random()) * 2 ** Math.min(tries++, 4));
  };
}
connect(); // then ws.send("hello") publishes
`;
}

// curlFor publishes one message.
export function curlFor(publishURL, channel) {
  const { base, key } = internal(publishURL);
  return `curl -d 'hello from a shell'${key} ${quote(`${base}/publish/${encodeURIComponent(channel)}`)}`;
}

// curlForAPI publishes an object through the server's API.
export function curlForAPI(publishURL, channel) {
  const { base, key } = internal(publishURL);
  const body = JSON.stringify({ channel, data: { text: "hello from a shell" } });
  return `curl -d ${quote(body)}${key} ${quote(`${base}/api/publish`)}`;
}

// tokensFor makes a connection token and a subscription token. The file is the gateway's.
export function tokensFor(channel) {
  const make = "sluice token make --token-hmac-secret-file secret --user 42";
  return `${make}\n${make} --channel ${quote(channel)}\n`;
}

// internal is where programs publish. Where the page does not know, it shows an address
// to fill in, with the key that such an address asks for.
function internal(publishURL) {
  if (publishURL) return { base: publishURL.replace(/\/+$/, ""), key: "" };
  return { base: "http://INTERNAL-ADDRESS:9000", key: " -H 'X-API-Key: KEY'" };
}

// quote makes one word of a POSIX shell out of any text.
export function quote(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
