/** The side of the page: always there where there is room, a drawer where there is not. */

import { byId, Listeners } from "./dom.js";

const NARROW = "(max-width: 56rem)";

export class Drawer {
  #narrow = matchMedia(NARROW);
  #open = false;
  #listeners = new Listeners();

  constructor() {
    this.#listeners.on(byId("menu"), "click", () => this.open());
    this.#listeners.on(byId("side-close"), "click", () => this.close());
    this.#listeners.on(byId("scrim"), "click", () => this.close());
    this.#listeners.on(this.#narrow, "change", () => this.#arrange());
    this.#arrange();
  }

  /** Whether it lies over the conversation just now. */
  get covers() {
    return this.#open && this.#narrow.matches;
  }

  open() {
    this.#open = true;
    this.#arrange();
    if (this.#narrow.matches) byId("side-close").focus();
  }

  close() {
    const covered = this.covers;
    this.#open = false;
    this.#arrange();
    if (covered) byId("menu").focus();
  }

  dispose() {
    this.#open = false;
    this.#arrange();
    this.#listeners.dispose();
  }

  /** What is covered, or out of sight, can neither be reached by keyboard nor be read out. */
  #arrange() {
    const narrow = this.#narrow.matches;
    byId("side").inert = narrow && !this.#open;
    byId("stage").inert = narrow && this.#open;
    byId("scrim").hidden = !(narrow && this.#open);
    byId("chat").dataset.drawer = this.#open ? "open" : "closed";
    byId("menu").setAttribute("aria-expanded", String(this.#open));
  }
}
