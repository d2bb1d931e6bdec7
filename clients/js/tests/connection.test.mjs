/** The connection over a socket at whose other end the test sits, by a clock that only moves when told to. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, SignedOutError, UnavailableError } from "../doorward.js";
import { manualClock, NOW } from "./clock.mjs";

class Socket {
  sent = [];
  closed = false;
  onmessage = null;
  onclose = null;

  constructor(_url, protocols) {
    this.protocols = protocols;
  }

  send = (frame) => { this.sent.push(JSON.parse(frame)); };
  close = () => { this.closed = true; };
  say = (message) => this.onmessage?.({ data: JSON.stringify(message) });
  end = (code = 1006, reason = "") => this.onclose?.({ code, reason });
  letIn = (more = {}) => this.say({ notice: "auth.assurance", assurance: "live", degraded: false, expires_at: null, ...more });
  commands = (type) => this.sent.filter((command) => command.type === type);
  answer = (more = {}) => this.say({ reply_to: this.sent.at(-1).id, ok: true, ...more });
}

/** Counts who listens. */
class Listened extends EventTarget {
  listeners = 0;
  addEventListener(...how) { this.listeners += 1; super.addEventListener(...how); }
  removeEventListener(...how) { this.listeners -= 1; super.removeEventListener(...how); }
}

/** Whatever is settled by now has had its turn. */
const settled = async () => { for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate); };

async function line({ getToken = () => "a1", onState = () => {}, ...options } = {}) {
  const clock = manualClock();
  const environment = new Listened();
  environment.document = Object.assign(new Listened(), { visibilityState: "visible" });
  const it = { clock, environment, sockets: [], states: [], watchers: new Set() };
  it.connection = connect({
    url: "ws://door.example/ws",
    getToken,
    watchToken: (listener) => { it.watchers.add(listener); return () => it.watchers.delete(listener); },
    onState: (state) => { it.states.push(state); onState(state, it); },
    WebSocket: class extends Socket { constructor(...how) { super(...how); it.sockets.push(this); } },
    random: () => 0.5,
    clock,
    environment,
    ...options,
  });
  it.last = () => it.sockets.at(-1);
  it.pass = async (ms) => { clock.advance(ms); await settled(); };
  it.tell = (token) => { for (const watcher of it.watchers) watcher(token); };
  await settled();
  return it;
}

async function open(options) {
  const it = await line(options);
  it.last().letIn();
  await settled();
  return it;
}

function assertNothingIsLeft({ clock, environment, watchers }) {
  assert.equal(clock.pending(), 0, "timers");
  assert.equal(environment.listeners + environment.document.listeners + watchers.size, 0, "listeners");
}

/** The token that a socket presents. */
const bearer = ({ protocols }) => Buffer.from(protocols[1].split(".").at(-1), "base64url").toString();

/** A `refresh` that never answers, and what it was told. */
function never() {
  const signals = [];
  return { signals, refresh: ({ signal }) => { signals.push(signal); return new Promise(() => {}); } };
}

// -------------------------------------------------------------------------------------------------- the end

for (const name of ["connecting", "open", "waiting"]) {
  test(`who closes it on being told that it is ${name} has closed it for good`, async () => {
    const it = await line({ onState: (state, { connection }) => { if (state.name === name) connection?.close(); } });
    if (it.last()) it.last().letIn();
    if (it.last()) it.last().end();
    const made = it.sockets.length;
    await it.pass(120_000);
    assert.equal(it.connection.state.name, "stopped");
    assert.equal(it.states.at(-1).name, "stopped");
    assert.equal(it.sockets.length, made);
    assertNothingIsLeft(it);
  });
}

test("who closes it on being told that it is connecting is not asked for a token", async () => {
  let asked = 0;
  const it = await line({
    getToken: () => { asked += 1; return "a1"; },
    onState: (state, { connection }) => { if (state.name === "connecting") connection.close(); },
  });
  assert.deepEqual([asked, it.sockets.length], [0, 0]);
});

test("closing leaves no timer and no listener, and every command has its end", async () => {
  const it = await open();
  const outcome = assert.rejects(it.connection.send({ type: "ping" }), { code: "CLOSED" });
  assert.ok(it.environment.listeners > 0);
  it.connection.close();
  await outcome;
  assert.equal(it.last().closed, true);
  assertNothingIsLeft(it);
});

test("closing while a run waits to be asked for again ends that too", async () => {
  const it = await open();
  const outcome = assert.rejects(it.connection.startRun("t-1", "hello"), { code: "CLOSED" });
  await settled();
  it.last().answer({ error: { code: "RESTARTING", message: "soon", retry_after_ms: 20_000 } });
  await settled();
  it.connection.close();
  await outcome;
  assertNothingIsLeft(it);
});

test("a run is asked for again no sooner than the server allows", async () => {
  const it = await open();
  const running = it.connection.startRun("t-1", "hello", { runId: "r1" });
  await settled();
  it.last().answer({ error: { code: "RESTARTING", message: "soon", retry_after_ms: 2_000 } });
  await settled();
  await it.pass(1_900);
  assert.equal(it.last().commands("run.start").length, 1);
  await it.pass(100);
  assert.equal(it.last().commands("run.start").length, 2);
  it.last().answer();
  assert.deepEqual(await running, { runId: "r1", duplicate: false });
});

test("closing during a refresh tells it so, and does not wait for it", async () => {
  const { signals, refresh } = never();
  const it = await line({ getToken: () => null, refresh });
  assert.deepEqual(signals.map(({ aborted }) => aborted), [false]);
  it.connection.close();
  await settled();
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true]);
  assertNothingIsLeft(it);
});

test("an address that is none outside a page is the caller's mistake", () => {
  const here = { url: "/ws", getToken: () => null, WebSocket: class {} };
  assert.throws(() => connect(here), { name: "DoorwardError", code: "BAD_URL", message: /\/ws is no address here: give `url`/ });
});

test("without a WebSocket it says what to do", () => {
  const here = { url: "ws://door.example/ws", getToken: () => null, WebSocket: null };
  assert.throws(() => connect(here), { code: "NO_WEBSOCKET", message: /option `WebSocket`/ });
});

// -------------------------------------------------------------------------------------------------- tokens

test("a refresh that fails without a word is waited out like any other", async () => {
  const answers = [() => Promise.reject(), () => Promise.reject(new TypeError("no")), () => "a2"];
  const it = await line({ getToken: () => null, refresh: () => answers.shift()() });
  assert.deepEqual([it.connection.state.name, it.connection.state.reason.cause], ["waiting", null]);
  await it.pass(30_000);
  assert.deepEqual([it.connection.state.name, it.connection.state.reason.cause], ["waiting", "TypeError"]);
  await it.pass(30_000);
  assert.equal(it.sockets.length, 1);
});

test("a renewal that fails without a word is tried again", async () => {
  const answers = [() => Promise.reject(), () => "a2"];
  const it = await open({ refresh: () => answers.shift()() });
  it.last().say({ notice: "auth.expiring" });
  await settled();
  await it.pass(30_000);
  assert.deepEqual(it.last().commands("auth.refresh").map(({ token }) => token), ["a2"]);
});

for (const nothing of [null, undefined, "", {}, { token: "" }, { token: null }, { token: 42 }]) {
  const called = JSON.stringify(nothing) ?? "undefined";

  test(`a refresh that brings ${called} for a token is one that could not ask: it is tried again`, async () => {
    const answers = [nothing, "a2"];
    const it = await line({ getToken: () => null, refresh: async () => answers.shift() });
    const { name, reason } = it.connection.state;
    assert.deepEqual([name, reason.code, reason.cause, it.sockets.length], ["waiting", "REFRESH_UNAVAILABLE", "BAD_ANSWER", 0]);
    await it.pass(30_000);
    assert.equal(bearer(it.last()), "a2");
  });

  test(`who has ${called} for a token has none: another is asked for`, async () => {
    const it = await line({ getToken: () => nothing, refresh: async () => "a2" });
    assert.equal(bearer(it.last()), "a2");
  });

  test(`a renewal that brings ${called} for a token is tried again, on the open line`, async () => {
    const answers = [nothing, "a2"];
    const it = await open({ refresh: async () => answers.shift() });
    it.last().say({ notice: "auth.expiring" });
    await settled();
    await it.pass(20_000);
    assert.deepEqual([it.connection.state.name, ...it.last().commands("auth.refresh").map(({ token }) => token)], ["open", "a2"]);
  });

  if (nothing === null) continue; // a sign-out
  test(`somebody who tells of ${called} for a token has told nothing`, async () => {
    const it = await open({ refresh: async () => "a2" });
    it.tell(nothing);
    await it.pass(10_000);
    assert.deepEqual([it.connection.state.name, it.last().sent], ["open", []]);
  });
}

test("a token that another tab tells of may be a string", async () => {
  const it = await open({ refresh: async () => "a2" });
  it.tell("a1");
  assert.deepEqual(it.last().sent, []);
  it.tell("a2");
  assert.deepEqual(it.last().sent.map(({ token }) => token), ["a2"]);
});

test("an outage signs nobody out who has no way to refresh", async () => {
  const it = await line();
  for (let attempt = 1; attempt <= 8; attempt += 1) {
    it.last().end();
    await it.pass(30_000);
  }
  assert.deepEqual([it.connection.state.name, it.sockets.length], ["connecting", 9]);
});

test("who has no way to refresh has to sign in once the token is refused", async () => {
  const it = await line();
  it.last().end(3000, "TOKEN_EXPIRED;id=d1");
  await settled();
  assert.deepEqual([it.connection.state.name, it.connection.state.reason.code], ["signed_out", "TOKEN_EXPIRED"]);
});

test("a token without a date is renewed again and again, by what the door says", async () => {
  let given = 1;
  const it = await line({ refresh: () => `a${++given}` });
  it.last().letIn({ expires_at: NOW / 1000 + 100 });
  for (const round of [1, 2, 3]) {
    await it.pass(80_000);
    assert.equal(it.last().commands("auth.refresh").length, round);
    it.last().answer({ expires_at: it.clock.now() / 1000 + 100 });
    await settled();
  }
});

test("a wrong clock is no reason to renew: the door says when it is time", async () => {
  let given = 1;
  const it = await line({ refresh: () => `a${++given}` });
  it.last().letIn({ expires_at: NOW / 1000 - 3600 });
  await it.pass(60_000);
  assert.equal(given, 1);
  it.last().say({ notice: "auth.expiring" });
  await settled();
  assert.deepEqual(it.last().commands("auth.refresh").map(({ token }) => token), ["a2"]);
});

test("a door that reminds us at once of each new token does not make us renew without end", async () => {
  let given = 1;
  const it = await open({ refresh: () => `a${++given}` });
  const remind = async () => { it.last().say({ notice: "auth.expiring" }); await settled(); };
  await remind();
  it.last().answer();
  await settled();
  await remind();
  assert.equal(it.last().commands("auth.refresh").length, 1);
  await it.pass(2_000);
  assert.equal(it.last().commands("auth.refresh").length, 2);
});

test("a tab that waits for a token goes on as soon as another tab has one", async () => {
  let token = null;
  let chance = 1;
  const refresh = () => { throw new UnavailableError("SERVICE_UNAVAILABLE", "no"); };
  const it = await line({ getToken: () => token, refresh, random: () => chance, backoffBaseMs: 30_000 });
  assert.deepEqual([it.connection.state.reason.code, it.connection.state.retryInMs], ["REFRESH_UNAVAILABLE", 30_000]);
  token = "a2";
  chance = 0.01;
  it.tell({ token, expiresAt: null });
  await it.pass(300);
  assert.equal(it.sockets.length, 1);
});

test("a token of another person or session is shown to the door on a new connection", async () => {
  let token = "a1";
  const it = await open({ getToken: () => token, refresh: () => token });
  token = "b1";
  it.tell({ token, expiresAt: null });
  const shown = it.last().commands("auth.refresh")[0];
  it.last().say({ reply_to: shown.id, error: { code: "FORBIDDEN", message: "another user or session" } });
  await settled();
  assert.deepEqual(it.sockets.map(({ closed }) => closed), [true, false]);
  assert.ok(it.last().protocols[1].endsWith(Buffer.from("b1").toString("base64url")));
  it.last().letIn({ user_id: "b" });
  assert.equal(it.connection.door.userId, "b");
});

test("where each refresh makes another session, connections are made no more often than every two seconds", async () => {
  let given = 1;
  const it = await open({ refresh: () => `a${++given}` });
  for (const made of [2, 3]) {
    it.last().say({ notice: "auth.expiring" });
    await settled();
    await it.pass(2_000);
    it.last().say({ reply_to: it.last().commands("auth.refresh")[0].id, error: { code: "FORBIDDEN", message: "another session" } });
    await settled();
    assert.equal(it.sockets.length, made);
    it.last().letIn();
    it.last().say({ notice: "auth.expiring" });
    await settled();
    assert.equal(it.last().commands("auth.refresh").length, 0);
  }
});

test("a renewal that the door puts off is put off so long", async () => {
  const it = await open({ refresh: () => "a2" });
  it.last().say({ notice: "auth.expiring" });
  await settled();
  it.last().answer({ ok: undefined, error: { code: "SERVICE_UNAVAILABLE", message: "no", retry_after_ms: 20_000 } });
  await settled();
  await it.pass(19_900);
  assert.equal(it.last().commands("auth.refresh").length, 1);
  await it.pass(100);
  assert.equal(it.last().commands("auth.refresh").length, 2);
});

test("a new token of another tab does not get in front of what the server asked for", async () => {
  const it = await line();
  it.last().end(1013, "OVERLOADED;retry_after_ms=4000;id=d1");
  it.tell({ token: "a2", expiresAt: null });
  await it.pass(3_900);
  assert.equal(it.sockets.length, 1);
  await it.pass(100);
  assert.equal(it.sockets.length, 2);
});

test("a token is in nothing that is told", async () => {
  const secret = "s3cr3t-token";
  const told = [];
  const thrown = (Error) => class { constructor(_url, protocols) { throw new Error(`bad subprotocol ${protocols[1]}`); } };
  const tell = (what) => told.push(JSON.stringify(what), String(what?.cause));
  const refused = await line({ getToken: () => secret, onState: tell, WebSocket: thrown(SyntaxError) });
  assert.equal(refused.connection.state.name, "stopped");
  const it = await open({ getToken: () => secret, refresh: () => `${secret}-2`, onState: tell, onNotice: tell });
  it.last().say({ notice: "auth.expiring" });
  await settled();
  const shown = it.last().commands("auth.refresh")[0];
  assert.equal(shown.token, `${secret}-2`);
  it.last().say({ reply_to: shown.id, error: { code: "TOKEN_INVALID", message: "no" } });
  it.last().end(3000, "TOKEN_INVALID;id=d1");
  await settled();
  const encoded = Buffer.from(secret).toString("base64url");
  assert.deepEqual(told.filter((text) => text.includes(secret) || text.includes(encoded)), []);
});

// -------------------------------------------------------------------------------------------------- commands and liveness

test("two commands by one id both have their end", async () => {
  const it = await open();
  const first = it.connection.send({ type: "ping", id: "mine" });
  await assert.rejects(it.connection.send({ type: "ping", id: "mine" }), { name: "CommandError", code: "DUPLICATE_ID" });
  it.last().answer({ n: 1 });
  assert.equal((await first).n, 1);
});

test("a name that the application has taken is not given to another command", async () => {
  const it = await open();
  const sent = [it.connection.send({ type: "ping", id: "c1" }), it.connection.send({ type: "ping" })];
  await settled();
  assert.equal(new Set(it.last().sent.map(({ id }) => id)).size, 2);
  for (const { id } of it.last().sent) it.last().say({ reply_to: id, ok: true });
  assert.deepEqual((await Promise.all(sent)).map(({ ok }) => ok), [true, true]);
});

test("an application that has filled the queue does not make a live line look dead", async () => {
  const it = await open({ maxPending: 1 });
  const slow = it.connection.send({ type: "slow" }, { timeoutMs: 600_000 });
  await assert.rejects(it.connection.send({ type: "ping" }), { code: "TOO_MANY_PENDING" });
  await assert.rejects(it.connection.subscribe("t-1"), { code: "TOO_MANY_PENDING" });
  for (let round = 1; round <= 3; round += 1) {
    await it.pass(25_000);
    assert.equal(it.last().commands("ping").length, round);
    it.last().answer();
    await it.pass(8_000);
  }
  assert.deepEqual([it.connection.state.name, it.sockets.length], ["open", 1]);
  it.last().say({ reply_to: it.last().commands("slow")[0].id, ok: true });
  await slow;
});

test("somebody who looks again and again does not put off the end of a dead line", async () => {
  const it = await open();
  await it.pass(1_000);
  for (let look = 0; look < 3; look += 1) {
    it.environment.document.dispatchEvent(new Event("visibilitychange"));
    await it.pass(3_000);
  }
  assert.deepEqual([it.connection.state.name, it.last().commands("ping").length], ["waiting", 1]);
});

test("signing out in another tab ends this one, whatever it does", async () => {
  const { refresh } = never();
  for (const it of [await open(), await line({ getToken: () => null, refresh })]) {
    it.tell(null);
    await settled();
    assert.equal(it.connection.state.name, "signed_out");
    assertNothingIsLeft(it);
  }
});

test("nobody who is signed out is asked again", async () => {
  const it = await line({ getToken: () => null, refresh: () => { throw new SignedOutError(); } });
  await it.pass(600_000);
  assert.equal(it.connection.state.name, "signed_out");
  assertNothingIsLeft(it);
});

// -------------------------------------------------------------------------------------------------- a clock that is set, a machine that sleeps

const DAY_MS = 86_400_000;

test("a clock that is put back does not keep the door's reminder from renewing the token", async () => {
  let given = 1;
  const it = await open({ refresh: () => `a${++given}` });
  for (const round of [1, 2]) {
    it.last().say({ notice: "auth.expiring" });
    await settled();
    assert.equal(it.last().commands("auth.refresh").length, round);
    it.last().answer();
    await settled();
    it.clock.put(-DAY_MS);
    await it.pass(2_000);
  }
});

test("a clock that is put back makes no wait longer, however often somebody insists", async () => {
  const it = await line();
  it.last().end(1013, "OVERLOADED;retry_after_ms=2000;id=d1");
  it.clock.put(-DAY_MS);
  it.connection.retryNow();
  await it.pass(1_500);
  it.connection.retryNow();
  assert.equal(it.connection.state.retryInMs, 500);
  await it.pass(500);
  assert.equal(it.sockets.length, 2);
});

test("what a machine is asked to wait is over where it slept that long, and who looks at it then does not wait again", async () => {
  const it = await line();
  it.last().end(1013, "OVERLOADED;retry_after_ms=60000;id=d1");
  it.clock.put(60_000);
  it.environment.document.dispatchEvent(new Event("visibilitychange"));
  await it.pass(500);
  assert.equal(it.sockets.length, 2);
});

test("a line that has answered is not taken for dead where the clock is put back meanwhile", async () => {
  const it = await open();
  await it.pass(25_000);
  it.clock.put(-2_000);
  it.last().answer();
  await it.pass(8_000);
  assert.equal(it.connection.state.name, "open");
});

test("a line is asked once more where the machine slept, and then no more", async () => {
  const it = await open();
  await it.pass(25_000);
  it.clock.put(DAY_MS);
  await it.pass(8_000);
  assert.deepEqual([it.connection.state.name, it.last().commands("ping").length], ["open", 2]);
  await it.pass(8_000);
  assert.equal(it.connection.state.name, "waiting");
});

test("a run is asked for no longer than it may be where the clock is put back", async () => {
  const it = await open();
  const outcome = assert.rejects(it.connection.startRun("t-1", "?", { timeoutMs: 3_000 }), { code: "NO_REPLY" });
  it.last().answer({ error: { code: "RESTARTING", message: "soon" } });
  await settled();
  it.clock.put(-DAY_MS);
  await it.pass(250);
  assert.equal(it.last().commands("run.start").length, 2);
  await it.pass(2_750);
  assert.equal(it.last().commands("run.start").length, 2);
  it.connection.close();
  await outcome;
});

test("the clock that is used where none is given goes on while the wall's is put back", async (context) => {
  const it = await line({ clock: undefined });
  context.after(() => it.connection.close());
  it.last().end(1013, "OVERLOADED;retry_after_ms=60000;id=d1");
  const { now } = Date;
  context.mock.method(Date, "now", () => now() - DAY_MS);
  it.connection.retryNow();
  assert.ok(it.connection.state.retryInMs <= 60_000);
});

// -------------------------------------------------------------------------------------------------- threads that have to wait

const event = (seq, more = {}) => ({ v: 1, thread_id: "t-1", epoch: "e", seq_from: seq, seq, event: {}, ...more });
const refusal = (code, more = {}) => ({ ok: undefined, error: { code, message: "no", ...more } });

/** A thread that was followed up to event 4, on a line that broke and has just come back: the server is asked to go on. */
async function resuming(options) {
  const told = [];
  const it = await open({
    onNotice: ({ notice, ...more }) => { if (notice.startsWith("thread.")) told.push({ notice, ...more }); },
    onResume: ({ resumed }) => told.push({ resumed }),
    onEvent: ({ seq }) => told.push(seq),
    ...options,
  });
  it.told = told;
  it.asked = () => it.last().commands("thread.subscribe");
  const following = it.connection.subscribe("t-1", { epoch: "e", afterSeq: 3 });
  it.last().answer({ resumed: true });
  await following;
  it.last().say(event(4));
  it.back = async () => { it.last().end(1012, "RESTARTING"); await it.pass(30_000); it.last().letIn(); await settled(); };
  it.refuse = async (...how) => { it.last().answer(refusal(...how)); await settled(); };
  await it.back();
  told.length = 0;
  return it;
}

for (const code of ["UNAVAILABLE", "OVERLOADED", "INTERNAL", "RESTARTING"]) {
  test(`a thread that is answered ${code} after a break is asked for again, from where it stood`, async () => {
    const it = await resuming();
    await it.refuse(code);
    assert.deepEqual(it.told.splice(0), [{ notice: "thread.waiting", thread_id: "t-1", code, retry_in_ms: 250 }]);
    await it.pass(249);
    assert.equal(it.asked().length, 1);
    await it.pass(1);
    assert.deepEqual(it.asked().map(({ epoch, after_seq: seq }) => [epoch, seq]), [["e", 4], ["e", 4]]);
    it.last().answer({ resumed: true });
    it.last().say(event(5));
    assert.deepEqual(it.told, [{ resumed: true }, 5]);
  });
}

test("a thread that gets no answer after a break is asked for again", async () => {
  const it = await resuming({ pongTimeoutMs: 600_000 });
  await it.pass(10_000);
  assert.deepEqual(it.told.map(({ notice, code }) => [notice, code]), [["thread.waiting", "NO_REPLY"]]);
  await it.pass(250);
  assert.equal(it.asked().length, 2);
});

test("a server that refuses again and again is asked ever more slowly, and never before it allows it", async () => {
  const it = await resuming({ random: () => 1, pingEveryMs: 600_000 });
  for (const ms of [500, 1_000, 2_000, 4_000]) {
    await it.refuse("UNAVAILABLE");
    assert.equal(it.told.at(-1).retry_in_ms, ms);
    await it.pass(ms);
  }
  await it.refuse("UNAVAILABLE", { retry_after_ms: 20_000 });
  assert.equal(it.told.at(-1).retry_in_ms, 20_000);
  await it.pass(20_000);
  it.last().answer({ resumed: true });
  await it.back();
  await it.refuse("UNAVAILABLE");
  assert.equal(it.told.at(-1).retry_in_ms, 500);
});

test("a thread that cannot be followed at first is followed as soon as it can be", async () => {
  const it = await resuming();
  it.last().answer({ resumed: true });
  it.told.length = 0;
  const outcome = assert.rejects(it.connection.subscribe("t-1"), { name: "CommandError", code: "UNAVAILABLE" });
  await it.refuse("UNAVAILABLE");
  await outcome;
  await it.pass(250);
  it.last().answer({ resumed: false });
  it.last().say(event(1));
  assert.deepEqual(it.told.slice(1), [{ resumed: false }, 1]);
  await it.back();
  assert.equal(it.asked().length, 1);
});

test("a thread that turns out to be gone is lost, and not asked for any more", async () => {
  const it = await resuming();
  await it.refuse("UNAVAILABLE");
  await it.pass(250);
  await it.refuse("NOT_FOUND");
  assert.deepEqual(it.told.at(-1), { notice: "thread.lost", thread_id: "t-1", code: "NOT_FOUND" });
  await it.pass(20_000);
  assert.equal(it.asked().length, 2);
});

for (const [name, leave] of [
  ["left", (it) => { it.connection.unsubscribe("t-1").catch(() => {}); }],
  ["deleted", (it) => { it.last().say({ notice: "thread.deleted", thread_id: "t-1" }); }],
]) {
  test(`a thread that is ${name} while it waits is not asked for again`, async () => {
    const it = await resuming();
    await it.refuse("UNAVAILABLE");
    const timers = it.clock.pending();
    leave(it);
    assert.equal(it.clock.pending(), timers + (name === "left" ? 0 : -1), "its timer goes; a command brings one of its own");
    await it.pass(20_000);
    assert.equal(it.asked().length, 1);
  });
}

for (const moment of ["before", "after"]) {
  test(`closing ${moment} a refused thread is told of leaves nothing`, async () => {
    const it = await resuming({ onNotice: ({ notice }, { connection } = it) => { if (moment === "after" && notice === "thread.waiting") connection.close(); } });
    it.last().answer(refusal("UNAVAILABLE"));
    if (moment === "before") it.connection.close();
    await settled();
    assert.equal(it.connection.state.name, "stopped");
    assertNothingIsLeft(it);
  });
}

test("a thread that is left before the server refuses it is not asked for again", async () => {
  const it = await resuming();
  it.connection.unsubscribe("t-1").catch(() => {});
  it.last().say({ reply_to: it.asked()[0].id, ...refusal("UNAVAILABLE") });
  await it.pass(20_000);
  assert.deepEqual([it.asked().length, it.told], [1, []]);
});

for (const [moment, retryAfterMs] of [["before", 60_000], ["after", 1_000]]) {
  test(`a line that is back ${moment} the turn of a thread that waits asks for it once`, async () => {
    const it = await resuming({ pingEveryMs: 600_000 });
    await it.refuse("UNAVAILABLE", { retry_after_ms: retryAfterMs });
    await it.back();
    assert.equal(it.asked().length, 1);
    it.last().answer({ resumed: true });
    await it.pass(60_000);
    assert.equal(it.asked().length, 1);
  });
}

test("a thread that is asked for before there is a connection is asked for once", async () => {
  const it = await line();
  const following = it.connection.subscribe("t-1");
  it.last().letIn();
  it.last().answer();
  await following;
  assert.equal(it.last().commands("thread.subscribe").length, 1);
});

test("what the old subscription says while a thread waits is dropped: there is a gap before it", async () => {
  const it = await resuming();
  it.last().answer({ resumed: true });
  it.told.length = 0;
  it.last().say(event(6));
  await it.refuse("UNAVAILABLE");
  it.last().say(event(7));
  await it.pass(250);
  it.last().answer({ resumed: true });
  for (const seq of [5, 6, 7]) it.last().say(event(seq));
  assert.deepEqual(it.told.slice(1), [{ resumed: true }, 5, 6, 7]);
});

// -------------------------------------------------------------------------------------------------- threads that are not to be made

const MISSING = { error: { code: "NOT_FOUND", message: "there is no such thread" } };

test("a thread that is not to be made is asked for without making it", async () => {
  const it = await open();
  const following = assert.rejects(it.connection.subscribe("t-1", { create: false }), { code: "NOT_FOUND" });
  assert.equal(it.last().sent.at(-1).create, false);
  it.last().answer(MISSING);
  await following;
  await it.pass(60_000);
  assert.equal(it.last().commands("thread.subscribe").length, 1);
});

test("a thread is made unless there is a position in it", async () => {
  const it = await open();
  it.connection.subscribe("t-1");
  it.connection.subscribe("t-2", { epoch: "e", afterSeq: 3 });
  it.connection.subscribe("t-3", { epoch: "e", afterSeq: 3, create: true });
  assert.deepEqual(it.last().commands("thread.subscribe").map(({ create }) => create), [undefined, false, undefined]);
});

for (const create of [true, false]) {
  test(`a thread that was deleted during a break is not made anew (create: ${create})`, async () => {
    const lost = [];
    const it = await open({ onNotice: (notice) => { if (notice.notice === "thread.lost") lost.push(notice); } });
    const following = it.connection.subscribe("t-1", { create });
    it.last().answer();
    await following;
    it.last().end(1012, "RESTARTING");
    await it.pass(30_000);
    it.last().letIn();
    await settled();
    assert.equal(it.last().sent.at(-1).create, false);
    it.last().answer(MISSING);
    await it.pass(60_000);
    assert.equal(it.last().commands("thread.subscribe").length, 1);
    assert.deepEqual(lost, [{ notice: "thread.lost", thread_id: "t-1", code: "NOT_FOUND" }]);
  });
}

test("a thread that is to be made and was not, for the line broke, is made on the next one", async () => {
  const it = await open();
  const following = assert.rejects(it.connection.subscribe("t-1"), { code: "CONNECTION_LOST" });
  it.last().end();
  await following;
  await it.pass(30_000);
  it.last().letIn();
  assert.deepEqual(it.last().commands("thread.subscribe").map(({ create }) => create), [undefined]);
});

test("a question that is repeated after a break does not make a thread anew that was there", async () => {
  const it = await open();
  const following = it.connection.subscribe("t-1");
  it.last().answer();
  await following;
  const asked = assert.rejects(it.connection.startRun("t-1", "?", { runId: "r-1" }), { code: "NOT_FOUND" });
  assert.deepEqual(it.last().commands("run.start").map(({ create }) => create), [undefined]);
  it.last().end();
  await settled();
  await it.pass(5_000);
  it.last().letIn();
  await settled();
  const [subscribed, repeated] = it.last().sent.filter(({ type }) => type !== "ping");
  assert.deepEqual([repeated.run_id, repeated.create], ["r-1", false]);
  for (const { id } of [subscribed, repeated]) it.last().say({ reply_to: id, ...MISSING });
  await asked;
});

test("a question makes a thread unless that is not wanted", async () => {
  const it = await open();
  it.connection.startRun("t-1", "?");
  const asked = assert.rejects(it.connection.startRun("t-1", "?", { create: false }), { code: "NOT_FOUND" });
  assert.deepEqual(it.last().commands("run.start").map(({ create }) => create), [undefined, false]);
  it.last().answer(MISSING);
  await asked;
});

// -------------------------------------------------------------------------------------------------- a device that is offline

/** The browser says whether there is a line, and tells of the change. */
async function device(options) {
  const it = await line(options);
  it.environment.navigator = { onLine: true };
  it.says = (onLine) => {
    it.environment.navigator.onLine = onLine;
    it.environment.dispatchEvent(new Event(onLine ? "online" : "offline"));
  };
  return it;
}

const reasons = ({ states }) => states.flatMap(({ name, reason }) => (name === "waiting" ? [reason.code] : []));

test("a device that goes offline before its line breaks is offline once it does", async () => {
  const it = await device();
  it.last().letIn();
  it.says(false);
  it.last().end();
  assert.deepEqual(reasons(it), ["OFFLINE"]);
  it.says(true);
  await it.pass(500);
  assert.equal(it.sockets.length, 2);
});

test("an open line has two seconds to answer where the browser says that there is none", async () => {
  const it = await device();
  it.last().letIn();
  await it.pass(1_000);
  it.says(false);
  await it.pass(1_999);
  assert.equal(it.connection.state.name, "open");
  await it.pass(1);
  assert.deepEqual(reasons(it), ["OFFLINE"]);
});

test("a line that answers stays open whatever the browser says", async () => {
  const it = await device();
  it.last().letIn();
  it.says(false);
  it.last().answer();
  await it.pass(10_000);
  assert.equal(it.connection.state.name, "open");
});

test("a device that is still offline at the next attempt says so again, and not that the server is away", async () => {
  const it = await device();
  it.says(false);
  it.last().end();
  await it.pass(30_000);
  it.last().end();
  assert.deepEqual(reasons(it), ["OFFLINE", "OFFLINE"]);
});

test("being offline is no way around the time that a server has set", async () => {
  const it = await device();
  it.last().end(1013, "OVERLOADED;retry_after_ms=60000");
  it.says(false);
  assert.deepEqual([it.connection.state.reason.code, it.connection.state.retryInMs], ["OFFLINE", 60_000]);
});

test("a device that is back says again what the server said, and waits as long as the server asked", async () => {
  const it = await device();
  it.last().end(1013, "SERVICE_UNAVAILABLE;retry_after_ms=60000;id=d-1");
  await it.pass(10_000);
  it.says(false);
  await it.pass(10_000);
  it.environment.document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(it.connection.state.reason.code, "OFFLINE");
  it.says(true);
  const { reason, retryInMs, retryAt } = it.connection.state;
  assert.deepEqual([reason.code, reason.decisionId, retryInMs, retryAt], ["SERVICE_UNAVAILABLE", "d-1", 40_000, NOW + 60_000]);
  await it.pass(39_900);
  assert.equal(it.sockets.length, 1);
  await it.pass(100);
  assert.equal(it.sockets.length, 2);
});

test("what a server said is not said any more once it has said nothing", async () => {
  const it = await device();
  it.last().end(1013, "SERVICE_UNAVAILABLE;retry_after_ms=2000;id=d-1");
  it.says(false);
  await it.pass(30_000);
  it.last().end();
  it.says(true);
  assert.deepEqual(reasons(it).slice(1), ["OFFLINE", "OFFLINE", "OFFLINE"]);
});

for (const [how, end, code, retryInMs] of [
  ["a frame", (socket) => { socket.say({ type: "auth.error", code: "SERVICE_UNAVAILABLE", retry_after_ms: 1500, decision_id: "d-1" }); socket.end(); }, "SERVICE_UNAVAILABLE", 1500],
  ["a close reason", (socket) => socket.end(1013, "SERVICE_UNAVAILABLE;retry_after_ms=1500;id=d-1"), "SERVICE_UNAVAILABLE", 1500],
  ["the close code 1012", (socket) => socket.end(1012), "RESTARTING", 250],
  ["another close code", (socket) => socket.end(1013), "CONNECTION_LOST", 250],
]) {
  test(`what a server says by ${how} is told whatever the browser says`, async () => {
    const it = await device();
    it.environment.navigator.onLine = false;
    end(it.last());
    const { reason, retryInMs: wait } = it.connection.state;
    assert.deepEqual([reason.code, wait], [code, retryInMs]);
    assert.equal(reason.decisionId, code === "SERVICE_UNAVAILABLE" ? "d-1" : null);
  });
}

test("a server that says nothing in time is one of a device that is offline", async () => {
  const it = await device();
  it.environment.navigator.onLine = false;
  await it.pass(5_000);
  assert.deepEqual(reasons(it), ["OFFLINE"]);
});

for (const [error, code] of [
  [new UnavailableError("UNREACHABLE", "could not be reached"), "OFFLINE"],
  [new UnavailableError("TIMEOUT", "no answer within 8000 ms"), "OFFLINE"],
  [new TypeError("Failed to fetch"), "OFFLINE"],
  [new UnavailableError("SERVICE_UNAVAILABLE", "not now"), "REFRESH_UNAVAILABLE"],
  [new UnavailableError("HTTP_502", "not now"), "REFRESH_UNAVAILABLE"],
]) {
  test(`a device that is said to be offline, and a refresh that ends with ${error.code ?? error.name}: ${code}`, async () => {
    const answers = [null, "a1"];
    const it = await device({ getToken: () => answers.pop() ?? null, refresh: () => Promise.reject(error) });
    it.last().end();
    it.environment.navigator.onLine = false;
    await it.pass(500);
    assert.equal(it.connection.state.reason.code, code);
  });
}
