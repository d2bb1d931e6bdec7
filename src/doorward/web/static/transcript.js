/** The conversation as nodes: AG-UI events in, DOM out. Every foreign string goes through `textContent`. */

import { Prose } from "./prose.js";

const TOOL_WORDS = new Map([
  ["service_state", ["Looking at the auth service", "Looked at the auth service"]],
  ["decision_statistics", ["Counting decisions", "Counted decisions"]],
  ["explain_decision", ["Reading a decision", "Read a decision"]],
  ["who_is_connected", ["Looking who is connected", "Looked who is connected"]],
]);

function make(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** JSON laid out for reading, any other text as it is. */
export function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function toolWords(name, done) {
  const words = TOOL_WORDS.get(name);
  if (words) return words[done ? 1 : 0];
  return `${done ? "Used" : "Using"} ${name.replaceAll("_", " ")}`;
}

function contentText(content) {
  if (typeof content === "string") return content;
  return Array.isArray(content) ? content.map((part) => part?.text ?? "").join("") : "";
}

/** A part that can be folded open: a line that says what it is, and what is inside. */
class Fold {
  constructor(className, words) {
    this.words = make("span", "fold-words", words);
    this.time = make("span", "fold-time");
    this.body = make("div", "fold-body");
    this.node = make("details", `part fold ${className}`, make("summary", "", make("span", "mark-run"), this.words, this.time), this.body);
    this.node.dataset.running = "true";
  }

  finish(words, seconds) {
    this.words.textContent = words;
    if (seconds >= 0.05) this.time.textContent = `${seconds.toFixed(1)} s`;
    delete this.node.dataset.running;
  }
}

/** One run of the agent: its parts, in the order in which they began. */
class RunView {
  #parts = new Map();
  #started = new Map();

  constructor() {
    this.body = make("div", "run-body");
    this.waiting = make("p", "part typing", make("span", "visually-hidden", "The agent is working"), make("i"), make("i"), make("i"));
    this.waiting.setAttribute("aria-hidden", "true");
    this.node = make("article", "run", this.body);
    this.node.setAttribute("aria-label", "Answer");
    this.thinking = null;
  }

  wait() {
    this.body.append(this.waiting);
  }

  add(id, part, ts) {
    this.waiting.remove();
    this.#parts.set(id, part);
    this.#started.set(id, ts);
    this.body.append(part.node ?? part);
  }

  part(id) {
    return this.#parts.get(id);
  }

  seconds(id, ts) {
    return (ts - this.#started.get(id)) / 1000;
  }

  end(words, className) {
    this.waiting.remove();
    for (const part of this.#parts.values()) {
      if (part instanceof Fold && part.node.dataset.running) part.finish(part.words.textContent, 0);
      part.prose?.render();
    }
    if (words) this.body.append(make("p", `part ${className}`, words));
  }
}

/** Shows one thread. `announce(text)` speaks to people who do not see the page. */
export class Transcript {
  #target;
  #announce;
  #runs = new Map();
  #questions = new Map();
  #run = null;

  constructor(target, announce) {
    this.#target = target;
    this.#announce = announce;
  }

  get empty() {
    return this.#target.childElementCount === 0;
  }

  clear() {
    this.#target.replaceChildren();
    this.#runs.clear();
    this.#questions.clear();
    this.#run = null;
  }

  /** A question, shown at once and known by its run. */
  question(runId, text, { confirmed = false } = {}) {
    if (this.#questions.has(runId)) return;
    const node = make("div", "question", make("p", "", text));
    node.dataset.run = runId;
    this.#questions.set(runId, { node, confirmed });
    this.#target.append(node);
  }

  /** Say under a question that it did not reach the server, with a button that tries again. */
  unsent(runId, words, again) {
    const held = this.#questions.get(runId);
    if (!held) return;
    held.node.querySelector(".unsent")?.remove();
    const button = make("button", "link", "Try again");
    button.type = "button";
    const note = make("p", "unsent", `${words} `, button);
    note.setAttribute("role", "alert");
    button.addEventListener("click", () => { note.remove(); again(); });
    held.node.append(note);
  }

  /** A note in the place of an answer. */
  note(words) {
    this.#target.append(make("p", "note", words));
  }

  /** Apply one envelope. Returns the run that is active now, or null. */
  apply(envelope) {
    const { event, ts } = envelope;
    const handler = HANDLERS[event.type];
    if (handler) handler.call(this, event, ts ?? 0, envelope);
    return this.#run?.id ?? null;
  }

  // Called from HANDLERS.

  snapshot(messages) {
    const unconfirmed = [...this.#questions].filter(([, held]) => !held.confirmed);
    this.clear();
    for (const message of messages) this.#past(message);
    this.#run = null;
    for (const [runId, held] of unconfirmed) {
      if (this.#questions.has(runId)) continue;
      this.#questions.set(runId, held);
      this.#target.append(held.node);
    }
  }

  begin(runId, input) {
    const asked = input?.messages?.findLast?.((message) => message.role === "user");
    if (asked) this.question(runId, contentText(asked.content));
    const held = this.#questions.get(runId);
    if (held) {
      held.confirmed = true;
      held.node.querySelector(".unsent")?.remove();
    }
    const view = new RunView();
    view.id = runId;
    view.wait();
    this.#runs.set(runId, view);
    this.#run = view;
    this.#target.append(view.node);
  }

  end(words, className) {
    const run = this.#run;
    if (!run) return;
    run.end(words, className);
    if (className === "failed") this.#announce(words);
    this.#run = null;
  }

  reasoning(id, ts) {
    const fold = new Fold("thinking", "Thinking");
    fold.prose = new Prose(fold.body);
    this.#run?.add(`r:${id}`, fold, ts);
    if (this.#run) this.#run.thinking = fold;
  }

  reasoned(delta) {
    this.#run?.thinking?.prose.append(delta);
  }

  reasoningDone(id, ts) {
    const fold = this.#run?.part(`r:${id}`);
    fold?.prose.render();
    fold?.finish("Thought it over", this.#run.seconds(`r:${id}`, ts));
  }

  tool(id, name, ts) {
    const fold = new Fold("tool", toolWords(name, false));
    fold.name = name;
    fold.args = "";
    this.#run?.add(`t:${id}`, fold, ts);
    this.#announce(toolWords(name, false));
  }

  toolArgs(id, delta) {
    const fold = this.#run?.part(`t:${id}`);
    if (fold) fold.args += delta;
  }

  toolReady(id) {
    const fold = this.#run?.part(`t:${id}`);
    if (fold) showArgs(fold);
  }

  toolResult(id, content, ts) {
    const fold = this.#run?.part(`t:${id}`);
    if (!fold) return;
    showResult(fold, content);
    fold.finish(toolWords(fold.name, true), this.#run.seconds(`t:${id}`, ts));
    this.#run.wait();
  }

  answer(id, ts) {
    const part = { node: make("div", "part answer") };
    part.prose = new Prose(part.node);
    this.#run?.add(`m:${id}`, part, ts);
  }

  answered(id, delta) {
    this.#run?.part(`m:${id}`)?.prose.append(delta);
  }

  answerDone(id) {
    const part = this.#run?.part(`m:${id}`);
    part?.prose.render();
    if (part) this.#announce(part.prose.text);
  }

  #past(message) {
    if (message.role === "user") {
      this.question(message.id.replace(/:question$/, ""), contentText(message.content), { confirmed: true });
      this.#run = null;
      return;
    }
    if (this.#run === null) {
      this.#run = new RunView();
      this.#target.append(this.#run.node);
    }
    this.#pastPart(message);
  }

  #pastPart(message) {
    if (message.role === "reasoning") {
      this.reasoning(message.id, 0);
      this.reasoned(contentText(message.content));
      this.reasoningDone(message.id, 0);
    } else if (message.role === "tool") {
      const fold = this.#run.part(`t:${message.toolCallId}`);
      if (fold) showResult(fold, contentText(message.content));
    } else if (message.role === "assistant") {
      for (const call of message.toolCalls ?? []) this.#pastTool(call);
      if (message.content) {
        this.answer(message.id, 0);
        this.answered(message.id, contentText(message.content));
        this.#run.part(`m:${message.id}`).prose.render();
      }
    }
  }

  #pastTool(call) {
    const fold = new Fold("tool", toolWords(call.function.name, true));
    fold.name = call.function.name;
    fold.args = call.function.arguments;
    this.#run.add(`t:${call.id}`, fold, 0);
    showArgs(fold);
    fold.finish(toolWords(fold.name, true), 0);
  }
}

function showArgs(fold) {
  if (fold.args && fold.args !== "{}") fold.body.append(make("p", "label", "Asked"), make("pre", "", pretty(fold.args)));
}

function showResult(fold, content) {
  const frame = make("pre", "", pretty(contentText(content)));
  frame.tabIndex = 0;
  fold.body.append(make("p", "label", "Result"), frame);
}

const HANDLERS = {
  MESSAGES_SNAPSHOT(event) { this.snapshot(event.messages ?? []); },
  RUN_STARTED(event) { this.begin(event.runId, event.input); },
  RUN_FINISHED(event) { this.end(event.outcome?.type === "cancelled" ? "Stopped." : "", "stopped"); },
  RUN_ERROR(event) {
    const words = event.code === "interrupted" ? "The server was restarted before this was finished. Ask again." : event.message;
    this.end(words || "This failed.", "failed");
  },
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
