// What the gateway's client protocol says in codes, in words. Pure.

const insecure = "start the gateway with --insecure to try";

// notAllowed is for 103, by what was asked for.
const notAllowed = {
  subscribe: `you may not subscribe to this channel: it takes a channel token, or allow_subscribe_for_client in the file of --namespaces; or ${insecure} without`,
  publish: `you may not publish into this channel: ${insecure} it, or give its namespace allow_publish_for_subscriber; where there is none, --raw publish`,
  presence: `you may not see who is here: ${insecure} presence, or give the channel's namespace allow_presence_for_subscriber`,
  history: `you may not read the history: ${insecure} it, or give the channel's namespace allow_history_for_subscriber`,
};

// notThere is for 108.
const notThere = {
  subscribe: "this kind of subscription is not available",
  publish: "publishing is not available here",
  presence: "this channel does not know who is here: its namespace needs \"presence\": true, and \"join_leave\": true for who comes and goes",
  history: "this channel keeps no history: its namespace needs history_size and history_ttl; without namespaces it is --history",
};

const answers = {
  1: "the gateway did not answer in time",
  2: "the connection broke off",
  3: "the connection is not open",
  11: "the connection broke off",
  100: "the gateway failed: its log says why",
  101: "who you are was not said: give a token",
  102: "there is no such channel: its namespace, the part before the “:”, is not in the file of --namespaces",
  105: "the token names this channel already, so the gateway has subscribed the connection by itself: make one without --channels",
  106: "that is more than the gateway takes",
  107: "the gateway does not understand the request, or the name of the channel",
  109: "the token has expired: make a fresh one",
  111: "the gateway has too much to do: try again",
  112: "the channel has begun anew since",
};

// answerWords says what an error means that came in answer to what was asked for:
// subscribe, publish, presence or history.
export function answerWords(asked, { code, message }) {
  const known = code === 103 ? notAllowed[asked] : code === 108 ? notThere[asked] : answers[code];
  return `${known ?? `“${message}”`} (${code})`;
}

const ends = {
  1: "the token has expired, or is missing: make a fresh one, as shown below",
  2: "the gateway answered something that is not its protocol",
  3: "the message was bigger than the gateway takes (--max-message)",
  2000: "the gateway was told to end this subscription",
  3005: "the token has expired: make a fresh one",
  3500: "the gateway does not take this token: make one with its key, as shown below. A gateway without keys takes none",
  3501: "the gateway did not understand a request",
  3502: "the gateway heard nothing for too long",
  3503: "the gateway was told to close this connection",
  3505: "the token names too many channels",
  3507: "the gateway does not allow that",
};

// endWords says why a connection or a subscription was ended for good.
export function endWords({ code, reason }) {
  return `${ends[code] ?? answers[code] ?? `“${reason}”`} (${code})`;
}

const losses = {
  1: "the connection broke off",
  2: "the gateway fell silent",
  109: answers[109],
  2500: "messages may have been lost on the way",
  2501: "the channel token has expired",
  3001: "the gateway is shutting down",
  3004: "the gateway failed: its log says why",
  3005: "the token has expired",
  3008: "this client fell too far behind",
  3010: "messages may have been lost on the way",
  3011: "the gateway wants this client to connect anew",
  3012: "this tab did not answer the gateway's pings, perhaps because it slept",
  3013: "these were too many requests at a time",
};

// lossWords says why a connection was lost that the library opens anew.
export function lossWords({ code, message }) {
  return `${losses[code] ?? `“${message}”`} (${code})`;
}
