// What the page says: close codes, time and bytes in words. Pure.

const meanings = {
  1000: "the gateway closed it",
  1001: "the gateway is shutting down",
  1002: "the gateway received an invalid WebSocket frame",
  1003: "the gateway does not accept this type of data",
  1005: "no reason was given",
  1006: "there was no close message: the network, a proxy or the gateway may be down",
  1007: "the text sent was not valid UTF-8",
  1009: "the message was larger than the gateway accepts (--max-message)",
  1011: "an internal error in the gateway; its log has the details",
  1012: "the gateway asks to reconnect: it is restarting, or messages were lost",
  1013: "this client was too slow, or the gateway reached a limit",
  3005: "the token has expired",
};

// notAllowed is the reason that a subscribe-only client is given.
export const notAllowed = "publishing is not allowed here";

const policies = {
  [notAllowed]:
    "clients may not publish to this channel. Start sluice with --raw publish, set allow_raw_publish in the channel's namespace, or publish with the curl command below",
  "no response to ping": "this tab did not respond to the gateway's pings. It may have been asleep",
  "too many fragments": "the message was split into too many fragments",
  "closed by an operator": "an operator of the gateway closed it",
  "closed by the server's API": "the application's backend closed it",
  "too many messages": "messages were sent too fast (--message-rate)",
};

// closeWords says what a close code means. A reason that is not known is quoted.
export function closeWords(code, reason) {
  const known = code === 1008 ? policies[reason] : meanings[code];
  if (known) return known;
  if (reason) return `“${reason}”`;
  return code === 1008 ? "the gateway does not allow this" : "an unknown close code";
}

// A browser does not tell a page why a WebSocket never opened, so these name what can be
// wrong. own: the page came from the gateway at that address.

// notReached is for a first attempt to connect. reason is what the browser says, where it says something.
export function notReached(own, reason) {
  if (reason && /insecure|secure|https/i.test(reason)) return `can't connect: ${reason}`;
  if (own) {
    return "can't connect: the gateway refused the connection, a proxy in between does not forward WebSocket, or the gateway has stopped. " +
      "See the gateway's log";
  }
  return "can't connect: nothing is listening at this address, this page's origin is not in the gateway's --allowed-origins, " +
    "or the channel needs a token. See the gateway's log";
}

// refusedWords says what the answer to a request for the channel means. What a gateway says is one
// sentence. token is the one that was sent.
export function refusedWords(status, text, token) {
  if (status === 401) return `this token is not accepted (401). The gateway's log says why`;
  if (status === 403 && text.includes("token")) return token ? "this token is not for this channel" : "this gateway asks for a token";
  if (/^[^<]{1,200}$/.test(text)) return `can't connect: the gateway says “${text}” (${status})`;
  return `can't connect: the answer is ${status}. Is this the address of a sluice gateway?`;
}

// notReachedBySDK is the same for Centrifugo's protocol, where a wrong token has a code.
export function notReachedBySDK(own) {
  if (own) {
    return "can't connect: the gateway is full or runs with --client-protocol off, a proxy in between does not forward WebSocket, " +
      "or the gateway has stopped. See the gateway's log";
  }
  return "can't connect: nothing is listening at the address above, this page's origin is not in the gateway's --allowed-origins, " +
    "or the gateway runs with --client-protocol off";
}

// notReachedAgain is for an attempt to reconnect.
export const notReachedAgain = "can't reach the gateway: it may be restarting, or the network is down";

// seconds returns a duration of milliseconds for people: "0.8 s", "12 s", "3 min".
export function seconds(ms) {
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 119500) return `${Math.round(ms / 1000)} s`;
  return `${Math.round(ms / 60000)} min`;
}

// milliseconds returns a latency: tenths only where the clock has them.
export function milliseconds(ms) {
  if (ms >= 10000) return seconds(ms);
  return `${Number.isInteger(ms) || ms >= 100 ? Math.round(ms) : ms.toFixed(1)} ms`;
}

const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

export function timeOfDay(ms) {
  return clock.format(ms);
}

// bytesWords describes a payload that is no text.
export function bytesWords(bytes) {
  const base64 = btoa(String.fromCharCode(...bytes.subarray(0, 90)));
  return `${bytes.length} ${bytes.length === 1 ? "byte" : "bytes"}, base64 ${base64}${bytes.length > 90 ? "…" : ""}`;
}

export function messages(n) {
  return n === 1 ? "1 message" : `${n.toLocaleString("en")} messages`;
}

export function capital(words) {
  return words[0].toUpperCase() + words.slice(1);
}
