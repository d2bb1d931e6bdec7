/** One conversation as nodes: AG-UI events in, DOM out. Every foreign string is text, or HTML that the server cleaned. */

import { button, make } from "./dom.js";
import { runOf } from "./endings.js";
import { Answer, ReasoningFold, RunView, ToolFold, toolWords } from "./run-view.js";
import { mark, markPainted } from "./timing.js";

const INTERRUPTED = "The server was restarted before this was finished.";
const STOPPED = ["Stopped.", "stopped"];
const NO_WORDS = ["", ""];

/** Why there is no answer, or no whole one, and how that looks. */
const failed = ({ code, message }) => [(code === "interrupted" ? INTERRUPTED : message) || "This failed.", "failed"];

function contentText(content) {
  if (typeof content === "string") return content;
  return Array.isArray(content) ? content.map((part) => part?.text ?? "").join("") : "";
}

/** Shows one thread. `announce(text)` speaks to people who do not see the page, `onAgain(question)` asks once more. */
export class Transcript {
  #target;
  #place;
  #renderer;
  #announce;
  #onAgain;
  #questions = new Map();
  #runs = new Map();
  #run = null;
  #active = null;
  #thought = null;

  constructor({ target, renderer, announce, onAgain }) {
    this.#target = this.#place = target;
    this.#renderer = renderer;
    this.#announce = announce;
    this.#onAgain = onAgain;
  }

  get empty() {
    return this.#target.childElementCount === 0;
  }

  /** The run that is under way, or null. */
  get activeRun() {
    return this.#active;
  }

  /** The words of the newest question that is shown, or null. */
  get lastQuestion() {
    return [...this.#target.querySelectorAll(".question")].at(-1)?.firstChild.textContent ?? null;
  }

  clear() {
    this.#target.replaceChildren();
    this.#questions.clear();
    this.#runs.clear();
    this.#run = this.#active = this.#thought = null;
  }

  /** A question, shown at once and known by its run. */
  question(runId, text, { confirmed = false } = {}) {
    if (this.#questions.has(runId)) return;
    const words = make("p", "", text);
    words.dir = "auto";
    const node = make("div", "question", words);
    node.setAttribute("role", "group");
    node.setAttribute("aria-label", "Your question");
    node.classList.toggle("pending", !confirmed);
    this.#questions.set(runId, { node, confirmed });
    this.#place.append(node);
  }

  /** Say under a question that it did not reach the server, with a button that tries again. */
  unsent(runId, words, again) {
    const held = this.#questions.get(runId);
    if (!held || held.confirmed) return;
    held.node.querySelector(".unsent")?.remove();
    const note = make("p", "unsent", `${words} `, button("link", "Try again", () => { note.remove(); again(); }));
    note.setAttribute("role", "alert");
    held.node.append(note);
  }

  apply({ event, ts }) {
    HANDLERS[event.type]?.call(this, event, ts ?? 0);
  }

  /** How runs ended that are over, as `/runs` tells it. */
  ended(runs) {
    for (const { run_id: id, ending, error } of runs) {
      const words = ending === "cancelled" ? STOPPED : error ? failed(error) : NO_WORDS;
      if (ending !== null) this.#runs.get(id)?.say(...words);
    }
  }

  /** What was said before all that is shown, oldest first. */
  earlier(messages) {
    const held = this.#run;
    this.#place = document.createDocumentFragment();
    this.#run = null;
    for (const message of messages) this.#past(message);
    this.#run?.end();
    this.#target.prepend(this.#place);
    this.#place = this.#target;
    this.#run = held;
  }

  // Called from HANDLERS.

  snapshot(messages) {
    const unconfirmed = [...this.#questions].filter(([, held]) => !held.confirmed);
    this.clear();
    for (const message of messages) this.#past(message);
    this.#run?.end();
    this.#run = null;
    for (const [runId, held] of unconfirmed) {
      if (this.#questions.has(runId)) continue;
      this.#questions.set(runId, held);
      this.#target.append(held.node);
    }
  }

  begin(runId, input) {
    const asked = input?.messages?.findLast?.((message) => message.role === "user");
    const text = asked ? contentText(asked.content) : null;
    if (text !== null) this.question(runId, text);
    const held = this.#questions.get(runId);
    if (held) {
      held.confirmed = true;
      held.node.classList.remove("pending");
      held.node.querySelector(".unsent")?.remove();
    }
    this.#open(runId, text);
    this.#active = runId;
    mark("run-started", runId);
  }

  end([words, className]) {
    this.#run?.end();
    this.#run?.say(words, className);
    if (words) this.#announce(words);
    markPainted("run-ended", this.#active);
    this.#run = this.#active = null;
  }

  reasoning(id, ts) {
    this.#thought = this.#run?.add(`r:${id}`, new ReasoningFold(this.#renderer), ts) ?? null;
  }

  /** A phase of thinking and the messages in it need not have the same name, but never overlap. */
  reasoned(delta) {
    this.#thought?.append(delta);
  }

  reasoningDone(id, ts) {
    this.#thought?.done(this.#run.seconds(`r:${id}`, ts));
    this.#thought = null;
  }

  tool(id, name, ts) {
    this.#announce(toolWords(name, false));
    this.#run?.add(`t:${id}`, new ToolFold(name), ts);
  }

  toolArgs(id, delta) {
    this.#run?.part(`t:${id}`)?.asked(delta);
  }

  toolReady(id) {
    this.#run?.part(`t:${id}`)?.ready();
  }

  toolResult(id, content, ts) {
    this.#run?.part(`t:${id}`)?.result(contentText(content), this.#run.seconds(`t:${id}`, ts));
  }

  answer(id, ts) {
    this.#run?.add(`m:${id}`, new Answer(this.#renderer), ts);
  }

  answered(id, delta) {
    const prose = this.#run?.part(`m:${id}`)?.prose;
    if (prose?.text === "") markPainted("first-words", this.#active);
    prose?.append(delta);
  }

  answerDone(id) {
    const prose = this.#run?.part(`m:${id}`)?.prose;
    prose?.finish();
    if (prose) this.#announce(prose.text);
  }

  #open(id, asked) {
    this.#run = new RunView({ asked, onAgain: this.#onAgain });
    if (id !== null) this.#runs.set(id, this.#run);
    this.#place.append(this.#run.node);
  }

  // What was said before: finished messages out of a snapshot.

  #past(message) {
    if (message.role === "user") {
      this.#run?.end();
      const asked = contentText(message.content);
      this.question(runOf(message), asked, { confirmed: true });
      this.#open(runOf(message), asked);
    } else {
      if (this.#run === null) this.#open(null, null);
      this.#pastPart(message);
    }
  }

  #pastPart(message) {
    const text = contentText(message.content);
    if (message.role === "reasoning") {
      this.reasoning(message.id, 0);
      this.reasoned(text);
      this.reasoningDone(message.id, 0);
    } else if (message.role === "tool") {
      this.#run.part(`t:${message.toolCallId}`)?.result(text, 0);
    } else if (message.role === "assistant") {
      for (const call of message.toolCalls ?? []) this.#pastTool(call);
      if (text) {
        this.answer(message.id, 0);
        this.answered(message.id, text);
      }
    }
  }

  #pastTool(call) {
    const fold = this.#run.add(`t:${call.id}`, new ToolFold(call.function.name), 0);
    fold.asked(call.function.arguments);
    fold.ready();
  }
}

const HANDLERS = {
  MESSAGES_SNAPSHOT(event) { this.snapshot(event.messages ?? []); },
  RUN_STARTED(event) { this.begin(event.runId, event.input); },
  RUN_FINISHED(event) { this.end(event.outcome?.type === "cancelled" ? STOPPED : NO_WORDS); },
  RUN_ERROR(event) { this.end(failed(event)); },
  REASONING_START(event, ts) { this.reasoning(event.messageId, ts); },
  REASONING_MESSAGE_CONTENT(event) { this.reasoned(event.delta); },
  REASONING_END(event, ts) { this.reasoningDone(event.messageId, ts); },
  TOOL_CALL_START(event, ts) { this.tool(event.toolCallId, event.toolCallName, ts); },
  TOOL_CALL_ARGS(event) { this.toolArgs(event.toolCallId, event.delta); },
  TOOL_CALL_END(event) { this.toolReady(event.toolCallId); },
  TOOL_CALL_RESULT(event, ts) { this.toolResult(event.toolCallId, event.content, ts); },
  TEXT_MESSAGE_START(event, ts) { this.answer(event.messageId, ts); },
  TEXT_MESSAGE_CONTENT(event) { this.answered(event.messageId, event.delta); },
  TEXT_MESSAGE_END(event) { this.answerDone(event.messageId); },
};
