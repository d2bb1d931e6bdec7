/**
 * One client at the end of a pipe: what it does is printed as JSON lines, what it shall do is read as JSON lines.
 *
 * argv[2] is the JSON of `{url, token, refresh: [...], speed, random, options}`. `refresh` is a script: each entry answers
 * one call, the last one also all later calls. `speed` makes the client's clock run that much faster than the wall's.
 */

import { createInterface } from "node:readline";
import { performance } from "node:perf_hooks";
import { connect, SignedOutError, UnavailableError } from "../doorward.js";

const config = JSON.parse(process.argv[2]);
const speed = config.speed ?? 1;
const began = performance.now();

const clock = {
  now: () => 1_700_000_000_000 + (performance.now() - began) * speed,
  setTimeout: (callback, ms) => setTimeout(callback, ms / speed),
  clearTimeout: (timer) => clearTimeout(timer),
};

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const script = config.refresh ?? ["unavailable"];

function refresh({ stale, signal }) {
  const step = script.length > 1 ? script.shift() : script[0];
  say({ refresh: stale });
  if (step === "invalid_grant") throw new SignedOutError();
  if (step === "unavailable") throw new UnavailableError("SERVICE_UNAVAILABLE", "no", { retryAfterMs: config.refreshRetryAfterMs ?? null });
  if (step === "hang") {
    return new Promise((resolve, reject) => signal.addEventListener("abort", () => { say({ aborted: true }); reject(signal.reason); }));
  }
  return Promise.resolve(step);
}

const environment = new EventTarget();
environment.document = Object.assign(new EventTarget(), { visibilityState: "visible" });

let tokenListener = null;
const client = connect({
  url: config.url,
  getToken: () => config.token,
  refresh,
  watchToken: (listener) => { tokenListener = listener; return () => { tokenListener = null; }; },
  onState: (state) => say({ state, at: clock.now() }),
  onEvent: (envelope) => say({ event: envelope }),
  onNotice: (notice) => say({ notice }),
  onResume: (standing) => say({ standing }),
  clock,
  random: () => config.random ?? 0.5,
  environment,
  ...config.options,
});

const settle = (tag, promise) => promise.then(
  (reply) => say({ tag, reply }),
  (error) => say({ tag, error: { name: error.name, code: error.code } }),
);

const orders = {
  send: ({ tag, command, options }) => settle(tag, client.send(command, options)),
  subscribe: ({ tag, thread, from }) => settle(tag, client.subscribe(thread, from)),
  unsubscribe: ({ tag, thread }) => settle(tag, client.unsubscribe(thread)),
  startRun: ({ tag, thread, message, options }) => settle(tag, client.startRun(thread, message, options)),
  cancelRun: ({ tag, thread, run, options }) => settle(tag, client.cancelRun(thread, run, options)),
  position: ({ tag, thread }) => say({ tag, position: client.position(thread) }),
  retryNow: () => client.retryNow(),
  token: ({ token }) => tokenListener?.(token),
  event: ({ type }) => environment.dispatchEvent(new Event(type)),
  shown: () => environment.document.dispatchEvent(new Event("visibilitychange")),
  close: () => client.close(),
};

createInterface({ input: process.stdin })
  .on("line", (line) => { const order = JSON.parse(line); orders[order.do](order); })
  .on("close", () => { client.close(); });
