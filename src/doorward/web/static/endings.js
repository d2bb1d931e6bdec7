/** How the runs of one conversation ended. Its messages do not say that; `/runs` does, newest first. */

const PAGE = 100;
const MOST_PAGES = 4; // more runs than the server keeps

/** The run of a question, by the name of its message. */
export const runOf = (message) => message.id.replace(/:question$/, "");

export class Endings {
  #fetch;
  #known = new Map();
  #cursor = null;
  #pages = 0;

  constructor({ api, threadId }) {
    this.#fetch = (cursor) => api.listRuns(threadId, { limit: PAGE, cursor });
  }

  /** What is known of the runs behind these messages. Never rejects: what cannot be had is left out. */
  async of(messages) {
    const runIds = messages.filter(({ role }) => role === "user").map(runOf);
    try {
      while (this.#isLeft && runIds.some((id) => !this.#known.has(id))) await this.#more();
    } catch {
      // the conversation is shown without it
    }
    return runIds.flatMap((id) => this.#known.get(id) ?? []);
  }

  get #isLeft() {
    return this.#pages < MOST_PAGES && (this.#pages === 0 || this.#cursor !== null);
  }

  async #more() {
    const { runs, next_cursor: cursor } = await this.#fetch(this.#cursor);
    for (const run of runs) this.#known.set(run.run_id, run);
    this.#cursor = cursor;
    this.#pages += 1;
  }
}
