// Uses of sluice.js that its types accept, and some that they refuse. Compiled by
// sluice_types.test.mjs, never run.

import { subscribe, type Gap, type Message, type State, type StateChange, type Subscription } from "../page/sluice.js";

const plain: Subscription = subscribe("ws://127.0.0.1:8000/ws/news");
const all = subscribe(new URL("http://127.0.0.1:8000/sse/news"), {
  history: 10,
  since: localStorage.getItem("position"),
  token: async () => (await fetch("/token")).text(),
  onMessage(m: Message) {
    const text: string = typeof m.data === "string" ? m.data : new TextDecoder().decode(m.data);
    const position: string | undefined = m.offset === undefined ? undefined : `${m.epoch}:${m.offset}`;
    console.log(m.channel, m.from, m.time.toFixed(), m.prev, text, position);
  },
  onGap({ from, to }: Gap) { console.log(from.length, to.length); },
  onState(s: StateChange) {
    const state: State = s.state;
    console.log(state, s.retryAt && new Date(s.retryAt), s.code, s.reason);
  },
  onGreeting(text: string) { console.log(text); },
});
const sent: boolean = plain.publish("text") && plain.publish(new Uint8Array(2)) && plain.publish(new ArrayBuffer(2)) && plain.publish(new Blob());
plain.retryNow();
plain.cut();
plain.cut(5_000);
if (all.state === "closed") console.log(all.position.length, all.id.length, sent);
all.close();

// @ts-expect-error an object is not published: JSON.stringify it
plain.publish({ text: "hello" });
// @ts-expect-error the state cannot be set
all.state = "open";
// @ts-expect-error no such state
if (all.state === "connected") all.close();
// @ts-expect-error no such option
subscribe("ws://127.0.0.1:8000/ws/news", { onmessage() {} });
// @ts-expect-error data may be bytes
subscribe("ws://127.0.0.1:8000/ws/news", { onMessage(m) { console.log(m.data.trim()); } });
