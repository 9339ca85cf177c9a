import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Client, codeOf, pick } from "./client.mjs";
import { Node } from "./node.mjs";
import { combinations } from "./transports.mjs";

// The application, in Express or Flask, which gateway/hooktest describes: a word in what it is asked
// about is its answer.
const backends = {
  Express: ["node", "express.mjs"],
  Flask: ["/usr/bin/python3", "flask_backend.py"], // Debian's, for its modules
};

for (const [kind, [program, file]] of Object.entries(backends)) describe(kind, { concurrency: 10 }, () => {
  let node, backend;

  before(async () => {
    backend = spawn(program, [fileURLToPath(new URL(`../../hooktest/${file}`, import.meta.url))], { stdio: ["pipe", "pipe", "inherit"] });
    const [port] = await once(createInterface({ input: backend.stdout }), "line");
    const at = (event) => `http://127.0.0.1:${port}/${event}`;
    node = await Node.with("--connect-hook", at("connect"), "--refresh-hook", at("refresh"), "--subscribe-hook", at("subscribe"),
      "--sub-refresh-hook", at("sub_refresh"), "--publish-hook", at("publish"), "--rpc-hook", at("rpc"), "--hook-headers", "Cookie", "--hook-timeout", "30s");
  });
  after(async () => {
    await node?.end();
    backend.stdin.end();
  });

  for (const { name, encoding, of } of combinations) {
    const unique = name.replaceAll(/\W/g, "");
    const fresh = (t, session) => {
      const now = { session };
      const [endpoint, options] = of(node, () => `other=1; session=${now.session}`);
      return [new Client(t, encoding, endpoint, options), now];
    };
    const ended = async (t, session) => {
      const [c] = fresh(t, session);
      c.sdk.connect();
      return pick(await c.heard.next("disconnected"), "code", "reason");
    };

    test(`${name}: who connects is whom the application knows by the cookie`, async (t) => {
      const c = await fresh(t, "ann")[0].connect();
      const answer = encoding.unpack((await c.sdk.rpc("who", encoding.pack([1, "ü"]))).data);
      assert.deepEqual(answer, { method: "who", user: "ann", data: [1, "ü"] });
      assert.equal(await codeOf(c.sdk.rpc("who-error", encoding.pack(1))), 403);
      assert.equal(await codeOf(c.sdk.rpc("who-fails", encoding.pack(1))), 100);
      const [d] = [fresh(t, "ann")[0]];
      await d.connect();
      d.sdk.rpc("who-disconnect", encoding.pack(1)).catch(() => {}); // it fails as the connection ends
      assert.deepEqual(pick(await d.heard.next("disconnected"), "code", "reason"), { code: 4501, reason: "banned" });
    });

    test(`${name}: whom the application refuses is refused for good`, async (t) => {
      assert.deepEqual(await ended(t, "ann-error"), { code: 403, reason: "not you" });
      assert.deepEqual(await ended(t, "ann-disconnect"), { code: 4501, reason: "banned" });
      assert.deepEqual(await ended(t, "ann-empty"), { code: 3501, reason: "bad request" });
    });

    test(`${name}: whom the application cannot decide about comes back until it can`, async (t) => {
      for (const session of ["ann-fails", "ann-later", "ann-reconnect", "ann-none"]) {
        const [c, now] = fresh(t, session);
        c.sdk.connect();
        const code = { "ann-later": 1000, "ann-reconnect": 11 }[session] ?? 100; // 11: it is closed before it is connected
        assert.equal((await c.heard.next("error")).error.code, code);
        now.session = "ann";
        await c.heard.next("connected");
      }
    });

    test(`${name}: the application decides about subscriptions and publications`, async (t) => {
      const [a, b] = [await fresh(t, "ann")[0].connect(), await fresh(t, "bob")[0].connect()];
      const [there, here] = [await b.subscribed(unique), await a.subscribed(unique, { data: encoding.pack({ k: 1 }) })];
      assert.deepEqual(encoding.unpack(here.first.data), { topic: unique });
      assert.equal((await a.refused("x-error")).code, 403);
      const late = a.channel("x-later");
      assert.equal((await late.heard.next("error")).error.code, 1000);
      assert.equal(late.state, "subscribing", "it tries again");
      late.unsubscribe();

      await a.publish(unique, "one");
      assert.equal(await codeOf(a.publish(unique, "p-error")), 403);
      await a.publish(unique, "p-change");
      assert.equal(await codeOf(a.publish(unique, "p-fails")), 100);
      await b.publish(unique, "two");
      assert.deepEqual(await there.heard.data(3), ["one", "changed", "two"]);
      assert.deepEqual(await here.heard.data(3), ["one", "changed", "two"]);
      assert.deepEqual(there.heard.all("publication").map((p) => [p.info?.user, p.tags?.by]), [["ann", undefined], ["ann", "hook"], ["bob", undefined]]);
      a.channel("x-disconnect");
      assert.equal((await a.heard.next("disconnected")).code, 4501);
    });

    test(`${name}: the application decides how long connections and subscriptions last`, async (t) => {
      const [stays, goes, sub] = [fresh(t, "ann@+100-+2")[0], fresh(t, "ann@expired-+2")[0], fresh(t, "ann")[0]];
      await Promise.all([stays.connect(), goes.connect(), sub.connect()]);
      const x = await sub.subscribed(`${unique}@expired-+2`);
      assert.deepEqual(pick((await goes.heard.next("connecting"), await goes.heard.next("connecting")), "code", "reason"), { code: 3005, reason: "connection expired" });
      const again = (await x.heard.next("subscribing"), await x.heard.next("subscribing"));
      assert.deepEqual(pick(again, "code", "reason"), { code: 2501, reason: "subscription expired" });
      assert.equal(stays.heard.all("connecting").length, 1);
    });
  }
});
