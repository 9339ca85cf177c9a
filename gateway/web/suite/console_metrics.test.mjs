// What the operator's page makes of /metrics, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";

const page = (name) => import(new URL(`../../ops/console/page/${name}.js`, import.meta.url));
const { Metrics, quantile } = await page("metrics");
const { History } = await page("history");
const units = await page("units");

const exposed = (rows) => new Metrics(rows.map(([name, value]) => `${name} ${value}\n`).join(""));

test("metrics are read as they are written", () => {
  const m = new Metrics(`# HELP sluice_x Help.
# TYPE sluice_x counter
sluice_x{loop="0",reason="a b"} 1
sluice_x{loop="1",reason="a b"} 2e+03
sluice_x{loop="1",reason="q\\"u\\\\o\\nte{}, =\\"} "} 4
sluice_y 0.5
sluice_z_bucket{le="0.1"} 1
sluice_z_bucket{le="+Inf"} 3
sluice_z_bucket{le="1e-05"} 0
broken line
`);
  assert.equal(m.sum("sluice_x"), 2005);
  assert.equal(m.sum("sluice_x", { loop: "1" }), 2004);
  assert.equal(m.sum("sluice_x", { loop: "2" }), undefined);
  assert.equal(m.sum("none"), undefined);
  assert.equal(m.sum("sluice_y"), 0.5);
  assert.deepEqual([...m.by("sluice_x", "reason")], [["a b", 2001], ['q"u\\o\nte{}, ="} ', 4]]);
  assert.deepEqual(m.histogram("sluice_z"), [[1e-5, 0], [0.1, 1], [Infinity, 3]]);
  assert.equal(m.histogram("sluice_x"), undefined);
});

test("quantiles are of what was added", () => {
  const before = [[0.1, 100], [1, 100], [Infinity, 100]];
  assert.equal(quantile(0.5, before, before), null);
  assert.equal(quantile(0.5, before, [[0.1, 102], [1, 104], [Infinity, 104]]), 0.1);
  assert.equal(quantile(0.75, before, [[0.1, 102], [1, 104], [Infinity, 104]]), 0.55);
  assert.equal(quantile(0.99, before, [[0.1, 100], [1, 100], [Infinity, 101]]), 1, "no bound is known above");
  assert.equal(quantile(0.5, [], [[0.1, 2], [Infinity, 2]]), 0.05);
});

test("rates come from two answers, and a restart ends the line", () => {
  const h = new History();
  const at = (n, closed, started = 1) => exposed([["process_start_time_seconds", started], ["sluice_connections", 5], ['sluice_deliveries_total{loop="0"}', n],
    ['sluice_connections_closed_total{reason="slow"}', closed], ['sluice_held_bytes{what="logs"}', 30], ['sluice_held_bytes{what="history"}', 12]]);
  h.add(at(100, 0), 1000);
  assert.equal(h.last.deliveries, undefined);
  h.add(at(150, 4), 1002);
  assert.equal(h.last.deliveries, 25);
  assert.equal(h.last.pending, 30);
  assert.deepEqual(h.reasons(0), [{ key: "closed slow", reason: "slow", n: 4 }]);
  h.add(at(3, 0, 1003), 1004);
  assert.deepEqual(h.column("deliveries"), [null, 25, null, null]);
  assert.deepEqual(h.column("connections"), [5, 5, null, 5]);
  h.add(at(9, 0, 1003), 1006);
  assert.equal(h.last.deliveries, 3);
  h.add(at(99, 0, 1003), 1060); // nobody looked for a minute
  assert.equal(h.last.deliveries, undefined);
  assert.deepEqual(h.column("connections").slice(-2), [null, 5]);
});

test("a quarter of an hour is kept", () => {
  const h = new History();
  for (let i = 0; i < 1000; i++) h.add(exposed([["process_start_time_seconds", 1], ["sluice_connections", i]]), 2 * i);
  assert.equal(h.times.length, 451);
  assert.deepEqual([h.times.length, h.times[0], h.column("connections").at(-1)], [h.column("connections").length, 2 * 549, 999]);
});

test("numbers are written as people read them", () => {
  for (const [f, n, want] of [
    ["count", 0, "0"], ["count", 19542, "19,542"], ["count", 1234567, "1.23M"], ["count", undefined, "–"], ["count", NaN, "–"],
    ["rate", 0, "0"], ["rate", 0.5, "0.5"], ["rate", 32.46, "32.5"], ["rate", 14980.4, "14,980"], ["rate", 123456, "123k"], ["rate", 1e6, "1M"], ["rate", null, "–"],
    ["bytes", 0, "0 B"], ["bytes", 1023, "1023 B"], ["bytes", 1536, "1.5 KiB"], ["bytes", 5 * 2 ** 30, "5 GiB"],
    ["percent", 0.096, "9.6 %"], ["percent", 0.1, "10 %"], ["percent", 1.5, "150 %"], ["percent", 0, "0 %"],
    ["seconds", 0, "0 s"], ["seconds", 0.0000305, "30.5 µs"], ["seconds", 0.0042, "4.2 ms"], ["seconds", 0.9999, "1 s"], ["seconds", 12.34, "12.3 s"], ["seconds", 90, "1 min 30 s"],
    ["age", 0, "0 s"], ["age", 59.9, "59 s"], ["age", 60, "1 min"], ["age", 3700, "1 h 1 min"], ["age", 90000, "1 d 1 h"],
  ]) assert.equal(units[f](n), want, `${f}(${n})`);
});
