// The transports of the official library: WebSocket, and those that emulate one. Each can send a
// cookie, as a browser would, which it takes anew for each connection.

import { EventSource } from "eventsource";
import { WebSocket } from "ws";
import { encodings, transport } from "./client.mjs";

// transports give what the library is made with for a node. cookie is a function.
const transports = {
  websocket: (node, cookie) => [node.client, {
    websocket: class extends WebSocket {
      constructor(url, protocols) { super(url, protocols, { headers: { Cookie: cookie() } }); }
    },
  }],
  http_stream: (node, cookie) => [[{ transport: "http_stream", endpoint: node.at("/connection/http_stream", "http") }], {
    emulationEndpoint: node.at("/emulation", "http"), fetch: fetching(cookie),
  }],
  sse: (node, cookie) => [[{ transport: "sse", endpoint: node.at("/connection/sse", "http") }], {
    emulationEndpoint: node.at("/emulation", "http"), fetch: fetching(cookie),
    eventsource: class extends EventSource {
      constructor(url) { super(url, { fetch: fetching(cookie) }); }
    },
  }],
};

const fetching = (cookie) => (url, init = {}) => fetch(url, { ...init, headers: { ...init.headers, Cookie: cookie() } });

// combinations are the transports with the encodings that they have; only one of them if TRANSPORT names it.
export const combinations = Object.entries(transports).filter(([name]) => transport === "websocket" || name === transport).flatMap(([name, of]) => Object.values(encodings)
  .filter((encoding) => name !== "sse" || encoding.name === "JSON")
  .map((encoding) => ({ name: `${name}, ${encoding.name}`, transport: name, encoding, of })));
