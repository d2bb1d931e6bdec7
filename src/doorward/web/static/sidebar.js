/** The list of conversations: newest first, searched on the server, kept up by notices. */

import { byId, Listeners, setText } from "./dom.js";
import { confirmDelete } from "./dialogs.js";
import { ApiError, SignedOutError } from "./doorward.js";
import { ThreadItem, UNTITLED } from "./thread-item.js";

const PAGE = 40;
const SEARCH_AFTER_MS = 200;

export class Sidebar {
  #api;
  #onGone;
  #onTitle;
  #items = new Map();
  #selected = null;
  #current = null;
  #cursor = null;
  #query = "";
  #asking = null;
  #typing = null;
  #deleting = new Set();
  #listeners = new Listeners();

  /**
   * `onGone(threadId, {here})` where a conversation was deleted, `here` in this tab; `onTitle()` where something new is known
   * of the one that is shown.
   */
  constructor({ api, onGone, onTitle }) {
    this.#api = api;
    this.#onGone = onGone;
    this.#onTitle = onTitle;
    byId("search").value = "";
    this.#listeners.on(byId("search"), "input", () => this.#searchSoon());
    this.#listeners.on(byId("search"), "keydown", (event) => this.#searchKey(event));
    this.#listeners.on(byId("threads"), "keydown", (event) => this.#listKey(event));
    this.#listeners.on(byId("more"), "click", () => this.#load({ more: true }));
    this.refresh();
  }

  /** What the server has now. */
  refresh() {
    return this.#load({ more: false });
  }

  /** Mark the conversation that is shown. One that is not listed, for it is old or a search hides it, is asked for. */
  select(threadId, { fresh = false } = {}) {
    this.#selected = threadId;
    this.#current = this.#items.get(threadId)?.thread ?? null;
    for (const [id, item] of this.#items) item.select(id === threadId);
    if (threadId !== null && this.#current === null && !fresh) this.#meet(threadId);
  }

  /** The conversation that is shown, or null where nothing is known of it. */
  get current() {
    return this.#current;
  }

  /** A notice, or an answer, told of it. */
  changed(thread) {
    const item = this.#items.get(thread.thread_id);
    const moved = item === undefined || item.thread.updated_at !== thread.updated_at;
    if (item !== undefined || this.#query === "") {
      this.#put({ excerpt: item?.thread.excerpt, ...thread }, moved ? byId("threads").firstElementChild : undefined);
      this.#tell();
    }
    this.#learn(thread);
  }

  deleted(threadId) {
    this.#items.get(threadId)?.node.remove();
    this.#items.delete(threadId);
    this.#tell();
    this.#onGone(threadId, { here: this.#deleting.has(threadId) });
  }

  async rename(thread, title) {
    this.changed({ ...thread, title });
    try {
      this.changed(await this.#api.renameThread(thread.thread_id, title));
    } catch (error) {
      this.changed(thread);
      this.#say(`It could not be renamed: ${because(error)}`);
    }
  }

  /** Edit the title that the focus is on. Returns whether there is one. */
  renameFocused() {
    const item = [...this.#items.values()].find(({ node }) => node.contains(document.activeElement));
    item?.edit();
    return item !== undefined;
  }

  focusSearch() {
    byId("search").focus();
    byId("search").select();
  }

  dispose() {
    clearTimeout(this.#typing);
    this.#asking?.abort();
    this.#listeners.dispose();
    this.#items.clear();
    byId("threads").replaceChildren();
    byId("more").hidden = true;
    this.#say("");
  }

  // ---------------------------------------------------------------------------------------------- the list

  async #meet(threadId) {
    try {
      this.#learn(await this.#api.getThread(threadId));
    } catch {
      // its title is not known, then; whether it is there, the subscription tells
    }
  }

  #learn(thread) {
    if (thread.thread_id !== this.#selected) return;
    this.#current = thread;
    this.#onTitle();
  }

  async #load({ more }) {
    this.#asking?.abort();
    const asking = this.#asking = new AbortController();
    try {
      const page = await this.#api.listThreads({ limit: PAGE, q: this.#query, cursor: more ? this.#cursor : null, signal: asking.signal });
      if (asking === this.#asking) this.#show(page, more);
    } catch (error) {
      if (asking === this.#asking && !(error instanceof SignedOutError)) this.#say(`Your conversations cannot be listed: ${because(error)}`);
    }
  }

  #show({ threads, next_cursor: cursor }, more) {
    if (!more) this.#keepOnly(new Set(threads.map((thread) => thread.thread_id)));
    let place = more ? null : byId("threads").firstElementChild;
    for (const thread of threads) {
      place = this.#put(thread, place).nextElementSibling;
      this.#learn(thread);
    }
    this.#cursor = cursor;
    byId("more").hidden = cursor === null;
    this.#tell();
  }

  #keepOnly(wanted) {
    for (const [id, item] of [...this.#items]) {
      if (wanted.has(id)) continue;
      item.node.remove();
      this.#items.delete(id);
    }
  }

  /** Put a conversation before `place` (null: at the end, undefined: where it is). What is being edited stays. Returns its node. */
  #put(thread, place) {
    const known = this.#items.get(thread.thread_id);
    const item = known ?? this.#make(thread);
    item.update(thread);
    item.tell({ found: this.#query !== "" });
    if (place === item.node || (known && (place === undefined || item.editing))) return item.node;
    const focused = item.node.contains(document.activeElement) ? document.activeElement : null;
    byId("threads").insertBefore(item.node, place ?? null);
    focused?.focus({ preventScroll: true });
    return item.node;
  }

  #make(thread) {
    const item = new ThreadItem(thread, {
      onRename: (held, title) => this.rename(held, title),
      onDelete: (held) => this.#delete(held),
    });
    item.select(thread.thread_id === this.#selected);
    this.#items.set(thread.thread_id, item);
    return item;
  }

  async #delete(thread) {
    if (!await confirmDelete(thread.title || UNTITLED)) return;
    const next = this.#neighbour(thread.thread_id);
    this.#deleting.add(thread.thread_id); // the notice may be here before the answer
    try {
      await this.#api.deleteThread(thread.thread_id);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) {
        this.#deleting.delete(thread.thread_id);
        this.#say(`It could not be deleted: ${because(error)}`);
        return;
      }
    }
    this.deleted(thread.thread_id);
    this.#deleting.delete(thread.thread_id);
    if (next) next.focus();
    else byId("new-thread").focus();
  }

  #neighbour(threadId) {
    const ids = [...byId("threads").children].map((node) => [...this.#items].find(([, item]) => item.node === node)[0]);
    const at = ids.indexOf(threadId);
    return this.#items.get(ids[at + 1] ?? ids[at - 1]);
  }

  // ---------------------------------------------------------------------------------------------- searching

  #searchSoon() {
    clearTimeout(this.#typing);
    this.#typing = setTimeout(() => {
      this.#query = byId("search").value.trim();
      this.refresh();
    }, SEARCH_AFTER_MS);
  }

  #searchKey(event) {
    if (event.key === "Escape" && byId("search").value !== "") {
      event.stopPropagation();
      byId("search").value = "";
      this.#searchSoon();
    } else if (event.key === "ArrowDown" || event.key === "Enter") {
      event.preventDefault();
      byId("threads").querySelector("a")?.focus();
    }
  }

  /** Up and down between conversations, and up from the first one into the search. */
  #listKey(event) {
    if (event.target.localName === "input" || !["ArrowDown", "ArrowUp"].includes(event.key)) return;
    event.preventDefault();
    const item = event.target.closest(".thread");
    const next = event.key === "ArrowDown" ? item.nextElementSibling : item.previousElementSibling;
    if (next) next.querySelector("a").focus();
    else if (event.key === "ArrowUp") this.focusSearch();
    else if (!byId("more").hidden) byId("more").focus();
  }

  #tell() {
    const count = this.#items.size;
    if (this.#query !== "") this.#say(count === 0 ? "Nothing was found." : `${count}${this.#cursor ? " or more" : ""} found`);
    else this.#say(count === 0 ? "What you ask will be kept here." : "");
  }

  #say(words) {
    setText(byId("threads-note"), words);
  }
}

function because(error) {
  return error instanceof ApiError ? `${error.message}.` : "the server cannot be asked just now.";
}
