import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, Tab } from "./browser.mjs";
import { Gateway, pageElsewhere, proxyAt } from "./gateway.mjs";

let browser;

before(async () => { browser = await launch(); });
after(() => browser?.close());

test("a page of another origin works where the gateway allows it, and learns why not elsewhere", async (t) => {
  const friend = await pageElsewhere("friend.test", "");
  t.after(friend.close);
  const gateway = await Gateway.start("--allowed-origins", friend.origin);
  t.after(() => gateway.stop());

  const a = await Tab.open(browser, friend.url);
  t.after(() => a.close());
  assert.equal(await a.page.inputValue("#address"), friend.origin.replace("http", "ws"), "where it came from");
  assert.match(await a.inState("closed"), /^Can't connect: the answer is 404\. Is this the address of a sluice gateway\?$/);
  await a.set("address", `ws://${gateway.host}`);
  await a.connect();
  await a.opened();
  await a.send("from afar");
  await a.sees("from afar");
  await a.page.click("[data-copies=snippet]"); // plain http: has no clipboard of the new kind
  await a.page.waitForFunction(() => document.querySelector("#notice").textContent === "Copied.");
  for (const mode of ["sse", "sdk"]) {
    await a.mode(mode);
    await a.says("#state[data-state=open] #state-words", /^Connected to lobby$/);
  }

  const stranger = await pageElsewhere("stranger.test", `ws://${gateway.host}`);
  t.after(stranger.close);
  const b = await Tab.open(browser, stranger.url);
  t.after(() => b.close());
  assert.equal(await b.page.inputValue("#address"), `ws://${gateway.host}`, "as its data-address says");
  assert.match(await b.inState("closed"), /^Can't connect: nothing is listening.*this page's origin is not in the gateway's --allowed-origins/);
  await b.mode("sse");
  await b.says("#state[data-state=closed] #state-words", /this page's origin is not in the gateway's --allowed-origins/);
  await b.mode("sdk");
  await b.says("#state[data-state=connecting] #state-words", /this page's origin is not in the gateway's --allowed-origins/);
});

test("below a path of a proxy everything is found", async (t) => {
  const gateway = await Gateway.start();
  t.after(() => gateway.stop());
  const proxy = await proxyAt("/live/", gateway.port);
  t.after(proxy.close);
  const tab = await Tab.open(browser, `${proxy.url}?channel=news`);
  t.after(() => tab.close());
  await tab.opened();
  assert.equal(await tab.page.inputValue("#address"), proxy.url.replace("http", "ws").replace(/\/$/, ""));
  await tab.send("through the proxy");
  await tab.sees("through the proxy");
  await tab.mode("echo");
  await tab.says("#state-words", /^Connected to echo$/);
  await tab.send("echo, too");
  await tab.sees("echo, too");
  for (const mode of ["sse", "sdk"]) {
    await tab.mode(mode);
    await tab.says("#state[data-state=open] #state-words", /^Connected to news$/);
    await tab.sees("through the proxy");
  }
  assert.deepEqual(tab.faults, []);
});

test("addresses come out right", async (t) => {
  const gateway = await Gateway.start();
  t.after(() => gateway.stop());
  const tab = await Tab.open(browser, gateway.url);
  t.after(() => tab.close());
  const got = await tab.page.evaluate(async () => {
    const { channelURL, clientURL, defaultAddress, echoURL, parseAddress, streamURL } = await import("./address.js");
    const from = (href) => defaultAddress(new URL(href), "");
    const at = (address, channel) => channelURL(parseAddress(address), channel);
    return {
      https: from("https://x/live/"), file: from("https://x/live/index.html?channel=a"), port: from("http://[::1]:8000/"), disk: from("file:///page/index.html"),
      stream: streamURL(parseAddress("wss://h/live/?a=1"), "a/b"), streamOfDots: streamURL(parseAddress("ws://h/x"), "."),
      plain: at("ws://h:1", "a"), escaped: at("wss://h/live/", "a/b?c#d e%é".replaceAll(" ", "")), dots: at("ws://h", ".."),
      token: at("wss://h/x?token=1#top", "a"), echo: echoURL(parseAddress("https://h/live/")), client: clientURL(parseAddress("https://h/live/?a=1")),
    };
  });
  assert.deepEqual(got, {
    https: "wss://x/live", file: "wss://x/live", port: "ws://[::1]:8000", disk: "ws://127.0.0.1:8000",
    stream: "https://h/live/sse/a%2Fb?a=1", streamOfDots: "http://h/x/sse?channel=.",
    plain: "ws://h:1/ws/a", escaped: "wss://h/live/ws/a%2Fb%3Fc%23de%25%C3%A9", dots: "ws://h/ws?channel=..",
    token: "wss://h/x/ws/a?token=1", echo: "wss://h/live/echo", client: "wss://h/live/connection/websocket?a=1",
  });
});
