// What the error and close codes of Centrifugo's protocol mean, in words. Pure.

const insecure = "start the gateway with --insecure to try";

// notAllowed is for 103, by what was asked for.
const notAllowed = {
  subscribe: `this channel needs a subscription token, or allow_subscribe_for_client in its namespace. Without either, ${insecure} it`,
  publish: `you are not allowed to publish to this channel: set allow_publish_for_subscriber in its namespace, or ${insecure} it. Without keys and namespaces, --raw publish is enough`,
  presence: `you are not allowed to see who is here: set allow_presence_for_subscriber in the channel's namespace, or ${insecure} it`,
  history: `you are not allowed to read the history: set allow_history_for_subscriber in the channel's namespace, or ${insecure} it`,
};

// notThere is for 108.
const notThere = {
  subscribe: "this kind of subscription is not available",
  publish: "publishing is not available here",
  presence: "presence is off for this channel: set \"presence\": true in its namespace, and \"join_leave\": true to see who comes and goes",
  history: "this channel keeps no history: set history_size and history_ttl in its namespace. Without namespaces, use --history",
};

const answers = {
  1: "the gateway did not respond in time",
  2: "the connection was lost",
  3: "the connection is not open",
  11: "the connection was lost",
  100: "internal error in the gateway; its log has the details",
  101: "the gateway does not know who you are: add a connection token",
  102: "no such channel: its namespace, the part before the “:”, is not in the --namespaces file",
  105: "the gateway has already subscribed you: the connection token names this channel. Make a token without --channels",
  106: "this exceeds one of the gateway's limits",
  107: "the gateway could not parse the request or the channel name",
  109: "the token has expired: make a new one",
  111: "the gateway is too busy: try again",
  112: "the channel's history has started over",
};

// answerWords says what an error means that came in answer to what was asked for:
// subscribe, publish, presence or history.
export function answerWords(asked, { code, message }) {
  const known = code === 103 ? notAllowed[asked] : code === 108 ? notThere[asked] : answers[code];
  return `${known ?? `“${message}”`} (${code})`;
}

const ends = {
  1: "the token is missing or has expired: make a new one, as shown here",
  2: "the server did not speak Centrifugo's protocol",
  3: "the message was larger than the gateway accepts (--max-message)",
  2000: "the subscription was ended through the server API",
  3005: "the token has expired: make a new one",
  3500: "the gateway rejected the token; its log says why. Make one with the gateway's key, as shown here. Without keys, leave the token empty",
  3501: "the gateway could not parse a request",
  3502: "the gateway received nothing for too long",
  3503: "the connection was closed through the server API",
  3505: "the token names too many channels",
  3507: "the gateway does not allow this",
};

// endWords says why a connection or a subscription was ended for good.
export function endWords({ code, reason }) {
  return `${ends[code] ?? answers[code] ?? `“${reason}”`} (${code})`;
}

const losses = {
  1: "connection lost",
  2: "the gateway stopped responding",
  109: answers[109],
  2500: "resubscribing, because messages may have been lost",
  2501: "the subscription token has expired",
  3001: "the gateway is shutting down",
  3004: "internal error in the gateway; its log has the details",
  3005: "the token has expired",
  3008: "this client was too slow",
  3010: "reconnecting, because messages may have been lost",
  3011: "the gateway asked this client to reconnect",
  3012: "this tab did not respond to the gateway's pings. It may have been asleep",
  3013: "too many requests at once",
};

// lossWords says why a connection was lost that the SDK opens again.
export function lossWords({ code, message }) {
  return `${losses[code] ?? `“${message}”`} (${code})`;
}

// wantsToken reports whether a token, or another one, may help against the end of a connection
// or a subscription.
export function wantsToken({ code }) {
  return [1, 101, 103, 109, 3005, 3500].includes(code);
}
