/** Keeps the reader's place: at the end it follows what is added, anywhere else nothing moves. */

import { Listeners } from "./dom.js";

const NEAR_PX = 24;

export class Scroller {
  #frame;
  #content;
  #jump;
  #listeners = new Listeners();
  #observer;
  #following = true;
  #seen = 0;

  constructor({ frame, content, jump }) {
    this.#frame = frame;
    this.#content = content;
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
    this.#follow();
    this.#jump.hidden = true;
  }

  /** Do something above the reader's place, and keep that. */
  keepPlace(change) {
    const anchor = this.#content.firstElementChild;
    const before = anchor?.getBoundingClientRect().top ?? 0;
    this.#following = false;
    change();
    this.#frame.scrollTop += (anchor?.getBoundingClientRect().top ?? 0) - before;
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

  #follow() {
    this.#frame.scrollTop = this.#frame.scrollHeight;
    this.#seen = this.#frame.scrollTop;
  }

  /** Only who goes up stops following: what came before this event was told of may have moved the end away. */
  #scrolled() {
    const { scrollTop } = this.#frame;
    if (this.#atEnd()) this.#following = true;
    else if (scrollTop < this.#seen - 1) this.#following = false;
    this.#seen = scrollTop;
    this.#jump.hidden = this.#following;
  }

  #grown() {
    if (this.#following) this.#follow();
    else this.#jump.hidden = this.#atEnd();
  }
}
