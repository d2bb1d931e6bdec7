/** How the connection is, in words: the pill in the bar, and a banner where there is something to say. */

import { byId, Listeners, setText } from "./dom.js";
import { describe } from "./status.js";

const RECOVERED_MS = 4_000;
const TICK_MS = 250;

export class Banner {
  #state = { name: "connecting", attempt: 1 };
  #trouble = null;
  #draining = false;
  #stalled = false;
  #note = null;
  #noteShown = false;
  #wasAway = false;
  #recoveredUntil = 0;
  #ticker = null;
  #listeners = new Listeners();

  /** `onAction(state)` is called when its button is pressed. */
  constructor(onAction) {
    this.#listeners.on(byId("banner-action"), "click", () => {
      if (this.#noteShown) this.note(null);
      else onAction(this.#state);
    });
  }

  stateChanged(state) {
    this.#state = state;
    if (state.name === "waiting") {
      this.#trouble = state.reason;
      this.#draining = this.#stalled = false;
    }
    if (state.name === "open") {
      if (this.#wasAway) this.#recoveredUntil = Date.now() + RECOVERED_MS;
      this.#trouble = null;
    }
    this.#wasAway = state.name !== "open" && (this.#wasAway || state.name === "degraded" || state.name === "waiting");
    this.#show();
  }

  /** The server is about to restart. */
  draining() {
    this.#draining = true;
    this.#show();
  }

  /** The conversation that is shown waits for the server, or does so no more. */
  stalled(stalled) {
    if (stalled === this.#stalled) return;
    this.#stalled = stalled;
    this.#show();
  }

  /** Words about something else than the connection. They stay until they are closed or, with null, taken back. */
  note(words) {
    if (words === this.#note) return;
    this.#note = words;
    this.#show();
  }

  dispose() {
    clearInterval(this.#ticker);
    this.#listeners.dispose();
    byId("banner").hidden = true;
  }

  #show() {
    const now = Date.now();
    const state = this.#state;
    const shown = describe(state, { now, previous: this.#trouble, draining: this.#draining, stalled: this.#stalled });
    const recovered = state.name === "open" && shown.banner === null && now < this.#recoveredUntil;
    byId("pill").dataset.tone = shown.tone;
    setText(byId("pill-text"), shown.pill);
    this.#noteShown = this.#note !== null && shown.action === null; // a banner with a button comes first
    if (this.#noteShown) this.#speak({ tone: "warn", banner: this.#note, action: "Close" });
    else this.#speak(recovered ? { tone: "ok", banner: "All is normal again.", action: null } : shown);
    this.#tick(state.name === "waiting" || recovered);
  }

  #speak({ tone, banner, action }) {
    const node = byId("banner");
    node.hidden = banner === null;
    node.dataset.tone = tone;
    setText(byId("banner-text"), banner ?? "");
    byId("banner-action").hidden = action === null;
    setText(byId("banner-action"), action ?? "");
  }

  #tick(needed) {
    if (needed) this.#ticker ??= setInterval(() => this.#show(), TICK_MS);
    else {
      clearInterval(this.#ticker);
      this.#ticker = null;
    }
  }
}
