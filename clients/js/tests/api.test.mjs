import assert from "node:assert/strict";
import { test } from "node:test";
import { ApiError, createApi, newId, SignedOutError, UnavailableError } from "../doorward.js";

const THREAD = { thread_id: "t-1", title: null, created_at: "2026-01-01T00:00:00Z", updated_at: "2026-01-01T00:00:00Z", active_run_id: null };

function reply(status, content, headers = {}) {
  return new Response(content === undefined ? null : JSON.stringify(content), { status, headers });
}

/** An API over a scripted server; `asked` is what it was asked. */
function api({ replies, tokens = ["a1"], refresh = async () => "a2" }) {
  const asked = [];
  const fetch = async (url, { method, headers, body, signal }) => {
    asked.push({ url, method, token: headers.authorization, body: body === undefined ? undefined : JSON.parse(body) });
    const next = replies.shift();
    if (next === "hang") return new Promise((resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    if (next instanceof Error) throw next;
    return next;
  };
  return { asked, client: createApi({ fetch, getToken: () => tokens[0] ?? null, refresh, timeoutMs: 50, refreshTimeoutMs: 50 }) };
}

test("what is no token is not shown to the server", async () => {
  const { asked, client } = api({ replies: [], tokens: [{}], refresh: async () => ({ token: "" }) });
  await assert.rejects(client.listThreads(), { name: "UnavailableError", code: "BAD_ANSWER" });
  assert.deepEqual(asked, []);
});

test("each call is the one that the reference names", async () => {
  const { asked, client } = api({ replies: [
    reply(200, { threads: [THREAD], next_cursor: null }), reply(201, THREAD), reply(200, THREAD), reply(200, THREAD), reply(204),
    reply(200, { messages: [], next_cursor: null }), reply(200, { runs: [], next_cursor: null }), reply(200, { html: ["<p>x</p>"] }),
    reply(200, { html: ["<p>x</p><p>y</p>"], settled: [{ lines: 2, elements: 1 }] }),
  ] });
  assert.deepEqual(await client.listThreads({ limit: 20, q: "a b&c", cursor: null }), { threads: [THREAD], next_cursor: null });
  assert.deepEqual(await client.createThread({ threadId: "t-1" }), THREAD);
  await client.getThread("t-1");
  await client.renameThread("t-1", "Title");
  assert.equal(await client.deleteThread("t/1"), null);
  await client.listMessages("t-1", { limit: 5, cursor: "c" });
  await client.listRuns("t-1");
  assert.deepEqual(await client.render(["x"]), ["<p>x</p>"]);
  assert.deepEqual(await client.renderGrowing(["x\n\ny"]), [{ html: "<p>x</p><p>y</p>", lines: 2, elements: 1 }]);
  assert.deepEqual(asked.map(({ method, url, body }) => [method, url, body]), [
    ["GET", "/api/threads?limit=20&q=a+b%26c", undefined],
    ["POST", "/api/threads", { thread_id: "t-1" }],
    ["GET", "/api/threads/t-1", undefined],
    ["PATCH", "/api/threads/t-1", { title: "Title" }],
    ["DELETE", "/api/threads/t%2F1", undefined],
    ["GET", "/api/threads/t-1/messages?limit=5&cursor=c", undefined],
    ["GET", "/api/threads/t-1/runs", undefined],
    ["POST", "/api/render", { texts: ["x"] }],
    ["POST", "/api/render", { texts: ["x\n\ny"], growing: true }],
  ]);
  assert.deepEqual([...new Set(asked.map(({ token }) => token))], ["Bearer a1"]);
});

test("a refused token is refreshed once, and the call made again with the new one", async () => {
  const stale = [];
  const refresh = async (options) => { stale.push(options.stale); return { token: "a2", expiresAt: null }; };
  const { asked, client } = api({ replies: [reply(401, { code: "TOKEN_EXPIRED" }), reply(200, THREAD)], refresh });
  assert.deepEqual(await client.getThread("t-1"), THREAD);
  assert.deepEqual(stale, ["a1"]);
  assert.deepEqual(asked.map(({ token }) => token), ["Bearer a1", "Bearer a2"]);
});

test("a token that is refused twice is told, not tried for ever", async () => {
  const { asked, client } = api({ replies: [reply(401, { code: "TOKEN_EXPIRED" }), reply(401, { code: "TOKEN_REJECTED" })] });
  await assert.rejects(client.getThread("t-1"), (error) => error instanceof ApiError && error.status === 401 && error.code === "TOKEN_REJECTED");
  assert.equal(asked.length, 2);
});

test("without a token at hand it asks for one first", async () => {
  const { asked, client } = api({ replies: [reply(200, THREAD)], tokens: [] });
  await client.getThread("t-1");
  assert.deepEqual(asked.map(({ token }) => token), ["Bearer a2"]);
});

test("who has to sign in is told so, and the server is not asked", async () => {
  const { asked, client } = api({ replies: [], tokens: [], refresh: async () => { throw new SignedOutError(); } });
  await assert.rejects(client.listThreads(), SignedOutError);
  assert.deepEqual(asked, []);
});

test("a no carries the word of the problem details", async () => {
  const { client } = api({ replies: [reply(404, { code: "NOT_FOUND", detail: "there is no such thread of yours" }), reply(400, { title: "No" })] });
  await assert.rejects(client.getThread("t-9"), { name: "ApiError", status: 404, code: "NOT_FOUND", message: "there is no such thread of yours" });
  await assert.rejects(client.getThread("t-9"), { name: "ApiError", status: 400, code: "HTTP_400", message: "No" });
});

test("an outage is no no, and says when to come again", async () => {
  const { client } = api({ replies: [reply(503, { code: "SERVICE_UNAVAILABLE", retry_after_ms: 1840 }), reply(429, {}, { "retry-after": "2" })] });
  await assert.rejects(client.listThreads(), (error) => error instanceof UnavailableError && error.code === "SERVICE_UNAVAILABLE" && error.retryAfterMs === 1840);
  await assert.rejects(client.listThreads(), (error) => error instanceof UnavailableError && error.retryAfterMs === 2000);
});

test("a server that does not answer, or not in JSON, is an outage", async () => {
  const { client } = api({ replies: ["hang", new TypeError("fetch failed"), new Response("<html>", { status: 200 })] });
  await assert.rejects(client.listThreads(), { name: "UnavailableError", code: "TIMEOUT" });
  await assert.rejects(client.listThreads(), { name: "UnavailableError", code: "UNREACHABLE" });
  await assert.rejects(client.listThreads(), { name: "UnavailableError", code: "BAD_ANSWER" });
});

test("a call can be given up", async () => {
  const { client } = api({ replies: ["hang"] });
  const abort = new AbortController();
  const asking = client.listThreads({ signal: abort.signal });
  setImmediate(() => abort.abort());
  await assert.rejects(asking, { name: "UnavailableError", code: "ABORTED" });
});

for (const [name, leave, code] of [["given up", (abort) => abort.abort(), "ABORTED"], ["too slow", () => {}, "TIMEOUT"]]) {
  test(`a refresh that is ${name} is told so`, async () => {
    const signals = [];
    const refresh = ({ signal }) => { signals.push(signal); return new Promise(() => {}); };
    const { asked, client } = api({ replies: [], tokens: [], refresh });
    const abort = new AbortController();
    const asking = client.listThreads({ signal: abort.signal });
    setImmediate(() => leave(abort));
    await assert.rejects(asking, { name: "UnavailableError", code });
    assert.deepEqual(signals.map(({ aborted }) => aborted), [true]);
    assert.deepEqual(asked, []);
  });
}

test("names are what the protocol allows, and no two are the same", () => {
  const made = new Set(Array.from({ length: 1000 }, () => newId("r-")));
  assert.equal(made.size, 1000);
  for (const name of made) assert.match(name, /^r-[0-9a-f]{24}$/);
});
