/** Where a question is written: the box, its buttons, and the suggestions above it. */

import { button, byId, Listeners, setText } from "./dom.js";

const HIGHEST_PX = 192;
const STILL_ANSWERING = "Still answering. Stop it to send this."; // one line, on the narrowest phone too
const UNSENDABLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g; // nothing that is seen

const encoder = new TextEncoder();

/** How many characters of a text are beyond so many bytes. */
export function beyond(text, maxBytes) {
  const { read } = encoder.encodeInto(text, new Uint8Array(maxBytes));
  return [...text.slice(read)].length;
}

export class Composer {
  maxBytes = 16_384;
  #onAsk;
  #lastShown;
  #listeners = new Listeners();
  #busy = false;
  #early = false;
  #last = "";

  /**
   * `onAsk(text)` gets a question that is not empty; `onStop()` is called by the stop button; `lastShown()` is the last question
   * of the conversation, or null.
   */
  constructor({ onAsk, onStop, lastShown }) {
    this.#onAsk = onAsk;
    this.#lastShown = lastShown;
    const box = byId("question");
    this.#listeners.on(byId("ask"), "submit", (event) => { event.preventDefault(); this.#submit(); });
    this.#listeners.on(box, "keydown", (event) => this.#key(event));
    this.#listeners.on(box, "input", () => this.#written());
    this.#listeners.on(byId("stop"), "click", () => { onStop(); this.focus(); });
  }

  /** Questions to be asked with a press of a button. */
  suggest(questions) {
    byId("chips").replaceChildren(...questions.map((words) => button("", words, () => { if (!this.#busy) this.#onAsk(words); })));
  }

  /** Stop takes the place of Send while an answer is under way. */
  set busy(busy) {
    const focused = document.activeElement;
    const swapped = [byId("stop"), byId("send")];
    this.#busy = busy;
    byId("stop").hidden = !busy;
    byId("send").hidden = busy;
    if (swapped.includes(focused)) byId(busy ? "stop" : "send").focus();
    if (this.#early && !busy) {
      this.#early = false;
      this.#written();
    }
  }

  focus() {
    byId("question").focus({ preventScroll: true });
  }

  /** A question that could not be asked where it was written, before whatever has been written since. */
  giveBack(text) {
    this.#write([text, byId("question").value].filter(Boolean).join("\n\n"));
  }

  /** What was written goes too: the next one here may be somebody else. */
  dispose() {
    this.#write("");
    this.#listeners.dispose();
  }

  #submit() {
    const text = this.#text();
    this.#early = this.#busy && text !== "";
    if (this.#written() > 0 || this.#busy || text === "") return;
    this.#last = text;
    this.#write("");
    this.#onAsk(text);
  }

  #text() {
    const text = byId("question").value.replace(UNSENDABLE, "").trim();
    return text.toWellFormed?.() ?? text;
  }

  #write(text) {
    byId("question").value = text;
    this.#written();
  }

  /** Says how many characters are too many, and returns it; else that it was sent too early, where it was. */
  #written() {
    const box = byId("question");
    const excess = beyond(this.#text(), this.maxBytes);
    fit(box);
    box.setAttribute("aria-invalid", String(excess > 0));
    byId("ask").classList.toggle("too-long", excess > 0);
    setText(byId("ask-note"), excess > 0 ? tooLong(excess) : this.#early ? STILL_ANSWERING : "");
    return excess;
  }

  #key(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === "ArrowUp" && byId("question").value === "") {
      const last = this.#lastShown() ?? this.#last;
      if (last !== "") event.preventDefault();
      this.#write(last);
    }
  }
}

const tooLong = (excess) => `Too long by ${excess.toLocaleString()} character${excess === 1 ? "" : "s"}. Shorten it to send it.`;

/** As high as what is written, up to a bound. */
function fit(box) {
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight, HIGHEST_PX)}px`;
}
