/** The sign-in view: email and password, a one-time link, and a new account where that is on. */

import { RefusedError } from "./doorward.js";

const byId = (id) => document.getElementById(id);

const REFUSALS = new Map([
  ["invalid_credentials", "Email or password is not right."],
  ["invalid_one_time_code", "This sign-in link was used already, or is too old. Please sign in with email and password."],
  ["email_taken", "There is an account with this email already. Please sign in."],
]);

const SILENT = "The auth service is not answering. Nothing is wrong with what you entered. Please try again in a moment.";
const OFFLINE = "This device is offline. Nothing is wrong with what you entered. Please try again when it is back.";
const UNHEARD = new Set(["UNREACHABLE", "TIMEOUT"]);
const NO_ACCOUNT = "This account could not be made. Please check the email, and take a password of at least 8 characters.";
const NO_ACCOUNTS = "Accounts cannot be made here. Please ask whoever runs this chat for one.";
const NO_SIGN_IN = "Nobody can sign in at this address. Nothing is wrong with what you entered.";
const LONGEST_DETAIL = 200;

const UNREADABLE = "The auth service cannot read this. Please check both email and password.";
const TOO_LONG = "This is longer than the auth service takes. Please check both email and password.";
const UNREADABLE_LINK = "The auth service cannot read this sign-in link. Please open it again, whole, or sign in with email and password.";

/** Whether the auth service looked at the password or the link, and does not accept it. */
function isWrong({ code, status }) {
  return status === 401 || code === "invalid_credentials" || code === "invalid_one_time_code";
}

/** What the auth service itself says is wrong with what was entered, as a sentence, or null. */
function sentence({ code, detail }) {
  if (code !== "invalid_request" || !detail || detail.length > LONGEST_DETAIL) return null;
  return `${detail[0].toUpperCase()}${detail.slice(1)}${/[.!?]$/.test(detail) ? "" : "."}`;
}

/** Why a link did not sign in somebody who is signed in already, and stays so. */
export function linkWords(error) {
  const why = isWrong(error) ? "was used already, or is too old." : "could not be used just now. Please open it again.";
  return `This sign-in link ${why} You are still signed in.`;
}

/** Why signing in did not work, in plain words. */
export function words(error, { link = false, register = false } = {}) {
  if (error.code === "OVERLOADED") return "Too many people are signing in just now. Nothing is wrong with what you entered. Please try again in a moment.";
  if (error.code === "too_many_attempts" || error.code === "RATE_LIMITED") {
    const seconds = Math.ceil((error.retryAfterMs ?? 30_000) / 1000);
    return `Too many attempts. Please try again in ${seconds} s.`;
  }
  if (UNHEARD.has(error.code) && navigator.onLine === false) return OFFLINE;
  if (!(error instanceof RefusedError)) return SILENT;
  if (error.code === "NOT_FOUND") return register ? NO_ACCOUNTS : NO_SIGN_IN;
  if (link) return isWrong(error) ? REFUSALS.get("invalid_one_time_code") : UNREADABLE_LINK;
  if (error.status === 413) return TOO_LONG;
  if (register) return REFUSALS.get(error.code) ?? sentence(error) ?? NO_ACCOUNT;
  return REFUSALS.get(isWrong(error) ? "invalid_credentials" : error.code) ?? UNREADABLE;
}

export class SignIn {
  #session;
  #onSignedIn;
  #registering = false;
  #code = null;

  constructor({ session, onSignedIn }) {
    this.#session = session;
    this.#onSignedIn = onSignedIn;
    byId("signin-form").addEventListener("submit", (event) => { event.preventDefault(); this.#submit(); });
    byId("register-toggle").addEventListener("click", () => this.#setRegistering(!this.#registering));
    byId("link-retry").addEventListener("click", () => this.follow(this.#code));
  }

  /** Show why one has to sign in; empty for no reason. */
  show(message = "") {
    byId("signin-message").textContent = message;
    byId("password").value = "";
    byId(byId("email").value ? "password" : "email").focus();
  }

  allowRegister(allowed) {
    byId("register-line").hidden = !allowed;
    if (!allowed) this.#setRegistering(false);
  }

  /** Exchange the code of a one-time link. */
  async follow(code) {
    this.#code = code;
    byId("link-retry").hidden = true;
    await this.#enter(() => this.#session.signIn({ one_time_code: code }), { link: true });
  }

  async #submit() {
    const email = byId("email").value.trim();
    const password = byId("password").value;
    if (!email || !password) {
      byId("signin-message").textContent = "Please enter both email and password.";
      byId(email ? "password" : "email").focus();
      return;
    }
    const register = this.#registering;
    await this.#enter(() => (register ? this.#session.register({ email, password }) : this.#session.signIn({ email, password })), { register });
  }

  async #enter(ask, kind) {
    const button = byId("signin-submit");
    if (button.disabled) return;
    button.disabled = true;
    button.textContent = kind.register ? "Creating your account…" : "Signing you in…";
    byId("signin-message").textContent = kind.link ? "Signing you in…" : "";
    try {
      await ask();
      this.#code = null;
      byId("signin-message").textContent = "";
      byId("signin-form").reset();
      this.#onSignedIn();
    } catch (error) {
      byId("signin-message").textContent = words(error, kind);
      byId("link-retry").hidden = !kind.link || isWrong(error);
    } finally {
      button.disabled = false;
      this.#label();
    }
  }

  #label() {
    byId("signin-submit").textContent = this.#registering ? "Create account" : "Sign in";
  }

  #setRegistering(registering) {
    this.#registering = registering;
    this.#label();
    byId("register-question").textContent = registering ? "Have an account?" : "No account yet?";
    byId("register-toggle").textContent = registering ? "Sign in" : "Create one";
    byId("password").autocomplete = registering ? "new-password" : "current-password";
    byId("signin-message").textContent = "";
  }
}
