// The operator's page as a person sees it, and clients for it to show.

import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import WebSocket from "ws";
import { Tab } from "./browser.mjs";
import { Gateway } from "./gateway.mjs";

export const key = "the-key-of-the-operator,-which-is-long-enough";

// files writes files that flags name, and returns their paths.
export async function files(t, contents) {
  const dir = await mkdtemp(join(tmpdir(), "sluice-console-"));
  t.after(() => rm(dir, { recursive: true }));
  const paths = {};
  for (const [name, content] of Object.entries(contents)) await writeFile(paths[name] = join(dir, name), content, { mode: 0o600 });
  return paths;
}

// keyed starts a gateway with an API key.
export async function keyed(t, ...flags) {
  const g = await Gateway.start("--api-key-file", (await files(t, { key })).key, ...flags);
  t.after(() => g.stop());
  return g;
}

// Console is the page in a tab.
export class Console {
  static async open(t, browser, g, options = {}) {
    const c = new Console();
    c.tab = await Tab.open(browser, `http://${g.internal}/${options.hash ?? ""}`, options);
    t.after(() => c.tab.close());
    c.page = c.tab.page;
    c.gateway = g;
    return c;
  }

  async login(secret = key) {
    await this.page.waitForSelector("#login:not([hidden])");
    await this.page.fill("#key", secret);
    await this.page.press("#key", "Enter");
    return this;
  }

  // ready waits until the page has an answer.
  async ready() {
    await this.page.waitForSelector("#app:not([hidden]) #state[data-state=ready]");
    return this;
  }

  async view(hash) {
    await this.page.evaluate((h) => { location.hash = h; }, hash);
  }

  // says waits until the text of an element matches.
  async says(selector, pattern) {
    const handle = await this.page.waitForFunction(([s, source]) => {
      const text = document.querySelector(s)?.textContent ?? "";
      return new RegExp(source).test(text) && (text || " ");
    }, [selector, pattern.source]);
    return (await handle.jsonValue()).trim();
  }

  // chart waits until the figure of a chart matches.
  chart(title, pattern) { return this.says(`.chart[aria-label="${title}"] .big`, pattern); }

  // faults are what went wrong in the page, but for answers that a test wants: a browser logs them.
  get faults() { return this.tab.faults.filter((f) => !/Failed to load resource/.test(f)); }
}

// raw connects a raw WebSocket that subscribes to a channel.
export async function raw(t, g, channel) {
  const socket = new WebSocket(`ws://${g.host}/ws/${encodeURIComponent(channel)}`);
  t.after(() => socket.terminate());
  await once(socket, "open");
  return socket;
}

// member connects a client of Centrifugo's protocol, with a token, and subscribes it to a channel.
export async function member(t, g, token, channel) {
  const socket = new WebSocket(`ws://${g.host}/connection/websocket`);
  t.after(() => socket.terminate());
  await once(socket, "open");
  for (const command of [{ id: 1, connect: { token } }, { id: 2, subscribe: { channel } }]) {
    socket.send(JSON.stringify(command));
    const reply = JSON.parse(String((await once(socket, "message"))[0]));
    if (reply.error) throw new Error(JSON.stringify(reply));
  }
  return socket;
}
