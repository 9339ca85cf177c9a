// Numbers as people read them. Whatever is no number is a dash.

const none = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const given = (n) => typeof n === "number" && Number.isFinite(n);

// scaled writes n with three digits in the first unit that it is not too large for.
function scaled(n, units, step) {
  let i = 0;
  while (i < units.length - 1 && Math.abs(n) >= step * 0.9995) {
    n /= step;
    i++;
  }
  const digits = Math.abs(n) >= 100 || Number.isInteger(n) ? 0 : Math.abs(n) >= 10 ? 1 : 2;
  return n.toFixed(digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "") + units[i];
}

export function count(n) {
  if (!given(n)) return none;
  return Math.abs(n) < 1e6 ? whole.format(n) : scaled(n / 1e6, ["M", "G", "T"], 1000);
}

export function rate(n) {
  if (!given(n)) return none;
  return Math.abs(n) >= 100 && Math.abs(n) < 1e5 ? whole.format(n) : scaled(n, ["", "k", "M", "G"], 1000);
}

// short is for the axis of a chart.
export const short = (n) => (given(n) ? scaled(n, ["", "k", "M", "G", "T"], 1000) : "");

export const bytes = (n) => (given(n) ? scaled(n, [" B", " KiB", " MiB", " GiB", " TiB"], 1024) : none);

export const percent = (n) => (given(n) ? `${Number((100 * n).toFixed(n < 0.0995 ? 1 : 0))} %` : none);

export function seconds(n) {
  if (!given(n)) return none;
  if (n >= 60) return age(n);
  if (n === 0) return "0 s";
  return n >= 0.9995 ? scaled(n, [" s"], 1000) : n >= 0.0009995 ? scaled(n * 1e3, [" ms"], 1000) : scaled(n * 1e6, [" µs"], 1000);
}

// age is a long time, in its two largest units.
export function age(n) {
  if (!given(n)) return none;
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = Math.max(0, parts.findIndex(([unit]) => n >= unit));
  const [big, small] = [parts[first === 0 && n < 1 ? 3 : first], parts[first + 1]];
  const head = Math.floor(n / big[0]);
  const rest = small ? Math.floor((n % big[0]) / small[0]) : 0;
  return `${head} ${big[1]}${rest ? ` ${rest} ${small[1]}` : ""}`;
}

export const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB");
