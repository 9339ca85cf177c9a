// The lines for wscat and curl that README prints, as a person types them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, test } from "node:test";
import { Gateway } from "./gateway.mjs";

let gateway;
before(async () => { gateway = await Gateway.start(); });
after(async () => { await gateway?.stop(); });

// Typed is a program on a terminal of its own.
class Typed {
  constructor(t, command) {
    this.said = "";
    this.process = spawn("script", ["-qefc", command, "/dev/null"], { stdio: ["pipe", "pipe", "inherit"] });
    this.process.stdout.on("data", (bytes) => {
      this.said += bytes.toString().replace(/\x1b\[[0-9;?]*[A-Za-z]/g, ""); // without colours
      this.process.emit("said");
    });
    t.after(() => this.process.kill("SIGKILL"));
  }

  type(line) { this.process.stdin.write(`${line}\r`); }

  async says(text) {
    while (!this.said.includes(text)) {
      await Promise.race([
        new Promise((resolve) => this.process.once("said", resolve)),
        new Promise((_, reject) => setTimeout(() => reject(new Error(`no ${JSON.stringify(text)} in ${JSON.stringify(this.said)}`)), 60_000).unref()),
      ]);
    }
  }
}

const wscat = (path) => `node_modules/.bin/wscat -c ws://${gateway.host}${path}`;

test("wscat on /echo: > test, < test", async (t) => {
  const terminal = new Typed(t, wscat("/echo"));
  await terminal.says("Connected");
  terminal.type("test");
  await terminal.says("< test");
  assert.match(terminal.said, /> test[\s\S]*< test/);
});

test("wscat and curl on one channel", async (t) => {
  const terminal = new Typed(t, wscat("/ws/news"));
  const stream = new Typed(t, `curl -sN http://${gateway.host}/sse/news`);
  await terminal.says("Connected");
  await stream.says("id: ");
  const curl = new Typed(t, `curl -sd 'goal!' http://${gateway.internal}/publish/news`);
  await terminal.says("< goal!");
  await stream.says("data: goal!");
  await curl.says('"offset":1,"subscribers":2}');
});
