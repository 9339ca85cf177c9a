// Types of sluice.js.

/**
 * Subscribes to one channel.
 *
 * @param url the channel over WebSocket, such as "ws://127.0.0.1:8000/ws/news", or over SSE, such as
 * "http://127.0.0.1:8000/sse/news". Percent-encode the channel's name. The query may hold parameters of the
 * gateway, such as "?echo=off".
 * @throws if the URL is invalid, or if the runtime has no WebSocket.
 */
export function subscribe(url: string | URL, options?: Options): Subscription;

export interface Options {
  /** Begin with the newest publications in the channel's history, this many. Default: only live publications. */
  history?: number;
  /** Begin after this position, such as the one that `position` had before the page was reloaded. Overrides `history`. */
  since?: string | null;
  /**
   * A connection token or a subscription token. A function is called before each connection, and can fetch a fresh
   * token. An error that it throws counts as a failed attempt, which is retried.
   */
  token?: string | (() => string | Promise<string>);
  /** A publication, in order, and none twice. */
  onMessage?(message: Message): void;
  /** Publications may be lost: load the current state again. Those that follow are delivered. */
  onGap?(gap: Gap): void;
  /** The state has changed, or another attempt has failed. */
  onState?(change: StateChange): void;
  /** The gateway's --greeting. */
  onGreeting?(text: string): void;
}

export interface Message {
  channel: string;
  /** The position in the channel. Missing if it was published with skip_history. */
  epoch?: string;
  offset?: number;
  /** The offset of the publication before this one. */
  prev?: number;
  /** When it was published: Unix time in milliseconds, by the gateway's clock. */
  time: number;
  /** The sender: a connection's id, or "api" for a backend. */
  from: string;
  /** Text as a string, which is not parsed even if it is JSON; binary as bytes. */
  data: string | Uint8Array;
}

export interface Gap {
  /** The last position before the loss; "" if it is not known. */
  from: string;
  /** The position up to which publications may be lost. In another epoch, the number of those lost is not known. */
  to: string;
}

/**
 * - connecting: an attempt is under way
 * - open: subscribed, and the position is known
 * - waiting: the connection was lost or refused; the next attempt is at `retryAt`
 * - closed: by close(), or because another attempt would end the same way
 */
export type State = "connecting" | "open" | "waiting" | "closed";

export interface StateChange {
  state: State;
  /** When the next attempt begins: Unix time in milliseconds, by the clock of this machine. */
  retryAt?: number;
  /**
   * Why the last connection ended: a WebSocket close code (from 1000) or the HTTP status of a refused SSE stream
   * (below 1000). 1006 is a lost connection or a refused WebSocket. Missing after close().
   */
  code?: number;
  /** The same in words; may be empty. */
  reason?: string;
}

export interface Subscription {
  readonly state: State;
  /** The position of the last message, as EPOCH:OFFSET, for `since`; "" if it is not known yet. */
  readonly position: string;
  /**
   * The id of this connection: `from` of its own messages. "" if the gateway has not said it, as after a reconnection
   * without loss.
   */
  readonly id: string;
  /**
   * Publishes, over WebSocket only. Returns false if there is no open connection, in which case nothing was sent.
   * @throws over SSE, and for anything but text and bytes.
   */
  publish(data: string | ArrayBuffer | ArrayBufferView | Blob): boolean;
  /** Ends a wait: the next attempt begins now. */
  retryNow(): void;
  /** Loses the connection on purpose, for tests. The next attempt is after `wait` milliseconds, or after the usual wait if that is longer. */
  cut(wait?: number): void;
  /** Ends the subscription for good. */
  close(): void;
}
