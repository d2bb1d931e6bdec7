/** A front end of your own: sign in, ask, stop, and go on after a reload. The connection is doorward.js' business. */

import { connect, createSession, isRetryable, localStore, newId } from "./doorward.js";

const byId = (id) => document.getElementById(id);
const session = createSession({ store: localStore("your-chat.session") });
const threadId = location.hash.slice(1) || (location.hash = newId("t-"));
let client = null;
let running = null;
let asked = "";

/** Each answer is a paragraph; yours will look better. */
const SHOWN_BY = {
  MESSAGES_SNAPSHOT({ messages }) {
    byId("said").replaceChildren();
    for (const { role, content } of messages) if (role === "user" || (role === "assistant" && content)) say(content);
  },
  RUN_STARTED({ runId, input }) {
    running = runId;
    asked = input.messages.at(-1).content;
    say(asked);
  },
  TEXT_MESSAGE_START() { say(""); },
  TEXT_MESSAGE_CONTENT({ delta }) { byId("said").lastElementChild.append(delta); },
  RUN_FINISHED() { running = null; },
  RUN_ERROR(event) {
    running = null;
    say(event.message);
    if (isRetryable(event)) byId("ask").elements.question.value = asked;
  },
};

function say(text) {
  const paragraph = document.createElement("p");
  paragraph.textContent = text;
  byId("said").append(paragraph);
}

function enter() {
  byId("sign-in").hidden = true;
  byId("ask").hidden = false;
  client = connect({
    url: "/ws",
    getToken: session.getToken,
    refresh: session.refresh,
    watchToken: session.watchToken,
    onState(state) {
      byId("state").textContent = state.reason ? `${state.name}: ${state.reason.code}` : state.name;
      if (state.name === "signed_out") location.reload();
    },
    onEvent({ event }) {
      SHOWN_BY[event.type]?.(event);
      byId("stop").disabled = running === null;
    },
  });
  client.subscribe(threadId).catch(() => {}); // a line that breaks is mended; what else goes wrong, onState tells
}

byId("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await session.signIn(Object.fromEntries(new FormData(event.target)));
    enter();
  } catch (error) {
    byId("state").textContent = error.message;
  }
});

byId("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = event.target.elements.question.value;
  event.target.reset();
  try {
    await client.startRun(threadId, question);
  } catch (error) {
    byId("state").textContent = `Not sent: ${error.message}`;
  }
});

byId("stop").addEventListener("click", () => client.cancelRun(threadId, running));

if (session.signedIn()) enter();
