/** Keeps the reader's place: at the end it follows what is added, anywhere else nothing moves. */

import { Listeners } from "./dom.js";

const NEAR_PX = 24;

export class Scroller {
  #frame;
  #jump;
  #listeners = new Listeners();
  #observer;
  #following = true;

  constructor({ frame, content, jump }) {
    this.#frame = frame;
    this.#jump = jump;
    this.#observer = new ResizeObserver(() => this.#grown());
    this.#observer.observe(content);
    this.#observer.observe(frame);
    this.#listeners.on(frame, "scroll", () => this.#scrolled(), { passive: true });
    this.#listeners.on(content, "click", (event) => { if (event.target.closest("summary")) this.#following = false; });
    this.#listeners.on(jump, "click", () => this.toEnd());
  }

  /** Go to the end, and follow it from now on. */
  toEnd() {
    this.#following = true;
    this.#frame.scrollTop = this.#frame.scrollHeight;
    this.#jump.hidden = true;
  }

  dispose() {
    this.#observer.disconnect();
    this.#listeners.dispose();
    this.#jump.hidden = true;
  }

  #atEnd() {
    const { scrollTop, scrollHeight, clientHeight } = this.#frame;
    return scrollHeight - scrollTop - clientHeight < NEAR_PX;
  }

  #scrolled() {
    this.#following = this.#atEnd();
    this.#jump.hidden = this.#following;
  }

  #grown() {
    if (this.#following) this.#frame.scrollTop = this.#frame.scrollHeight;
    else this.#jump.hidden = this.#atEnd();
  }
}
