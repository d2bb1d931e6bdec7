/**
 * Asks the server for Markdown as HTML: one request at a time, with all that has gathered meanwhile. So a fast line
 * shows a growing answer often, a slow one seldom, and neither is ever behind by more than one request.
 */

const MAX_TEXTS = 100;
const MAX_BYTES = 60_000;
const PAUSE_MS = 80;
const GROWING_BYTES_PER_MS = 32; // the end of a growing text is asked for again and again: the longer it is, the more seldom
const REST_MS = 3_000;

const encoder = new TextEncoder();
const room = new Uint8Array(MAX_BYTES);

/** As much of a text as goes into one request, cut after a line where it has to be cut. */
export function fitting(text) {
  const { read } = encoder.encodeInto(text, room);
  return read === text.length ? text : text.slice(0, text.lastIndexOf("\n", read - 1) + 1 || read);
}

export class Renderer {
  #api;
  #queue = [];
  #busy = false;
  #restUntil = 0;
  #abort = new AbortController();

  constructor(api) {
    this.#api = api;
  }

  /**
   * `{html, lines, elements}` of a text that fits: of a growing one the first `lines` lines are the first `elements`
   * elements for good. Null where the server cannot be asked just now: then show the text by other means.
   */
  render(text, { growing = false } = {}) {
    if (performance.now() < this.#restUntil || this.#abort.signal.aborted) return Promise.resolve(null);
    return new Promise((resolve) => {
      this.#queue.push({ text, growing, size: encoder.encode(text).length, resolve });
      if (!this.#busy) this.#drain();
    });
  }

  dispose() {
    this.#abort.abort();
    for (const { resolve } of this.#queue.splice(0)) resolve(null);
  }

  async #drain() {
    this.#busy = true;
    await Promise.resolve(); // what is asked for in this turn goes together
    while (this.#queue.length > 0) {
      const batch = this.#take();
      const [{ growing }] = batch;
      const answers = await this.#ask(batch.map(({ text }) => text), growing);
      batch.forEach(({ resolve }, index) => resolve(answers?.[index] ?? null));
      const size = batch.reduce((sum, entry) => sum + entry.size, 0);
      await new Promise((resolve) => setTimeout(resolve, growing ? Math.max(PAUSE_MS, size / GROWING_BYTES_PER_MS) : 0));
    }
    this.#busy = false;
  }

  /** The newest first: they are what is looked at. */
  #take() {
    const { growing } = this.#queue.at(-1);
    const batch = [];
    let size = 0;
    while (this.#queue.length > 0 && batch.length < MAX_TEXTS) {
      const next = this.#queue.at(-1);
      size += next.size;
      if (next.growing !== growing || (size > MAX_BYTES && batch.length > 0)) break;
      batch.push(this.#queue.pop());
    }
    return batch;
  }

  async #ask(texts, growing) {
    const options = { signal: this.#abort.signal };
    try {
      if (growing) return await this.#api.renderGrowing(texts, options);
      return (await this.#api.render(texts, options)).map((html) => ({ html, lines: 0, elements: 0 }));
    } catch {
      this.#restUntil = performance.now() + REST_MS; // the texts are shown plainly, and the server is left alone
      return null;
    }
  }
}
