/** doorward.d.ts says what doorward.js has: no more, no less. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as doorward from "../doorward.js";

const declarations = readFileSync(new URL("../doorward.d.ts", import.meta.url), "utf8");

/** The members of `interface <name>`, without those of the interfaces it extends. */
function membersOf(name) {
  const body = new RegExp(`^(?:export )?interface ${name}(?: extends \\w+)? \\{\\n([^]*?)^\\}`, "m").exec(declarations)[1];
  return [...body.matchAll(/^ {2}(?:readonly )?(\w+)\??[:(<]/gm)].map((match) => match[1]).sort();
}

/** Everything public of an instance: its own fields, and what its class has. */
function publicOf(value) {
  const inherited = Object.getPrototypeOf(value) === Object.prototype ? [] : Object.getOwnPropertyNames(Object.getPrototypeOf(value));
  return [...Object.keys(value), ...inherited.filter((name) => name !== "constructor")].sort();
}

test("every export is declared, and everything declared is exported", () => {
  const declared = [...declarations.matchAll(/^export declare (?:const|function|class) (\w+)/gm)].map((match) => match[1]);
  assert.deepEqual([...declared].sort(), Object.keys(doorward).sort());
});

test("a session has what its type says", () => {
  assert.deepEqual(publicOf(doorward.createSession({ fetch: () => {} })), membersOf("Session"));
});

test("a connection has what its type says", () => {
  const connection = doorward.connect({ url: "ws://127.0.0.1:9/", getToken: () => null, WebSocket: class {} });
  connection.close();
  assert.deepEqual(publicOf(connection), membersOf("Connection"));
});

test("the API has what its type says", () => {
  assert.deepEqual(publicOf(doorward.createApi({ getToken: () => null, fetch: () => {} })), membersOf("Api"));
});

test("a store has what its type says", () => {
  assert.deepEqual(publicOf(doorward.memoryStore()), membersOf("TokenStore"));
  assert.deepEqual(publicOf(doorward.localStore("k", {})), membersOf("TokenStore"));
});
