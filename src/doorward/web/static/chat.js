/** The conversation view: one thread of one person over one connection. */

import { connect } from "./doorward.js";
import { describe } from "./status.js";
import { Transcript } from "./transcript.js";

const THREAD_KEY = "doorward.thread";
const RECOVERED_MS = 4_000;
const SUGGESTIONS = [
  "How is the auth service?",
  "What did you decide in the last minutes?",
  "Why was my last decision made?",
  "Who is connected?",
];

const byId = (id) => document.getElementById(id);

/** A random name; `crypto.randomUUID` is missing on plain http beyond this machine. */
function randomName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The thread of this tab: it outlives a reload, and belongs to one person. */
function threadOf(userId, { fresh = false } = {}) {
  const [owner, held] = (sessionStorage.getItem(THREAD_KEY) ?? "").split("\n");
  if (!fresh && owner === userId && held) return held;
  const made = `t-${randomName()}`;
  sessionStorage.setItem(THREAD_KEY, `${userId}\n${made}`);
  return made;
}

export class Chat {
  #session;
  #user;
  #onSignedOut;
  #client = null;
  #transcript;
  #threadId;
  #activeRun = null;
  #trouble = null;
  #draining = false;
  #wasAway = false;
  #recoveredUntil = 0;
  #ticker = null;
  #undo = [];

  constructor({ session, user, hint, onSignedOut }) {
    this.#session = session;
    this.#user = user;
    this.#onSignedOut = onSignedOut;
    this.#threadId = threadOf(user?.user_id ?? "");
    this.#transcript = new Transcript(byId("transcript"), (words) => { byId("live").textContent = words; });
    byId("who").textContent = user?.email ?? "";
    this.#welcome(hint);
    this.#listen();
    this.#connect();
  }

  get userId() {
    return this.#user?.user_id ?? null;
  }

  /** How to break the auth service on purpose, where the server names the command for it. */
  hint(command) {
    const node = byId("fault-hint");
    node.hidden = !command;
    if (!command) return;
    const thaw = command.replace("-STOP", "-CONT");
    node.replaceChildren("Freeze the auth service with ", codeNode(command), " and open a new tab: it gets in, or is told why, at once.");
    if (thaw !== command) node.append(" Thaw it with ", codeNode(thaw), ".");
  }

  dispose() {
    this.#client?.close();
    this.#client = null;
    clearInterval(this.#ticker);
    for (const undo of this.#undo.splice(0)) undo();
    this.#transcript.clear();
    byId("banner").hidden = true;
  }

  // ---------------------------------------------------------------------------------------------- connection

  #connect() {
    const session = this.#session;
    this.#client = connect({
      url: "/ws",
      getToken: session.getToken,
      refresh: session.refresh,
      watchToken: session.watchToken,
      onState: (state) => this.#stateChanged(state),
      onEvent: (envelope) => this.#event(envelope),
      onNotice: (notice) => this.#notice(notice),
    });
    this.#subscribe();
  }

  #subscribe() {
    this.#client.subscribe(this.#threadId).catch(() => {}); // kept up by the client; what matters is shown by its state
  }

  #stateChanged(state) {
    if (state.name === "signed_out") {
      this.#onSignedOut(state.reason);
      return;
    }
    if (state.name === "waiting") {
      this.#trouble = state.reason;
      this.#draining = false;
    }
    if (state.name === "open") {
      if (this.#wasAway) this.#recoveredUntil = Date.now() + RECOVERED_MS;
      this.#trouble = null;
    }
    this.#wasAway = state.name !== "open" && (this.#wasAway || state.name === "degraded" || state.name === "waiting");
    this.#showState();
  }

  #showState() {
    const now = Date.now();
    const state = this.#client?.state ?? { name: "connecting", attempt: 1 };
    const shown = describe(state, { now, previous: this.#trouble, draining: this.#draining });
    const recovered = state.name === "open" && shown.banner === null && now < this.#recoveredUntil;
    byId("pill").dataset.tone = shown.tone;
    setText(byId("pill-text"), shown.pill);
    this.#showBanner(recovered ? { tone: "ok", banner: "All is normal again.", action: null } : shown);
    this.#tick(state.name === "waiting" || recovered);
  }

  #showBanner({ tone, banner, action }) {
    const node = byId("banner");
    node.hidden = banner === null;
    node.dataset.tone = tone;
    setText(byId("banner-text"), banner ?? "");
    byId("banner-action").hidden = action === null;
    setText(byId("banner-action"), action ?? "");
  }

  #tick(needed) {
    if (needed) this.#ticker ??= setInterval(() => this.#showState(), 250);
    else {
      clearInterval(this.#ticker);
      this.#ticker = null;
    }
  }

  #notice(notice) {
    if (notice.notice === "server.draining") {
      this.#draining = true;
      this.#showState();
    } else if (notice.notice === "thread.lost") {
      this.#transcript.clear();
      this.#subscribe();
    }
  }

  #bannerAction() {
    const { name, reason } = this.#client.state;
    if (name === "stopped") {
      this.#client.close();
      this.#connect();
    } else if (reason?.action === "sign_in") {
      this.#signOut();
    } else {
      this.#client.retryNow();
    }
  }

  // ---------------------------------------------------------------------------------------------- conversation

  #event(envelope) {
    const following = this.#atEnd();
    this.#activeRun = this.#transcript.apply(envelope);
    this.#arrange();
    if (following) this.#toEnd();
    else byId("jump").hidden = false;
  }

  #arrange() {
    byId("welcome").hidden = !this.#transcript.empty;
    byId("stop").hidden = this.#activeRun === null;
    byId("send").hidden = this.#activeRun !== null;
  }

  #ask(text) {
    const question = text.trim();
    if (question === "" || this.#activeRun !== null) return;
    const runId = `r-${randomName()}`;
    this.#transcript.question(runId, question);
    this.#arrange();
    this.#toEnd();
    this.#start(runId, question);
  }

  /** Safe to repeat: the same run starts once, however often it is asked for. */
  async #start(runId, question) {
    try {
      await this.#client.send({ type: "run.start", thread_id: this.#threadId, run_id: runId, message: question });
    } catch (error) {
      this.#transcript.unsent(runId, unsentWords(error), () => this.#start(runId, question));
    }
  }

  #stop() {
    if (this.#activeRun === null) return;
    this.#client.send({ type: "run.cancel", thread_id: this.#threadId, run_id: this.#activeRun }).catch(() => {});
  }

  #newThread() {
    const old = this.#threadId;
    this.#client.unsubscribe(old).catch(() => {});
    this.#threadId = threadOf(this.#user?.user_id ?? "", { fresh: true });
    this.#transcript.clear();
    this.#activeRun = null;
    this.#arrange();
    this.#subscribe();
    byId("question").focus();
  }

  async #signOut() {
    await this.#session.signOut();
  }

  // ---------------------------------------------------------------------------------------------- the page

  #welcome(hint) {
    this.hint(hint);
    byId("chips").replaceChildren(...SUGGESTIONS.map((words) => {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.textContent = words;
      chip.addEventListener("click", () => this.#ask(words));
      return chip;
    }));
    this.#arrange();
  }

  #on(id, type, listener) {
    byId(id).addEventListener(type, listener);
    this.#undo.push(() => byId(id).removeEventListener(type, listener));
  }

  #listen() {
    this.#on("ask", "submit", (event) => { event.preventDefault(); this.#submit(); });
    this.#on("question", "keydown", (event) => this.#key(event));
    this.#on("question", "input", () => fit(byId("question")));
    this.#on("stop", "click", () => this.#stop());
    this.#on("chat", "keydown", (event) => { if (event.key === "Escape") this.#stop(); });
    this.#on("new-thread", "click", () => this.#newThread());
    this.#on("sign-out", "click", () => this.#signOut());
    this.#on("banner-action", "click", () => this.#bannerAction());
    this.#on("jump", "click", () => this.#toEnd());
    this.#on("scroll", "scroll", () => { if (this.#atEnd()) byId("jump").hidden = true; });
  }

  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#submit();
  }

  #submit() {
    const box = byId("question");
    if (this.#activeRun !== null) return;
    this.#ask(box.value);
    box.value = "";
    fit(box);
  }

  #atEnd() {
    const { scrollTop, scrollHeight, clientHeight } = byId("scroll");
    return scrollHeight - scrollTop - clientHeight < 80;
  }

  #toEnd() {
    requestAnimationFrame(() => {
      byId("scroll").scrollTop = byId("scroll").scrollHeight;
      byId("jump").hidden = true;
    });
  }
}

function unsentWords(error) {
  switch (error.code) {
    case "NOT_CONNECTED": return "Not sent: there is no connection.";
    case "RUN_ACTIVE": return "Not sent: the last question is still being answered.";
    case "CONNECTION_LOST":
    case "NO_REPLY": return "The server did not confirm this.";
    default: return `Not sent: ${error.message}.`;
  }
}

/** Set a text only if it changes, so that a screen reader is not told the same thing again. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function codeNode(text) {
  const node = document.createElement("code");
  node.textContent = text;
  return node;
}

function fit(box) {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}
