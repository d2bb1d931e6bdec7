/** The chat of one person: the connection, the list of conversations, and the one that is shown. */

import { Absent } from "./absent.js";
import { Banner } from "./banner.js";
import { Composer } from "./composer.js";
import { dialogOpen, showShortcuts } from "./dialogs.js";
import { byId, Listeners, make, setText } from "./dom.js";
import { connect, createApi, isFinal, newId } from "./doorward.js";
import { Drawer } from "./drawer.js";
import { Earlier } from "./earlier.js";
import { Endings } from "./endings.js";
import { BASE } from "./place.js";
import { editInPlace } from "./rename.js";
import { Renderer } from "./rendering.js";
import { Scroller } from "./scroller.js";
import { isWriting, shortcut } from "./shortcuts.js";
import { Sidebar } from "./sidebar.js";
import { addressOf, UNTITLED } from "./thread-item.js";
import { mark } from "./timing.js";
import { Transcript } from "./transcript.js";

const SUGGESTIONS = [
  "How is the auth service?",
  "What did you decide in the last minutes?",
  "Why was my last decision made?",
  "Who is connected?",
];
const ADMIN_SUGGESTION = "Run a drill";
const ENDINGS_MS = 500; // how long a conversation waits to be shown for how its runs ended
const GONE = "This conversation is not there any more.";

/** The conversation that the address names, or null. */
function addressed() {
  return /^#thread=([\w.:-]{1,128})$/.exec(location.hash)?.[1] ?? null;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Chat {
  #api;
  #session;
  #user;
  #onSignedOut;
  #client = null;
  #renderer;
  #absent;
  #banner;
  #composer;
  #drawer;
  #earlier;
  #scroller;
  #sidebar;
  #transcript;
  #title = byId("title");
  #threadId = null;
  #known = true;
  #fresh = false;
  #awaited = null;
  #held = null;
  #wasAway = false;
  #listeners = new Listeners();

  constructor({ session, user, config, onSignedOut }) {
    const api = this.#api = createApi({ baseUrl: BASE, ...session });
    this.#session = session;
    this.#user = user;
    this.#onSignedOut = onSignedOut;
    this.#renderer = new Renderer(api);
    this.#absent = new Absent(() => this.#subscribe());
    this.#banner = new Banner((state) => this.#bannerAction(state));
    this.#composer = new Composer({
      onAsk: (text) => this.#ask(text),
      onStop: () => this.#stop(),
      lastShown: () => this.#transcript.lastQuestion,
    });
    this.#drawer = new Drawer();
    this.#scroller = new Scroller({ frame: byId("scroll"), content: byId("transcript"), jump: byId("jump") });
    this.#sidebar = new Sidebar({ api, onGone: (threadId, how) => this.#gone(threadId, how), onTitle: () => this.#showTitle() });
    this.#transcript = new Transcript({
      target: byId("transcript"),
      renderer: this.#renderer,
      announce: (words) => setText(byId("live"), words),
      onAgain: (question) => { if (this.#transcript.activeRun === null) this.#ask(question); },
    });
    this.#earlier = new Earlier({
      api,
      onMessages: (messages, runs) => {
        this.#transcript.earlier(messages);
        this.#transcript.ended(runs);
      },
      keepPlace: (change) => this.#scroller.keepPlace(change),
    });
    setText(byId("who"), user?.email ?? "");
    byId("who").title = user?.email ?? "";
    this.configure(config);
    this.#listen();
    this.#connect();
    this.#show(addressed());
  }

  get userId() {
    return this.#user?.user_id ?? null;
  }

  /** Where what is shown is found. */
  get address() {
    return this.#threadId === null ? location.pathname : addressOf(this.#threadId);
  }

  /** What the server says about itself: see `GET /api/config`. */
  configure({ fault_hint: faultHint, max_message_bytes: maxBytes, drill }) {
    this.#hint(typeof faultHint === "string" ? faultHint : "");
    if (Number.isInteger(maxBytes)) this.#composer.maxBytes = maxBytes;
    const isAdmin = this.#user?.permissions?.includes?.("admin") === true;
    this.#composer.suggest(drill === true && isAdmin ? [...SUGGESTIONS, ADMIN_SUGGESTION] : SUGGESTIONS);
  }

  /** How to break the auth service on purpose, where the server names the command for it. */
  #hint(command) {
    const node = byId("fault-hint");
    node.hidden = !command;
    if (!command) return;
    const thaw = command.replace("-STOP", "-CONT");
    node.replaceChildren("Freeze the auth service with ", make("code", "", command), " and open a new tab: it gets in, or is told why, at once.");
    if (thaw !== command) node.append(" Thaw it with ", make("code", "", thaw), ".");
  }

  /** Something that is not about the connection, for as long as the person stays where they are. */
  say(words) {
    this.#banner.note(words);
  }

  dispose() {
    this.#client?.close();
    this.#client = null;
    this.#listeners.dispose();
    this.#transcript.clear();
    for (const part of [this.#renderer, this.#absent, this.#banner, this.#composer, this.#drawer, this.#earlier, this.#scroller, this.#sidebar]) part.dispose();
  }

  // ---------------------------------------------------------------------------------------------- connection

  #connect() {
    const session = this.#session;
    this.#client = connect({
      url: `${BASE}/ws`,
      getToken: session.getToken,
      refresh: session.refresh,
      watchToken: session.watchToken,
      onState: (state) => this.#stateChanged(state),
      onEvent: (envelope) => this.#event(envelope),
      onNotice: (notice) => this.#notice(notice),
      onResume: (standing) => this.#resumed(standing),
    });
  }

  #stateChanged(state) {
    if (state.name === "signed_out") {
      this.#onSignedOut(state.reason);
      return;
    }
    this.#banner.stateChanged(state);
    const present = state.name === "open" || state.name === "degraded";
    if (state.name === "waiting" && !this.#wasAway) mark("cut");
    if (state.name === "connecting") mark("dialling");
    if (present && this.#wasAway) {
      this.#sidebar.refresh();
      if (this.#absent.refusal !== null) this.#subscribe();
    }
    this.#wasAway = !present && (this.#wasAway || state.name === "waiting");
    this.#arrange();
  }

  #bannerAction({ name, reason }) {
    if (name === "stopped") {
      this.#client.close();
      this.#connect();
      if (this.#threadId !== null) this.#subscribe();
    } else if (reason?.action === "sign_in") {
      this.#session.signOut();
    } else {
      this.#client.retryNow();
    }
  }

  #notice(notice) {
    if (notice.notice === "server.draining") this.#banner.draining();
    else if (notice.notice === "thread.changed") this.#sidebar.changed(notice.thread);
    else if (notice.notice === "thread.deleted") this.#sidebar.deleted(notice.thread_id);
    else if (notice.notice === "thread.lost" && notice.thread_id === this.#threadId) this.#begin(notice.code);
    else if (notice.notice === "thread.waiting" && notice.thread_id === this.#threadId) this.#banner.stalled(true);
  }

  #resumed({ threadId, activeRunId }) {
    if (threadId !== this.#threadId) return;
    this.#awaited = activeRunId;
    this.#fresh = false;
    this.#absent.refusal = null;
    this.#banner.stalled(false);
    this.#arrange();
  }

  // ---------------------------------------------------------------------------------------------- the conversation shown

  /** Show a conversation, or with null a page for a new one; `instead`: the browser's *back* does not lead to what was shown. */
  #show(threadId, { fresh = false, instead = false } = {}) {
    if (this.#threadId !== null) this.#client.unsubscribe(this.#threadId).catch(() => {});
    this.#threadId = threadId;
    this.#fresh = fresh;
    this.#known = threadId === null || fresh;
    this.#held = this.#awaited = this.#absent.refusal = null;
    this.#transcript.clear();
    this.#banner.stalled(false);
    this.#banner.note(null);
    this.#earlier.end();
    this.#sidebar.select(threadId, { fresh });
    if (addressed() !== threadId) {
      if (instead) history.replaceState(null, "", this.address);
      else history.pushState(null, "", this.address);
    }
    this.#arrange();
    this.#scroller.toEnd();
    if (threadId !== null && !fresh) this.#subscribe();
  }

  /**
   * What is seen of it comes as events; a line that breaks, or a server that cannot just now, is the client's to mend. It may
   * have been deleted, or be nobody's: then it is not made by looking at it. Where a first question waits here, that will make it.
   */
  async #subscribe() {
    const threadId = this.#threadId;
    try {
      await this.#client.subscribe(threadId, { create: false });
    } catch (error) {
      if (error.code !== "NOT_FOUND") {
        if (threadId === this.#threadId && isFinal(error)) this.#refused(error);
      } else if (!this.#fresh) {
        this.#gone(threadId);
      }
    }
  }

  #refused(error) {
    this.#known = false;
    this.#absent.refusal = error;
    this.#arrange();
  }

  /** The client cannot go on where it was: from the beginning, unless it is gone. */
  #begin(code) {
    if (code === "NOT_FOUND") {
      this.#gone(this.#threadId);
    } else {
      this.#held = null;
      this.#banner.stalled(false);
      this.#transcript.clear();
      this.#subscribe();
    }
  }

  #gone(threadId, { here = false } = {}) {
    if (threadId !== this.#threadId) return;
    this.#threadId = null; // there is nothing left to unsubscribe from
    this.#show(null, { instead: true });
    if (here) setText(byId("live"), GONE); // who deleted it sees that it is gone
    else this.say(GONE);
  }

  #event(envelope) {
    if (envelope.thread_id !== this.#threadId) return;
    if (envelope.event.type === "MESSAGES_SNAPSHOT") this.#snapshot(envelope);
    else if (this.#held !== null) this.#held.push(envelope);
    else this.#apply(envelope);
  }

  /** Messages do not say how their runs ended. That is waited for a moment, so that no words come in between later. */
  async #snapshot(envelope) {
    const held = this.#held = [];
    const messages = envelope.event.messages ?? [];
    const endings = new Endings({ api: this.#api, threadId: this.#threadId });
    const ended = endings.of(messages);
    await Promise.race([ended, pause(ENDINGS_MS)]);
    if (held !== this.#held) return; // another one is shown, or this one anew
    this.#held = null;
    this.#known = messages.length > 0 || !this.#awaited;
    for (const each of [envelope, ...held]) this.#apply(each);
    this.#earlier.begin(this.#threadId, messages, endings);
    this.#transcript.ended(await ended);
  }

  #apply(envelope) {
    this.#transcript.apply(envelope);
    this.#arrange();
  }

  #arrange() {
    byId("welcome").hidden = !this.#transcript.empty || !this.#known;
    this.#absent.arrange({ away: !this.#known && this.#wasAway });
    byId("chips").hidden = !this.#transcript.empty || !this.#known;
    this.#composer.busy = this.#transcript.activeRun !== null;
    this.#showTitle();
  }

  #showTitle() {
    const thread = this.#sidebar.current;
    const title = thread && (thread.title || UNTITLED);
    this.#title.hidden = title === null;
    setText(this.#title, title ?? "");
    document.title = title === null ? "Doorward" : `${title} · Doorward`;
  }

  #rename() {
    const thread = this.#sidebar.current;
    if (thread === null || !this.#title.isConnected) return;
    editInPlace(this.#title, {
      value: thread.title ?? "",
      label: "Title of the conversation",
      save: (title) => this.#sidebar.rename(thread, title),
      done: ({ focused }) => { if (focused) this.#title.focus(); },
    });
  }

  #newThread() {
    if (this.#drawer.covers) this.#drawer.close();
    this.#show(null);
    this.#composer.focus();
  }

  // ---------------------------------------------------------------------------------------------- asking

  #ask(question) {
    const runId = newId("r-");
    if (this.#threadId === null) this.#show(newId("t-"), { fresh: true });
    this.#banner.note(null);
    this.#transcript.question(runId, question);
    this.#arrange();
    this.#scroller.toEnd();
    if (this.#absent.refusal !== null) this.#subscribe();
    this.#start({ runId, question });
  }

  /**
   * Safe to repeat: the same run starts once, however often it is asked for. A conversation is made by the first question that
   * arrives, and not anew by one that comes when it has been deleted: that goes back to where it was written.
   */
  async #start({ runId, question }) {
    const threadId = this.#threadId;
    const create = this.#fresh;
    const following = create ? this.#client.subscribe(threadId).then(() => null, (error) => error) : null;
    try {
      await this.#client.startRun(threadId, question, { runId, create });
      if (threadId === this.#threadId) this.#fresh = false;
      const refusal = await following;
      if (refusal !== null && isFinal(refusal) && threadId === this.#threadId) this.#subscribe();
    } catch (error) {
      if (error.code === "NOT_FOUND" && [threadId, null].includes(this.#threadId)) {
        this.#gone(threadId);
        this.#composer.giveBack(question);
      } else if (threadId === this.#threadId) {
        this.#transcript.unsent(runId, unsentWords(error), () => this.#start({ runId, question }));
      }
    }
  }

  #stop() {
    const runId = this.#transcript.activeRun;
    if (runId !== null) this.#client.cancelRun(this.#threadId, runId).catch(() => {});
  }

  // ---------------------------------------------------------------------------------------------- the page

  #listen() {
    const on = (target, type, listener) => this.#listeners.on(target, type, listener);
    for (const id of ["new-thread", "bar-new"]) on(byId(id), "click", () => this.#newThread());
    on(this.#title, "click", () => this.#rename());
    on(byId("sign-out"), "click", () => this.#session.signOut());
    on(byId("help"), "click", () => showShortcuts());
    on(byId("skip"), "click", () => this.#composer.focus());
    on(byId("threads"), "click", (event) => this.#picked(event));
    on(globalThis, "hashchange", () => { if (addressed() !== this.#threadId) this.#show(addressed()); });
    on(document, "keydown", (event) => this.#key(event));
  }

  /** Who picks a conversation wants to read it, and to write. */
  #picked(event) {
    if (!event.target.closest("a") || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (this.#drawer.covers) this.#drawer.close();
    if (event.detail > 0) this.#composer.focus();
  }

  #key(event) {
    if (dialogOpen() || event.defaultPrevented) return;
    const { key, ctrlKey, metaKey, shiftKey, altKey, target } = event;
    const asked = shortcut({ key, ctrlKey, metaKey, shiftKey, altKey, writing: isWriting(target) });
    if (asked === null) return;
    event.preventDefault();
    switch (asked) {
      case "search": this.#drawer.open(); this.#sidebar.focusSearch(); break;
      case "new": this.#newThread(); break;
      case "rename": if (!this.#sidebar.renameFocused()) this.#rename(); break;
      case "message": this.#composer.focus(); break;
      case "help": showShortcuts(); break;
      default: if (this.#drawer.covers) this.#drawer.close(); else this.#stop();
    }
  }
}

function unsentWords(error) {
  switch (error.code) {
    case "NOT_CONNECTED": return "Not sent: there is no connection.";
    case "MESSAGE_TOO_LONG": return "Not sent: it is too long.";
    case "RUN_ACTIVE": return "Not sent: the last question is still being answered.";
    case "CONNECTION_LOST":
    case "NO_REPLY": return "The server did not confirm this.";
    default: return `Not sent: ${error.message}.`;
  }
}
