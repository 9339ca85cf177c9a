import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { EventSource } from "eventsource";
import { Heard, Raw, pick } from "./client.mjs";
import { Node, Wire, token } from "./node.mjs";

let node;

before(async () => { node = await Node.begin("--ping-interval", "1s"); });
after(() => node.end());

// A client that is only sent to: over a WebSocket, where its first message says who it is or
// the URL does, or as an event stream.
const ways = {
  "uni_websocket with a first message": async (t, request, host) => {
    const r = await Raw.open(t, node.at("/connection/uni_websocket", "ws", host));
    r.send(request);
    return { pushes: (n) => r.lines(n), ended: () => r.ended(), pinged: () => r.heard.all("message").some((m) => String(m.bytes) === "{}") };
  },
  "uni_websocket with cf_connect": async (t, request, host) => {
    const r = await Raw.open(t, node.at(`/connection/uni_websocket?cf_connect=${encodeURIComponent(JSON.stringify(request))}`, "ws", host));
    return { pushes: (n) => r.lines(n), ended: () => r.ended(), pinged: () => r.heard.all("message").some((m) => String(m.bytes) === "{}") };
  },
  "uni_sse with cf_connect": (t, request, host) => events(t, new EventSource(
    node.at(`/connection/uni_sse?cf_connect=${encodeURIComponent(JSON.stringify(request))}`, "http", host))),
  "uni_sse with POST": (t, request, host) => events(t, new EventSource(node.at("/connection/uni_sse", "http", host), {
    fetch: (url, init) => fetch(url, { ...init, method: "POST", body: JSON.stringify(request) }),
  })),
};

function events(t, source) {
  t.after(() => source.close());
  const heard = new Heard({ on: (event, hear) => source.addEventListener(event, (e) => hear({ data: e.data })) }, ["open", "message", "error"]);
  const all = () => heard.all("message").map((m) => JSON.parse(m.data));
  const pushes = async (n) => {
    await heard.until(() => all().filter((p) => Object.keys(p).length > 0).length >= n, `${n} pushes`);
    return all().filter((p) => Object.keys(p).length > 0);
  };
  const ended = async () => {
    await heard.until(() => all().some((p) => p.disconnect), "a disconnect");
    source.close(); // or it would come back
    return pick(all().find((p) => p.disconnect).disconnect, "code", "reason");
  };
  return { pushes, ended, pinged: () => all().some((p) => Object.keys(p).length === 0), heard };
}

for (const [way, open] of Object.entries(ways)) {
  const mark = way.replaceAll(/\W/g, "-");

  test(`${way}: the connect push, publications, pings and the disconnect come`, async (t) => {
    const channel = `stream:${mark}`;
    await node.api("publish", { channel, data: 1 });
    const c = await open(t, { token: token(mark, { channels: [channel] }) });
    const [{ connect }] = await c.pushes(1);
    assert.match(connect.client, /^[0-9a-f-]{36}$/);
    assert.equal(connect.ping, 1);
    assert.equal(connect.pong, undefined, "it is not to answer");
    assert.deepEqual(pick(connect.subs[channel], "recoverable", "positioned", "offset"), { recoverable: true, positioned: true, offset: 1 });
    await node.api("publish", { channel, data: { n: 2 } });
    await node.api("publish", { channel, data: 3 });
    const pushes = await c.pushes(3);
    assert.deepEqual(pushes.slice(1).map((p) => [p.channel, p.pub.data, p.pub.offset]), [[channel, { n: 2 }, 2], [channel, 3, 3]]);
    await node.api("subscribe", { user: mark, channel: "open:uni" });
    await node.api("publish", { channel: "open:uni", data: "sub" });
    const [sub, pub] = (await c.pushes(5)).slice(3);
    assert.deepEqual([sub.channel, sub.subscribe !== undefined, pub.pub?.data], ["open:uni", true, "sub"]);
    await node.api("unsubscribe", { user: mark, channel: "open:uni" });
    assert.deepEqual((await c.pushes(6))[5], { channel: "open:uni", unsubscribe: { code: 2000, reason: "server unsubscribe" } });
    await new Promise((resolve) => setTimeout(resolve, 2500)); // more than two pings
    assert.ok(c.pinged());
    await node.api("disconnect", { user: mark, disconnect: { code: 4500, reason: "enough" } });
    assert.deepEqual(await c.ended(), { code: 4500, reason: "enough" });
  });

  test(`${way}: what was missed comes with the connect push`, async (t) => {
    const channel = `stream:missed-${mark}`;
    const { offset, epoch } = await node.api("publish", { channel, data: 1 });
    for (const data of [2, 3]) await node.api("publish", { channel, data });
    const c = await open(t, { token: token(mark, { channels: [channel] }), subs: { [channel]: { recover: true, epoch, offset } } });
    const [{ connect }] = await c.pushes(1);
    assert.equal(connect.subs[channel].recovered, true);
    assert.deepEqual(connect.subs[channel].publications.map((p) => p.data), [2, 3]);
  });

  test(`${way}: an invalid token ends with 3500`, async (t) => {
    const c = await open(t, { token: token("ann", { key: "3".repeat(64) }) });
    assert.deepEqual(await c.ended(), { code: 3500, reason: "invalid token" });
  });
}

test("uni_sse: a request that is none is answered with 400", async () => {
  const response = await fetch(node.at("/connection/uni_sse?cf_connect=nonsense", "http"));
  assert.equal(response.status, 400);
});

test("uni_sse: a stream that was cut comes back by itself", async (t) => {
  const wire = await Wire.to(node.port);
  t.after(() => wire.close());
  const c = await ways["uni_sse with cf_connect"](t, { token: token("back", { channels: ["open:back"] }) }, new URL(wire.url).host);
  await c.pushes(1);
  wire.cut();
  await c.heard.next("error");
  wire.mend();
  const [first, second] = (await c.pushes(2)).map((p) => p.connect.client);
  assert.notEqual(first, second);
});
