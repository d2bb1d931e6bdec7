/** The last 200 decisions, the newest few at first: a line each, folded open for the timeline. Foreign text goes through `textContent` alone. */

import { byId, clockTime, milliseconds, put, VERDICTS } from "./ops-words.js";

const KEPT = 200;
const FIRST = matchMedia("(max-width: 46rem)").matches ? 10 : 40; // so that a phone has an end of the page within reach
const MORE = 40;
const FILTERS = ["filter-kind", "filter-verdict", "filter-reason", "filter-id"];

function make(name, className, text = "") {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

/** The steps side by side, each as wide as its share. The whole is as long as the logarithm of its time, the deadline filling the line. */
function strip(decision, deadline) {
  const node = make("span", "strip");
  const total = Math.max(decision.total_ms, 0.001);
  node.style.width = `${Math.min(Math.max((Math.log1p(total) / Math.log1p(deadline)) * 100, 4), 100)}%`;
  for (const [name, ms] of decision.steps) {
    const part = make("i", `step step-${name}`);
    part.style.flexGrow = String(ms / total);
    node.append(part);
  }
  return node;
}

/** A step on a line of its own: its name, where in the whole it lies, and what it took. */
function timeline(decision) {
  const list = make("ol", "steps");
  const total = Math.max(decision.total_ms, 0.001);
  let before = 0;
  for (const [name, ms] of decision.steps) {
    const bar = make("span", "track");
    const part = make("i", `step step-${name}`);
    part.style.left = `${(before / total) * 100}%`;
    part.style.width = `${(ms / total) * 100}%`;
    bar.append(part);
    const line = make("li", "");
    line.append(make("span", "step-name", name), bar, make("span", "step-ms", milliseconds(ms)));
    list.append(line);
    before += ms;
  }
  return list;
}

function details(decision) {
  const facts = [
    ["Decision id", decision.id],
    ["Decided by", decision.source],
    ["Client got", decision.code ?? "in"],
    ["Assurance", [decision.assurance, decision.provisional && "provisional", decision.degraded && "degraded"].filter(Boolean).join(", ")],
    ["Why", decision.detail],
    ["User", decision.user_id],
    ["Token", decision.fingerprint],
    ["From", `${decision.address}, ${decision.path}`],
    ["Past the deadline", decision.overrun_ms > 0 ? milliseconds(decision.overrun_ms) : "no"],
  ];
  const list = make("dl", "detail-facts");
  for (const [name, value] of facts) {
    if (!value) continue;
    const pair = make("div", "");
    pair.append(make("dt", "", name), make("dd", "", value));
    list.append(pair);
  }
  const body = make("div", "detail");
  body.append(timeline(decision), list);
  return body;
}

function line(decision, deadline) {
  const summary = make("summary", "");
  summary.append(
    make("span", "at", clockTime(decision.at)),
    make("span", "verdict", VERDICTS[decision.verdict] ?? decision.verdict),
    make("span", "reason", decision.reason.replaceAll("_", " ")),
    make("span", "person", decision.user_id ?? "–"),
    strip(decision, deadline),
    make("span", "took", milliseconds(decision.total_ms)),
  );
  const fold = make("details", "");
  fold.append(summary);
  fold.addEventListener("toggle", () => { if (fold.open && fold.children.length === 1) fold.append(details(decision)); });
  const node = make("li", "decision");
  node.dataset.verdict = decision.verdict;
  node.append(fold);
  return node;
}

export class Decisions {
  /** The newest one that this page has; the door sends what came later. */
  newest = null;
  #entries = [];
  #paused = null;
  #deadline = 0;
  #room = FIRST;
  #list = byId("decisions");

  constructor() {
    for (const id of FILTERS) byId(id).addEventListener("input", () => this.#filter());
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    byId("decisions-more").addEventListener("click", () => this.#more());
    byId("pause").addEventListener("click", () => this.#pause());
  }

  clear() {
    this.newest = null;
    this.#entries = [];
    this.#list.replaceChildren();
  }

  show({ decisions, deadline_ms: deadline }) {
    this.#deadline = deadline;
    if (decisions.length > 0) this.newest = decisions[0].id;
    const known = new Set([...this.#entries.map(({ decision }) => decision.id), ...(this.#paused ?? []).map(({ id }) => id)]);
    const fresh = decisions.filter(({ id }) => !known.has(id)); // two answers that crossed each other hold the same
    if (this.#paused === null) this.#take(fresh);
    else {
      this.#paused = [...fresh, ...this.#paused].slice(0, KEPT);
      this.#count();
    }
  }

  #take(decisions) {
    if (decisions.length === 0 && this.#entries.length > 0) return;
    const added = decisions.map((decision) => ({ decision, node: line(decision, this.#deadline) }));
    this.#list.prepend(...added.map(({ node }) => node));
    this.#entries.unshift(...added);
    for (const { node } of this.#entries.splice(KEPT)) node.remove();
    this.#reasons();
    this.#filter();
  }

  #pause() {
    const waiting = this.#paused;
    this.#paused = waiting === null ? [] : null;
    byId("pause").setAttribute("aria-pressed", String(this.#paused !== null));
    put("pause", this.#paused !== null ? "Go on" : "Pause");
    if (waiting !== null) this.#take(waiting);
    this.#count();
  }

  /** What can be chosen is what there is, and what is chosen stays. */
  #reasons() {
    const select = byId("filter-reason");
    const chosen = select.value;
    const reasons = new Set(this.#entries.map(({ decision }) => decision.reason));
    if (chosen) reasons.add(chosen);
    const wanted = [...reasons].sort();
    if (wanted.join() === [...select.options].slice(1).map((option) => option.value).join()) return;
    select.replaceChildren(select.options[0], ...wanted.map((reason) => new Option(reason.replaceAll("_", " "), reason)));
    select.value = chosen;
  }

  #filter() {
    const [kind, verdict, reason, id] = FILTERS.map((name) => byId(name).value.trim());
    const wanted = (decision) =>
      (!kind || decision.kind === kind) &&
      (!verdict || decision.verdict === verdict) &&
      (!reason || decision.reason === reason) &&
      decision.id.startsWith(id.toLowerCase());
    let before = 0;
    for (const entry of this.#entries) {
      entry.wanted = wanted(entry.decision);
      const beyond = entry.wanted && before++ >= this.#room;
      entry.node.hidden = !entry.wanted || (beyond && !entry.node.firstChild.open); // what is being read stays
    }
    this.#count();
  }

  #more() {
    const next = this.#beyond[0].node;
    this.#room += MORE;
    this.#filter();
    next.querySelector("summary").focus({ preventScroll: true });
  }

  get #beyond() {
    return this.#entries.filter(({ wanted, node }) => wanted && node.hidden);
  }

  #count() {
    const shown = this.#entries.filter(({ wanted }) => wanted).length;
    const all = this.#entries.length;
    const beyond = this.#beyond.length;
    byId("decisions-more").hidden = beyond === 0;
    put("decisions-more", `Show more (${beyond})`);
    byId("decisions-none").hidden = shown > 0;
    put("decisions-none", all > 0 ? "None of the last decisions is like that." : "No decision yet. Open the chat, or knock.");
    const words = shown < all ? `${shown} of the last ${all}` : all === KEPT ? `The last ${all}` : "";
    const held = this.#paused?.length ? `${this.#paused.length} new since the pause` : "";
    put("shown", [words, held].filter(Boolean).join(", "));
  }
}
