/** Where a question is written: the box, its buttons, and the suggestions above it. */

import { button, byId, Listeners } from "./dom.js";

const HIGHEST_PX = 192;

export class Composer {
  #onAsk;
  #listeners = new Listeners();
  #busy = false;
  #last = "";

  /** `onAsk(text)` gets a question that is not empty; `onStop()` is called by the stop button. */
  constructor({ suggestions, onAsk, onStop }) {
    this.#onAsk = onAsk;
    const box = byId("question");
    this.#listeners.on(byId("ask"), "submit", (event) => { event.preventDefault(); this.#submit(); });
    this.#listeners.on(box, "keydown", (event) => this.#key(event));
    this.#listeners.on(box, "input", () => fit(box));
    this.#listeners.on(byId("stop"), "click", () => { onStop(); this.focus(); });
    byId("chips").replaceChildren(...suggestions.map((words) => button("", words, () => { if (!this.#busy) onAsk(words); })));
  }

  /** Stop takes the place of Send while an answer is under way. */
  set busy(busy) {
    const focused = document.activeElement;
    const swapped = [byId("stop"), byId("send")];
    this.#busy = busy;
    byId("stop").hidden = !busy;
    byId("send").hidden = busy;
    if (swapped.includes(focused)) byId(busy ? "stop" : "send").focus();
  }

  focus() {
    byId("question").focus({ preventScroll: true });
  }

  dispose() {
    this.#listeners.dispose();
  }

  #submit() {
    const box = byId("question");
    const text = box.value.trim();
    if (this.#busy || text === "") return;
    this.#last = text;
    box.value = "";
    fit(box);
    this.#onAsk(text);
  }

  #key(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === "ArrowUp" && byId("question").value === "" && this.#last !== "") {
      event.preventDefault();
      byId("question").value = this.#last;
      fit(byId("question"));
    }
  }
}

/** As high as what is written, up to a bound. */
function fit(box) {
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight, HIGHEST_PX)}px`;
}
