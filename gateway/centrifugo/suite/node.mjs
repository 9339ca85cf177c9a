// A gateway under test, with its tokens, its server's API, and what it logged.

import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Gateway, Wire } from "../../web/suite/gateway.mjs";

export { Wire };

const directory = mkdtempSync(join(tmpdir(), "sluice-centrifugo-"));
const all = [];
process.on("exit", (code) => {
  rmSync(directory, { recursive: true, force: true });
  for (const n of all) n.process?.kill("SIGKILL"); // of those that a failed test has left
  if (code !== 0 || process.exitCode) for (const n of all) console.error(`logs of ${n.host}:\n${n.logs}`);
});

export const secret = randomBytes(32).toString("hex");
export const secretFile = join(directory, "secret");
writeFileSync(secretFile, secret, { mode: 0o600 });

// Node is a gateway with tokens and namespaces. What it logged is printed where a test of
// its process failed.
export class Node extends Gateway {
  // started gives one that ends with the test.
  static async started(t, ...flags) {
    const n = await Node.begin(...flags);
    t.after(() => n.end());
    return n;
  }

  static begin(...flags) {
    return Node.with("--token-hmac-secret-file", secretFile, "--namespaces", fileURLToPath(new URL("namespaces.json", import.meta.url)), ...flags);
  }

  // with gives one with these settings alone.
  static async with(...flags) {
    const n = new Node();
    n.flags = flags;
    n.host = n.internal = "127.0.0.1:0";
    n.logs = "";
    all.push(n);
    await n.run();
    return n;
  }

  async run() {
    await super.run();
    this.process.stderr.on("data", (bytes) => { this.logs += bytes; });
  }

  async end() {
    await this.stop();
    assert.equal(this.process.exitCode, 0, "it ended well");
    assert.doesNotMatch(this.logs, /"level":"ERROR"|panic/);
  }

  at(path, scheme = "ws", host = this.host) { return `${scheme}://${host}${path}`; }
  get client() { return this.at("/connection/websocket"); }

  // api asks the server's API, and gives its result.
  async api(method, request) {
    const answer = await this.ask(method, request);
    assert.equal(answer.error, undefined, `${method}: ${JSON.stringify(answer.error)}`);
    return answer.result;
  }

  async ask(method, request) {
    const response = await fetch(this.at(`/api/${method}`, "http", this.internal), { method: "POST", body: JSON.stringify(request) });
    assert.equal(response.status, 200, `${method}: ${response.status}`);
    return response.json();
  }
}

// clientThrough gives the address of the client protocol behind a wire.
export const clientThrough = (wire) => new URL("connection/websocket", wire.url.replace("http", "ws")).href;

const now = () => Math.floor(Date.now() / 1000);
const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

// token makes one of HS256. ttl is in seconds; because the times in it are whole ones, less
// than 2 may be none.
export function token(user, { ttl = 3600, key = secret, ...claims } = {}) {
  const body = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, iat: now(), exp: now() + ttl, ...claims })}`;
  return `${body}.${createHmac("sha256", key).update(body).digest("base64url")}`;
}
