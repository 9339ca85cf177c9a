// How the operator's page looks: in both themes, on a phone, and to axe-core.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { findings } from "./axe.mjs";
import { launch } from "./browser.mjs";
import { Console, files, key, keyed, member, raw } from "./console.mjs";

const shots = process.env.SHOTS || mkdtempSync(join(tmpdir(), "sluice-shots-"));
mkdirSync(shots, { recursive: true });

let browser;

before(async () => {
  browser = await launch();
});
after(async () => {
  await browser?.close();
});

const looks = {
  light: { colorScheme: "light", viewport: { width: 1440, height: 900 } },
  dark: { colorScheme: "dark", viewport: { width: 1440, height: 900 } },
  phone: { viewport: { width: 375, height: 667 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
  "phone-dark": { viewport: { width: 320, height: 640 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, colorScheme: "dark" },
};

for (const [name, options] of Object.entries(looks)) {
  test(`${name}: every view fits, axe-core finds nothing, and it was photographed`, async (t) => {
    const paths = await files(t, { channels: JSON.stringify({
      without_namespace: { allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true, presence: true, history_size: 10, history_ttl: "300s" },
      namespaces: [{ name: "chat", history_size: 10, history_ttl: "300s", allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true }],
    }) });
    const g = await keyed(t, "--namespaces", paths.channels, "--max-connections", "4");
    for (const channel of ["lobby", "chat:a-room-with-a-long-name-that-goes-on-and-on-and-on-until-nobody-can-read-it", "chat:b"]) await raw(t, g, channel);
    await member(t, g, "", "lobby");
    for (let i = 0; i < 10; i++) await g.publish("lobby", JSON.stringify({ text: `message ${i}`, list: [1, 2, 3], long: "word".repeat(20) }), { "X-API-Key": key });

    const c = await Console.open(t, browser, g, options);
    const look = async (view) => {
      const { content, window } = await c.page.evaluate(() => ({ content: document.documentElement.scrollWidth, window: innerWidth }));
      assert.ok(content <= window, `${view} is ${content} wide in a window of ${window}`);
      await c.page.screenshot({ path: join(shots, `console-${name}-${view}.png`), fullPage: true });
      assert.deepEqual(await findings(c.page), [], view);
    };
    await c.page.waitForSelector("#login:not([hidden])");
    await look("login");
    await c.login();
    await c.ready();
    await c.says(".notices", /^100 % of the connections that --max-connections allows are open\.$/);
    await c.says(".channels", /lobby/);
    await c.chart("CPU", /%/);
    await look("overview");
    await c.view("#/channels/lobby");
    await c.says(".publications", /message 9/);
    await c.says(".clients", /anonymous/);
    await look("channels");
    await c.view("#/connections");
    await c.says(".connections", /127\.0\.0\.1/);
    await look("connections");
    await c.page.click(".connections button");
    await c.page.waitForSelector("#confirm[open]");
    await look("confirm");
    await c.page.keyboard.press("Escape");
    await c.view("#/namespaces");
    await c.says("main tbody", /without a prefix120.*chat220/); // channels, subscriptions, publications per second
    await look("namespaces");
    await c.view("#/nodes");
    await c.says(".nodes tbody", /memory/);
    await c.says("#main", /in this process's memory/);
    await look("nodes");
    await g.stop();
    await c.page.waitForSelector("#state[data-state=lost]");
    await c.page.screenshot({ path: join(shots, `console-${name}-lost.png`) });
    assert.deepEqual(c.faults, []);
    t.diagnostic(shots);
  });
}
