// What the page says: close codes, time and bytes in words. Pure.

const meanings = {
  1000: "the server closed the connection",
  1001: "the server is shutting down",
  1002: "the server saw a breach of the WebSocket protocol",
  1003: "the server does not take this kind of data",
  1005: "the server gave no code",
  1006: "the connection broke off without a word: the network, a proxy, or the server itself went away",
  1007: "what was sent is not UTF-8 text",
  1009: "the message was bigger than the server takes (--max-message)",
  1011: "the server failed: its log says why",
  1012: "the server is restarting",
  1013: "this client fell too far behind, or the server is out of room",
};

// notAllowed is the reason that a client hears which may only listen.
export const notAllowed = "publishing is not allowed here";

const policies = {
  [notAllowed]:
    "publishing over WebSocket is off here, clients may only listen. Start sluice with --raw publish, or publish with the curl line below",
  "no answer to ping": "this tab did not answer the server's pings, perhaps because it slept",
  "too many fragments": "the message came in too many fragments",
};

// closeWords says what a close code means. A reason that is not known is quoted.
export function closeWords(code, reason) {
  const known = code === 1008 ? policies[reason] : meanings[code];
  if (known) return known;
  const general = code === 1008 ? "the server does not allow that" : "a code this page does not know";
  return reason ? `${general}: “${reason}”` : general;
}

// notReached is for a connection that never opened: a browser does not tell pages why.
export const notReached =
  "no connection: nothing answers at this address, or it does not let this page in (see --allowed-origins and --raw)";

// notReachedByLibrary is the same for the client protocol.
export const notReachedByLibrary =
  "no connection: nothing answers at the address above, or it does not let this page in (see --allowed-origins and --client-protocol)";

// seconds gives a duration of milliseconds for people: "0.8 s", "12 s", "3 min".
export function seconds(ms) {
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 119500) return `${Math.round(ms / 1000)} s`;
  return `${Math.round(ms / 60000)} min`;
}

// milliseconds gives a latency: tenths only where the clock has them.
export function milliseconds(ms) {
  if (ms >= 10000) return seconds(ms);
  return `${Number.isInteger(ms) || ms >= 100 ? Math.round(ms) : ms.toFixed(1)} ms`;
}

const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

export function timeOfDay(ms) {
  return clock.format(ms);
}

// binaryWords describes a payload that is no text, given as base64.
export function binaryWords(base64) {
  const bytes = (base64.length / 4) * 3 - (base64.match(/=*$/)[0].length);
  const shown = base64.length > 120 ? `${base64.slice(0, 120)}…` : base64;
  return `${bytes} ${bytes === 1 ? "byte" : "bytes"}, base64 ${shown}`;
}

export function base64Of(buffer) {
  let binary = "";
  for (const byte of new Uint8Array(buffer)) binary += String.fromCharCode(byte);
  return btoa(binary);
}

export function messages(n) {
  return n === 1 ? "1 message" : `${n} messages`;
}

export function capital(words) {
  return words[0].toUpperCase() + words.slice(1);
}
