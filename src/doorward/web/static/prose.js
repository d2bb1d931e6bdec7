/**
 * A growing text of the agent, shown as it comes: rendered by the server, and plainly until that answers. What the server
 * calls settled is not asked for again, so that a word costs the same in a long answer as in a short one.
 */

import { adorned, framed } from "./blocks.js";
import { become, elementsOf, keyOf } from "./html.js";
import { plainBlocks } from "./plain.js";
import { fitting } from "./rendering.js";
import { presentable } from "./unfinished.js";

const DEFINITION = /^ {0,3}\[[^\]\n]+\]:/m;
const NEWLINE = /\r\n?|\n/g;
const RETRY_MS = 3_500;
const MOST_RETRIES = 20;

export class Prose {
  #target;
  #renderer;
  #text = "";
  #ended = false;
  #shown = [];
  #settled = { characters: 0, blocks: 0 };
  #rendered = 0;
  #exact = true;
  #plain = true;
  #plainly = 0; // how many characters of it are on the screen plainly
  #held = false; // nothing is added to them: their rendering has been asked for
  #frame = null;
  #asking = false;
  #retry = null;
  #retries = 0;

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
    if (this.#plain) this.#frame ??= requestAnimationFrame(() => this.#showPlain());
    this.#ask();
    this.#tellBusy();
  }

  /** Nothing more will come. Show all of it now; the server's rendering follows. */
  finish() {
    this.#ended = true;
    if (this.#plain) this.#showPlain();
    this.#ask();
    this.#tellBusy();
  }

  // ---------------------------------------------------------------------------------------------- the server's hand

  async #ask() {
    if (this.#asking || this.#retry !== null || this.#renderer === null) return;
    let piece = this.#piece();
    if (this.#isShown(piece) && this.#linksUp()) piece = this.#piece();
    if (this.#isShown(piece)) return;
    this.#asking = true;
    this.#tellBusy();
    const answer = await this.#renderer.render(piece.text, { growing: !piece.last });
    this.#asking = false;
    if (answer === null) this.#unrendered();
    else this.#take(piece, answer);
  }

  /** What is not settled yet, up to where it can be shown, or to where a request is full. */
  #piece() {
    const from = this.#settled.characters;
    const open = this.#text.slice(from);
    const text = fitting(open);
    if (text.length < open.length) return { text, end: from + text.length, full: true, last: false, exact: true };
    if (this.#ended) return { text, end: this.#text.length, full: false, last: true, exact: true };
    const shown = presentable(text);
    return { text: shown.text, end: from + shown.length, full: false, last: false, exact: shown.text === text };
  }

  #isShown({ text, end, last }) {
    return text === "" || (end <= this.#rendered && (this.#exact || !last));
  }

  #take({ text, end, full, exact }, { html, lines, elements }) {
    this.#retries = 0;
    if (this.#plain && !full && end < this.#plainly && (this.#ended || !this.#held)) {
      this.#held = true; // more is on the screen already, though plainly: nobody should see the end of it go and come back
      this.#ask();
      return;
    }
    this.#held = false;
    const blocks = elementsOf(html).map((element) => ({ key: keyOf(element), element: () => element }));
    this.#plain = full;
    this.#exact = exact;
    this.#rendered = full ? 0 : end;
    this.#show(full ? blocks.slice(0, elements) : blocks);
    this.#settled.characters += lengthOfLines(text, lines);
    this.#settled.blocks += elements;
    if (full && lines === 0) this.#renderer = null; // one block is more than the server takes: it stays plain, and the rest with it
    if (full) this.#showPlain();
    this.#tellBusy();
    this.#ask();
  }

  /** An address that is given at the end is for links anywhere: then the whole is asked for once more, in one piece. */
  #linksUp() {
    if (!this.#ended || this.#settled.blocks === 0 || !DEFINITION.test(this.#text) || fitting(this.#text) !== this.#text) return false;
    this.#settled = { characters: 0, blocks: 0 };
    this.#rendered = 0;
    return true;
  }

  /** The server could not be asked: what is not settled is shown plainly, for it has grown. It is asked again a little later. */
  #unrendered() {
    this.#plain = true;
    this.#held = false;
    this.#rendered = 0;
    this.#showPlain();
    if (this.#retries++ < MOST_RETRIES && this.#target.isConnected) {
      this.#retry = setTimeout(() => { this.#retry = null; this.#ask(); }, RETRY_MS);
    }
  }

  // ---------------------------------------------------------------------------------------------- the page

  #showPlain() {
    if (this.#frame !== null) cancelAnimationFrame(this.#frame);
    this.#frame = null;
    if (this.#plain && (this.#ended || !this.#held)) {
      const open = this.#text.slice(this.#settled.characters);
      const { text, length } = this.#ended ? { text: open, length: open.length } : presentable(open);
      this.#plainly = this.#settled.characters + length;
      this.#show(plainBlocks(text));
    }
    this.#tellBusy();
  }

  /** Show these blocks after the settled ones. Touches only what changed, so that a selection and the reader's place outlive the next words. */
  #show(blocks) {
    const from = this.#settled.blocks;
    blocks.forEach(({ key, element }, index) => {
      const old = this.#shown[from + index];
      if (old?.key !== key) this.#shown[from + index] = this.#put(old, key, element());
    });
    for (const { frame } of this.#shown.splice(from + blocks.length)) frame.remove();
  }

  #put(old, key, element) {
    if (old && framed(old.element) === framed(element)) {
      become(old.element, element);
      return { key, element: old.element, frame: old.frame };
    }
    const frame = adorned(element);
    if (old) old.frame.replaceWith(frame);
    else this.#target.append(frame);
    return { key, element, frame };
  }

  /** Done is what is on the screen as it will stay, or plainly where the server cannot be asked just now. */
  #tellBusy() {
    const shown = this.#plain ? this.#frame === null : this.#rendered >= this.#text.length && (this.#exact || !this.#ended);
    if (shown && !this.#asking) this.#target.removeAttribute("aria-busy");
    else this.#target.setAttribute("aria-busy", "true");
  }
}

function lengthOfLines(text, count) {
  let length = 0;
  for (const { index, 0: ending } of text.matchAll(NEWLINE)) {
    if (count-- <= 0) break;
    length = index + ending.length;
  }
  return length;
}
