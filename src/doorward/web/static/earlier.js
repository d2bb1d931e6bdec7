/** What a long conversation said before the part that comes at once: fetched by a button at its beginning. */

import { byId, Listeners } from "./dom.js";

const PAGE = 100;
const MOST_PAGES = 8;
const WHOLE_BELOW = 40; // so few messages are never a part

export class Earlier {
  #api;
  #onMessages;
  #keepPlace;
  #threadId = null;
  #endings = null;
  #oldest = null;
  #rest = [];
  #cursor = null;
  #abort = new AbortController();
  #listeners = new Listeners();

  /** `onMessages(messages, runs)` gets the ones before all that are shown, oldest first; `keepPlace(change)` makes a change around it. */
  constructor({ api, onMessages, keepPlace }) {
    this.#api = api;
    this.#keepPlace = keepPlace;
    this.#onMessages = onMessages;
    this.#listeners.on(byId("earlier"), "click", () => this.#more());
  }

  /** A conversation is shown, from these messages on. */
  async begin(threadId, messages, endings) {
    this.end();
    if (messages.length < WHOLE_BELOW) return;
    const { signal } = this.#abort;
    this.#threadId = threadId;
    this.#endings = endings;
    this.#oldest = messages[0].id;
    try {
      const page = await this.#api.listMessages(threadId, { limit: 1, signal });
      if (!signal.aborted) byId("earlier").hidden = !page.messages.some(({ position }) => position > messages.length);
    } catch {
      // without it the conversation is shown from here on
    }
  }

  /** Another conversation, or none. */
  end() {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#threadId = this.#endings = this.#oldest = this.#cursor = null;
    this.#rest = [];
    byId("earlier").hidden = true;
  }

  dispose() {
    this.end();
    this.#listeners.dispose();
  }

  async #more() {
    const { signal } = this.#abort;
    byId("earlier").disabled = true;
    try {
      const messages = await this.#fetch(signal);
      const runs = await this.#endings.of(messages);
      if (signal.aborted) return;
      this.#keepPlace(() => {
        byId("earlier").hidden = this.#cursor === null;
        this.#onMessages(messages, runs);
      });
    } catch {
      // the button stays: press it again
    } finally {
      byId("earlier").disabled = false;
    }
  }

  /** The next page that has something older than what is shown. It begins with a question; what stands before that waits for the next. */
  async #fetch(signal) {
    for (let pages = 0; pages < MOST_PAGES; pages += 1) {
      const page = await this.#api.listMessages(this.#threadId, { limit: PAGE, cursor: this.#cursor, signal });
      this.#cursor = page.next_cursor;
      this.#rest.unshift(...this.#olderOf(page.messages.map(({ message }) => message)));
      const from = this.#cursor === null ? 0 : this.#rest.findIndex(({ role }) => role === "user");
      if (from !== -1) return this.#rest.splice(from);
    }
    return [];
  }

  #olderOf(messages) {
    if (this.#oldest === null) return messages;
    const at = messages.findIndex(({ id }) => id === this.#oldest);
    if (at === -1) return [];
    this.#oldest = null;
    return messages.slice(0, at);
  }
}
