/**
 * Asks the server for Markdown as HTML: one request at a time, with all that has gathered meanwhile. So a fast line
 * shows a growing answer often, a slow one seldom, and neither is ever behind by more than one request.
 */

const MAX_TEXTS = 100;
const MAX_BYTES = 60_000;
const PAUSE_MS = 80;
const REST_MS = 3_000;

const bytes = new TextEncoder();

export class Renderer {
  #api;
  #queue = [];
  #busy = false;
  #restUntil = 0;
  #abort = new AbortController();

  constructor(api) {
    this.#api = api;
  }

  /** The HTML of a text, or null where the server cannot be asked just now: then show the text by other means. */
  render(text) {
    const size = bytes.encode(text).length;
    if (size > MAX_BYTES || performance.now() < this.#restUntil || this.#abort.signal.aborted) return Promise.resolve(null);
    return new Promise((resolve) => {
      this.#queue.push({ text, size, resolve });
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
      const html = await this.#ask(batch.map(({ text }) => text));
      batch.forEach(({ resolve }, index) => resolve(html?.[index] ?? null));
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    this.#busy = false;
  }

  #take() {
    let size = 0;
    let count = 0;
    while (count < Math.min(this.#queue.length, MAX_TEXTS) && (size += this.#queue[count].size) <= MAX_BYTES) count += 1;
    return this.#queue.splice(0, Math.max(count, 1));
  }

  async #ask(texts) {
    try {
      return await this.#api.render(texts, { signal: this.#abort.signal });
    } catch {
      this.#restUntil = performance.now() + REST_MS; // the texts are shown plainly, and the server is left alone
      return null;
    }
  }
}
