// README's pictures.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { launch } from "./browser.mjs";
import { Gateway } from "./gateway.mjs";
import { pictureOf, schemes, sizeMax, take } from "./picture.mjs";

// sizeOf returns the width and height of a PNG, which it has to be.
function sizeOf(png) {
  assert.equal(png.subarray(0, 8).toString("latin1"), "\x89PNG\r\n\x1a\n", "the signature of a PNG");
  assert.equal(png.subarray(12, 16).toString("latin1"), "IHDR");
  return { width: png.readUInt32BE(16), height: png.readUInt32BE(20) };
}

test("README's pictures are small, alike, and of the page as it is", async (t) => {
  const browser = await launch();
  t.after(() => browser.close());
  const sizes = [];
  for (const scheme of schemes) {
    const png = await readFile(pictureOf(scheme));
    assert.ok(png.length < sizeMax, `picture-${scheme}.png has ${png.length} bytes: at most ${sizeMax}`);
    sizes.push(sizeOf(png));
  }
  assert.deepEqual(sizes[0], sizes[1]);
  const gateway = await Gateway.start();
  t.after(() => gateway.stop());
  const now = sizeOf(await take(browser, gateway, "light"));
  const change = Math.abs(now.height / sizes[0].height - 1); // other fonts may break a line elsewhere
  assert.ok(now.width === sizes[0].width && change < 0.1, `the page is ${JSON.stringify(now)} now, in the picture ${JSON.stringify(sizes[0])}: ./run --picture takes new ones`);
});
