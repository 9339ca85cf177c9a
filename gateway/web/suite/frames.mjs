// Measures what the page costs the browser: its frames per second with 1,000 visitors and ten
// broadcasts a second, against those of an empty page, in turns. Run by ./run --frames.

import { launch, Tab } from "./browser.mjs";
import { Gateway } from "./gateway.mjs";

const rounds = 3;
const seconds = 10; // of each page in a round

// frames counts a page's frames for a while.
function frames(page) {
  return page.evaluate((ms) => new Promise((resolve) => {
    let begun = 0, last = 0, n = 0, longest = 0;
    requestAnimationFrame(function frame(now) {
      begun ||= now;
      if (last) {
        n++;
        longest = Math.max(longest, now - last);
      }
      last = now;
      if (now - begun < ms) requestAnimationFrame(frame);
      else resolve({ rate: (1000 * n) / (now - begun), longest });
    });
  }), 1000 * seconds);
}

const browser = await launch();
const gateway = await Gateway.start();
try {
  const all = { empty: [], busy: [] };
  for (let round = 0; round < rounds; round++) {
    const empty = await Tab.open(browser, `${gateway.url}healthz`);
    all.empty.push(await frames(empty.page));
    await empty.close();

    const busy = await Tab.open(browser, `${gateway.url}?channel=frames`);
    await busy.opened();
    await busy.page.click("#bring");
    await busy.page.waitForSelector("#visitors[data-state=open]");
    await busy.says("#visitors-here", /^1,000$/);
    await busy.page.check("#ticking");
    await busy.says("#rows .ticks", /^× \d\d+$/);
    all.busy.push(await frames(busy.page));
    const [received, lost, repeated] = await Promise.all(["received", "lost", "repeated"].map((id) => busy.page.textContent(`#${id}`)));
    console.log(`round ${round + 1}: ${received} received, ${lost} lost, ${repeated} repeated`);
    await busy.close();
  }
  const mean = (kind) => all[kind].reduce((sum, f) => sum + f.rate, 0) / rounds;
  const longest = (kind) => Math.max(...all[kind].map((f) => f.longest)).toFixed(0);
  for (const kind of ["empty", "busy"]) console.log(`${kind}: ${all[kind].map((f) => f.rate.toFixed(1)).join(", ")} frames a second, longest ${longest(kind)} ms`);
  console.log(`busy to empty: ${(mean("busy") / mean("empty")).toFixed(3)}`);
} finally {
  await browser.close();
  await gateway.stop();
}
