// One channel through Centrifugo's SDK, for the page: what session.js reports, in words and rows.
// It knows no fields: it reports to the functions it is given.

import { clientURL } from "./address.js";
import { answerWords, endWords, lossWords, wantsToken } from "./codes.js";
import { Session } from "./session.js";
import { capital, messages, notReachedAgain, notReachedBySDK, seconds } from "./words.js";

export class SDK {
  // settings: { address, channel, token, channelToken }; told: see page.js.
  constructor(settings, told) {
    Object.assign(this, settings, { told });
    this.state = "closed"; // or connecting, open, offline
    this.listenOnly = false; // the last message was not allowed
    this.url = clientURL(this.address);
  }

  get target() { return `${this.url} ${this.channel}`; }
  get action() { return { open: "Go offline", offline: "Go online" }[this.state] ?? ""; }

  async open() {
    this.set("connecting", "Loading the SDK…");
    try {
      await import("./centrifuge.js"); // which leaves its class behind as a global
    } catch (err) {
      this.set("closed", `The SDK could not be loaded: ${err.message}`);
      return;
    }
    if (this.isOver) return; // closed in the meantime
    this.session = new Session(globalThis.Centrifuge, this, {
      state: (session) => this.changed(session),
      message: ({ data, ...m }) => this.told.message({ ...m, latency: null, text: typeof data === "string" ? data : JSON.stringify(data) }),
      lost: (trouble) => this.told.note(capital(lossWords(trouble))),
      back: (report) => this.told.back(backWords(report), !report.recovered),
      here: (present) => this.state === "open" && this.told.here(present, (info) => this.session.isOwn(info)),
      hereFault: (error) => this.told.hereWords(capital(answerWords("presence", error))),
      historyFault: (error) => this.told.note(capital(answerWords("history", error))),
    });
    this.session.open();
  }

  close() {
    this.isOver = true;
    if (this.session) this.session.close();
    else this.set("closed", "Disconnected");
  }

  act() {
    if (this.state === "offline") this.session.comeBack();
    else this.session.goOffline();
  }

  hurry() {} // the SDK watches the network itself

  // --- state

  changed(s) {
    const was = this.state;
    this.state = s.state;
    switch (s.state) {
      case "connecting":
        this.told.state(this, this.connectingWords(s));
        break;
      case "open":
        if (!s.lostAt) this.told.joined(this);
        this.told.state(this, `Connected to ${s.channel}`);
        break;
      case "offline":
        this.told.note("Offline. Now publish something: in another tab, or with the curl command below.");
        this.told.state(this, "You went offline");
        break;
      case "closed": {
        const words = closedWords(s.ended);
        if (s.ended && s.lostAt) this.told.note(words);
        this.told.state(this, words);
        if (s.ended && wantsToken(s.ended)) this.told.keys();
      }
    }
    if (s.state === "open") return;
    if (was === "open" && s.state !== "closed") this.told.hereWords("Not available while disconnected.");
    else if (s.state === "closed") this.told.hereWords("");
  }

  connectingWords(s) {
    const { host } = new URL(this.url);
    if (!s.trouble) return `Connecting to ${host}…`;
    const unreached = s.lostAt ? notReachedAgain : notReachedBySDK(host === location.host);
    return `${capital(s.trouble.code === 2 ? unreached : lossWords(s.trouble))}. Retrying…`;
  }

  set(state, words) {
    this.state = state;
    this.told.state(this, words);
  }

  // --- sending

  // send reports whether the text is on its way.
  send(text) {
    if (this.state !== "open") return false;
    this.session.publish(payload(text)).catch((err) => {
      this.listenOnly = err.code === 103;
      this.told.note(`Not published: ${answerWords("publish", err)}`);
      this.told.giveBack(text);
    });
    return true;
  }
}

// payload is what to publish for a text: an object or array of JSON as it is, anything
// else as a string.
function payload(text) {
  try {
    const value = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // Not JSON.
  }
  return text;
}

// backWords says what the SDK found when it reconnected.
function backWords({ away, recoverable, wasRecovering, recovered, caughtUp, anew, missed }) {
  const time = `Back after ${seconds(away)}`;
  if (!recoverable || !wasRecovering) return `${time}. This channel has no recovery: this tab missed any messages published in the meantime`;
  if (recovered) {
    if (!caughtUp.length) return `${time}, recovered: true. Nothing was missed`;
    const which = caughtUp.length === 1 ? `#${caughtUp[0]}` : `#${caughtUp[0]} to #${caughtUp.at(-1)}`;
    return `${time}, recovered: true. Caught up on ${messages(caughtUp.length)}, ${which}`;
  }
  if (anew) return `${time}, recovered: false. The channel's history started over, so messages may be lost`;
  return `${time}, recovered: false. The messages after #${missed.after} and up to #${missed.upTo} were missed, and not all of them are still in the history`;
}

function closedWords(ended) {
  if (!ended) return "Disconnected";
  if (ended.code < 100 || ended.code >= 1000) return `Closed: ${endWords(ended)}`;
  return `Closed: ${answerWords("subscribe", { code: ended.code, message: ended.reason })}`;
}
