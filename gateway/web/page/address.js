// Where the gateway is, and the addresses that come of it. Pure: no page, no network.

// defaultAddress is where the page came from, as a WebSocket address, with the path
// that a proxy may have put before it.
export function defaultAddress(location, configured) {
  if (configured) return configured;
  if (location.protocol !== "http:" && location.protocol !== "https:") return "ws://127.0.0.1:8000";
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  return `${scheme}//${location.host}${location.pathname.replace(/\/[^/]*$/, "")}`;
}

// parseAddress reads what was typed, or throws an Error that says what is wrong.
export function parseAddress(text) {
  const typed = text.trim().replace(/^http(s?):/i, "ws$1:");
  const example = "Use one like ws://localhost:8000 or wss://example.com/live.";
  let url;
  try {
    url = new URL(typed);
  } catch {
    throw new Error(`“${text.trim()}” is not a valid address. ${example}`);
  }
  if (url.protocol !== "ws:" && url.protocol !== "wss:") {
    throw new Error(`The address must start with ws: or wss:, not ${url.protocol}. ${example}`);
  }
  url.hash = "";
  url.pathname = url.pathname.replace(/\/+$/, "");
  return url;
}

// parseChannel reads a channel's name: at most 255 bytes of UTF-8 without control
// characters and white space. No name means the lobby.
export function parseChannel(text) {
  const name = text.trim() || "lobby";
  if (/[\p{Cc}\p{White_Space}]/u.test(name)) {
    throw new Error("A channel name can't contain spaces or control characters.");
  }
  if (/\p{Surrogate}/u.test(name)) throw new Error("The channel name contains half a character (an unpaired surrogate).");
  if (new TextEncoder().encode(name).length > 255) {
    throw new Error("A channel name can have at most 255 bytes.");
  }
  return name;
}

// channelURL is where a channel is read and written over a WebSocket. A name of dots
// goes into the query: in a path a browser would take it for a step up.
export function channelURL(address, channel) {
  const url = new URL(address);
  const inQuery = channel === "." || channel === "..";
  url.pathname = below(url, inQuery ? "/ws" : `/ws/${encodeURIComponent(channel)}`);
  if (inQuery) url.searchParams.set("channel", channel);
  return url.href;
}

// streamURL is where the same channel is read over SSE.
export function streamURL(address, channel) {
  const url = new URL(channelURL(address, channel));
  const inQuery = url.searchParams.has("channel");
  url.protocol = url.protocol === "wss:" ? "https:" : "http:";
  url.pathname = below(new URL(address), inQuery ? "/sse" : `/sse/${encodeURIComponent(channel)}`);
  return url.href;
}

// moduleURL is where the gateway serves sluice.js, for code outside of the page.
export function moduleURL(address) {
  const url = new URL(address);
  url.protocol = url.protocol === "wss:" ? "https:" : "http:";
  url.pathname = below(url, "/sluice.js");
  url.search = "";
  return url.href;
}

// echoURL is where each message comes back to its sender alone.
export function echoURL(address) {
  const url = new URL(address);
  url.pathname = below(url, "/echo");
  return url.href;
}

// clientURL is where Centrifugo's protocol is spoken, for all channels.
export function clientURL(address) {
  const url = new URL(address);
  url.pathname = below(url, "/connection/websocket");
  return url.href;
}

function below(url, path) {
  return url.pathname.replace(/\/+$/, "") + path;
}
