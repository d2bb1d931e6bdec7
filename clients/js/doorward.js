/**
 * The Doorward client: one WebSocket that signs in, refreshes, resumes, backs off and obeys close codes.
 *
 * An ES module without dependencies, for browsers and for Node 20 or newer (hand in a `WebSocket` where there is none).
 * Four parts, each usable alone:
 *
 *   1. what a close means       readReason, actionFor, backoffMs       pure
 *   2. createSession(...)       tokens: sign in, refresh in one tab, share the result
 *   3. connect(...)             the socket: a small state machine over the two, with threads and runs on it
 *   4. createApi(...)           the conversations over HTTP: list, search, rename, delete, history
 *
 * Nothing here waits for ever: every wait has a bound, and every bound is an option.
 */

const SUBPROTOCOL = "doorward.v1";
const BEARER_PREFIX = "base64url.bearer.authorization.doorward.";
const LONGEST_TIMER_MS = 86_400_000;
const CLOSE_AFTER_ERROR_MS = 200;
const LOCK = "doorward.refresh";
const NEWS_MS = 250;
const LINGER_MS = 50;

// ------------------------------------------------------------------------------------------------ 1. what a close means

export const RETRY = "retry";
export const SIGN_IN = "sign_in";
export const STOP = "stop";

const ACTION_OF_CODE = new Map([
  ...["AUTH_REQUIRED", "TOKEN_INVALID", "TOKEN_EXPIRED", "TOKEN_REVOKED", "TOKEN_REJECTED"].map((code) => [code, SIGN_IN]),
  ...["BAD_CREDENTIAL_FORMAT", "FORBIDDEN", "ORIGIN_DENIED", "HEADERS_TOO_LARGE", "MESSAGE_TOO_BIG"].map((code) => [code, STOP]),
  ...["AUTH_TIMEOUT", "RATE_LIMITED", "SERVICE_UNAVAILABLE", "OVERLOADED", "INTERNAL", "RESTARTING"].map((code) => [code, RETRY]),
]);

const ACTION_OF_CLOSE = new Map([
  ...[3000, 4401].map((code) => [code, SIGN_IN]),
  ...[1008, 1009, 3003, 4403].map((code) => [code, STOP]),
]);

/** Read `CODE;retry_after_ms=1840;id=<decision id>`. Anything else gives nulls, never an error. */
export function readReason(reason) {
  const [code, ...rest] = String(reason ?? "").split(";");
  const fields = new Map(rest.map((part) => part.split("=", 2)));
  return {
    code: /^[A-Z][A-Z_]*$/.test(code) ? code : null,
    retryAfterMs: duration(fields.get("retry_after_ms")),
    decisionId: fields.get("id") ?? null,
  };
}

/** What to do about a close: the word of the protocol decides, else the close code, else try again. */
export function actionFor(closeCode, code = null) {
  return ACTION_OF_CODE.get(code) ?? ACTION_OF_CLOSE.get(closeCode) ?? RETRY;
}

/**
 * Full jitter: anywhere between nothing and an exponentially growing ceiling, but never before `notBeforeMs`.
 * Source: M. Brooker, "Exponential Backoff and Jitter", 2015.
 */
export function backoffMs(failures, random, { baseMs = 500, capMs = 30_000, notBeforeMs = 0 } = {}) {
  const ceiling = Math.min(capMs, baseMs * 2 ** Math.min(failures, 30));
  return Math.min(Math.max(Math.ceil(random * ceiling), notBeforeMs), LONGEST_TIMER_MS);
}

function duration(value) {
  if (value === undefined || value === null || value === "") return null;
  const number = Number(value);
  return Number.isFinite(number) && number >= 0 ? Math.min(number, LONGEST_TIMER_MS) : null;
}

// ------------------------------------------------------------------------------------------------ errors

/** Base of every error of this module; `code` is a stable word. */
export class DoorwardError extends Error {
  constructor(code, message, { retryAfterMs = null, cause } = {}) {
    super(message, { cause });
    this.name = new.target.name;
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The auth service said `invalid_grant` in so many words. The only thing that leads to the sign-in page. */
export class SignedOutError extends DoorwardError {
  constructor(message = "signed out") {
    super("SIGNED_OUT", message);
  }
}

/** Could not ask. Says nothing about the credential: keep it and try again. */
export class UnavailableError extends DoorwardError {}

/** The auth service answered no to a sign-in or a registration. `status` is the HTTP status, `detail` what it says is wrong, or null. */
export class RefusedError extends DoorwardError {
  constructor(code, message, { status = null, detail = null, ...options } = {}) {
    super(code, message, options);
    this.status = status;
    this.detail = detail;
  }
}

/** A command got an error for a reply, or no reply. */
export class CommandError extends DoorwardError {}

/** The HTTP API answered no. `status` is the HTTP status, `code` the word of its problem details. */
export class ApiError extends DoorwardError {
  constructor(status, code, message, options) {
    super(code, message, options);
    this.status = status;
  }
}

// ------------------------------------------------------------------------------------------------ time

const systemClock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimeout: (callback, ms) => globalThis.setTimeout(callback, Math.min(ms, LONGEST_TIMER_MS)), // past 2^31 ms it fires at once
  clearTimeout: (timer) => globalThis.clearTimeout(timer),
};

/** A moment by both clocks. One can be set; the other stands still on some platforms while the machine sleeps, and so do the timers. */
const momentOf = (clock) => ({ wall: clock.now(), monotonic: clock.monotonic?.() ?? clock.now() });

/** Milliseconds since a moment, by the clock that says more: one that was put back holds up nothing, and neither does a sleep. */
function passedSince(moment, clock) {
  const now = momentOf(clock);
  return Math.max(now.wall - moment.wall, now.monotonic - moment.monotonic);
}

/** An address that is none is the caller's mistake, and no outage. */
const ownFetch = (url, request) => globalThis.fetch(absoluteUrl(url, "baseUrl"), request);

/** Wait for `promise`, but only so long, and not once `signal` aborts; what it does later is ignored, and `abort` is told so. */
function bounded(promise, ms, clock, { abort, signal } = {}) {
  return new Promise((resolve, reject) => {
    const end = (settle) => (value) => {
      clock.clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      settle(value);
    };
    const giveUp = (code, message, cause) => {
      end(reject)(new UnavailableError(code, message, { cause }));
      abort?.abort();
    };
    const onAbort = () => giveUp("ABORTED", "given up by who asked", signal.reason);
    const timer = clock.setTimeout(() => giveUp("TIMEOUT", `no answer within ${ms} ms`), ms);
    signal?.addEventListener("abort", onAbort);
    if (signal?.aborted) onAbort();
    Promise.resolve(promise).then(end(resolve), end(reject));
  });
}

/** Resolves after `ms`, or at once when `signal` aborts. */
function pause(ms, clock, signal) {
  return bounded(new Promise(() => {}), ms, clock, { signal }).catch(() => {});
}

// ------------------------------------------------------------------------------------------------ one call over HTTP

/**
 * One request with a JSON answer, whole within `timeoutMs`: `{status, content, retryAfterMs}`. No answer at all rejects
 * with UnavailableError; whatever status there is, is an answer.
 */
async function callJson({ fetch, clock, timeoutMs, url, method, body, headers, signal, what }) {
  const abort = new AbortController();
  const asked = exchange({ fetch, clock, url, method, body, headers, signal: abort.signal });
  try {
    return await bounded(asked, timeoutMs, clock, { abort, signal });
  } catch (error) {
    if (error instanceof DoorwardError) throw error;
    throw new UnavailableError("UNREACHABLE", `${what} could not be reached`, { cause: error });
  }
}

async function exchange({ fetch, clock, url, method, body, headers, signal }) {
  const content = body === undefined ? {} : { "content-type": "application/json" };
  const response = await fetch(url, {
    method,
    headers: { accept: "application/json", ...content, ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "omit",
    cache: "no-store",
    redirect: "error",
    signal,
  });
  const answer = parsed(await response.text());
  return { status: response.status, content: answer, retryAfterMs: retryAfter(response.headers, answer, clock.now()) };
}

/** Our own `retry_after_ms`, else the header of any proxy: seconds, or a date (RFC 9110, section 10.2.3). At most a day. */
function retryAfter(headers, content, now) {
  const header = headers.get("retry-after");
  const seconds = duration(header);
  const sentAt = Date.parse(headers.get("date")) || now;
  const ms = seconds === null ? Math.max(Date.parse(header) - sentAt, 0) : seconds * 1000;
  return duration(content?.retry_after_ms) ?? duration(ms);
}

/**
 * A token other than `stale`, by the application's `refresh`: within `ms`, and not once `signal` aborts. The signal that
 * `refresh` gets aborts when nobody waits for it any more.
 */
async function freshToken(refresh, { stale, ms, clock, signal }) {
  if (!refresh) throw new SignedOutError("no way to refresh");
  const abort = new AbortController();
  const token = asToken(await bounded(refresh({ stale, signal: abort.signal }), ms, clock, { abort, signal }));
  if (token === null) throw new UnavailableError("BAD_ANSWER", "refresh gave no token");
  return token;
}

// ------------------------------------------------------------------------------------------------ 2. the session

/** What the auth service says about what was entered; any other answer may be that of somebody on the way. */
const REFUSAL_WORDS = new Set([
  "invalid_credentials", "invalid_one_time_code", "invalid_request", "email_taken", "too_many_attempts",
]);
const REFUSAL_STATUSES = new Set([400, 401, 413]);

/** A token store in memory: for Node, and where `localStorage` is not to be had. */
export function memoryStore() {
  let held = null;
  return {
    load: () => held,
    save: (tokens) => { held = tokens; },
    clear: () => { held = null; },
    watch: () => () => {},
  };
}

/**
 * A token store in `localStorage`, so that all tabs of an origin share one session and a reload in an outage keeps it.
 * The price: a script injected into the page can read it. Serve a strict Content-Security-Policy. Where the browser
 * refuses to keep anything, the tokens are kept for the life of the page.
 */
export function localStore(key = "doorward.session", storage = pageStorage()) {
  let unsaved = null; // tokens that the storage did not take
  return {
    load() {
      if (unsaved !== null) return unsaved;
      try {
        const tokens = JSON.parse(storage.getItem(key));
        return typeof tokens?.refreshToken === "string" ? tokens : null;
      } catch {
        return null;
      }
    },
    save(tokens) {
      try {
        storage.setItem(key, JSON.stringify(tokens));
        unsaved = null;
      } catch {
        unsaved = tokens;
      }
    },
    clear() {
      unsaved = null;
      storage?.removeItem(key);
    },
    watch(listener) {
      const onStorage = (event) => { if (event.key === key || event.key === null) listener(); };
      globalThis.addEventListener?.("storage", onStorage);
      return () => globalThis.removeEventListener?.("storage", onStorage);
    },
  };
}

/** Reading the name alone throws where the browser keeps nothing for this site. */
function pageStorage() {
  try {
    return globalThis.localStorage;
  } catch {
    return undefined;
  }
}

/**
 * Who is signed in, and a fresh access token when one is needed.
 *
 * One tab refreshes at a time (`navigator.locks`); the others find its result in the store. The refresh token is
 * dropped on an explicit `invalid_grant` and on nothing else: a time-out, a 5xx or a broken line keep it.
 */
export function createSession({
  baseUrl = "",
  store = memoryStore(),
  fetch = ownFetch,
  locks = globalThis.navigator?.locks,
  clock = systemClock,
  timeoutMs = 8_000,
  leewayMs = 5_000,
} = {}) {
  const listeners = new Set();
  let inFlight = null;
  const unwatch = store.watch(tell);

  function tell() {
    const tokens = store.load();
    for (const listener of [...listeners]) guarded(listener, tokens && tokenOf(tokens));
  }

  function fresh(tokens) {
    return Boolean(tokens?.accessToken) && tokens.expiresAt - leewayMs > clock.now();
  }

  function keep(answer) {
    if (!isText(answer?.access_token) || !isText(answer.refresh_token)) {
      throw new UnavailableError("BAD_ANSWER", "the auth service's answer holds no tokens");
    }
    const tokens = {
      accessToken: answer.access_token,
      refreshToken: answer.refresh_token,
      expiresAt: clock.now() + (Number(answer.expires_in) || 60) * 1000,
      user: answer.user ?? store.load()?.user ?? null,
    };
    store.save(tokens);
    tell();
    return tokens;
  }

  const post = (path, body) =>
    callJson({ fetch, clock, timeoutMs, url: baseUrl + path, method: "POST", body, what: "the auth service" });

  async function enter(path, body) {
    const { status, content, retryAfterMs } = await post(path, body);
    if (status === 200 || status === 201) return keep(content).user;
    const known = status < 500 && REFUSAL_WORDS.has(content?.error);
    const code = known ? content.error : typeof content?.code === "string" ? content.code : `HTTP_${status}`;
    const detail = known && typeof content.message === "string" ? content.message : null;
    const isOff = status === 404 && code === "NOT_FOUND";
    if (known || isOff || REFUSAL_STATUSES.has(status)) throw new RefusedError(code, "the auth service refused", { status, detail, retryAfterMs });
    throw new UnavailableError(code, "the auth service is not answering", { retryAfterMs });
  }

  /** What is kept may have changed while the auth service was asked. Then its answer is about tokens that are nobody's any more. */
  async function renew(stale) {
    const tokens = store.load();
    if (tokens === null) throw new SignedOutError("no refresh token");
    if (fresh(tokens) && tokens.accessToken !== stale) return tokenOf(tokens);
    const { status, content, retryAfterMs } = await post("/auth/refresh", { refresh_token: tokens.refreshToken });
    const held = store.load();
    if (held === null) throw new SignedOutError("signed out meanwhile");
    if (held.refreshToken !== tokens.refreshToken) {
      if (fresh(held)) return tokenOf(held);
      throw new UnavailableError("NO_NEW_TOKEN", "there are other tokens meanwhile");
    }
    if (status === 200) return tokenOf(keep(content));
    if (status === 400 && content?.error === "invalid_grant") {
      store.clear();
      tell();
      throw new SignedOutError("the session has ended");
    }
    throw new UnavailableError(content?.code ?? `HTTP_${status}`, "the auth service did not refresh the session", { retryAfterMs });
  }

  /** Resolves when the store tells of a change, or after `NEWS_MS`. */
  async function news() {
    const heard = new AbortController();
    const undo = store.watch(() => heard.abort());
    await pause(NEWS_MS, clock, heard.signal);
    undo();
  }

  /**
   * One tab at a time. `localStorage` reaches another process a moment later than the lock does: so who has a result
   * keeps the lock a little longer, and who had to wait looks out for that result before asking. Should it be missed
   * all the same, the auth service answers with the same successor.
   */
  async function inTurn(work, signal) {
    if (!locks) return work();
    const before = store.load()?.accessToken;
    return new Promise((resolve, reject) => {
      const mine = async () => {
        resolve(await work());
        await pause(LINGER_MS, clock);
      };
      const afterAnother = async () => {
        if (store.load()?.accessToken === before) await news();
        await mine();
      };
      locks.request(LOCK, { ifAvailable: true }, async (lock) => (lock ? (await mine(), true) : false))
        .then((done) => done || locks.request(LOCK, { signal }, afterAnother))
        .catch(reject);
    });
  }

  async function underLock(work) {
    const abort = new AbortController();
    try {
      return await bounded(inTurn(work, abort.signal), 2 * timeoutMs, clock, { abort });
    } catch (error) {
      if (error instanceof DoorwardError) throw error;
      throw new UnavailableError("UNREACHABLE", "could not refresh", { cause: error });
    }
  }

  /** One flight for all who ask meanwhile. It is nobody's own: who stops waiting for it ends it for no other. */
  function waitFor(stale, signal) {
    inFlight ??= underLock(() => renew(stale)).finally(() => { inFlight = null; });
    return bounded(inFlight, 2 * timeoutMs, clock, { signal });
  }

  return {
    baseUrl,
    /** The access token `{token, expiresAt}` if it is good for a while yet, else null. Never asks anybody. */
    getToken() {
      const tokens = store.load();
      return fresh(tokens) ? tokenOf(tokens) : null;
    },

    /** A token other than `stale`. Rejects with SignedOutError only on `invalid_grant`, or when nobody is signed in. */
    async refresh({ stale = null, signal } = {}) {
      const token = await waitFor(stale, signal);
      return token.token === stale ? waitFor(stale, signal) : token; // that flight did not know what is wrong with this one
    },

    /** Call `listener({token, expiresAt} | null)` whenever this or another tab changed the tokens. Returns an undo. */
    watchToken(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },

    /** `{email, password}` or `{one_time_code}`; resolves to the user. */
    signIn: (credentials) => enter("/auth/login", credentials),

    register: (credentials) => enter("/auth/register", credentials),

    /** Forget the tokens at once, then tell the auth service. Resolves to whether it heard. */
    async signOut() {
      const tokens = store.load();
      store.clear();
      tell();
      if (tokens === null) return true;
      try {
        const { status } = await post("/auth/logout", { refresh_token: tokens.refreshToken });
        return status < 300;
      } catch {
        return false;
      }
    },

    user: () => store.load()?.user ?? null,
    signedIn: () => store.load() !== null,
    dispose: unwatch,
  };
}

const tokenOf = (tokens) => ({ token: tokens.accessToken, expiresAt: tokens.expiresAt });

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function guarded(callback, ...values) {
  try {
    callback?.(...values);
  } catch (error) {
    if (globalThis.reportError) globalThis.reportError(error);
    else console.error(error);
  }
}

// ------------------------------------------------------------------------------------------------ where a thread stands

/**
 * The last event seen of one thread, and what to make of the next: `apply`, `ignore`, or `gap`.
 *
 * Ranges are contiguous: `seq_from == last + 1`. A synthetic event has no number; after it the place is its `after_seq`.
 */
export class Cursor {
  constructor(epoch = null, seq = null) {
    this.epoch = epoch;
    this.seq = seq;
  }

  next(envelope) {
    if (envelope.synthetic) {
      this.epoch = envelope.epoch ?? this.epoch;
      this.seq = envelope.after_seq ?? null;
      return "apply";
    }
    if (this.seq !== null && envelope.epoch !== this.epoch) return "gap";
    if (this.seq !== null && envelope.seq <= this.seq) return "ignore";
    if (this.seq !== null && envelope.seq_from !== this.seq + 1) return "gap";
    this.epoch = envelope.epoch;
    this.seq = envelope.seq;
    return "apply";
  }
}

/** May the same question, as another run, well get its answer? Of a `RUN_ERROR`; false of any other event. */
export function isRetryable(event) {
  return event?.type === "RUN_ERROR" && event.metadata?.retryable === true;
}

// ------------------------------------------------------------------------------------------------ 3. the connection

const DEFAULTS = {
  connectTimeoutMs: 5_000,
  commandTimeoutMs: 10_000,
  refreshTimeoutMs: 17_000,
  pingEveryMs: 25_000,
  pongTimeoutMs: 8_000,
  backoffBaseMs: 500,
  backoffCapMs: 30_000,
  stableAfterMs: 10_000,
  runTimeoutMs: 30_000,
  maxPending: 100,
};

/** Of a subscription on an open connection: not now, but perhaps in a moment. */
const PASSING = new Set(["NO_REPLY", "RESTARTING", "UNAVAILABLE", "OVERLOADED", "INTERNAL"]);

/** The next connection subscribes by itself. */
const AWAY = new Set(["CONNECTION_LOST", "NOT_CONNECTED", "CLOSED"]);

/** Of what `subscribe` rejected with: is the thread followed no more, until somebody subscribes again? */
export function isFinal({ code }) {
  return !PASSING.has(code) && !AWAY.has(code);
}

/** The command may or may not have been carried out: what is idempotent is sent again. */
const UNANSWERED = new Set(["CONNECTION_LOST", "NO_REPLY", "RESTARTING"]);
const REPEAT_AFTER_MS = 250;

/** How long an open line has to answer where the browser says that there is none. */
const OFFLINE_PONG_MS = 2_000;

/** What is said of a server that said nothing: then the device may be offline. */
const SILENCE = new Set(["CONNECTION_LOST", "CONNECT_TIMEOUT", "UNREACHABLE", "TIMEOUT"]);

/** No two renewals within this, even where a clock is wrong or tokens live no longer than the door's reminder. */
const BETWEEN_RENEWALS_MS = 2_000;

/** Open the socket and keep it open. See doorward.d.ts for the options and the states. */
export function connect(options) {
  return new Connection(options);
}

class Connection {
  #options;
  #environment;
  #clock;
  #random;
  #state = { name: "connecting", attempt: 1 };
  #socket = null;
  #token = null;
  #refusedToken = null;
  #refusalReason = null;
  #refusals = 0;
  #failures = 0;
  #silentFailures = 0;
  #renewFailures = 0;
  #renewing = false;
  #renewed = null;
  #turn = 0;
  #admitted = false;
  #door = null;
  #allowed = null;
  #said = null;
  #wasHeard = false;
  #nextId = 1;
  #timers = new Map();
  #pending = new Map();
  #threads = new Map();
  #undo = [];
  #ended = new AbortController();

  constructor(options) {
    this.#options = { ...DEFAULTS, WebSocket: globalThis.WebSocket, ...options, url: socketUrl(options.url) };
    if (!this.#options.WebSocket) {
      throw new DoorwardError("NO_WEBSOCKET", "there is no WebSocket here: use Node 22, start Node 20 with --experimental-websocket, or pass one as the option `WebSocket`");
    }
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#environment = options.environment ?? globalThis;
    this.#listen(this.#environment);
    queueMicrotask(() => { if (!this.#finished()) this.#attempt(); }); // so that the caller holds us before onState speaks
  }

  /** The present state; the same object that `onState` got. */
  get state() {
    return this.#state;
  }

  /** What the door said about this connection: user, assurance, decision id. Null before it let us in. */
  get door() {
    return this.#door;
  }

  /**
   * Send a command and wait for its one reply. While there is no connection it waits in a bounded queue, no longer
   * than `timeoutMs`. One that was sent when the line broke rejects with CONNECTION_LOST: it may have been carried out.
   */
  async send(command, { timeoutMs = this.#options.commandTimeoutMs } = {}) {
    this.#checkRoom();
    return this.#command(command, timeoutMs);
  }

  /** The bound is for the application. Our own commands are few, and a ping that is not sent would look like a dead line. */
  #checkRoom() {
    const waiting = this.#pending.size;
    if (waiting >= this.#options.maxPending) throw new CommandError("TOO_MANY_PENDING", `${waiting} commands wait for a reply`);
  }

  /** `settled` is called in the same turn as the reply, before any event behind it is looked at. */
  #command(command, timeoutMs, settled = () => {}) {
    if (this.#finished()) return Promise.reject(new CommandError("CLOSED", "the connection has ended"));
    if (this.#pending.has(command.id)) {
      return Promise.reject(new CommandError("DUPLICATE_ID", `another command with the id ${command.id} waits for its reply`));
    }
    const id = command.id ?? this.#unusedId();
    return new Promise((resolve, reject) => {
      const entry = { frame: JSON.stringify({ ...command, id }), sent: false, resolve, reject, settled, timer: null };
      entry.timer = this.#clock.setTimeout(() => this.#settle(id, () => {
        const code = entry.sent ? "NO_REPLY" : "NOT_CONNECTED";
        reject(new CommandError(code, `no reply to ${command.type} within ${timeoutMs} ms`));
      }), timeoutMs);
      this.#pending.set(id, entry);
      if (this.#admitted) this.#transmit(entry);
    });
  }

  #unusedId() {
    let id;
    do id = `c${this.#nextId++}`; while (this.#pending.has(id));
    return id;
  }

  /**
   * Follow a thread, from `(epoch, afterSeq)` if given. Kept up across reconnects, without gap or duplicate. With `prelude`
   * each connection's events are by themselves in AG-UI's order: for a consumer that is made anew after each `onResume`.
   * Where the server cannot just now, or there is no connection, this rejects, and the thread is followed as soon as may be.
   * `create`: make the thread if it is not there; default: only where there is no position. Never anew after a break in which it
   * was deleted. One that is not made is NOT_FOUND, here or in the notice `thread.lost`.
   */
  async subscribe(threadId, { epoch = null, afterSeq = null, prelude = false, create = afterSeq === null } = {}) {
    this.#checkRoom();
    const cursor = new Cursor(epoch, afterSeq);
    const thread = { cursor, prelude, create, asked: false, settling: false, gap: null, failures: 0 };
    this.#threads.set(threadId, thread);
    try {
      return await this.#follow(threadId, thread);
    } catch (error) {
      if (isFinal(error) && this.#threads.get(threadId) === thread) this.#forget(threadId);
      throw error;
    }
  }

  unsubscribe(threadId) {
    this.#forget(threadId);
    return this.send({ type: "thread.unsubscribe", thread_id: threadId });
  }

  /** The last event seen of a followed thread, as `subscribe` takes it; null where there is none. */
  position(threadId) {
    const { epoch, seq } = this.#threads.get(threadId)?.cursor ?? {};
    return epoch && Number.isInteger(seq) ? { epoch, afterSeq: seq } : null;
  }

  /**
   * Ask the agent. However often the line breaks meanwhile, the run starts once: the command is repeated with the same
   * `runId` until there is a reply, no longer than `timeoutMs`. Resolves to `{runId, duplicate}`. Makes the thread if it is not
   * there; with `create: false` that is NOT_FOUND.
   */
  async startRun(threadId, message, { runId = newId("r-"), create = true, timeoutMs = this.#options.runTimeoutMs } = {}) {
    const command = { type: "run.start", thread_id: threadId, run_id: runId, message, ...(create ? {} : { create }) };
    const reply = await this.#repeated(command, timeoutMs);
    return { runId, duplicate: reply.duplicate === true };
  }

  /** Stop a run, whoever started it. Resolves to whether it was still running. */
  async cancelRun(threadId, runId, { timeoutMs = this.#options.runTimeoutMs } = {}) {
    const reply = await this.#repeated({ type: "run.cancel", thread_id: threadId, run_id: runId }, timeoutMs);
    return reply.cancelled === true;
  }

  async #repeated(command, timeoutMs) {
    const began = momentOf(this.#clock);
    for (;;) {
      const left = timeoutMs - passedSince(began, this.#clock);
      try {
        return await this.send(command, { timeoutMs: this.#admitted ? Math.min(left, this.#options.commandTimeoutMs) : left });
      } catch (error) {
        const wait = Math.max(error.retryAfterMs ?? 0, REPEAT_AFTER_MS);
        if (!UNANSWERED.has(error.code) || passedSince(began, this.#clock) + wait >= timeoutMs) throw error;
        if (command.type === "run.start" && this.#isThere(command.thread_id)) command = { ...command, create: false };
        await pause(wait, this.#clock, this.#ended.signal);
      }
    }
  }

  /** A thread that is followed was there: if it is not any more, it was deleted, and its runs with it. */
  #isThere(threadId) {
    const thread = this.#threads.get(threadId);
    return thread !== undefined && !thread.create && !thread.settling;
  }

  /** Try again now, or as soon as the server allows it. */
  retryNow() {
    if (this.#state.name === "waiting") this.#retryIn(this.#untilAllowed(), this.#state.reason);
  }

  /** End it for good, from wherever this is called. Commands that wait for a reply are rejected. */
  close() {
    if (!this.#finished()) this.#finish({ name: "stopped", reason: { code: "CLOSED", action: STOP } });
  }

  // ---------------------------------------------------------------------------------------------- connecting

  async #attempt() {
    const turn = ++this.#turn;
    this.#stopTimer("retry");
    this.#become({ name: "connecting", attempt: this.#failures + 1 });
    if (turn !== this.#turn) return;
    try {
      const credential = await this.#credential();
      if (turn === this.#turn) this.#open(credential);
    } catch (error) {
      if (turn === this.#turn) this.#noCredential(error);
    }
  }

  async #credential() {
    const asked = this.#options.getToken();
    const held = asToken(await bounded(asked, this.#options.refreshTimeoutMs, this.#clock, { signal: this.#ended.signal }));
    const suspect = this.#options.refresh && this.#silentFailures > 0 && this.#silentFailures % 3 === 0;
    if (held && held.token !== this.#refusedToken && !suspect) return held;
    try {
      return await this.#fresh(held?.token ?? this.#refusedToken);
    } catch (error) {
      if (held && suspect && held.token !== this.#refusedToken && !(error instanceof SignedOutError)) return held;
      throw error;
    }
  }

  #fresh(stale) {
    const refresh = this.#options.refresh?.bind(this.#options);
    return freshToken(refresh, { stale, ms: this.#options.refreshTimeoutMs, clock: this.#clock, signal: this.#ended.signal });
  }

  #noCredential(error) {
    if (error instanceof SignedOutError) {
      this.#signedOut();
    } else {
      const cause = typeof error?.code === "string" ? error.code : (error?.name ?? null);
      const wasHeard = error instanceof UnavailableError && !SILENCE.has(error.code);
      this.#wait({ code: "REFRESH_UNAVAILABLE", cause, action: RETRY, decisionId: null }, error?.retryAfterMs, { wasHeard });
    }
  }

  /** Said once, by `invalid_grant` or by another tab; with the refusal that made us ask, if there was one. */
  #signedOut() {
    if (this.#finished()) return;
    const reason = this.#refusalReason ?? { code: "SIGNED_OUT", action: SIGN_IN, decisionId: null };
    this.#finish({ name: "signed_out", reason });
  }

  #open(credential) {
    this.#token = credential;
    let socket;
    try {
      socket = new this.#options.WebSocket(this.#options.url, [SUBPROTOCOL, BEARER_PREFIX + base64url(credential.token)]);
    } catch (error) {
      this.#finish({ name: "stopped", reason: { code: "BAD_REQUEST", action: STOP, cause: error.name } });
      return;
    }
    this.#socket = socket;
    this.#door = null;
    let refusal = null;
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      const message = typeof data === "string" ? parsed(data) : null;
      if (message?.type === "auth.error") refusal = message;
      else if (message !== null && typeof message === "object") this.#receive(message);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.#socket) this.#closed(code, reason, refusal);
    };
    socket.onerror = () => { // a browser's close event follows at once; Node 20 tells of a refused handshake by this alone
      if (socket === this.#socket) this.#startTimer("connect", CLOSE_AFTER_ERROR_MS, () => this.#closed(1006, "", refusal));
    };
    this.#startTimer("connect", this.#options.connectTimeoutMs, () => this.#abandon("CONNECT_TIMEOUT"));
  }

  /** Give the socket up without waiting for its closing handshake. */
  #abandon(code) {
    this.#dropSocket(4000, code);
    this.#lost({ code, action: RETRY, closeCode: 1006, decisionId: null }, null);
  }

  #closed(closeCode, closeReason, refusal) {
    const read = readReason(closeReason);
    const code = refusal?.code ?? read.code;
    const known = [RETRY, SIGN_IN, STOP].includes(refusal?.action) ? refusal.action : null;
    const reason = {
      code: code ?? (closeCode === 1012 ? "RESTARTING" : "CONNECTION_LOST"),
      cause: refusal?.cause ?? null,
      action: known ?? actionFor(closeCode, code),
      closeCode,
      decisionId: refusal?.decision_id ?? read.decisionId,
    };
    this.#dropSocket();
    this.#lost(reason, duration(refusal?.retry_after_ms) ?? read.retryAfterMs);
  }

  #lost(reason, retryAfterMs) {
    const wasIn = this.#admitted;
    this.#leave();
    this.#silentFailures = !wasIn && reason.code === "CONNECTION_LOST" ? this.#silentFailures + 1 : 0;
    if (reason.action === STOP) this.#finish({ name: "stopped", reason });
    else if (reason.action === SIGN_IN) this.#refused(reason);
    else this.#wait(reason, retryAfterMs, { wasHeard: reason.closeCode !== 1006 || !SILENCE.has(reason.code) });
  }

  /** The server does not take this token. One refresh at once; should the new one be refused too, slow down. */
  #refused(reason) {
    this.#refusedToken = this.#token?.token ?? null;
    this.#refusalReason = reason;
    this.#refusals += 1;
    if (this.#refusals === 1) this.#attempt();
    else this.#wait(reason, null, { wasHeard: true });
  }

  #wait(reason, retryAfterMs, { wasHeard }) {
    const { backoffBaseMs: baseMs, backoffCapMs: capMs } = this.#options;
    const notBeforeMs = duration(retryAfterMs) ?? 0;
    this.#allowed = { since: momentOf(this.#clock), ms: notBeforeMs };
    this.#said = wasHeard ? reason : null;
    if (this.#isOffline && !wasHeard) this.#offline();
    else this.#retryIn(backoffMs(this.#failures, this.#random(), { baseMs, capMs, notBeforeMs }), reason);
    this.#failures += 1;
  }

  /** How long the server still wants to be left alone. */
  #untilAllowed() {
    return Math.max(this.#allowed.ms - passedSince(this.#allowed.since, this.#clock), 0);
  }

  #retryIn(ms, reason) {
    this.#turn += 1;
    this.#startTimer("retry", ms, () => this.#attempt()); // first: who is told may close us
    this.#become({ name: "waiting", reason, retryInMs: ms, retryAt: this.#clock.now() + ms, attempt: this.#failures + 1 });
  }

  // ---------------------------------------------------------------------------------------------- connected

  #receive(message) {
    this.#wasHeard = true;
    if (typeof message.notice === "string") this.#notice(message);
    else if ("reply_to" in message) this.#reply(message);
    else if (message.v === 1 && typeof message.thread_id === "string") this.#envelope(message);
  }

  #notice(message) {
    if (message.notice === "thread.deleted") this.#forget(message.thread_id);
    if (message.notice === "auth.assurance") this.#assured(message);
    else if (message.notice === "auth.expiring") this.#renew();
    else if (message.notice === "auth.grace") this.#become({ ...this.#state, name: "degraded", graceUntil: message.until ?? null });
    if (!this.#finished()) guarded(this.#options.onNotice, message);
  }

  #assured(message) {
    this.#door = {
      userId: message.user_id ?? this.#door?.userId ?? null,
      decisionId: message.decision_id ?? this.#door?.decisionId ?? null,
      expiresAt: message.expires_at ?? this.#door?.expiresAt ?? null,
      assurance: message.assurance,
      degraded: Boolean(message.degraded),
    };
    this.#become({ name: message.degraded ? "degraded" : "open", ...this.#door });
    if (!this.#admitted && !this.#finished()) this.#enter();
  }

  #enter() {
    this.#admitted = true;
    this.#silentFailures = 0;
    this.#refusedToken = null;
    this.#refusalReason = null;
    this.#stopTimer("connect");
    this.#startTimer("stable", this.#options.stableAfterMs, () => { this.#failures = 0; this.#refusals = 0; });
    this.#planPing();
    this.#planRenewal();
    for (const [threadId, thread] of this.#threads) {
      if (!thread.asked) this.#resume(threadId, thread);
    }
    for (const entry of [...this.#pending.values()]) {
      if (!entry.sent) this.#transmit(entry);
    }
  }

  #leave() {
    this.#admitted = false;
    for (const name of ["connect", "stable", "ping", "pong", "renew"]) this.#stopTimer(name);
    for (const [id, entry] of [...this.#pending]) {
      if (entry.sent) this.#settle(id, (lost) => lost.reject(new CommandError("CONNECTION_LOST", "the connection broke before the reply")));
    }
  }

  #transmit(entry) {
    entry.sent = true;
    try {
      this.#socket.send(entry.frame);
    } catch {
      entry.sent = false; // the socket is closing: its close event follows, and this waits for the next one
    }
  }

  #reply(message) {
    const settle = (entry) => {
      const { code = "ERROR", message: words = "the command was refused", retry_after_ms: wait } = message.error ?? {};
      if (message.error) entry.reject(new CommandError(code, words, { retryAfterMs: duration(wait) }));
      else entry.resolve(message);
    };
    this.#settle(message.reply_to, settle, message.error ? null : message);
  }

  #settle(id, how, reply = null) {
    const entry = this.#pending.get(id);
    if (entry === undefined) return;
    this.#pending.delete(id);
    this.#clock.clearTimeout(entry.timer);
    entry.settled(reply);
    how(entry);
  }

  // ---------------------------------------------------------------------------------------------- threads

  async #follow(threadId, thread) {
    const { epoch, seq } = thread.cursor;
    const command = {
      type: "thread.subscribe",
      thread_id: threadId,
      ...(seq === null ? {} : { epoch, after_seq: seq }),
      ...(thread.prelude ? { prelude: true } : {}),
      ...(thread.create ? {} : { create: false }),
    };
    thread.asked = thread.settling = true;
    this.#stopTimer(retryOf(threadId));
    const settled = (reply) => {
      thread.asked = false;
      if (!reply) return;
      thread.create = false; // one that is gone by the next time was deleted
      thread.settling = false;
      thread.failures = 0;
      if (this.#threads.get(threadId) === thread) guarded(this.#options.onResume, standing(threadId, reply));
    };
    try {
      return await this.#command(command, this.#options.commandTimeoutMs, settled);
    } catch (error) {
      if (PASSING.has(error.code)) this.#resumeLater(threadId, thread, error);
      throw error;
    }
  }

  async #resume(threadId, thread) {
    try {
      await this.#follow(threadId, thread);
    } catch (error) {
      if (isFinal(error)) this.#lose(threadId, thread, error.code);
    }
  }

  /** On this connection; the next one does it at once. */
  #resumeLater(threadId, thread, { code, retryAfterMs }) {
    if (!this.#admitted || this.#threads.get(threadId) !== thread) return;
    const { backoffBaseMs: baseMs, backoffCapMs: capMs } = this.#options;
    const ms = backoffMs(thread.failures++, this.#random(), { baseMs, capMs, notBeforeMs: retryAfterMs ?? 0 });
    this.#startTimer(retryOf(threadId), ms, () => this.#resume(threadId, thread));
    guarded(this.#options.onNotice, { notice: "thread.waiting", thread_id: threadId, code, retry_in_ms: ms });
  }

  #forget(threadId) {
    this.#threads.delete(threadId);
    this.#stopTimer(retryOf(threadId));
  }

  #lose(threadId, thread, code) {
    if (this.#threads.get(threadId) !== thread) return;
    this.#forget(threadId);
    guarded(this.#options.onNotice, { notice: "thread.lost", thread_id: threadId, code });
  }

  #envelope(envelope) {
    const thread = this.#threads.get(envelope.thread_id);
    if (thread === undefined || thread.settling) return; // before the reply it is the old subscription that speaks
    const verdict = thread.cursor.next(envelope);
    if (verdict === "apply") {
      if (closes(envelope, thread.gap)) thread.gap = null;
      guarded(this.#options.onEvent, envelope);
    } else if (verdict === "gap") {
      this.#resync(thread, envelope);
    }
  }

  /** Something is missing. Ask for it once; if that does not close the gap, the application must start afresh. */
  #resync(thread, { thread_id: threadId, epoch, seq }) {
    if (thread.gap !== null) {
      this.#lose(threadId, thread, "GAP");
    } else {
      thread.gap = { epoch, seq };
      this.#resume(threadId, thread);
    }
  }

  // ---------------------------------------------------------------------------------------------- refresh

  /** A token that the door has just taken and that is over by our clock: the clock is wrong, and the door will say when it is time. */
  #planRenewal() {
    const expiresAt = this.#token.expiresAt ?? (this.#door.expiresAt === null ? null : this.#door.expiresAt * 1000);
    const left = expiresAt === null ? 0 : expiresAt - this.#clock.now();
    if (left <= 0 || !this.#options.refresh) this.#stopTimer("renew");
    else this.#startTimer("renew", Math.min(left * (0.7 + 0.1 * this.#random()), LONGEST_TIMER_MS), () => this.#renew());
  }

  /** Get a new token and present it on the open socket. An outage is no reason to leave. */
  async #renew() {
    if (this.#renewing || !this.#admitted || !this.#options.refresh) return;
    const early = this.#renewed === null ? 0 : BETWEEN_RENEWALS_MS - passedSince(this.#renewed, this.#clock);
    if (early > 0) {
      this.#startTimer("renew", early, () => this.#renew());
      return;
    }
    this.#renewing = true;
    try {
      const token = await this.#fresh(this.#token.token);
      if (this.#admitted) await this.#present(token);
      this.#renewFailures = 0;
    } catch (error) {
      this.#renewalFailed(error);
    } finally {
      this.#renewing = false;
    }
  }

  async #present(token) {
    if (token.token === this.#token.token) throw new UnavailableError("NO_NEW_TOKEN", "the token is still the same");
    const reply = await this.#command({ type: "auth.refresh", token: token.token }, this.#options.commandTimeoutMs);
    this.#token = token;
    this.#renewed = momentOf(this.#clock);
    if (this.#door) this.#door = { ...this.#door, expiresAt: reply.expires_at ?? null };
    if (this.#admitted) this.#planRenewal();
  }

  #renewalFailed(error) {
    if (this.#finished()) return;
    if (error instanceof SignedOutError) {
      this.#signedOut();
    } else if (this.#admitted && error?.code === "FORBIDDEN") {
      this.#startOver();
    } else if (this.#admitted && ACTION_OF_CODE.get(error?.code) !== SIGN_IN) {
      const notBeforeMs = duration(error?.retryAfterMs) ?? 1_000;
      const ms = backoffMs(this.#renewFailures++, this.#random(), { capMs: this.#options.backoffCapMs, notBeforeMs });
      this.#startTimer("renew", ms, () => this.#renew());
    }
  }

  /** The token is of another person or session, so the door takes it on a new connection only. */
  #startOver() {
    this.#refusedToken = this.#token.token;
    this.#renewed = momentOf(this.#clock);
    this.#dropSocket(1000, "");
    this.#leave();
    this.#attempt();
  }

  /** Another tab refreshed, or signed out. */
  #tokenChanged(value) {
    if (this.#finished()) return;
    const token = asToken(value);
    if (value === null) this.#signedOut();
    else if (token === null) return; // neither a token nor a sign-out
    else if (this.#admitted && !this.#renewing && token.token !== this.#token?.token) {
      this.#present(token).catch((error) => this.#renewalFailed(error));
    } else if (this.#state.name === "waiting" && (this.#state.reason.code === "REFRESH_UNAVAILABLE" || this.#state.reason.action === SIGN_IN)) {
      this.#nudge(); // a token is what we wait for
    }
  }

  // ---------------------------------------------------------------------------------------------- liveness

  #planPing() {
    this.#startTimer("ping", this.#options.pingEveryMs, () => this.#ping());
  }

  /** A line that is dead says nothing; so ask. */
  #ping(timeoutMs = this.#options.pongTimeoutMs) {
    if (!this.#admitted || this.#timers.has("pong")) return; // asking again must not put off the end of a dead line
    this.#wasHeard = false;
    this.#command({ type: "ping" }, timeoutMs).catch(() => {});
    this.#startTimer("pong", timeoutMs, (lateMs) => {
      if (this.#wasHeard) this.#planPing();
      else if (lateMs > 2_000) this.#ping(); // the machine slept: the answer may still be in the queue
      else this.#abandon("CONNECTION_LOST");
    });
  }

  #listen(environment) {
    const on = (target, type, listener) => {
      target?.addEventListener?.(type, listener);
      this.#undo.push(() => target?.removeEventListener?.(type, listener));
    };
    on(environment, "online", () => this.#nudge());
    on(environment, "offline", () => this.#lineGone());
    on(environment.document, "visibilitychange", () => { if (environment.document.visibilityState === "visible") this.#nudge(); });
    const unwatch = this.#options.watchToken?.((token) => this.#tokenChanged(token));
    if (unwatch) this.#undo.push(unwatch);
  }

  /** Something got better: the line is back, or somebody looks. Check at once, but never before the server allows it. */
  #nudge() {
    if (this.#admitted) this.#ping();
    if (this.#state.name !== "waiting") return;
    const left = this.#leftOf("retry");
    const soon = Math.max(this.#untilAllowed(), this.#random() * this.#options.backoffBaseMs);
    const reason = (this.#isOffline ? null : this.#said) ?? this.#state.reason; // being offline hid what the server said only so long
    if (soon < left || reason !== this.#state.reason) this.#retryIn(Math.min(soon, left), reason);
  }

  /** The browser says so. It may be wrong of a server on this machine or in a VPN, so an open line is asked, but not for long. */
  #lineGone() {
    if (this.#admitted) this.#ping(Math.min(this.#options.pongTimeoutMs, OFFLINE_PONG_MS));
    else if (this.#state.name === "waiting") this.#offline();
  }

  get #isOffline() {
    return this.#environment.navigator?.onLine === false;
  }

  /** Wait for the line to come back, and look now and then whether it did. */
  #offline() {
    const reason = { code: "OFFLINE", action: RETRY, decisionId: null };
    this.#retryIn(Math.max(this.#untilAllowed(), this.#options.backoffCapMs), reason);
  }

  // ---------------------------------------------------------------------------------------------- the end, and timers

  #finished() {
    return this.#state.name === "signed_out" || this.#state.name === "stopped";
  }

  #finish(state) {
    this.#turn += 1;
    this.#dropSocket(1000, "");
    for (const id of [...this.#pending.keys()]) {
      this.#settle(id, (entry) => entry.reject(new CommandError("CLOSED", "the connection has ended")));
    }
    this.#leave();
    for (const name of [...this.#timers.keys()]) this.#stopTimer(name);
    for (const undo of this.#undo.splice(0)) undo();
    this.#ended.abort();
    this.#become(state);
  }

  #dropSocket(code, reason) {
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    socket.onmessage = socket.onclose = socket.onerror = null;
    if (code !== undefined) socket.close(code, reason);
  }

  #become(state) {
    this.#state = Object.freeze(state);
    guarded(this.#options.onState, this.#state);
  }

  #startTimer(name, ms, callback) {
    this.#stopTimer(name);
    const began = momentOf(this.#clock);
    const id = this.#clock.setTimeout(() => {
      this.#timers.delete(name);
      callback(passedSince(began, this.#clock) - ms);
    }, ms);
    this.#timers.set(name, { id, due: began.monotonic + ms });
  }

  #stopTimer(name) {
    this.#clock.clearTimeout(this.#timers.get(name)?.id);
    this.#timers.delete(name);
  }

  /** In how many milliseconds it fires, unless the machine sleeps. */
  #leftOf(name) {
    return Math.max(this.#timers.get(name).due - momentOf(this.#clock).monotonic, 0);
  }
}

/** Whether this envelope shows that the gap is behind us. */
const closes = ({ synthetic, epoch, seq }, gap) => gap !== null && !synthetic && (epoch !== gap.epoch || seq >= gap.seq);

/** The name of the timer after which a thread is asked for again. */
const retryOf = (threadId) => `thread ${threadId}`;

const standing = (threadId, reply) => ({
  threadId,
  epoch: reply.epoch ?? null,
  afterSeq: reply.after_seq ?? null,
  resumed: reply.resumed === true,
  activeRunId: reply.active_run_id ?? null,
});

/** A random name for a run or a thread; `crypto.randomUUID` is missing on plain http beyond this machine. */
export function newId(prefix = "") {
  return prefix + Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// ------------------------------------------------------------------------------------------------ 4. conversations over HTTP

/**
 * The conversations under `/api`, with the same tokens as the socket: one refresh where a token is refused, then the
 * answer counts. `getToken` and `refresh` are those of `connect`. See doorward.d.ts for what comes back.
 */
export function createApi({
  baseUrl = "",
  getToken,
  refresh,
  fetch = ownFetch,
  clock = systemClock,
  timeoutMs = 8_000,
  refreshTimeoutMs = DEFAULTS.refreshTimeoutMs,
}) {
  const renewed = (stale, signal) => freshToken(refresh, { stale, ms: refreshTimeoutMs, clock, signal });

  async function call(method, path, { query = {}, body, signal } = {}) {
    const asked = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
    const url = `${baseUrl}/api/${path}${asked.length ? `?${new URLSearchParams(asked)}` : ""}`;
    const send = ({ token }) => callJson({
      fetch, clock, timeoutMs, url, method, body, signal, what: "the server", headers: { authorization: `Bearer ${token}` },
    });
    const token = asToken(await bounded(getToken(), refreshTimeoutMs, clock, { signal })) ?? await renewed(null, signal);
    const answer = await send(token);
    return answered(answer.status === 401 ? await send(await renewed(token.token, signal)) : answer);
  }

  const thread = (threadId, rest = "") => `threads/${encodeURIComponent(threadId)}${rest}`;
  return {
    listThreads: ({ limit, cursor, q, signal } = {}) => call("GET", "threads", { query: { limit, cursor, q }, signal }),
    createThread: ({ threadId, title, signal } = {}) => call("POST", "threads", { body: { thread_id: threadId, title }, signal }),
    getThread: (threadId, { signal } = {}) => call("GET", thread(threadId), { signal }),
    renameThread: (threadId, title, { signal } = {}) => call("PATCH", thread(threadId), { body: { title }, signal }),
    deleteThread: (threadId, { signal } = {}) => call("DELETE", thread(threadId), { signal }),
    listMessages: (threadId, { limit, cursor, signal } = {}) => call("GET", thread(threadId, "/messages"), { query: { limit, cursor }, signal }),
    listRuns: (threadId, { limit, cursor, signal } = {}) => call("GET", thread(threadId, "/runs"), { query: { limit, cursor }, signal }),
    render: async (texts, { signal } = {}) => (await call("POST", "render", { body: { texts }, signal })).html,
    renderGrowing: async (texts, { signal } = {}) => {
      const { html, settled } = await call("POST", "render", { body: { texts, growing: true }, signal });
      return html.map((each, index) => ({ html: each, ...settled[index] }));
    },
  };
}

function answered({ status, content, retryAfterMs }) {
  if (status === 204) return null;
  if (status >= 200 && status < 300) {
    if (content !== null) return content;
    throw new UnavailableError("BAD_ANSWER", "the server's answer is not JSON");
  }
  const code = typeof content?.code === "string" ? content.code : `HTTP_${status}`;
  const words = [content?.detail, content?.title].find((text) => typeof text === "string") ?? `the server answered ${status}`;
  if (status >= 500 || status === 429) throw new UnavailableError(code, words, { retryAfterMs });
  throw new ApiError(status, code, words, { retryAfterMs });
}

// ------------------------------------------------------------------------------------------------ small parts

/** What an application calls a token; null where there is none in it. An empty one would be refused for good. */
function asToken(value) {
  const token = value?.token ?? value;
  return isText(token) ? { token, expiresAt: value.expiresAt ?? null } : null;
}

const isText = (value) => typeof value === "string" && value !== "";

function base64url(text) {
  const bytes = new TextEncoder().encode(text);
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** A page has an address that others may be relative to; nothing else has. `setting`: how to give a whole one. */
function absoluteUrl(url, setting) {
  try {
    return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch (error) {
    throw new DoorwardError("BAD_URL", `${url} is no address here: give \`${setting}\` as https://host or the like`, { cause: error });
  }
}

function socketUrl(url) {
  const absolute = absoluteUrl(url, "url");
  absolute.protocol = absolute.protocol.replace("http", "ws");
  return absolute.href;
}
