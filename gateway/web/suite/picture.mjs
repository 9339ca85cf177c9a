// README's pictures: the page at work, in front of a real gateway. Run by ./run --picture.

import { writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { launch, Tab } from "./browser.mjs";
import { Gateway } from "./gateway.mjs";

export const sizeMax = 550_000; // bytes of a picture
export const schemes = ["light", "dark"];
export const pictureOf = (scheme) => new URL(`picture-${scheme}.png`, import.meta.url);

const channel = "cup-final";
const size = { width: 1280, height: 900 };
const scale = 1.5; // pixels of the picture for one of the page

// take plays a match once and returns a PNG of the page's first screen. Two tabs talk, a backend
// publishes, the connection of the tab in the picture is cut while both go on, and 1,000 visitors
// watch.
export async function take(browser, gateway, scheme) {
  const tabs = [];
  try {
    const open = async (options) => {
      tabs.push(await Tab.open(browser, `${gateway.url}?channel=${channel}`, options));
      return tabs.at(-1).opened();
    };
    const other = await open();
    const tab = await open({ colorScheme: scheme, deviceScaleFactor: scale, viewport: size });
    await tab.page.evaluate(() => document.fonts.ready);

    const score = async (text) => {
      await gateway.publish(channel, text);
      await other.sees(text);
    };
    const say = async (who, text) => {
      await who.send(text);
      await other.sees(text);
    };
    await say(other, "Evening! Watching from the train today.");
    await say(tab, "Same here, and there is a tunnel ahead.");
    await score("12' Goal! Lions 1, Hawks 0");
    await tab.sees("12' Goal! Lions 1, Hawks 0");

    await tab.page.click("#bring");
    await tab.says("#visitors-here", /^1,000$/);
    await tab.page.waitForSelector("#visitors[data-state=open]");

    await tab.page.click("#cut");
    await tab.inState("waiting");
    await say(other, "Penalty to the Hawks... what a save!");
    await score("38' Goal! Lions 2, Hawks 0");
    await tab.opened(); // by itself
    await tab.notes(/caught up on 2 messages, none lost$/);
    await tab.sees("38' Goal! Lions 2, Hawks 0");
    await say(tab, "Out of the tunnel. Saw it all, save included.");
    await tab.sees("Out of the tunnel. Saw it all, save included.");
    await tab.page.click("#cut-visitors");
    await tab.says("#visitors-here", /^900$/);
    await score("64' Goal! Lions 3, Hawks 0");
    await tab.says("#visitors-words", /caught up on 100 messages: 0 lost, 0 repeated/);
    await tab.says("#numbers dl > div:nth-child(5) .value", /B$/); // the memory of one connection
    await score("Full time. What a match!"); // which the dots show
    await tab.sees("Full time. What a match!");
    if (tab.faults.length) throw new Error(`the page failed: ${tab.faults.join("; ")}`);
    await tab.page.evaluate(() => {
      document.activeElement.blur(); // no cursor
      scrollTo(0, 0);
    });
    await tab.page.mouse.move(0, 0);
    const { y, height } = await tab.page.locator(".stage").boundingBox();
    return await tab.page.screenshot({ clip: { x: 0, y: 0, width: size.width, height: Math.ceil(y + height) + 20 }, fullPage: true, animations: "disabled" });
  } finally {
    await Promise.all(tabs.map((t) => t.close()));
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const browser = await launch();
  try {
    for (const scheme of schemes) {
      const gateway = await Gateway.at("127.0.0.1:8000", "127.0.0.1:9000"); // as README starts it
      const png = await take(browser, gateway, scheme).finally(() => gateway.stop());
      await writeFile(pictureOf(scheme), png);
      console.log(`${pictureOf(scheme).pathname}: ${png.length} bytes`);
    }
  } finally {
    await browser.close();
  }
}
