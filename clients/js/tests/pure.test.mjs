import assert from "node:assert/strict";
import { test } from "node:test";
import { actionFor, backoffMs, connect, Cursor, isFinal, isRetryable, localStore, readReason } from "../doorward.js";

test("a reason is read in full", () => {
  assert.deepEqual(readReason("SERVICE_UNAVAILABLE;retry_after_ms=1840;id=d-7"), { code: "SERVICE_UNAVAILABLE", retryAfterMs: 1840, decisionId: "d-7" });
  assert.deepEqual(readReason("TOKEN_EXPIRED;id=d-8"), { code: "TOKEN_EXPIRED", retryAfterMs: null, decisionId: "d-8" });
});

for (const foreign of [undefined, "", "going away", "x;retry_after_ms=-4", ";;;", "CODE;retry_after_ms=soon"]) {
  test(`a foreign reason gives nulls: ${foreign}`, () => {
    assert.equal(readReason(foreign).retryAfterMs, null);
    assert.equal(readReason(foreign).decisionId, null);
  });
}

test("the word decides, then the close code, then: try again", () => {
  assert.equal(actionFor(1013, "TOKEN_REVOKED"), "sign_in");
  assert.equal(actionFor(3000), "sign_in");
  assert.equal(actionFor(4401), "sign_in");
  for (const code of [1008, 1009, 3003, 4403]) assert.equal(actionFor(code), "stop");
  for (const code of [1000, 1001, 1005, 1006, 1011, 1012, 1013, 3008, 4408, 4429, 4503, 4999]) assert.equal(actionFor(code), "retry");
  assert.equal(actionFor(4999, "A_WORD_OF_TOMORROW"), "retry");
});

test("full jitter: from nothing up to a ceiling that doubles to the cap", () => {
  assert.deepEqual([0, 1, 2, 3, 6, 7, 1000].map((failures) => backoffMs(failures, 1)), [500, 1000, 2000, 4000, 30_000, 30_000, 30_000]);
  assert.equal(backoffMs(5, 0), 0);
  assert.equal(backoffMs(2, 0.25), 500);
});

test("never before the server allows it, and later if the jitter says so", () => {
  assert.equal(backoffMs(0, 0.5, { notBeforeMs: 4000 }), 4000);
  assert.equal(backoffMs(6, 0.9, { notBeforeMs: 4000 }), 27_000);
  assert.equal(backoffMs(0, 0, { notBeforeMs: Number.MAX_SAFE_INTEGER }), 86_400_000);
});

const envelope = (seqFrom, seq = seqFrom, epoch = "e") => ({ epoch, seq_from: seqFrom, seq });

test("a cursor takes contiguous ranges, drops what it has, and sees what is missing", () => {
  const cursor = new Cursor("e", 4);
  assert.equal(cursor.next(envelope(5, 7)), "apply");
  assert.equal(cursor.next(envelope(7)), "ignore");
  assert.equal(cursor.next(envelope(9)), "gap");
  assert.equal(cursor.next(envelope(7, 9)), "gap", "half of a merged range is here already");
  assert.equal(cursor.next(envelope(8)), "apply");
  assert.equal(cursor.next(envelope(9, 9, "another epoch")), "gap");
});

test("after a snapshot or a prelude the place is the one that it names", () => {
  const cursor = new Cursor("e", 4);
  assert.equal(cursor.next({ synthetic: true, epoch: "f", after_seq: 9 }), "apply");
  assert.deepEqual([cursor.epoch, cursor.seq], ["f", 9]);
  assert.equal(cursor.next(envelope(11, 11, "f")), "gap");
  assert.equal(cursor.next(envelope(10, 11, "f")), "apply");
});

test("a failed run says whether to ask again", () => {
  assert.equal(isRetryable({ type: "RUN_ERROR", code: "interrupted", metadata: { retryable: true } }), true);
  for (const other of [{ retryable: false }, { retryable: "true" }, {}, undefined]) {
    assert.equal(isRetryable({ type: "RUN_ERROR", metadata: other }), false);
  }
  assert.equal(isRetryable({ type: "CUSTOM", metadata: { retryable: true } }), false);
  assert.equal(isRetryable(undefined), false);
});

test("a subscription that was refused is told from one that waits", () => {
  for (const code of ["NOT_FOUND", "TOO_MANY_SUBSCRIPTIONS", "TOO_MANY_THREADS", "BAD_REQUEST"]) assert.equal(isFinal({ code }), true);
  for (const code of ["UNAVAILABLE", "NO_REPLY", "CONNECTION_LOST", "NOT_CONNECTED"]) assert.equal(isFinal({ code }), false);
});

test("before a snapshot that is only announced there is no place to go on from", () => {
  const cursor = new Cursor("e", 4);
  assert.equal(cursor.next({ synthetic: true, epoch: "f", after_seq: null }), "apply");
  assert.equal(cursor.seq, null);
});

test("after a snapshot without a place the numbers may start anywhere", () => {
  const cursor = new Cursor("e", 4);
  assert.equal(cursor.next({ synthetic: true, epoch: "f" }), "apply");
  assert.equal(cursor.next(envelope(100, 100, "f")), "apply");
  assert.equal(cursor.next(envelope(102, 102, "f")), "gap");
});

test("a store passes over what is not its own", () => {
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value), removeItem: (key) => kept.delete(key) };
  const store = localStore("k", storage);
  for (const damaged of ["", "{", "null", "7", '{"refreshToken": 7}']) {
    kept.set("k", damaged);
    assert.equal(store.load(), null);
  }
  store.save({ refreshToken: "r", accessToken: "a", expiresAt: 1, user: null });
  assert.equal(store.load().refreshToken, "r");
  store.clear();
  assert.equal(kept.size, 0);
});

test("an address without a host is taken from the page, and from its base where it has one", async () => {
  const opened = async (url) => {
    let client;
    const address = await new Promise((resolve) => {
      class Socket {
        constructor(given) { resolve(given); }
        close() {}
      }
      client = connect({ url, getToken: () => "a", WebSocket: Socket });
    });
    client.close();
    return address;
  };
  try {
    globalThis.location = { href: "https://app.example/chat/#thread=1" };
    assert.equal(await opened("ws"), "wss://app.example/chat/ws");
    assert.equal(await opened("/ws"), "wss://app.example/ws");
    assert.equal(await opened("https://other.example/ws"), "wss://other.example/ws");
    globalThis.document = { baseURI: "https://app.example/base/" };
    assert.equal(await opened("ws"), "wss://app.example/base/ws");
  } finally {
    delete globalThis.location;
    delete globalThis.document;
  }
});
