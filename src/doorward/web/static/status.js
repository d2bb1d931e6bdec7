/** The state of the connection in plain words. Pure: the time is an argument. */

const ENDED = new Map([
  ["TOKEN_REVOKED", "your session was ended, here or on another device"],
  ["TOKEN_REJECTED", "the auth service no longer accepts this session"],
  ["TOKEN_EXPIRED", "your session has run out"],
  ["SIGNED_OUT", "your session has ended, here or in another tab"],
]);

const STOPPED = new Map([
  ["FORBIDDEN", "You are signed in, but you are not permitted to use this chat."],
  ["MESSAGE_TOO_BIG", "The last message was too long for the server, so it closed the connection."],
  ["BAD_CREDENTIAL_FORMAT", "The server could not read what this page sent. Reloading may help."],
]);

const TROUBLE = new Map([
  ["OVERLOADED", "The server is busy just now. You are still signed in."],
  ["RATE_LIMITED", "Too many connections came from your address. You are still signed in."],
  ["RESTARTING", "The server is restarting. You are still signed in."],
  ["AUTH_TIMEOUT", "Letting you in took too long. You are still signed in."],
  ["INTERNAL", "Something broke on the server. You are still signed in."],
  ["OFFLINE", "This device is offline. You are still signed in."],
]);

const AUTH_SILENT = "The auth service is not answering. You are still signed in.";
const STALLED = "The server cannot go on with this conversation just now. Trying again.";
const UNREACHABLE = "The server cannot be reached. You are still signed in.";

/** Why the connection is away, in one or two sentences. */
export function trouble(reason) {
  if (reason.action === "sign_in") return `The server does not accept your sign-in yet (${reason.code}).`;
  if (reason.code === "SERVICE_UNAVAILABLE") {
    return reason.cause === "config" ? "The auth service refuses the chat server itself, not you. You are still signed in." : AUTH_SILENT;
  }
  if (reason.code === "REFRESH_UNAVAILABLE") {
    return reason.cause === "UNREACHABLE" || reason.cause === "TIMEOUT" ? UNREACHABLE : AUTH_SILENT;
  }
  return TROUBLE.get(reason.code) ?? UNREACHABLE;
}

/** What to tell somebody who has to sign in again; empty where they asked for it themselves. */
export function signedOutMessage(reason) {
  return `You were signed out because ${ENDED.get(reason?.code) ?? "your session has ended"}.`;
}

function countdown(retryAt, now) {
  const seconds = Math.ceil((retryAt - now) / 1000);
  return seconds > 0 ? `Retrying in ${seconds} s` : "Retrying now";
}

function provisional(state) {
  if (state.graceUntil) {
    const until = new Date(state.graceUntil * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    return `Your sign-in has run out while the auth service is not answering. You may stay until ${until}.`;
  }
  return "Signed in provisionally while the auth service is not answering.";
}

/**
 * What the page shows: `pill` is a few words, `banner` sentences or null, `action` a button or null.
 *
 * `previous` is the reason of the wait that this attempt ends, so that the words stay while it is tried. `stalled`: there is
 * a connection, but the conversation that is shown waits for the server.
 */
export function describe(state, { now, previous = null, draining = false, stalled = false } = {}) {
  switch (state.name) {
    case "open":
      if (draining) return { tone: "warn", pill: "Restarting", banner: "The server is restarting. You will be reconnected.", action: null };
      return { tone: stalled ? "warn" : "ok", pill: "Connected", banner: stalled ? STALLED : null, action: null };
    case "degraded":
      return { tone: "warn", pill: "Provisional", banner: stalled ? STALLED : provisional(state), action: null };
    case "waiting":
      return {
        tone: state.reason.action === "sign_in" ? "bad" : "warn",
        pill: state.reason.code === "OFFLINE" ? "Offline" : "Reconnecting",
        banner: `${trouble(state.reason)} ${countdown(state.retryAt, now)}.`,
        action: state.reason.action === "sign_in" ? "Sign in again" : "Retry now",
      };
    case "stopped":
      return { tone: "bad", pill: "Disconnected", banner: STOPPED.get(state.reason.code) ?? "The connection has ended.", action: "Reconnect" };
    case "signed_out":
      return { tone: "bad", pill: "Signed out", banner: null, action: null };
    default:
      if (previous) return { tone: "warn", pill: "Reconnecting", banner: `${trouble(previous)} Trying now.`, action: null };
      return { tone: "busy", pill: "Connecting", banner: null, action: null };
  }
}
