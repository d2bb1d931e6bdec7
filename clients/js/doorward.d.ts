/** What to do about a close. */
export type Action = "retry" | "sign_in" | "stop";
export declare const RETRY: "retry";
export declare const SIGN_IN: "sign_in";
export declare const STOP: "stop";

export interface CloseReason {
  code: string | null;
  retryAfterMs: number | null;
  decisionId: string | null;
}

export declare function readReason(reason: string | undefined): CloseReason;
export declare function actionFor(closeCode: number, code?: string | null): Action;
export declare function backoffMs(
  failures: number,
  random: number,
  bounds?: { baseMs?: number; capMs?: number; notBeforeMs?: number },
): number;

/** Base of every error of this module; `code` is a stable word. */
export declare class DoorwardError extends Error {
  readonly code: string;
  readonly retryAfterMs: number | null;
  constructor(code: string, message: string, options?: { retryAfterMs?: number | null; cause?: unknown });
}
/** The auth service said `invalid_grant`. The only thing that leads to the sign-in page. */
export declare class SignedOutError extends DoorwardError {
  constructor(message?: string);
}
/** Could not ask: TIMEOUT, UNREACHABLE, ABORTED (by the `signal` that you gave), or a word of the server. Says nothing about the credential: keep it and try again. */
export declare class UnavailableError extends DoorwardError {}
/**
 * The auth service answered no to a sign-in or a registration: a word of its own, or the HTTP status 400, 401 or 413. NOT_FOUND: it
 * makes no accounts, or is not at this address. Any other answer may be that of somebody on the way, and is an UnavailableError.
 */
export declare class RefusedError extends DoorwardError {
  readonly status: number | null;
  /** What the auth service says is wrong with what was entered, in words for people; null where it does not say. */
  readonly detail: string | null;
  constructor(code: string, message: string, options?: { status?: number | null; detail?: string | null; retryAfterMs?: number | null; cause?: unknown });
}
/** A command got an error for a reply (its code), or none: NOT_CONNECTED, NO_REPLY, CONNECTION_LOST, TOO_MANY_PENDING, DUPLICATE_ID, UNSUBSCRIBED, CLOSED. */
export declare class CommandError extends DoorwardError {}

/** The HTTP API answered no: its status, and the word of its problem details (`NOT_FOUND`, `BAD_REQUEST`, ...). */
export declare class ApiError extends DoorwardError {
  readonly status: number;
  constructor(status: number, code: string, message: string, options?: { retryAfterMs?: number | null; cause?: unknown });
}

/** `expiresAt` in wall-clock milliseconds; null where it is not known. */
export interface Token {
  token: string;
  expiresAt: number | null;
}

export interface StoredTokens {
  accessToken: string;
  refreshToken: string;
  expiresAt: number;
  user: User | null;
}

export interface User {
  user_id: string;
  email?: string;
  permissions?: string[];
}

/** Where tokens are kept. `watch` tells of changes that others made, and returns an undo. */
export interface TokenStore {
  load(): StoredTokens | null;
  save(tokens: StoredTokens): void;
  clear(): void;
  watch(listener: () => void): () => void;
}
export declare function memoryStore(): TokenStore;
/** For all tabs of an origin. Where the browser keeps nothing for the page, or no more: for the life of the page. */
export declare function localStore(key?: string, storage?: Pick<Storage, "getItem" | "setItem" | "removeItem"> | null): TokenStore;

export interface Clock {
  /** Wall-clock milliseconds: for what expires at a time of day. */
  now(): number;
  /** Milliseconds that nobody sets, such as `performance.now()`: for how long something lasts. Default: `now`. */
  monotonic?(): number;
  setTimeout(callback: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
}

export interface SessionOptions {
  /** Put before `/auth/login` and its siblings: an origin, a path such as `/chat`, or both; default: the page's own origin. */
  baseUrl?: string;
  store?: TokenStore;
  fetch?: typeof globalThis.fetch;
  /** Default `navigator.locks`. Without locks two tabs may both refresh; the auth service's overlap makes that harmless. */
  locks?: Pick<LockManager, "request">;
  clock?: Clock;
  /** One call to the auth service. Default 8000. */
  timeoutMs?: number;
  /** A token with less life than this is not handed out. Default 5000. */
  leewayMs?: number;
}

export type Credentials = { email: string; password: string } | { one_time_code: string };

export interface Session {
  /** As it was given, so that `createApi(session)` asks the same server. */
  readonly baseUrl: string;
  getToken(): Token | null;
  /**
   * A token other than `stale`. Who ask at the same time share one answer; `signal` gives up waiting for it, for this caller alone.
   * NO_NEW_TOKEN: somebody else has put other tokens into the store meanwhile; the next call is by those.
   */
  refresh(options?: { stale?: string | null; signal?: AbortSignal }): Promise<Token>;
  watchToken(listener: (token: Token | null) => void): () => void;
  signIn(credentials: Credentials): Promise<User | null>;
  register(credentials: { email: string; password: string }): Promise<User | null>;
  /** Resolves to whether the auth service heard of it. */
  signOut(): Promise<boolean>;
  user(): User | null;
  signedIn(): boolean;
  /** Stop watching the store. */
  dispose(): void;
}
export declare function createSession(options?: SessionOptions): Session;

export interface Reason {
  /** A code of the protocol, or one of ours: CONNECTION_LOST, CONNECT_TIMEOUT, REFRESH_UNAVAILABLE, OFFLINE, SIGNED_OUT, CLOSED. */
  code: string;
  action: Action;
  cause?: string | null;
  closeCode?: number;
  decisionId?: string | null;
}

/** What the door said of this connection. `expiresAt` in wall-clock seconds. */
export interface DoorView {
  userId: string | null;
  decisionId: string | null;
  expiresAt: number | null;
  assurance: "live" | "cached" | "local" | "test";
  degraded: boolean;
}

export type State =
  | { name: "connecting"; attempt: number }
  | ({ name: "open" } & DoorView)
  /** Let in without a live answer of the auth service; `graceUntil` (seconds) where the token has run out meanwhile. */
  | ({ name: "degraded"; graceUntil?: number | null } & DoorView)
  /** `retryAt` in wall-clock milliseconds. */
  | { name: "waiting"; reason: Reason; retryInMs: number; retryAt: number; attempt: number }
  | { name: "signed_out"; reason: Reason }
  | { name: "stopped"; reason: Reason };

export interface SubscribeOptions {
  epoch?: string | null;
  afterSeq?: number | null;
  prelude?: boolean;
  /**
   * Make the thread if it is not there. Default: only where there is no position. Never anew after a break in which it was deleted.
   * One that is not made is NOT_FOUND: `subscribe` rejects with it, and after a break `thread.lost` says so.
   */
  create?: boolean;
}

export interface Envelope {
  v: 1;
  thread_id: string;
  epoch: string;
  seq_from?: number;
  seq?: number;
  run_id?: string;
  ts: number;
  synthetic?: boolean;
  /** Of a synthetic one: where the thread stands after it; null: a snapshot follows, and before it stands nowhere. */
  after_seq?: number | null;
  event: { type: string; [field: string]: unknown };
}

export interface Notice {
  notice: string;
  [field: string]: unknown;
}

/** Where a thread goes on. With `resumed: false` the next event is a `MESSAGES_SNAPSHOT`: show it instead of what you have. */
export interface Standing {
  threadId: string;
  epoch: string | null;
  afterSeq: number | null;
  resumed: boolean;
  activeRunId: string | null;
}

type Awaitable<T> = T | Promise<T>;

export interface ConnectOptions {
  /** `ws:`, `wss:`, `http:`, `https:`, or relative to the page (its `<base>`, where it has one). */
  url: string | URL;
  /** The access token that is at hand, or null. */
  getToken(): Awaitable<Token | string | null>;
  /** A token other than `stale`; `signal` aborts when nobody waits for it any more. Reject with SignedOutError if, and only if, the person has to sign in again. */
  refresh?(options: { stale: string | null; signal: AbortSignal }): Awaitable<Token | string>;
  /** Tells of tokens that somebody else changed, null for a sign-out. Returns an undo. */
  watchToken?(listener: (token: Token | null) => void): () => void;
  onState?(state: State): void;
  onEvent?(envelope: Envelope): void;
  /**
   * Notices of the door, `thread.changed` and `thread.deleted` of the person's threads, `thread.waiting`
   * `{thread_id, code, retry_in_ms}` each time the server cannot go on with a thread just now, until `onResume`, and
   * `thread.lost` `{thread_id, code}` where a thread cannot be followed any more: begin it anew.
   */
  onNotice?(notice: Notice): void;
  /** After each subscription that the server confirmed, also those after a break, and before the first event behind it. */
  onResume?(standing: Standing): void;
  WebSocket?: typeof globalThis.WebSocket;
  clock?: Clock;
  random?(): number;
  /** Whose `online`, `offline` and `visibilitychange` events count. Default `globalThis`. */
  environment?: unknown;
  /** Until the door has let us in. Default 5000. */
  connectTimeoutMs?: number;
  commandTimeoutMs?: number;
  refreshTimeoutMs?: number;
  pingEveryMs?: number;
  pongTimeoutMs?: number;
  backoffBaseMs?: number;
  backoffCapMs?: number;
  /** A connection that lasted this long starts the back-off anew. Default 10000. */
  stableAfterMs?: number;
  /** How long `startRun` and `cancelRun` are repeated. Default 30000. */
  runTimeoutMs?: number;
  maxPending?: number;
}

export interface Command {
  type: string;
  id?: string;
  [field: string]: unknown;
}

export interface Reply {
  reply_to: string;
  ok: true;
  [field: string]: unknown;
}

export interface Connection {
  readonly state: State;
  readonly door: DoorView | null;
  send(command: Command, options?: { timeoutMs?: number }): Promise<Reply>;
  /**
   * With `prelude` what each connection delivers is by itself in AG-UI's order, for a consumer made anew after each `onResume`.
   * Rejects where the server cannot just now (NO_REPLY, RESTARTING, UNAVAILABLE, OVERLOADED, INTERNAL), or there is no connection
   * (CONNECTION_LOST, NOT_CONNECTED): then the thread is followed as soon as may be, which `onResume` tells. Any other code is final.
   */
  subscribe(threadId: string, from?: SubscribeOptions): Promise<Reply>;
  unsubscribe(threadId: string): Promise<Reply>;
  /** The last event seen of a followed thread, as `subscribe` takes it. */
  position(threadId: string): { epoch: string; afterSeq: number } | null;
  /**
   * Ask the agent. Repeated with the same run id until there is a reply, so it starts once however often the line breaks. Makes the
   * thread if it is not there; with `create: false` that is NOT_FOUND.
   */
  startRun(threadId: string, message: string, options?: { runId?: string; create?: boolean; timeoutMs?: number }): Promise<{ runId: string; duplicate: boolean }>;
  /** Resolves to whether the run was still running. */
  cancelRun(threadId: string, runId: string, options?: { timeoutMs?: number }): Promise<boolean>;
  retryNow(): void;
  /** For good: no timer, listener or request is left, and each command has its end. May be called from any of the `on...` functions. */
  close(): void;
}
/** Throws a DoorwardError where `url` is none (BAD_URL), or where there is no `WebSocket` (NO_WEBSOCKET). */
export declare function connect(options: ConnectOptions): Connection;

/** Where a thread stands: the last event seen, and what to make of the next. */
export declare class Cursor {
  epoch: string | null;
  seq: number | null;
  constructor(epoch?: string | null, seq?: number | null);
  next(envelope: Pick<Envelope, "epoch" | "seq" | "seq_from" | "synthetic" | "after_seq">): "apply" | "ignore" | "gap";
}

/** May the same question, as another run, well get its answer? Of a `RUN_ERROR`; false of any other event. */
export declare function isRetryable(event: Envelope["event"]): boolean;

/** Of what `subscribe` rejected with: is the thread followed no more, until somebody subscribes again? Else it is as soon as may be. */
export declare function isFinal(error: DoorwardError): boolean;

/** A random name for a run or a thread. */
export declare function newId(prefix?: string): string;

/** One conversation. Times are RFC 3339 in UTC. */
export interface Thread {
  thread_id: string;
  title: string | null;
  created_at: string;
  updated_at: string;
  active_run_id: string | null;
}

/** One that was listed. `excerpt` is there where `q` was given, and said in it: plain text, for `textContent`. */
export interface FoundThread extends Thread {
  excerpt?: { before: string; match: string; after: string };
}

/** One message of a thread; `message` is AG-UI's. */
export interface ThreadMessage {
  position: number;
  run_id: string | null;
  created_at: string;
  message: { id: string; role: string; content?: unknown; [field: string]: unknown };
}

export interface ThreadRun {
  run_id: string;
  started_at: string;
  ended_at: string | null;
  ending: "finished" | "cancelled" | "failed" | "timeout" | "too_long" | "interrupted" | null;
  /** What its `RUN_ERROR` said; null where there was none. */
  /** `retryable`: the same question, as another run, may well get its answer. */
  error: { code: string; message: string; retryable: boolean } | null;
}

export interface ApiOptions {
  /** Put before `/api/threads` and its siblings: an origin, a path such as `/chat`, or both; default: the page's own origin. */
  baseUrl?: string;
  getToken: ConnectOptions["getToken"];
  refresh?: ConnectOptions["refresh"];
  fetch?: typeof globalThis.fetch;
  clock?: Clock;
  /** One request. Default 8000. */
  timeoutMs?: number;
  refreshTimeoutMs?: number;
}

interface Paging {
  limit?: number;
  /** `next_cursor` of the page before. */
  cursor?: string | null;
  signal?: AbortSignal;
}
interface Cancel {
  signal?: AbortSignal;
}

/**
 * Each rejects with ApiError (the server said no), SignedOutError (sign in again) or UnavailableError (could not ask: try
 * again, not before `retryAfterMs`).
 */
export interface Api {
  /** Newest first; `q` searches titles and what was said. */
  listThreads(options?: Paging & { q?: string }): Promise<{ threads: FoundThread[]; next_cursor: string | null }>;
  createThread(options?: Cancel & { threadId?: string; title?: string }): Promise<Thread>;
  getThread(threadId: string, options?: Cancel): Promise<Thread>;
  renameThread(threadId: string, title: string, options?: Cancel): Promise<Thread>;
  deleteThread(threadId: string, options?: Cancel): Promise<null>;
  /** The newest page first; within a page the oldest message first. */
  listMessages(threadId: string, options?: Paging): Promise<{ messages: ThreadMessage[]; next_cursor: string | null }>;
  listRuns(threadId: string, options?: Paging): Promise<{ runs: ThreadRun[]; next_cursor: string | null }>;
  /** Markdown as HTML that is safe to show. At most 100 texts, 64 KiB in all. */
  render(texts: string[], options?: Cancel): Promise<string[]>;
  /** The same of texts that are still being written: the first `lines` lines are the first `elements` elements for good. */
  renderGrowing(texts: string[], options?: Cancel): Promise<{ html: string; lines: number; elements: number }[]>;
}
export declare function createApi(options: ApiOptions): Api;

export {}; // so that what is not exported above is not to be had
