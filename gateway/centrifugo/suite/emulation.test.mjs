import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client, codeOf, pick } from "./client.mjs";
import { Node, token } from "./node.mjs";
import { combinations } from "./transports.mjs";

let node;

before(async () => { node = await Node.begin("--ping-interval", "1s"); });
after(() => node.end());

// What a client does does not depend on its transport.
for (const { name, transport, encoding, of } of combinations) {
  const client = async (t, user) => {
    const [endpoint, options] = of(node, () => "");
    const c = await new Client(t, encoding, endpoint, { token: token(user), ...options }).connect();
    assert.equal(c.heard.all("connected")[0].transport, transport);
    return c;
  };

  test(`${name}: subscribing, publishing in order, presence, and recovery`, async (t) => {
    const [a, b] = [await client(t, "ann"), await client(t, "bob")];
    const channel = `stream:${name.replaceAll(/\W/g, "-")}`;
    const [there, here] = [await b.subscribed(channel), await a.subscribed(channel)];
    const numbers = Array.from({ length: 40 }, (_, i) => i);
    a.sdk.startBatching(); // one request: the library sends several at a time on connections of their own
    const published = numbers.map((i) => a.publish(channel, i));
    a.sdk.stopBatching();
    await Promise.all(published);
    assert.deepEqual(await there.heard.data(40), numbers, "commands stay in order");
    assert.deepEqual(await here.heard.data(40), numbers);
    await Promise.all(numbers.map((i) => a.publish(channel, i)));
    assert.deepEqual((await there.heard.data(80)).slice(40).sort((x, y) => x - y), numbers, "none is lost, and none comes twice");
    const room = await a.subscribed(`room:${name.replaceAll(/\W/g, "-")}`);
    assert.deepEqual(Object.keys((await room.presence()).clients), [a.id]);
    assert.equal(await codeOf(a.sdk.rpc("method", encoding.pack(1))), 108);

    await node.api("disconnect", { user: "bob", disconnect: { code: 4000, reason: "come back" } });
    await b.heard.next("connecting");
    const { code, reason } = await b.heard.next("connecting");
    assert.deepEqual({ code, reason }, { code: 4000, reason: "come back" });
    await a.publish(channel, "recovered");
    assert.deepEqual((await there.heard.data(81))[80], "recovered");
  });

  test(`${name}: pings are answered, and a disconnect for good ends it`, async (t) => {
    const c = await client(t, `carl ${name}`);
    await node.api("subscribe", { user: `carl ${name}`, channel: "open:pinged" });
    await new Promise((resolve) => setTimeout(resolve, 3000)); // pings in which an unanswered one would end it
    assert.deepEqual(c.heard.all("connecting").length, 1);
    await node.api("disconnect", { user: `carl ${name}`, disconnect: { code: 4503, reason: "enough" } });
    assert.deepEqual(pick(await c.heard.next("disconnected"), "code", "reason"), { code: 4503, reason: "enough" });
  });

  if (transport === "websocket" || encoding.name !== "JSON") continue;
  test(`${name}: a session that the gateway does not know is connected anew`, async (t) => {
    const [endpoint, options] = of(node, () => "");
    let wrong = 0; // how many requests name another session
    const statuses = [];
    const c = await new Client(t, encoding, endpoint, {
      token: token("dora"), ...options,
      fetch: async (url, init) => {
        const emulated = String(url).endsWith("/emulation");
        if (emulated && wrong-- > 0) init = { ...init, body: JSON.stringify({ ...JSON.parse(init.body), session: "A".repeat(22) }) };
        const response = await options.fetch(url, init);
        if (emulated) statuses.push(response.status);
        return response;
      },
    }).connect();
    await c.publish("open:anew", 1);
    wrong = 1;
    assert.equal(await codeOf(c.publish("open:anew", 2)), 11); // connection closed
    await c.heard.next("connecting");
    await c.heard.next("connecting");
    await c.heard.next("connected");
    await c.publish("open:anew", 3);
    assert.deepEqual(statuses.filter((status) => status !== 204), [404]);
  });
}
