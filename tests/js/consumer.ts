/** A program that uses everything doorward.d.ts declares, as its README says. Each `@ts-expect-error` is a mistake that the types must not let pass. */

import {
  actionFor,
  ApiError,
  backoffMs,
  CommandError,
  connect,
  createApi,
  createSession,
  Cursor,
  DoorwardError,
  isRetryable,
  localStore,
  memoryStore,
  newId,
  readReason,
  RefusedError,
  RETRY,
  SIGN_IN,
  SignedOutError,
  STOP,
  UnavailableError,
} from "doorward";
import type { Action, Api, Clock, Connection, ConnectOptions, Envelope, Session, Standing, State, Thread, Token, TokenStore, User } from "doorward";

// ------------------------------------------------------------------------------------------------ what a close means

export function words(action: Action): string {
  switch (action) {
    case RETRY: return "try again";
    case SIGN_IN: return "sign in";
    case STOP: return "stop";
  }
}

export function untilRetry(close: CloseEvent): number | null {
  const { code, retryAfterMs } = readReason(close.reason);
  return actionFor(close.code, code) === "retry" ? backoffMs(0, Math.random(), { notBeforeMs: retryAfterMs ?? 0 }) : null;
}

// @ts-expect-error a close code is a number
actionFor("3000");

// ------------------------------------------------------------------------------------------------ the session

const own: TokenStore = { load: () => null, save: (tokens) => { tokens.refreshToken.trim(); }, clear() {}, watch: () => () => {} };
const clock: Clock = { now: Date.now, setTimeout: (callback, ms) => setTimeout(callback, ms), clearTimeout: (timer) => clearTimeout(timer as number) };
const session: Session = createSession({ baseUrl: "/chat", store: Math.random() < 0.5 ? localStore("mine") : memoryStore(), fetch, locks: navigator.locks, clock });
createSession();
createSession({ store: own, timeoutMs: 1_000, leewayMs: 1_000 }).dispose();

// @ts-expect-error a store needs all four
createSession({ store: { load: () => null } });

export async function signIn(): Promise<User | null> {
  await session.register({ email: "ada@example.com", password: "a long enough passphrase" });
  // @ts-expect-error nobody signs in by an address alone
  session.signIn({ email: "ada@example.com" });
  return session.signedIn() ? session.user() : session.signIn({ one_time_code: "code" });
}

export async function freshToken(signal: AbortSignal): Promise<Token> {
  const stale = session.getToken();
  // @ts-expect-error there may be none
  stale.token;
  return session.refresh({ stale: stale?.token ?? null, signal });
}

// ------------------------------------------------------------------------------------------------ the connection

export function shown(state: State): string {
  switch (state.name) {
    case "connecting": return `attempt ${state.attempt}`;
    case "open": return `${state.userId} by ${state.assurance}`;
    case "degraded": return `until ${state.graceUntil ?? state.expiresAt}`;
    case "waiting": return `${words(state.reason.action)} at ${new Date(state.retryAt).toISOString()}: ${state.reason.cause ?? state.reason.code}`;
    case "signed_out": return words(state.reason.action);
    case "stopped": return state.reason.code;
  }
}

const { getToken, refresh, watchToken } = session;
const options: ConnectOptions = {
  url: new URL("wss://chat.example.com/ws"),
  getToken,
  refresh,
  watchToken,
  onState: (state) => shown(state),
  onEvent: ({ thread_id, event, seq_from, seq }: Envelope) => [thread_id.length, event.type, seq_from, seq, isRetryable(event)],
  onNotice: ({ notice }) => notice.length,
  onResume: ({ threadId, resumed, activeRunId }: Standing) => [threadId, resumed, activeRunId],
};
const client: Connection = connect({ ...options, WebSocket, clock, random: Math.random, maxPending: 10 });

connect({ url: "/ws", getToken: () => "a token", refresh: async ({ stale, signal }) => `${stale} ${signal.aborted}` });
// @ts-expect-error nobody gets in without a token
connect({ url: "/ws" });
// @ts-expect-error a bound has its unit in its name
connect({ url: "/ws", getToken, connectTimeout: 5 });
// @ts-expect-error the state is the client's to change
client.state = { name: "connecting", attempt: 1 };

export async function ask(threadId: string): Promise<boolean> {
  const place = client.position(threadId);
  await client.subscribe(threadId, { ...place, prelude: true });
  const { runId, duplicate } = await client.startRun(threadId, "How is the auth service?", { runId: newId("r-"), timeoutMs: 1_000 });
  const stopped: boolean = await client.cancelRun(threadId, runId);
  const { ok } = await client.send({ type: "ping" }, { timeoutMs: 1_000 });
  await client.unsubscribe(threadId);
  client.retryNow();
  client.close();
  // @ts-expect-error a command says what it is
  client.send({ thread_id: threadId });
  return stopped && ok && duplicate && client.door?.degraded === true;
}

export function verdict(cursor: Cursor, envelope: Envelope): "apply" | "ignore" | "gap" {
  return new Cursor(cursor.epoch, cursor.seq).next(envelope);
}

// ------------------------------------------------------------------------------------------------ conversations, errors

const api: Api = createApi(session);

export async function titles(signal: AbortSignal): Promise<(string | null)[]> {
  const found: Thread[] = [];
  let cursor: string | null = null;
  do {
    const page: { threads: Thread[]; next_cursor: string | null } = await api.listThreads({ q: "auth", limit: 20, cursor, signal });
    found.push(...page.threads);
    cursor = page.next_cursor;
  } while (cursor !== null);
  const { thread_id } = await api.createThread({ title: "New" });
  await api.renameThread(thread_id, "Newer");
  const { messages } = await api.listMessages(thread_id, { limit: 5 });
  const { runs } = await api.listRuns(thread_id);
  const [grown] = await api.renderGrowing(["# growing"]);
  await api.render([...messages.map(({ message }) => String(message.content)), runs[0]?.error?.message ?? "", grown?.html ?? ""], { signal });
  await api.deleteThread(thread_id);
  return [...found, await api.getThread(thread_id)].map(({ title }) => title);
}

export function said(error: unknown): string {
  if (error instanceof SignedOutError) return "sign in";
  if (error instanceof UnavailableError) return `not before ${error.retryAfterMs ?? 0} ms`;
  if (error instanceof ApiError) return `${error.status} ${error.code}`;
  if (error instanceof RefusedError) return `${error.code} ${error.status?.toFixed()}`;
  if (error instanceof CommandError) return error.code;
  return error instanceof DoorwardError ? error.message : "not ours";
}

// @ts-expect-error what is not exported is not to be had
import type { Paging } from "doorward";
export type { Paging };
