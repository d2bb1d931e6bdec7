/** One run of the agent as nodes: its parts, in the order in which they began, and a foot of constant height. */

import { copyButton } from "./blocks.js";
import { button, make } from "./dom.js";
import { Prose } from "./prose.js";

const TOOL_WORDS = new Map([
  ["service_state", ["Looking at the auth service", "Looked at the auth service"]],
  ["decision_statistics", ["Counting decisions", "Counted decisions"]],
  ["explain_decision", ["Reading a decision", "Read a decision"]],
  ["who_is_connected", ["Looking who is connected", "Looked who is connected"]],
  ["run_drill", ["Running a drill", "Ran a drill"]],
]);
const PREVIEW_CHARACTERS = 120;

/** JSON laid out for reading, any other text as it is. */
export function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** What a tool does, or did. */
export function toolWords(name, done) {
  const words = TOOL_WORDS.get(name);
  if (words) return words[done ? 1 : 0];
  return `${done ? "Used" : "Using"} ${name.replaceAll("_", " ")}`;
}

/** A part that can be folded open: a line that says what it is, and what is inside. */
class Fold {
  constructor(className, words) {
    this.words = make("span", "fold-words", words);
    this.preview = make("span", "fold-preview");
    this.preview.setAttribute("aria-hidden", "true");
    this.time = make("span", "fold-time");
    this.body = make("div", "fold-body");
    this.node = make("details", `part fold ${className}`, make("summary", "", make("span", "mark-run"), this.words, this.preview, this.time), this.body);
    this.node.dataset.running = "true";
  }

  finish(words, seconds) {
    this.words.textContent = words;
    this.preview.textContent = "";
    if (seconds >= 0.05) this.time.textContent = `${seconds.toFixed(1)} s`;
    delete this.node.dataset.running;
  }

  /** The run is over before this was. */
  halt() {
    this.finish(this.words.textContent, 0);
    this.node.dataset.halted = "true";
  }
}

/** A call of a tool, with what it was asked and what it returned. */
export class ToolFold extends Fold {
  #name;
  #args = "";

  constructor(name) {
    super("tool", toolWords(name, false));
    this.#name = name;
  }

  asked(delta) {
    this.#args += delta;
  }

  ready() {
    if (this.#args && this.#args !== "{}") this.#show("Asked", this.#args);
  }

  result(text, seconds) {
    this.#show("Result", text);
    this.finish(toolWords(this.#name, true), seconds);
  }

  /** Its run did not just end, so neither did this. */
  broken() {
    if (this.node.dataset.halted) this.words.textContent = `${toolWords(this.#name, false)}: not finished`;
  }

  #show(label, text) {
    const frame = make("pre", "", pretty(text));
    frame.tabIndex = 0;
    frame.setAttribute("role", "region");
    frame.setAttribute("aria-label", label);
    this.body.append(make("p", "label", label), frame);
  }
}

/** What the agent thinks: its last words in the line while it does, all of it inside, for those who unfold it. */
export class ReasoningFold extends Fold {
  #renderer;
  #prose = null;
  #text = "";
  #over = false;

  constructor(renderer) {
    super("thinking", "Thinking");
    this.#renderer = renderer;
    this.node.firstElementChild.addEventListener("click", () => this.#unfold()); // before the frame in which it opens
    this.node.addEventListener("toggle", () => this.#unfold()); // however else it was opened
  }

  append(delta) {
    this.#text += delta;
    this.#prose?.append(delta);
    this.preview.textContent = this.#text.trimEnd().split("\n").at(-1).slice(-PREVIEW_CHARACTERS);
  }

  done(seconds) {
    this.#over = true;
    this.#prose?.finish();
    this.finish("Thought it over", seconds);
  }

  #unfold() {
    if (this.#prose !== null) return;
    this.#prose = new Prose(this.body, this.#renderer);
    this.#prose.append(this.#text);
    if (this.#over) this.#prose.finish();
  }
}

/** A message of the agent. */
export class Answer {
  constructor(renderer) {
    this.node = make("div", "part answer");
    this.prose = new Prose(this.node, renderer);
  }
}

export class RunView {
  #parts = new Map();
  #started = new Map();
  #body = make("div", "run-body");
  #foot = make("div", "run-foot");
  #words = null;

  /** `asked` is the question, and `onAgain(question)` asks it once more. */
  constructor({ asked = null, onAgain }) {
    this.asked = asked;
    this.onAgain = onAgain;
    this.node = make("article", "run", this.#body, this.#foot);
    this.node.setAttribute("aria-label", "Answer");
    const dots = make("p", "typing", make("i"), make("i"), make("i"));
    dots.setAttribute("aria-hidden", "true");
    this.#foot.append(dots);
  }

  add(id, part, ts) {
    this.#parts.set(id, part);
    this.#started.set(id, ts);
    this.#body.append(part.node);
    return part;
  }

  part(id) {
    return this.#parts.get(id);
  }

  seconds(id, ts) {
    return (ts - this.#started.get(id)) / 1000;
  }

  /** Nothing more will come. */
  end() {
    for (const part of this.#parts.values()) {
      if (part instanceof Fold && part.node.dataset.running) part.halt();
      part.prose?.finish();
    }
    this.#foot.replaceChildren(...this.#actions());
  }

  /** Why it ended, where it did not just end. Said once. */
  say(words, className) {
    if (!words || this.#words !== null) return;
    this.#body.append(this.#words = make("p", `part ${className}`, words));
    for (const part of this.#parts.values()) {
      if (part instanceof ToolFold) part.broken();
    }
  }

  #actions() {
    const answers = () => [...this.#parts.values()].flatMap((part) => (part instanceof Answer ? [part.prose.text] : []));
    return [
      ...(answers().length ? [copyButton("Copy answer", () => answers().join("\n\n"))] : []),
      ...(this.asked ? [button("quiet small", "Ask again", () => this.onAgain(this.asked))] : []),
    ];
  }
}
