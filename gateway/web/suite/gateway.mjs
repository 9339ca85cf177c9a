// A gateway under test, and what may stand between it and a browser.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import http from "node:http";
import net from "node:net";
import { extname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const binary = process.env.SLUICE_BIN;
delete process.env.SLUICE_BIN; // sluice refuses variables of its prefix that it does not know
if (!binary) throw new Error("SLUICE_BIN is not set: start the suite with ./run, or set it to a sluice binary");

// sluice runs one of the other commands and returns what it prints.
export async function sluice(...words) {
  return (await promisify(execFile)(binary, words)).stdout;
}

// Gateway is a sluice process on ports of its own, which it keeps when it is restarted.
export class Gateway {
  static start(...flags) {
    return Gateway.at("127.0.0.1:0", "127.0.0.1:0", ...flags);
  }

  // at starts one at given addresses.
  static async at(host, internal, ...flags) {
    const g = new Gateway();
    Object.assign(g, { host, internal, flags });
    await g.run();
    return g;
  }

  // run starts the process and waits until it says where it listens.
  async run() {
    this.process = spawn(this.program ?? binary, [
      "--listen", this.host, "--internal-listen", this.internal, "--log-format", "json", ...this.flags,
    ], { stdio: ["ignore", "ignore", "pipe"] });
    const late = setTimeout(() => this.process.kill("SIGKILL"), 10_000);
    const said = [];
    for await (const line of createInterface({ input: this.process.stderr })) {
      said.push(line);
      if (!line.includes('"msg":"ready"')) continue;
      clearTimeout(late);
      this.process.stderr.resume();
      const ready = JSON.parse(line);
      this.host = ready.listen[0];
      this.internal = ready.internal_listen;
      return;
    }
    clearTimeout(late);
    throw new Error(`sluice did not start:\n${said.join("\n")}`);
  }

  // held returns a program that is the gateway's, and waits at its start as long as a file exists.
  static async held(dir) {
    const [program, file] = [join(dir, "sluice"), join(dir, "hold")];
    await writeFile(program, `#!/bin/bash\nwhile [[ -e ${file} ]]; do sleep 0.05; done\nexec -a "$0" ${resolve(binary)} "$@"\n`, { mode: 0o700 });
    return { program, file };
  }

  get port() { return new URL(this.url).port; }
  get url() { return `http://${this.host}/`; }

  async publish(channel, body, headers = {}) {
    const url = `http://${this.internal}/publish/${encodeURIComponent(channel)}`;
    const response = await fetch(url, { method: "POST", body, headers: { "Content-Type": "text/plain", ...headers } });
    if (!response.ok) throw new Error(`publish: ${response.status} ${await response.text()}`);
    return response.json();
  }

  async stop(signal = "SIGTERM") {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, "exit");
    this.process.kill(signal);
    await ended;
  }
}

// Wire passes bytes through to a port until it is cut.
export class Wire {
  static async to(port) {
    const w = new Wire();
    w.sockets = new Set();
    w.server = net.createServer((client) => {
      if (w.isCut) return client.destroy();
      const upstream = net.connect(port, "127.0.0.1");
      for (const [from, into] of [[client, upstream], [upstream, client]]) {
        w.sockets.add(from);
        from.on("data", (bytes) => into.write(bytes));
        from.on("end", () => into.end());
        from.on("error", () => into.destroy());
        from.on("close", () => { w.sockets.delete(from); into.destroy(); });
      }
    });
    w.url = await listen(w.server);
    return w;
  }

  cut() {
    this.isCut = true;
    for (const s of this.sockets) s.destroy();
  }

  mend() { this.isCut = false; }

  close() {
    this.cut();
    this.server.close();
  }
}

// proxyAt serves a gateway below a path, as reverse proxies do: the path is taken
// off, the Host stays.
export async function proxyAt(prefix, port) {
  const strip = (url) => (url.startsWith(prefix) ? url.slice(prefix.length - 1) : null);
  const forward = (req, path) => http.request({ host: "127.0.0.1", port, path, method: req.method, headers: req.headers });
  const server = http.createServer((req, res) => {
    const path = strip(req.url);
    if (path === null) return res.writeHead(404).end();
    const out = forward(req, path);
    out.on("response", (answer) => {
      res.writeHead(answer.statusCode, answer.rawHeaders);
      answer.pipe(res);
    });
    out.on("error", () => res.destroy());
    req.pipe(out);
  });
  server.on("upgrade", (req, client) => {
    const path = strip(req.url);
    if (path === null) return client.destroy();
    const out = forward(req, path);
    out.on("upgrade", (answer, upstream, head) => {
      const fields = [];
      for (let i = 0; i < answer.rawHeaders.length; i += 2) fields.push(`${answer.rawHeaders[i]}: ${answer.rawHeaders[i + 1]}`);
      client.write(`HTTP/1.1 101 Switching Protocols\r\n${fields.join("\r\n")}\r\n\r\n`);
      client.write(head);
      upstream.pipe(client).pipe(upstream);
      client.on("error", () => upstream.destroy());
      upstream.on("error", () => client.destroy());
    });
    out.on("response", () => client.destroy()); // refused
    out.on("error", () => client.destroy());
    out.end();
  });
  const url = new URL(prefix, await listen(server)).href;
  return { url, close: () => { server.close(); server.closeAllConnections(); } };
}

// pageElsewhere serves the page's files from an origin of its own, as somebody would
// who copied them, with the gateway's address filled in. The name is a foreign one:
// pages of this machine's own names may connect to a gateway on it anyway.
export async function pageElsewhere(name, address) {
  const types = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain" };
  const server = http.createServer(async (req, res) => {
    const name = req.url === "/" ? "index.html" : req.url.slice(1);
    if (!/^\w+\.\w+$/.test(name)) return res.writeHead(404).end();
    let content = await readFile(new URL(`../page/${name}`, import.meta.url));
    if (name === "index.html") content = String(content).replace('data-address=""', `data-address="${address}"`);
    res.writeHead(200, { "Content-Type": types[extname(name)] }).end(content);
  });
  const url = (await listen(server)).replace("127.0.0.1", name);
  return { url, origin: new URL(url).origin, close: () => { server.close(); server.closeAllConnections(); } };
}

async function listen(server) {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `http://127.0.0.1:${server.address().port}/`;
}
