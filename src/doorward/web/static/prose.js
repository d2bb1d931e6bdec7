/** A growing text of the agent, shown as it comes: rendered by the server, and plainly until that answers. */

import { adorned } from "./blocks.js";
import { elementsOf, keyOf } from "./html.js";
import { plainBlocks } from "./plain.js";

export class Prose {
  #target;
  #renderer;
  #shown = [];
  #text = "";
  #frame = null;
  #asked = null;
  #rendered = false;

  /** `renderer` may be null: then the text stays plain. */
  constructor(target, renderer = null) {
    this.#target = target;
    this.#renderer = renderer;
  }

  get text() {
    return this.#text;
  }

  append(delta) {
    this.#text += delta;
    this.#target.setAttribute("aria-busy", "true");
    if (!this.#rendered) this.#frame ??= requestAnimationFrame(() => this.#showPlain());
    this.#ask();
  }

  /** Show all of it now; the server's rendering follows. */
  finish() {
    if (!this.#rendered) this.#showPlain();
    this.#ask();
  }

  async #ask() {
    if (this.#asked !== null || this.#renderer === null || this.#text === "") return;
    const text = this.#asked = this.#text;
    const html = await this.#renderer.render(text);
    this.#asked = null;
    if (html === null) this.#unrendered();
    else this.#showRendered(html, text);
    if (html !== null && text !== this.#text) this.#ask();
  }

  /** The server could not be asked: what was shown of its hand is replaced, for the text has grown. */
  #unrendered() {
    this.#rendered = false;
    this.#showPlain();
  }

  #showPlain() {
    if (this.#frame !== null) cancelAnimationFrame(this.#frame);
    this.#frame = null;
    if (!this.#rendered) this.#show(plainBlocks(this.#text), this.#text);
  }

  #showRendered(html, text) {
    this.#rendered = true;
    this.#show(elementsOf(html).map((node) => ({ key: keyOf(node), node: () => node })), text);
  }

  /** Touches only the blocks that changed, so that a selection and the reader's place outlive the next words. */
  #show(blocks, text) {
    blocks.forEach(({ key, node }, index) => {
      const old = this.#shown[index];
      if (old?.key === key) return;
      const fresh = adorned(node());
      if (old) old.node.replaceWith(fresh);
      else this.#target.append(fresh);
      this.#shown[index] = { key, node: fresh };
    });
    for (const { node } of this.#shown.splice(blocks.length)) node.remove();
    if (text === this.#text) this.#target.removeAttribute("aria-busy");
  }
}
