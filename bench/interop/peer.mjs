// WebSocket clients that are JavaScript, for script.go: npm ws, or a page in Chromium.
// Orders come as lines of JSON, what is heard goes out so.
//
//   node peer.mjs ws CERTIFICATE PIN
//   node peer.mjs chromium CERTIFICATE PIN HTTP_URL HTTPS_URL

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [kind, certificate, pin, ...pages] = process.argv.slice(2);
const require = createRequire(new URL("../../gateway/web/suite/package.json", import.meta.url));
const tell = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

function npmWS() {
  const WebSocket = require("ws");
  const ca = readFileSync(certificate);
  const conns = new Map();
  const payload = (order) => (order.base64 ? Buffer.from(order.base64, "base64") : Buffer.from(order.text ?? ""));
  const orders = {
    dial({ conn, url }) {
      const ws = new WebSocket(url, { ca, perMessageDeflate: { threshold: 1 } });
      conns.set(conn, ws);
      let fault = "", opened = false;
      ws.on("open", () => { opened = true; tell({ conn, is: "open" }); });
      ws.on("message", (bytes, binary) => tell({ conn, is: "message", ...(binary ? { binary, base64: bytes.toString("base64") } : { text: bytes.toString() }) }));
      ws.on("pong", (bytes) => tell({ conn, is: "pong", text: bytes.toString() }));
      ws.on("error", (err) => { fault = err.message; }); // "close" follows
      ws.on("close", (code, reason) => {
        if (!opened) return tell({ conn, is: "failed", text: fault });
        tell({ conn, is: "closed", code, text: reason.toString() || (code === 1006 ? fault : "") });
      });
    },
    send(order) {
      const ws = conns.get(order.conn), bytes = payload(order), binary = !!order.binary;
      if (!order.part) return ws.send(bytes, { binary });
      for (let at = 0; at < bytes.length; at += order.part) ws.send(bytes.subarray(at, at + order.part), { binary, fin: false });
      ws.send(Buffer.alloc(0), { binary, fin: true });
    },
    ping: (order) => conns.get(order.conn).ping(payload(order)),
    close: ({ conn, code, text }) => conns.get(conn).close(code, text),
  };
  return { version: require("ws/package.json").version, obey: (order) => orders[order.do](order), end() {} };
}

// inPage is the client in the page. One batch of what was heard is on its way at a
// time, so that batches do not overtake each other.
function inPage() {
  const conns = new Map(), waiting = [];
  let busy = false;
  async function tell(answer) {
    waiting.push(answer);
    if (busy) return;
    busy = true;
    while (waiting.length) await window.hear(JSON.stringify(waiting.splice(0)));
    busy = false;
  }
  const base64 = (buffer) => btoa(Array.from(new Uint8Array(buffer), (b) => String.fromCharCode(b)).join(""));
  const orders = {
    dial({ conn, url }) {
      const ws = new WebSocket(url);
      let opened = false;
      ws.binaryType = "arraybuffer";
      conns.set(conn, ws);
      ws.onopen = () => { opened = true; tell({ conn, is: "open" }); };
      ws.onmessage = ({ data }) => tell({ conn, is: "message", ...(typeof data === "string" ? { text: data } : { binary: true, base64: base64(data) }) });
      ws.onclose = ({ code, reason }) => tell(opened ? { conn, is: "closed", code, text: reason } : { conn, is: "failed", text: `closed with ${code}` });
    },
    send({ conn, binary, base64, text }) {
      conns.get(conn).send(binary ? Uint8Array.from(atob(base64 ?? ""), (c) => c.charCodeAt(0)) : text ?? "");
    },
    close({ conn, code, text }) { code ? conns.get(conn).close(code, text) : conns.get(conn).close(); },
  };
  window.obey = (order) => orders[order.do](order);
}

// chromium has a page for each scheme, of the gateway's own origins: other origins are refused.
async function inChromium() {
  const { chromium } = require("playwright-core");
  const executablePath = process.env.CHROMIUM || execFileSync("sh", ["-c", "command -v chromium"], { encoding: "utf8" }).trim();
  const browser = await chromium.launch({
    executablePath, // no sandbox: it has none for root, as CI is
    args: ["--no-sandbox", "--disable-dev-shm-usage", `--ignore-certificate-errors-spki-list=${pin}`],
  });
  const context = await browser.newContext();
  const [plain, secure] = await Promise.all(pages.map(async (url) => {
    const page = await context.newPage();
    page.on("pageerror", (err) => process.stderr.write(`peer.mjs: ${err.message}\n`));
    await page.exposeFunction("hear", (batch) => JSON.parse(batch).forEach(tell));
    await page.goto(new URL("/healthz", url).href);
    await page.evaluate(inPage);
    return page;
  }));
  const pageOf = new Map();
  return {
    version: browser.version(),
    obey(order) {
      if (order.do === "dial") pageOf.set(order.conn, order.url.startsWith("wss:") ? secure : plain);
      return pageOf.get(order.conn).evaluate((o) => window.obey(o), order);
    },
    end: () => browser.close(),
  };
}

const peer = kind === "ws" ? npmWS() : await inChromium();
tell({ is: "ready", version: peer.version });
for await (const text of createInterface({ input: process.stdin })) await peer.obey(JSON.parse(text));
await peer.end();
process.exit(0);
