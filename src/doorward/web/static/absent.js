/** What stands where a conversation would: that it comes with the connection, or why it does not come, and what to do. */

import { byId, Listeners, setText } from "./dom.js";

const AWAY = "This conversation will be here as soon as there is a connection.";

const TOO_MANY = "This page follows too many conversations at once, so this one is not shown. Reload the page.";

const refusalWords = ({ code, message }) =>
  code === "TOO_MANY_SUBSCRIPTIONS" ? TOO_MANY : `The server does not show this conversation: ${message}. Try again, or reload the page.`;

export class Absent {
  /** The error with which the server said no, until it is asked again; else null. */
  refusal = null;
  #listeners = new Listeners();

  constructor(onAgain) {
    this.#listeners.on(byId("absent-again"), "click", onAgain);
  }

  /** `away`: nothing of the conversation is known, and there is no connection. */
  arrange({ away }) {
    byId("absent").hidden = this.refusal === null && !away;
    byId("absent-again").hidden = this.refusal === null;
    setText(byId("absent-words"), this.refusal ? refusalWords(this.refusal) : AWAY);
  }

  dispose() {
    this.#listeners.dispose();
  }
}
