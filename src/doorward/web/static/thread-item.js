/** One conversation in the list: a link, and the two things that can be done to it. */

import { button, make, setText } from "./dom.js";
import { age } from "./ops-words.js";
import { editInPlace } from "./rename.js";

export const UNTITLED = "New conversation";

const LONG_AGO_SECONDS = 30 * 86_400;

/** 40 s ago, 3 min ago, 5 d ago, and a date where that is long. */
function sinceWords(time, now) {
  const seconds = (now - Date.parse(time)) / 1000;
  if (seconds < LONG_AGO_SECONDS) return `${age(seconds)} ago`;
  return new Date(time).toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" });
}

/** What was said there, with what was searched for in it. Plain text. */
function saidNode({ before, match, after }) {
  const node = make("span", "thread-said", before, make("mark", "", match), after);
  node.dir = "auto";
  return node;
}

/** Where a conversation is found, in this tab or another one. */
export const addressOf = (threadId) => `#thread=${threadId}`;

export class ThreadItem {
  #link = make("a", "thread-link");
  #title = make("span", "thread-title");
  #running = make("span", "thread-running");
  #found = make("small", "thread-found");
  #rename;
  #delete;
  #onRename;
  #thread;
  editing = false;

  constructor(thread, { onRename, onDelete }) {
    this.#onRename = onRename;
    this.#rename = button("icon edit", "", () => this.edit());
    this.#delete = button("icon bin", "", () => onDelete(this.#thread));
    this.#title.dir = "auto";
    this.#link.append(this.#title, this.#running, this.#found);
    this.#link.href = addressOf(thread.thread_id);
    this.node = make("li", "thread", this.#link, this.#rename, this.#delete);
    this.update(thread);
  }

  get thread() {
    return this.#thread;
  }

  update(thread) {
    this.#thread = thread;
    const title = thread.title || UNTITLED;
    setText(this.#title, title);
    this.#link.title = title;
    setText(this.#running, thread.active_run_id ? "answering" : "");
    this.#rename.setAttribute("aria-label", `Rename ${title}`);
    this.#delete.setAttribute("aria-label", `Delete ${title}`);
  }

  /** Of one that was searched for: when it was used last and what was said, by which it is told from others with its title. */
  tell({ found }) {
    const { updated_at: used, excerpt } = this.#thread;
    const told = found ? [sinceWords(used, Date.now()), ...(excerpt ? [" ", saidNode(excerpt)] : [])] : [];
    this.#found.replaceChildren(...told);
  }

  select(selected) {
    if (selected) this.#link.setAttribute("aria-current", "page");
    else this.#link.removeAttribute("aria-current");
  }

  edit() {
    this.editing = true;
    editInPlace(this.#link, {
      value: this.#thread.title ?? "",
      label: "Title of the conversation",
      save: (title) => this.#onRename(this.#thread, title),
      done: ({ focused }) => {
        this.editing = false;
        if (focused) this.#link.focus();
      },
    });
  }

  focus() {
    this.#link.focus();
  }
}
