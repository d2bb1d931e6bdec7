/** The fault panel of `doorward up`: break it, knock at the door, heal it, and watch how long it takes. */

import { readReason } from "./doorward.js";
import { age, byId, clockTime, milliseconds, put, row } from "./ops-words.js";
import { BASE } from "./place.js";

const PROMISED_SECONDS = 5;
const KNOCKS = 6;
const KNOCK_WORDS = "Knock six times";
const KNOCK_TIMEOUT_MS = 10_000;
const TICK_MS = 100;
const BEARER = "base64url.bearer.authorization.doorward.";

const ADMITTED = { live: "let in", cached: "let in, known from before", local: "let in, by the signature alone" };
const SAID = {
  TOKEN_REJECTED: "refused: no such token",
  TOKEN_EXPIRED: "refused: the token has run out",
  TOKEN_REVOKED: "refused: the token was revoked",
  SERVICE_UNAVAILABLE: "told to come back",
  OVERLOADED: "told to come back",
  RATE_LIMITED: "told to come back: too many from here",
  RESTARTING: "told to come back: restarting",
};
const CAUSES = { deadline: "no answer by the deadline", upstream: "it failed", breaker_open: "the breaker is open", config: "it refuses our secret", throttled: "it asked for quiet", protocol: "its answer was no answer", keyset: "no key set", stale: "the outage is too long" };

const base64url = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** A token that nobody has ever seen: the door must ask about it. */
const strangeToken = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

/**
 * One opening handshake with this token. Resolves to what it got and how long that took; the socket is closed again.
 * One after the other: a browser makes no second one while the first is not answered (RFC 6455, section 4.1).
 */
function knock(token) {
  const began = performance.now();
  const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${BASE}/ws`;
  const socket = new WebSocket(url, ["doorward.v1", BEARER + base64url(new TextEncoder().encode(token))]);
  return new Promise((resolve) => {
    const settle = (words, tone) => {
      clearTimeout(timer);
      resolve({ words, tone, ms: performance.now() - began });
      socket.close(1000);
    };
    const timer = setTimeout(() => settle("no answer", "bad"), KNOCK_TIMEOUT_MS);
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.notice === "auth.assurance") settle(ADMITTED[frame.assurance] ?? "let in", "ok");
      else if (frame.type === "auth.error") settle(`${SAID[frame.code] ?? frame.code}${frame.cause ? `: ${CAUSES[frame.cause] ?? frame.cause}` : ""}`, frame.action === "retry" ? "warn" : "deny");
    };
    socket.onclose = ({ reason }) => settle(readReason(reason).code ?? "the connection was cut", "bad");
  });
}

export class Faults {
  #change;
  #token;
  #state = null;
  #seenAt = 0;
  #knocks = [];
  #timer = null;
  #opened = null;

  /** `change(key)` breaks or heals; `token()` is that of whoever is signed in, or null. */
  constructor({ change, token }) {
    this.#change = change;
    this.#token = token;
    byId("heal").addEventListener("click", () => this.#switch("none"));
    byId("knock").addEventListener("click", () => this.#knock());
  }

  show(state) {
    this.#state = state;
    this.#seenAt = performance.now();
    byId("faults").hidden = !state.faults;
    document.body.classList.toggle("has-faults", Boolean(state.faults));
    if (!state.faults) return;
    this.#buttons(state);
    this.#tell();
    this.#timer ??= setInterval(() => this.#tell(), TICK_MS);
  }

  /** Wall-clock seconds by the door's clock. */
  get #now() {
    return this.#state.now + (performance.now() - this.#seenAt) / 1000;
  }

  #buttons({ faults, viewer }) {
    byId("faults-locked").hidden = viewer.may_change;
    byId("heal").disabled = !viewer.may_change || faults.now === "none";
    const chosen = faults.choices.find(({ key }) => key === faults.now);
    const groups = [...new Set(faults.choices.map(({ group }) => group))];
    row(byId("fault-choices"), groups, (group) => folded(group, group === groups[0]), (node, index) => {
      const choices = faults.choices.filter(({ group }) => group === groups[index]);
      const holds = choices.includes(chosen);
      if (holds && faults.now !== this.#opened) node.open = true;
      node.firstChild.lastChild.textContent = holds ? chosen.label : "";
      row(node.lastChild, choices.map(({ key }) => key), (key) => this.#button(key), (button, at) => {
        const { key, label, effect } = choices[at];
        button.firstChild.textContent = label;
        button.lastChild.textContent = effect;
        button.disabled = !viewer.may_change;
        button.setAttribute("aria-pressed", String(key === faults.now));
      });
    });
    this.#opened = faults.now;
  }

  /** Pressed it breaks, pressed again it heals. Its name is the label and what happens then: all that is seen in it. */
  #button(key) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...["label", "effect"].map((name) => Object.assign(document.createElement("span"), { className: name })));
    button.firstChild.after(" ");
    button.addEventListener("click", () => this.#switch(button.getAttribute("aria-pressed") === "true" ? "none" : key));
    return button;
  }

  async #switch(key) {
    try {
      await this.#change(key);
    } catch (error) {
      put("fault-words", error.message);
    }
  }

  /** What holds, and since when: written ten times a second, so that the clock runs. */
  #tell() {
    const { faults, in_outage: outage, breaker } = this.#state;
    const last = faults.switches.at(-1);
    const passed = last ? Math.max(this.#now - last.at, 0) : 0;
    const healing = faults.now === "none" && last !== undefined;
    byId("fault-now").dataset.tone = faults.now !== "none" ? "bad" : outage ? "warn" : "ok";
    byId("fault-progress").hidden = !(healing && outage);
    byId("fault-progress").value = Math.min(passed, PROMISED_SECONDS);
    put("fault-clock", faults.now !== "none" ? age(passed) : healing && outage ? `${passed.toFixed(1)} s` : "");
    const label = faults.choices.find(({ key }) => key === faults.now)?.label;
    put("fault-name", label ?? (healing && outage ? "Healed" : ""));
    if (faults.now !== "none") put("fault-words", this.#broken());
    else if (healing && outage) put("fault-words", "The door asks once a second; two answers close the breaker.");
    else if (healing) put("fault-words", recovered(last.at, breaker));
    else put("fault-words", "Nothing is broken from here. Break something, knock, and watch what people get.");
  }

  #broken() {
    const { service: { breaker }, in_outage: outage } = this.#state;
    if (breaker === "open") return "Broken, and the breaker is open: nobody waits any more. Whoever holds a proven token gets in at once.";
    if (outage) return "Broken. Who is proven gets in within half a second, everybody else is answered before the deadline.";
    return "Broken, and nobody has noticed yet. Knock.";
  }

  async #knock() {
    const token = this.#token();
    byId("knock").disabled = true;
    put("knock", "Knocking");
    this.#knocks = [];
    try {
      for (let count = 0; count < KNOCKS; count += 1) {
        const who = token && count === 0 ? "You" : "Stranger";
        this.#answered(who, await knock(who === "You" ? token : strangeToken()));
      }
    } finally {
      byId("knock").disabled = false;
      put("knock", KNOCK_WORDS);
    }
  }

  /** Equal answers are one line: how many, what, and how long the slowest took. */
  #answered(who, { words, tone, ms }) {
    const key = `${who} ${words}`;
    const known = this.#knocks.find((each) => each.key === key);
    if (known) Object.assign(known, { ms: Math.max(known.ms, ms), count: known.count + 1 });
    else this.#knocks = [{ key, who, words, tone, ms, at: this.#now, count: 1 }, ...this.#knocks];
    row(byId("knocks"), this.#knocks.map(({ key }) => key), () => {
      const node = document.createElement("li");
      node.append(...["time", "span", "b"].map((name) => document.createElement(name)));
      return node;
    }, (node, index) => {
      const each = this.#knocks[index];
      const who = each.count > 1 ? `${each.count} strangers` : each.who;
      [clockTime(each.at), `${who}: ${each.words}`, milliseconds(each.ms)].forEach((text, part) => { node.children[part].textContent = text; });
      node.dataset.tone = each.tone;
    });
  }
}

/** A group of choices under its heading; what holds of it stands beside the heading. */
function folded(name, open) {
  const group = Object.assign(document.createElement("details"), { open });
  const heading = document.createElement("summary");
  heading.append(name, document.createElement("b"));
  group.append(heading, document.createElement("div"));
  return group;
}

/** How long the repair took to be noticed, by the door's own clock. */
function recovered(healedAt, breaker) {
  const closed = breaker.find(({ at, after }) => at >= healedAt && after === "closed");
  if (!closed) return "Healed. The breaker never opened.";
  const seconds = closed.at - healedAt;
  return seconds < 0.1 ? "Recovered at once: the repair answered what was still waiting." : `Recovered ${seconds.toFixed(1)} s after the repair.`;
}
