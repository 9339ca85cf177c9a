// A client of Centrifugo's protocol, through centrifuge-js, subscribed to one channel.
// It knows no page: it reports what happens to the functions it is given.

const waitMax = 5_000; // ms, between two attempts of the SDK
const historyMax = 20; // messages that are shown on joining

export class Session {
  // told: { state(session), message(message), lost(trouble), back(report), here(map),
  // hereFault(error), historyFault(error) }; the report of one return is repeated when what it
  // brought is counted.
  constructor(Centrifuge, { url, channel, token, channelToken }, told) {
    this.channel = channel;
    this.told = told;
    this.state = "closed"; // or connecting, open, offline
    this.ended = null; // { code, reason } of the connection or the subscription; null: by the user
    this.trouble = null; // { code, message } of the last attempt, while connecting
    this.lostAt = 0; // when the subscription was lost; 0 before the first

    this.epoch = ""; // of the channel's order
    this.offset = 0; // of the last message
    this.mine = new Set(); // ids that this client's connections had
    this.present = new Map(); // who is here, by id
    this.caughtUp = null; // while what was missed comes: the offsets of it
    this.held = null; // live messages, while the history is asked for

    const options = { token, name: "sluice page", maxReconnectDelay: waitMax };
    this.client = new Centrifuge(url, options);
    this.client.on("connecting", (ctx) => this.connecting(ctx));
    this.client.on("connected", ({ client }) => this.mine.add(client));
    this.client.on("disconnected", (ctx) => this.disconnected(ctx));
    this.client.on("error", ({ error }) => this.failed(error));

    this.sub = this.client.newSubscription(channel, { token: channelToken, joinLeave: true, recoverable: true });
    this.sub.on("subscribing", (ctx) => this.client.state === "connected" && this.connecting(ctx));
    this.sub.on("subscribed", (ctx) => this.subscribed(ctx));
    this.sub.on("unsubscribed", (ctx) => this.disconnected(ctx));
    this.sub.on("error", ({ error }) => this.failed(error));
    this.sub.on("publication", (p) => this.publication(p));
    this.sub.on("join", ({ info }) => this.joined(info));
    this.sub.on("leave", ({ info }) => this.left(info));
  }

  open() {
    this.setState("connecting");
    this.sub.subscribe();
    this.client.connect();
  }

  // close ends it for good.
  close() {
    this.end(null);
  }

  // goOffline takes the connection away. The SDK keeps its position in the channel.
  goOffline() {
    this.leave();
    this.setState("offline");
    this.client.disconnect();
  }

  comeBack() {
    this.setState("connecting");
    this.client.connect();
  }

  publish(data) {
    return this.sub.publish(data);
  }

  // join shows the newest messages of the history, then what has come since it was asked for.
  async join() {
    this.held = [];
    let seen = 0; // offset of the last message of the history
    try {
      const { publications } = await this.sub.history({ limit: historyMax, reverse: true });
      for (const p of publications.reverse()) {
        this.told.message(this.messageOf(p, "history"));
        seen = p.offset;
      }
    } catch (err) {
      if (this.state === "open") this.told.historyFault(err);
    }
    const held = this.held;
    this.held = null;
    for (const m of held) if (m.offset === null || m.offset > seen) this.told.message(m);
  }

  // connecting: the SDK begins, or has lost the connection or the subscription and
  // tries again.
  connecting({ code, reason }) {
    if (code === 0) return; // as requested
    this.trouble = { code, message: reason };
    if (this.state === "open") this.told.lost(this.trouble);
    this.leave();
    this.setState("connecting");
  }

  failed(error) {
    if (error.code === 12) return; // the SDK has no way to get a new token: it ends next, and says so
    this.trouble = error;
    if (this.state === "connecting") this.told.state(this);
  }

  // disconnected: the gateway, or the SDK for it, has ended the connection or the
  // subscription for good.
  disconnected({ code, reason }) {
    if (this.state === "closed" || this.state === "offline") return; // as requested
    this.end({ code, reason });
  }

  end(ended) {
    this.ended = ended;
    this.setState("closed");
    this.client.disconnect();
    this.setPresent(new Map());
  }

  // leave: from here on what is published is missed.
  leave() {
    if (this.state === "open") this.lostAt = Date.now();
    this.setPresent(new Map());
  }

  subscribed({ recoverable, wasRecovering, recovered, streamPosition }) {
    this.trouble = null;
    const { epoch, offset } = streamPosition ?? { epoch: "", offset: 0 };
    const report = {
      away: Date.now() - this.lostAt, recoverable, wasRecovering, recovered, caughtUp: [],
      anew: epoch !== this.epoch, missed: { after: this.offset, upTo: offset },
    };
    this.epoch = epoch;
    if (!recovered) this.offset = offset;
    this.setState("open");
    if (this.lostAt) this.told.back(report);
    else this.join();
    // The SDK hands over what was missed at once, before anything else may run.
    const caughtUp = this.caughtUp = [];
    queueMicrotask(() => {
      this.caughtUp = null;
      if (caughtUp.length) this.told.back({ ...report, caughtUp });
    });
    this.ask();
  }

  publication(p) {
    if (p.offset) this.offset = p.offset;
    this.caughtUp?.push(p.offset);
    const m = this.messageOf(p, this.caughtUp ? "recovered" : "live");
    if (this.held) this.held.push(m);
    else this.told.message(m);
  }

  messageOf({ data, offset, info, time }, how) {
    return {
      how,
      data,
      offset: offset || null,
      at: time || (how === "live" ? Date.now() : null), // when an old one was published is not known
      own: info ? this.isOwn(info) : false,
      sender: info?.client ?? "",
      from: info ? info.user : "unnamed", // raw clients and backends have no info
    };
  }

  isOwn({ client }) {
    return this.mine.has(client);
  }

  // ask asks who is here. Joins and leaves change the answer from there on: the gateway
  // sends none that the answer does not know before it.
  async ask() {
    try {
      const { clients } = await this.sub.presence();
      if (this.state === "open") this.setPresent(new Map(Object.entries(clients)));
    } catch (err) {
      if (this.state === "open") this.told.hereFault(err);
    }
  }

  joined(info) {
    this.setPresent(new Map(this.present).set(info.client, info));
  }

  left(info) {
    const rest = new Map(this.present);
    rest.delete(info.client);
    this.setPresent(rest);
  }

  setPresent(present) {
    this.present = present;
    this.told.here(present);
  }

  setState(state) {
    this.state = state;
    this.told.state(this);
  }
}
