// The code that the page offers to copy, run as it stands.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { launch, Tab } from "./browser.mjs";
import { serverOf } from "./follower.mjs";
import { Gateway, Wire } from "./gateway.mjs";
import { quote, snippetsFor, tokensFor } from "../page/snippets.js";

const exec = promisify(execFile);
const patience = 60_000; // ms
const channel = `it's/日本&$(touch,pwned)\`"\\!*[1-3]{a,b};#%41`;

// snippet returns the code of a tab.
function snippet(id, { host, publishURL }) {
  return snippetsFor({ address: new URL(`ws://${host}`), channel, publishURL }).find((s) => s.id === id).code;
}

// Program is a copied program that runs in a directory of its own.
class Program {
  static async start(t, id, code) {
    const p = new Program();
    p.dir = await mkdtemp(join(tmpdir(), "sluice-snippet-"));
    t.after(() => rm(p.dir, { recursive: true }));
    p.printed = "";
    const [file, command] = await p[id]?.(code) ?? assert.fail(id);
    p.process = spawn(file, command, { cwd: p.dir, env: { ...process.env, PYTHONUNBUFFERED: "1" } });
    t.after(() => p.process.kill("SIGKILL"));
    for (const stream of [p.process.stdout, p.process.stderr]) stream.on("data", (bytes) => { p.printed += bytes; p.process.emit("printed"); });
    p.ended = once(p.process, "close");
    return p;
  }

  async curl(code) { return ["sh", ["-c", code]]; }

  async node(code) {
    const [, command] = code.match(/^\/\/ first: (.*)$/m);
    await exec("sh", ["-ec", command], { cwd: this.dir });
    await writeFile(join(this.dir, "main.mjs"), code);
    return [process.execPath, ["--experimental-websocket", "main.mjs"]];
  }

  async python(code) { return ["python3", ["-c", code]]; }

  async go(code) {
    await writeFile(join(this.dir, "main.go"), code);
    assert.equal((await exec("gofmt", ["-l", "."], { cwd: this.dir })).stdout, "", "it is formatted");
    await exec("go", ["vet", "main.go"], { cwd: this.dir });
    await exec("go", ["build", "-o", "main", "main.go"], { cwd: this.dir });
    return ["./main", []];
  }

  async prints(text) {
    const late = AbortSignal.timeout(patience);
    while (!this.printed.includes(text)) {
      await once(this.process, "printed", { signal: late }).catch(() => assert.fail(`no ${JSON.stringify(text)} in ${this.printed}`));
    }
  }

  // received returns the lines that are messages of this test.
  received() {
    return this.printed.split("\n").filter((line) => line.startsWith("api ")).map((line) => line.slice(4).trim());
  }
}

// behindWire returns a gateway and a wire to it.
async function behindWire(t) {
  const gateway = await Gateway.start();
  t.after(() => gateway.stop());
  const wire = await Wire.to(gateway.port);
  t.after(() => wire.close());
  return { gateway, wire, host: new URL(wire.url).host, publishURL: `http://${gateway.internal}` };
}

for (const [id, name] of [["node", "Node"], ["python", "Python"], ["go", "Go"]]) {
  test(`${name}: publishes, reads, comes back, reports a loss, and stops when it is closed for good`, async (t) => {
    const { gateway, wire, ...where } = await behindWire(t);
    const p = await Program.start(t, id, snippet(id, where));
    await p.prints(`api hello from ${name}`);
    await p.prints('"offset":1,'); // the position of what it has published
    await gateway.publish(channel, "live");
    await p.prints("api live");
    wire.cut();
    await gateway.publish(channel, "missed");
    wire.mend();
    await p.prints("api missed");
    await gateway.publish(channel, "live again");
    await p.prints("api live again");
    assert.deepEqual(p.received(), [`hello from ${name}`, "live", "missed", "live again"]);
    assert.doesNotMatch(p.printed, /may be lost/);

    await gateway.stop();
    await gateway.run();
    await p.prints("messages may be lost: load the current state again");
    await gateway.publish(channel, "in the next life");
    await p.prints("api in the next life");
    const connections = `http://${gateway.internal}/api/connections`;
    const { connections: [{ id: its }] } = await (await fetch(connections)).json();
    await fetch(`${connections}/${its}/close`, { method: "POST" });
    await p.ended;
    assert.match(p.printed, /closed by an operator/);
  });
}

for (const [id, name] of [["python", "Python"], ["go", "Go"]]) {
  test(`${name}: waits longer and longer while it is refused, and gives up where it would be refused again`, async (t) => {
    const gateway = await Gateway.start();
    t.after(() => gateway.stop());
    const asked = []; // ms
    let status = 503;
    const host = await serverOf(t, { stream: (response) => {
      asked.push(performance.now());
      if (asked.length === 4) status = 403;
      response.writeHead(status).end();
    } });
    const p = await Program.start(t, id, snippet(id, { host, publishURL: `http://${gateway.internal}` }));
    const [code] = await p.ended;
    assert.equal(code, 1);
    assert.match(p.printed, /403/);
    assert.equal(asked.length, 4);
    for (const [i, least] of [500, 1000, 2000].entries()) {
      const wait = asked[i + 1] - asked[i];
      assert.ok(wait > least - 400, `wait ${i + 1} is ${wait} ms, want at least ${least} less a delay of the server`);
    }
  });
}

test("curl: publishes both ways, and reads", async (t) => {
  const { gateway, wire, ...where } = await behindWire(t);
  const p = await Program.start(t, "curl", snippet("curl", where));
  await p.prints('data: {"text":"hello from a shell"}');
  await p.prints("data: hello from a shell");
  await gateway.publish(channel, "live");
  await p.prints("data: live");
  assert.match(p.printed, /"offset":1,[^]*"offset":2[^]*data: hello from a shell\n[^]*data: \{"text"/);
});

test("each publishes with a key where the page does not know the address", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "sluice-key-"));
  t.after(() => rm(dir, { recursive: true }));
  const key = "0123456789abcdef0123456789abcdef";
  await writeFile(join(dir, "key"), key, { mode: 0o600 });
  const gateway = await Gateway.start("--api-key-file", join(dir, "key"));
  t.after(() => gateway.stop());
  for (const id of ["curl", "node", "python", "go"]) {
    const code = snippet(id, { host: gateway.host, publishURL: "" });
    assert.match(code, /http:\/\/INTERNAL-ADDRESS:9000\/publish/);
    const p = await Program.start(t, id, code.replaceAll("INTERNAL-ADDRESS:9000", gateway.internal).replaceAll(/\bKEY\b/g, key));
    await p.prints(`hello from ${{ curl: "a shell", node: "Node", python: "Python", go: "Go" }[id]}`);
  }
});

test("JavaScript: in a page of another origin it reads, publishes, and goes on where it was", async (t) => {
  const browser = await launch();
  t.after(() => browser.close());
  let code;
  const server = http.createServer((request, response) => {
    response.writeHead(200, { "Content-Type": "text/html" }).end(`<!doctype html><link rel=icon href=data:,><script type=module>${code}\nglobalThis.channel = channel;</script>`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => { server.close(); server.closeAllConnections(); });
  const origin = `http://friend.test:${server.address().port}`;
  const gateway = await Gateway.start("--allowed-origins", origin);
  t.after(() => gateway.stop());
  const wire = await Wire.to(gateway.port);
  t.after(() => wire.close());
  await gateway.publish(channel, "before");

  code = snippet("javascript", { host: new URL(wire.url).host, publishURL: "" });
  const page = await browser.newPage();
  const printed = [];
  page.on("console", (m) => printed.push(m.text()));
  page.on("pageerror", (err) => printed.push(`error: ${err.message}`));
  const prints = async (pattern) => {
    while (!printed.some((line) => pattern.test(line))) await page.waitForEvent("console", { timeout: patience });
  };
  await page.goto(origin);
  await prints(/^open/);
  await prints(/^api before$/);
  assert.equal(await page.evaluate("channel.publish('sent by the snippet')"), true);
  await prints(/^\d+ sent by the snippet$/);
  wire.cut();
  await prints(/^waiting/);
  await gateway.publish(channel, "missed");
  wire.mend();
  await prints(/^api missed$/);
  await gateway.publish(channel, "live again");
  await prints(/^api live again$/);
  assert.deepEqual(printed.filter((line) => /^(api|error)/.test(line)), ["api before", "api missed", "api live again"]);
});

test("the page copies what it shows, for its own address and channel", async (t) => {
  const browser = await launch();
  t.after(() => browser.close());
  const { host, publishURL } = await behindWire(t);
  const tab = await Tab.open(browser, `http://${host}/?channel=${encodeURIComponent(channel)}`);
  t.after(() => tab.close());
  await tab.context.grantPermissions(["clipboard-read", "clipboard-write"]);
  for (const { id, code, words } of snippetsFor({ address: new URL(`ws://${host}`), channel, publishURL })) {
    await tab.page.check(`#languages input[value=${id}]`, { force: true });
    assert.equal(await tab.page.textContent("#snippet"), code);
    assert.equal(await tab.page.textContent("#snippet-words"), words);
    await tab.page.$eval("#notice", (e) => { e.textContent = ""; });
    await tab.page.click("[data-copies=snippet]");
    await tab.page.waitForFunction(() => document.querySelector("#notice").textContent === "Copied.");
    assert.equal(await tab.page.evaluate(() => navigator.clipboard.readText()), code);
  }
  await tab.page.evaluate(() => {
    for (const [id, value] of [["address", "wss://example.com/live/"], ["channel", "news"]]) document.getElementById(id).value = value;
    document.getElementById("channel").dispatchEvent(new Event("input", { bubbles: true }));
  });
  await tab.page.check("#languages input[value=javascript]", { force: true });
  assert.match(await tab.page.textContent("#snippet"), /"https:\/\/example\.com\/live\/sluice\.js"[^]*"wss:\/\/example\.com\/live\/ws\/news"/);
});

test("words of a shell, and the commands that make tokens", () => {
  assert.equal(quote("a'b c"), `'a'\\''b c'`);
  assert.match(tokensFor("a'b"), /--channel 'a'\\''b'\n$/);
  for (const s of snippetsFor({ address: new URL("wss://example.com/live?token=1"), channel: "..", publishURL: "https://example.com:9000/" })) {
    if (s.id !== "go" && s.id !== "python") continue;
    assert.match(s.code, /"https:\/\/example\.com\/live\/sse\?token=1&channel=\.\.&format=json"/);
    assert.match(s.code, /"https:\/\/example\.com:9000\/publish\/\.\."/);
  }
});
