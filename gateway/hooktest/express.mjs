// The backend in Express: see doc.go. It prints its port, and ends when its standard input does.

import express from "express";

const asked = [];
const app = express();
app.use(express.json());

const common = { client: "string", transport: "string", protocol: "string", encoding: "string" };
const fields = { // what an event has to have, and can have
  connect: [{}, { name: "string", version: "string", channels: "object", data: "any", b64data: "string" }],
  refresh: [{ user: "string" }, { meta: "object" }],
  subscribe: [{ user: "string", channel: "string" }, { meta: "object", data: "any", b64data: "string" }],
  sub_refresh: [{ user: "string", channel: "string" }, { meta: "object" }],
  publish: [{ user: "string", channel: "string" }, { meta: "object", data: "any", b64data: "string" }],
  rpc: [{ user: "string" }, { method: "string", meta: "object", data: "any", b64data: "string" }],
};

function malformed(event, q) {
  if (q === undefined) return "there is no JSON";
  const [also, may] = fields[event];
  const must = { ...common, ...also };
  for (const name of Object.keys(must)) if (!(name in q)) return `${name} is missing`;
  for (const [name, value] of Object.entries(q)) {
    const kind = must[name] ?? may[name];
    if (kind === undefined) return `${name} is unknown`;
    if (kind !== "any" && typeof value !== kind) return `${name} is a ${typeof value}`;
  }
}

function sessionOf(req) {
  return (req.headers.cookie ?? "").split("; ").find((c) => c.startsWith("session="))?.slice("session=".length) ?? "";
}

function line(event, req) {
  const q = req.body;
  const words = [event, `${q.transport}/${q.protocol}/${q.encoding}`];
  if (sessionOf(req)) words.push(`session=${sessionOf(req)}`);
  for (const name of ["user", "channel", "method"]) if (name in q) words.push(`${name}=${q[name]}`);
  if ("channels" in q) words.push(`channels=${q.channels.join(",")}`);
  if ("meta" in q) words.push(`tenant=${q.meta.tenant}`);
  if ("data" in q) words.push(`data=${JSON.stringify(q.data)}`);
  else if ("b64data" in q) words.push(`b64data=${q.b64data}`);
  return words.join(" ");
}

const behind = (text, separator) => (text.includes(separator) ? text.slice(text.lastIndexOf(separator) + 1) : "");

const later = (text) => behind(text, "@").split("-")[0];

function answer(res, event, result, word) {
  switch (word) {
    case "error": return res.json({ error: { code: 403, message: "not you" } });
    case "unauthorized": return res.json({ error: { code: 401, message: "who are you?" } });
    case "later": return res.json({ error: { code: 1000, message: "try later", temporary: true } });
    case "disconnect": return res.json({ disconnect: { code: 4501, reason: "banned" } });
    case "reconnect": return res.json({ disconnect: { code: 4001, reason: "move" } });
    case "all": return res.json({ result, error: { code: 403, message: "not you" }, disconnect: { code: 4501, reason: "banned" } });
    case "both": return res.json({ result, error: { code: 403, message: "not you" } });
    case "empty": return res.json({});
    case "null": return res.json({ result: null });
    case "nothing": return res.json({ result: {} });
    case "nulls": {
      const names = ["user", "expire_at", "info", "b64info", "data", "b64data", "channels", "subs", "meta", "override", "tags"];
      return res.json({ error: null, disconnect: null, result: Object.fromEntries(names.map((n) => [n, null])) });
    }
    case "created": return res.status(201).json({ result });
    case "none": return res.status(204).end();
    case "redirect": return res.redirect(307, `/${event}`);
    case "fails": throw new Error("the application has failed");
    case "busy": return res.status(429).send("slow down");
    case "broken": return res.type("json").send('{"result":');
    case "text": return res.send("OK");
    case "number": return res.json({ result: { user: 7, expire_at: Date.now() / 1000 + 0.5, tags: 1, data: 1, b64data: 1 } });
    case "expired": return res.json({ result: { expired: true } });
    case "hangs": return undefined;
  }
  if (word === "past") result.expire_at = Math.floor(Date.now() / 1000) - 60;
  if (word.startsWith("+")) result.expire_at = Math.floor(Date.now() / 1000) + Number(word.slice(1));
  return res.json({ result });
}

function hook(event, decide) {
  app.post(`/${event}`, (req, res) => {
    const fault = malformed(event, req.body);
    if (fault) {
      asked.push(`malformed: ${event}: ${fault}`);
      return res.status(500).send(fault);
    }
    asked.push(line(event, req));
    const [result, word] = decide(req.body, req);
    return answer(res, event, result, word);
  });
}

hook("connect", (q, req) => {
  const user = sessionOf(req);
  return [{ user, info: { name: user }, meta: { tenant: 4 } }, behind(user, "-")];
});
hook("refresh", (q) => [{}, later(q.user)]);
hook("subscribe", (q) => [{ info: { at: q.channel }, data: { topic: q.channel } }, behind(q.channel, "-")]);
hook("sub_refresh", (q) => [{}, later(q.channel)]);
hook("publish", (q) => {
  const word = typeof q.data === "string" ? behind(q.data, "-") : "";
  return [word === "change" ? { data: "changed", tags: { by: "hook" } } : {}, word];
});
hook("rpc", (q) => {
  const { method = "", user, data = null, b64data } = q;
  return [b64data === undefined ? { data: { method, user, data } } : { b64data }, behind(method, "-")];
});

app.get("/asked", (req, res) => { res.json(asked.splice(0)); });
app.use((error, req, res, next) => { // eslint-disable-line no-unused-vars -- four parameters make it one for errors
  res.status(500).send(error.message);
});

const server = app.listen(0, "127.0.0.1", (error) => {
  if (error) throw error;
  console.log(server.address().port);
});
process.stdin.resume().on("end", () => process.exit(0));
