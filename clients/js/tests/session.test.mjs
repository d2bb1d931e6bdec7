import assert from "node:assert/strict";
import { test } from "node:test";
import { createApi, createSession, localStore, memoryStore, RefusedError, SignedOutError, UnavailableError } from "../doorward.js";
import { manualClock, NOW } from "./clock.mjs";

/** Locks as the browser has them: one at a time, and a waiting request can be given up. */
function fakeLocks() {
  let tail = Promise.resolve();
  let held = 0;
  return {
    request(_name, { signal, ifAvailable }, work) {
      if (ifAvailable && held > 0) return Promise.resolve(work(null));
      held += 1;
      const turn = tail.then(() => { signal?.throwIfAborted(); return work({}); }).finally(() => { held -= 1; });
      tail = turn.catch(() => {});
      return turn;
    },
  };
}

/** Let time go by, in small steps, until the promise has settled. */
async function passing(clock, promise) {
  let settled = false;
  const outcome = promise.finally(() => { settled = true; });
  outcome.catch(() => {});
  for (let step = 0; step < 1000 && !settled; step += 1) {
    await new Promise(setImmediate);
    if (!settled) clock.advance(10);
  }
  return outcome;
}

const answer = (status, content, headers = {}) => new Response(content === undefined ? null : JSON.stringify(content), { status, headers });
const tokens = (n, extra = {}) => ({ access_token: `a${n}`, refresh_token: `r${n}`, expires_in: 600, user: { user_id: "u1" }, ...extra });

/** A session over a scripted auth service. */
function session({ replies = [], store = memoryStore(), clock = manualClock(), locks = fakeLocks() } = {}) {
  const asked = [];
  const fetch = (url, request) => {
    asked.push({ url, body: JSON.parse(request.body), signal: request.signal });
    const reply = replies.shift();
    return typeof reply === "function" ? reply(request) : Promise.resolve(reply);
  };
  return { session: createSession({ store, fetch, locks, clock }), asked, store, clock, replies };
}

async function signedIn(options = {}) {
  const made = session({ ...options, replies: [answer(200, tokens(1)), ...(options.replies ?? [])] });
  await made.session.signIn({ email: "a@b.c", password: "x" });
  made.asked.length = 0;
  return made;
}

const never = (request) => new Promise((_, reject) => request.signal.addEventListener("abort", () => reject(request.signal.reason)));

test("signing in keeps the tokens and tells the user", async () => {
  const { session: it, store } = session({ replies: [answer(200, tokens(1))] });
  assert.deepEqual(await it.signIn({ email: "a@b.c", password: "x" }), { user_id: "u1" });
  assert.deepEqual(it.getToken(), { token: "a1", expiresAt: NOW + 600_000 });
  assert.equal(store.load().refreshToken, "r1");
});

test("a refusal is told from an outage", async () => {
  const { session: it } = session({
    replies: [
      answer(401, { error: "invalid_credentials" }),
      answer(429, { error: "too_many_attempts" }, { "retry-after": "7" }),
      answer(503, { code: "SERVICE_UNAVAILABLE", retry_after_ms: 1500 }, { "retry-after": "2" }),
      () => Promise.reject(new TypeError("network")),
    ],
  });
  const attempt = () => it.signIn({ email: "a", password: "b" });
  await assert.rejects(attempt, (error) => error instanceof RefusedError && error.code === "invalid_credentials");
  await assert.rejects(attempt, (error) => error instanceof RefusedError && error.retryAfterMs === 7000);
  await assert.rejects(attempt, (error) => error instanceof UnavailableError && error.retryAfterMs === 1500);
  await assert.rejects(attempt, (error) => error instanceof UnavailableError && error.code === "UNREACHABLE");
});

test("whoever is made from a session asks the same server", async () => {
  const asked = [];
  const elsewhere = createSession({ baseUrl: "https://chat.example", store: memoryStore() });
  const api = createApi({ ...elsewhere, getToken: () => ({ token: "t" }), fetch: (url) => { asked.push(url); return answer(200, { threads: [] }); } });
  await api.listThreads();
  assert.deepEqual(asked, ["https://chat.example/api/threads"]);
});

test("an address that is none outside a page is the caller's mistake, and no outage", async () => {
  const { signIn } = createSession({ store: memoryStore() });
  await assert.rejects(signIn({ email: "a", password: "b" }), { name: "DoorwardError", code: "BAD_URL", message: /give `baseUrl`/ });
});

for (const [status, content, code] of [
  [401, { error: "invalid_credentials" }, "invalid_credentials"],
  [401, "<html>", "HTTP_401"],
  [403, { error: "invalid_one_time_code" }, "invalid_one_time_code"],
  [409, { error: "email_taken" }, "email_taken"],
  [400, { error: "invalid_request" }, "invalid_request"],
  [400, undefined, "HTTP_400"],
  [413, { code: "MESSAGE_TOO_BIG" }, "MESSAGE_TOO_BIG"],
  [413, "<html>", "HTTP_413"],
  [404, { code: "NOT_FOUND", title: "Not Found" }, "NOT_FOUND"],
]) {
  test(`an answer of the auth service to what was asked is a refusal: ${status} ${JSON.stringify(content)}`, async () => {
    const { session: it } = session({ replies: [answer(status, content)] });
    await assert.rejects(it.signIn({ one_time_code: "x" }), (error) => error instanceof RefusedError && error.code === code && error.status === status);
  });
}

for (const [status, content, code] of [
  [403, "<html>", "HTTP_403"],
  [403, { error: "Forbidden", code: 17 }, "HTTP_403"],
  [404, { status: 404, error: "Not Found" }, "HTTP_404"],
  [404, { code: "NO_SUCH_ROUTE" }, "NO_SUCH_ROUTE"],
  [404, "<html>", "HTTP_404"],
  [502, { code: "NOT_FOUND" }, "NOT_FOUND"],
  [408, { code: "BODY_TOO_SLOW" }, "BODY_TOO_SLOW"],
  [429, { code: "RATE_LIMITED" }, "RATE_LIMITED"],
  [204, undefined, "HTTP_204"],
  [500, { error: "invalid_credentials" }, "HTTP_500"],
]) {
  test(`an answer of somebody on the way is no refusal: ${status} ${JSON.stringify(content)}`, async () => {
    const { session: it } = session({ replies: [answer(status, content, { "retry-after": "3" })] });
    await assert.rejects(it.signIn({ one_time_code: "x" }), (error) => error instanceof UnavailableError && error.code === code && error.retryAfterMs === 3000);
  });
}

for (const [content, detail] of [
  [{ error: "invalid_request", message: "a password needs at least 8 characters" }, "a password needs at least 8 characters"],
  [{ error: "invalid_request", message: 7 }, null],
  [{ error: "invalid_request" }, null],
  [{ message: "blocked by your company" }, null],
]) {
  test(`what the auth service says is wrong is told: ${JSON.stringify(content)}`, async () => {
    const { session: it } = session({ replies: [answer(400, content)] });
    await assert.rejects(it.register({ email: "a@b.c", password: "x" }), (error) => error instanceof RefusedError && error.detail === detail);
  });
}

test("a token near its end is not handed out", async () => {
  const { session: it, clock } = await signedIn();
  clock.advance(594_000);
  assert.equal(it.getToken().token, "a1");
  clock.advance(2_000);
  assert.equal(it.getToken(), null);
});

test("refresh sends the refresh token and keeps the rotated one", async () => {
  const { session: it, asked, store } = await signedIn({ replies: [answer(200, tokens(2))] });
  assert.equal((await it.refresh({ stale: "a1" })).token, "a2");
  assert.deepEqual(asked.map(({ url, body }) => [url, body]), [["/auth/refresh", { refresh_token: "r1" }]]);
  assert.equal(store.load().refreshToken, "r2");
});

for (const [name, reply] of [
  ["a 503", () => answer(503, { code: "SERVICE_UNAVAILABLE" })],
  ["a 500 without JSON", () => new Response("<html>", { status: 500 })],
  ["a 401", () => answer(401, { error: "invalid_token" })],
  ["a 400 of another kind", () => answer(400, { error: "invalid_request" })],
  ["invalid_grant under another status", () => answer(500, { error: "invalid_grant" })],
  ["a 429", () => answer(429, { error: "too_many_attempts" })],
  ["a 200 without tokens", () => answer(200, { ok: true })],
  ["a 200 with an empty access token", () => answer(200, tokens(2, { access_token: "" }))],
  ["a 200 with an empty refresh token", () => answer(200, tokens(2, { refresh_token: "" }))],
  ["a broken line", () => () => Promise.reject(new TypeError("network"))],
]) {
  test(`${name} keeps the refresh token`, async () => {
    const { session: it, store } = await signedIn({ replies: [reply()] });
    await assert.rejects(it.refresh({ stale: "a1" }), UnavailableError);
    assert.equal(store.load().refreshToken, "r1");
    assert.equal(it.signedIn(), true);
  });
}

test("only invalid_grant signs out, and every listener hears it", async () => {
  const { session: it } = await signedIn({ replies: [answer(400, { error: "invalid_grant" })] });
  const heard = [];
  it.watchToken((token) => heard.push(token));
  await assert.rejects(it.refresh({ stale: "a1" }), SignedOutError);
  assert.equal(it.signedIn(), false);
  assert.deepEqual(heard, [null]);
});

test("an auth service that never answers is given up in time, and the call is aborted", async () => {
  const { session: it, asked, clock, store } = await signedIn({ replies: [never] });
  const refreshed = it.refresh({ stale: "a1" });
  const outcome = assert.rejects(refreshed, (error) => error instanceof UnavailableError && error.code === "TIMEOUT");
  while (asked.length === 0) await Promise.resolve();
  clock.advance(8_000);
  await outcome;
  assert.equal(asked[0].signal.aborted, true);
  assert.equal(store.load().refreshToken, "r1");
  assert.equal(clock.pending(), 0);
});

test("two tabs: one refreshes, the other reads the result", async () => {
  const store = memoryStore();
  const clock = manualClock();
  const locks = fakeLocks();
  const first = await signedIn({ store, clock, locks, replies: [answer(200, tokens(2))] });
  const second = session({ store, clock, locks });
  const [one, two] = await passing(clock, Promise.all([first.session.refresh({ stale: "a1" }), second.session.refresh({ stale: "a1" })]));
  assert.deepEqual([one.token, two.token], ["a2", "a2"]);
  assert.equal(first.asked.length + second.asked.length, 1);
});

/** A store as another process sees it: each change arrives when `deliver` is called. */
function lagging(store) {
  let seen = store.load();
  const listeners = new Set();
  return {
    ...store,
    load: () => seen,
    watch: (listener) => { listeners.add(listener); return () => listeners.delete(listener); },
    deliver() {
      seen = store.load();
      for (const listener of [...listeners]) listener();
    },
  };
}

test("a tab that waited for the lock waits a moment for the result too", async () => {
  const store = memoryStore();
  const clock = manualClock();
  const locks = fakeLocks();
  const first = await signedIn({ store, clock, locks, replies: [answer(200, tokens(2))] });
  const view = lagging(store);
  const second = session({ store: view, clock, locks });
  const refreshed = Promise.all([first.session.refresh({ stale: "a1" }), second.session.refresh({ stale: "a1" })]);
  while (store.load().accessToken !== "a2") await new Promise(setImmediate);
  clock.advance(50);
  await new Promise(setImmediate);
  view.deliver();
  assert.deepEqual((await passing(clock, refreshed)).map(({ token }) => token), ["a2", "a2"]);
  assert.equal(first.asked.length + second.asked.length, 1);
});

test("a result that never arrives is not waited for long", async () => {
  const store = memoryStore();
  const clock = manualClock();
  const locks = fakeLocks();
  const first = await signedIn({ store, clock, locks, replies: [answer(200, tokens(2))] });
  const second = session({ store: lagging(store), clock, locks, replies: [answer(200, tokens(2))] });
  const [, two] = [first.session.refresh({ stale: "a1" }), second.session.refresh({ stale: "a1" })];
  assert.equal((await passing(clock, two)).token, "a2");
  assert.ok(clock.now() - NOW < 1000);
});

test("a tab whose refresh token was rotated away meanwhile takes the successor", async () => {
  const store = memoryStore();
  const rotatedMeanwhile = () => {
    store.save({ accessToken: "a9", refreshToken: "r9", expiresAt: NOW + 600_000, user: null });
    return Promise.resolve(answer(400, { error: "invalid_grant" }));
  };
  const { session: it } = await signedIn({ store, locks: undefined, replies: [rotatedMeanwhile] });
  assert.equal((await it.refresh({ stale: "a1" })).token, "a9");
  assert.equal(store.load().refreshToken, "r9");
});

for (const [name, reply] of [
  ["new tokens", () => answer(200, tokens(2))],
  ["invalid_grant", () => answer(400, { error: "invalid_grant" })],
  ["a 503", () => answer(503, { code: "SERVICE_UNAVAILABLE" })],
]) {
  test(`${name}, heard late, leave what another tab has kept meanwhile, and the next refresh is by that`, async () => {
    const store = memoryStore();
    const late = () => {
      store.save({ accessToken: "a7", refreshToken: "r7", expiresAt: NOW - 1, user: null });
      return Promise.resolve(reply());
    };
    const { session: it, asked } = await signedIn({ store, locks: undefined, replies: [late, answer(200, tokens(8))] });
    await assert.rejects(it.refresh({ stale: "a1" }), (error) => error instanceof UnavailableError && error.code === "NO_NEW_TOKEN");
    assert.equal(store.load().refreshToken, "r7");
    assert.equal((await it.refresh({ stale: "a1" })).token, "a8");
    assert.deepEqual(asked.map(({ body }) => body.refresh_token), ["r1", "r7"]);
  });

  test(`${name}, heard late, do not undo that somebody else has signed in on this page`, async () => {
    let release;
    const held = () => new Promise((resolve) => { release = () => resolve(reply()); });
    const other = answer(200, tokens(5, { user: { user_id: "u5" }, expires_in: 4 }));
    const { session: it, asked, store } = await signedIn({ replies: [held, answer(204), other] });
    const refreshed = it.refresh({ stale: "a1" });
    while (asked.length === 0) await Promise.resolve();
    await it.signOut();
    await it.signIn({ email: "e@b.c", password: "x" });
    release();
    await assert.rejects(refreshed, { name: "UnavailableError", code: "NO_NEW_TOKEN" });
    assert.deepEqual([store.load().refreshToken, it.user()], ["r5", { user_id: "u5" }]);
  });
}

test("a frozen tab that holds the lock does not hold this one up", async () => {
  const forEver = (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const locks = { request: (_name, { signal, ifAvailable }, work) => (ifAvailable ? Promise.resolve(work(null)) : forEver(signal)) };
  const { session: it, clock } = await signedIn({ locks });
  const outcome = assert.rejects(it.refresh({ stale: "a1" }), UnavailableError);
  clock.advance(16_000);
  await outcome;
  assert.equal(it.signedIn(), true);
});

test("signing out forgets at once and says whether the server heard", async () => {
  const heard = await signedIn({ replies: [answer(204)] });
  assert.equal(await heard.session.signOut(), true);
  assert.deepEqual(heard.asked[0].body, { refresh_token: "r1" });
  const unheard = await signedIn({ replies: [() => Promise.reject(new TypeError("network"))] });
  const told = unheard.session.signOut();
  assert.equal(unheard.session.signedIn(), false);
  assert.equal(await told, false);
});

test("a refresh that returns after signing out does not sign in again", async () => {
  let release;
  const { session: it, asked } = await signedIn({ replies: [() => new Promise((resolve) => { release = resolve; }), answer(204)] });
  const outcome = assert.rejects(it.refresh({ stale: "a1" }), SignedOutError);
  while (asked.length === 0) await Promise.resolve();
  await it.signOut();
  release(answer(200, tokens(2)));
  await outcome;
  assert.equal(it.signedIn(), false);
});

test("who stops waiting for a refresh ends it for no other", async () => {
  let release;
  const { session: it, asked } = await signedIn({ replies: [() => new Promise((resolve) => { release = resolve; })] });
  const leaving = new AbortController();
  const left = assert.rejects(it.refresh({ stale: "a1", signal: leaving.signal }), { name: "UnavailableError", code: "ABORTED" });
  const stayed = it.refresh({ stale: "a1" });
  while (asked.length === 0) await Promise.resolve();
  leaving.abort();
  await left;
  assert.equal(asked[0].signal.aborted, false);
  release(answer(200, tokens(2)));
  assert.equal((await stayed).token, "a2");
  assert.equal(asked.length, 1);
});

test("who joins a refresh that did not know of a refusal gets another token all the same", async () => {
  const { session: it, asked, clock } = await signedIn({ replies: [answer(200, tokens(2))] });
  const [any, other] = await passing(clock, Promise.all([it.refresh(), it.refresh({ stale: "a1" })]));
  assert.deepEqual([any.token, other.token], ["a1", "a2"]);
  assert.equal(asked.length, 1);
});

for (const [name, headers, expected] of [
  ["in seconds", { "retry-after": "7" }, 7_000],
  ["as a date", { "retry-after": "Fri, 01 Jan 2027 00:00:09 GMT", date: "Fri, 01 Jan 2027 00:00:00 GMT" }, 9_000],
  ["as a date that is past", { "retry-after": "Fri, 01 Jan 2027 00:00:00 GMT", date: "Fri, 01 Jan 2027 00:00:09 GMT" }, 0],
  ["as a date, by our own clock where the answer bears none", { "retry-after": new Date(NOW + 30_000).toUTCString() }, 30_000],
  ["beyond what a timer can wait", { "retry-after": "10000000" }, 86_400_000],
  ["in words", { "retry-after": "later" }, null],
]) {
  test(`Retry-After ${name}`, async () => {
    const { session: it } = await signedIn({ replies: [answer(503, {}, headers)] });
    await assert.rejects(it.refresh({ stale: "a1" }), (error) => error.retryAfterMs === expected);
  });
}

/** A `Storage` as a browser has it: strings by name. */
function pageStorage() {
  const held = new Map();
  return { getItem: (key) => held.get(key) ?? null, setItem: (key, value) => { held.set(key, value); }, removeItem: (key) => { held.delete(key); } };
}

test("tokens outlive the page, under the name that was given", () => {
  const storage = pageStorage();
  localStore("mine", storage).save({ accessToken: "a1", refreshToken: "r1", expiresAt: NOW, user: null });
  assert.equal(localStore("mine", storage).load().refreshToken, "r1");
  assert.equal(localStore("other", storage).load(), null);
  localStore("mine", storage).clear();
  assert.equal(localStore("mine", storage).load(), null);
});

for (const [name, storage] of [
  ["is not to be had", null],
  ["is full", { ...pageStorage(), setItem: () => { throw new Error("QuotaExceededError"); } }],
]) {
  test(`where the browser's storage ${name} the session lasts as long as the page`, async () => {
    const { session: it } = await signedIn({ store: localStore("mine", storage), replies: [answer(200, tokens(2)), answer(204)] });
    assert.equal((await it.refresh({ stale: "a1" })).token, "a2");
    assert.equal(it.getToken().token, "a2");
    await it.signOut();
    assert.equal(it.signedIn(), false);
  });
}

test("a storage that takes tokens again is the one that counts", () => {
  const storage = pageStorage();
  let full = true;
  const store = localStore("mine", { ...storage, setItem: (...how) => { if (full) throw new Error("QuotaExceededError"); storage.setItem(...how); } });
  const held = (n) => ({ accessToken: `a${n}`, refreshToken: `r${n}`, expiresAt: NOW, user: null });
  store.save(held(1));
  assert.equal(store.load().refreshToken, "r1");
  full = false;
  store.save(held(2));
  localStore("mine", storage).save(held(3));
  assert.equal(store.load().refreshToken, "r3");
});
