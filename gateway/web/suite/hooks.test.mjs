import assert from "node:assert/strict";
import http from "node:http";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { launch, Tab } from "./browser.mjs";
import { Gateway, pageElsewhere } from "./gateway.mjs";

let browser, backend, friend, stranger, gateway;
const connected = []; // as whom

// The application: who connects is whom the cookie says, and may do everything.
before(async () => {
  browser = await launch();
  backend = http.createServer(async (req, res) => {
    for await (const part of req) void part;
    const user = /session=(\w+)/.exec(req.headers.cookie ?? "")?.[1] ?? "";
    if (req.url === "/connect") connected.push(user);
    const result = { "/connect": { user, channels: [`of-${user}`] }, "/rpc": { data: { user } } }[req.url] ?? {};
    res.setHeader("Content-Type", "application/json").end(JSON.stringify({ result }));
  }).listen(0, "127.0.0.1");
  await once(backend, "listening");
  friend = await pageElsewhere("page.app.test", "");
  stranger = await pageElsewhere("stranger.test", "");
  const at = (event) => `http://127.0.0.1:${backend.address().port}/${event}`;
  gateway = await Gateway.start("--allowed-origins", friend.origin, "--hook-headers", "Cookie", "--hook-timeout", "30s",
    "--connect-hook", at("connect"), "--subscribe-hook", at("subscribe"), "--publish-hook", at("publish"), "--rpc-hook", at("rpc"));
});
after(async () => {
  await browser?.close();
  await gateway?.stop();
  friend?.close();
  stranger?.close();
  backend?.close();
  backend?.closeAllConnections();
});

// at opens a page elsewhere for somebody who is logged in at the gateway's host.
async function at(t, page) {
  const tab = await Tab.open(browser, page.url);
  t.after(() => tab.close());
  await tab.context.addCookies([{ name: "session", value: "ann", domain: "live.app.test", path: "/", sameSite: "Lax" }]);
  return tab.page;
}

const live = (path) => `http://live.app.test:${gateway.port}${path}`;

test("an event stream of another origin has the cookies of its visitor if it asks for them", async (t) => {
  const page = await at(t, friend);
  const user = (withCredentials) => page.evaluate(async ([url, withCredentials]) => {
    const source = new EventSource(url, { withCredentials });
    const connect = await new Promise((resolve, reject) => {
      source.onmessage = (e) => resolve(JSON.parse(e.data).connect);
      source.onerror = () => reject(new Error("refused"));
    });
    source.close();
    return Object.keys(connect.subs ?? {});
  }, [live("/connection/uni_sse"), withCredentials]);
  assert.deepEqual(await user(true), ["of-ann"]);
  assert.deepEqual(await user(false), ["of-"]);
  await page.evaluate(async (url) => {
    const source = new EventSource(url, { withCredentials: true });
    await new Promise((resolve, reject) => {
      source.onopen = resolve;
      source.onerror = () => reject(new Error("refused"));
    });
    source.close();
  }, live("/sse/lobby"));
  assert.equal(connected.at(-1), "ann");
});

for (const transport of ["websocket", "http_stream", "sse"]) {
  test(`the library works from another origin with ${transport}`, async (t) => {
    const page = await at(t, friend);
    const got = await page.evaluate(async ([transport, host]) => {
      await import("./centrifuge.js");
      const endpoint = transport === "websocket" ? `ws://${host}/connection/websocket` : `http://${host}/connection/${transport}`;
      const c = new globalThis.Centrifuge([{ transport, endpoint }], {
        emulationEndpoint: `http://${host}/emulation`,
        fetch: (url, init) => fetch(url, { ...init, credentials: "include" }),
        eventsource: class extends EventSource {
          constructor(url) { super(url, { withCredentials: true }); }
        },
      });
      const connected = new Promise((resolve) => { c.on("connected", resolve); });
      const sub = c.newSubscription("news");
      const heard = new Promise((resolve) => { sub.on("publication", (p) => resolve([p.data, p.info.user])); });
      const subscribed = new Promise((resolve) => { sub.on("subscribed", resolve); });
      sub.subscribe();
      c.connect();
      const by = (await connected).transport;
      await subscribed;
      await sub.publish({ n: 1 });
      const answer = await c.rpc("who", {});
      const publication = await heard;
      c.disconnect();
      return { by, publication, who: answer.data };
    }, [transport, new URL(live("/")).host]);
    assert.deepEqual(got, { by: transport, publication: [{ n: 1 }, "ann"], who: { user: "ann" } });
  });
}

test("a page of an origin that is not allowed opens and posts nothing", async (t) => {
  const page = await at(t, stranger);
  const got = await page.evaluate(async ([emulation, stream, events]) => {
    const post = async (url, body) => {
      try {
        return (await fetch(url, { method: "POST", body, credentials: "include", headers: { "Content-Type": "text/plain" } })).status;
      } catch (error) {
        return error.name; // the answer is not for this page
      }
    };
    const source = new EventSource(events, { withCredentials: true });
    const opened = await new Promise((resolve) => {
      source.onopen = () => resolve(true);
      source.onerror = () => resolve(false);
    });
    source.close();
    return [await post(emulation, '{"session":"s","node":"n","data":"{}"}'), await post(stream, '{"id":1,"connect":{}}'), opened];
  }, [live("/emulation"), live("/connection/http_stream"), live("/connection/uni_sse")]);
  assert.deepEqual(got, ["TypeError", "TypeError", false]);
});
