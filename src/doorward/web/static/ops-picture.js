/** The last ten minutes as pictures: a heat map of how long decisions took and, under it, the states of what can fail. */

import { age, byId, clockTime, milliseconds, put, row } from "./ops-words.js";

const LEFT = 60;
const RIGHT = 8;
const AXIS = 20;
const LANE = 22;
const SHOWN_EVENTS = 8;

const TONES = { closed: "ok", healthy: "ok", none: "ok", half_open: "warn", open: "bad", unhealthy: "bad" };
const WORDS = {
  breaker: { closed: "Breaker closed", open: "Breaker opened", half_open: "Breaker half open" },
  health: { healthy: "Health page answers", unhealthy: "Health page fails" },
};

/** Changes as stretches of one state each, from `start` to `end`. */
export function stretches(changes, now, start, end) {
  const found = [];
  let [from, state] = [start, changes[0]?.before ?? now];
  for (const change of changes) {
    if (change.at > start) {
      found.push({ from, to: Math.min(change.at, end), state });
      from = change.at;
    }
    state = change.after;
  }
  found.push({ from, to: end, state });
  return found.filter((each) => each.to > each.from);
}

/** The edges up to the first one past the deadline and past everything that happened: empty rows on top help nobody. */
function rows({ columns, edges_ms: edges }, deadline) {
  const highest = columns.reduce((most, column) => Math.max(most, column.counts.findLastIndex((count) => count > 0)), 0);
  return Math.min(Math.max(highest, edges.findIndex((edge) => edge >= deadline)) + 2, edges.length + 1);
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(["paper", "raised", "sunken", "line", "edge", "soft", "ink", "accent", "ok", "warn", "bad"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** A canvas as sharp as the screen, in CSS pixels. */
function prepared(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = globalThis.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  pen.textBaseline = "middle";
  return { pen, width, height };
}

export class Picture {
  #state = null;
  #pointer = null;

  constructor() {
    const again = () => this.#draw();
    new ResizeObserver(again).observe(byId("heat"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    byId("heat").addEventListener("pointermove", (event) => { this.#pointer = [event.offsetX, event.offsetY]; this.#read(); });
    byId("heat").addEventListener("pointerleave", () => { this.#pointer = null; this.#read(); });
  }

  show(state) {
    this.#state = state;
    this.#draw();
    this.#read();
    this.#events();
    this.#say();
  }

  get #span() {
    const { latency, now } = this.#state;
    const length = latency.column_seconds * latency.columns_shown;
    return { start: now - length, end: now, length };
  }

  get #total() {
    return this.#state.latency.columns.reduce((sum, column) => sum + column.counts.reduce((all, count) => all + count, 0), 0);
  }

  #draw() {
    if (this.#state === null || byId("heat").clientWidth === 0) return;
    const palette = colours();
    this.#heat(palette);
    this.#strips(palette);
  }

  #heat(palette) {
    const { latency, deadline_ms: deadline } = this.#state;
    const { pen, width, height } = prepared(byId("heat"));
    const { start, length } = this.#span;
    const count = rows(latency, deadline);
    const [plot, cell] = [width - LEFT - RIGHT, (height - 4) / count];
    const y = (index) => height - 2 - (index + 1) * cell;
    const most = Math.max(1, ...latency.columns.flatMap((column) => column.counts));
    const late = latency.edges_ms.findIndex((edge) => edge > deadline);
    pen.fillStyle = palette.sunken;
    pen.fillRect(LEFT, 2, plot, height - 4);
    for (const column of latency.columns) {
      const left = LEFT + ((column.at - start) / length) * plot;
      const wide = (latency.column_seconds / length) * plot;
      const from = Math.max(left, LEFT);
      const gap = wide > 4 ? 1 : 0;
      column.counts.forEach((number, index) => {
        if (number === 0) return;
        pen.globalAlpha = 0.3 + 0.7 * (Math.log1p(number) / Math.log1p(most));
        pen.fillStyle = late >= 0 && index >= late ? palette.bad : palette.accent;
        pen.fillRect(from, y(index) + 0.5, Math.max(Math.min(left + wide, width - RIGHT) - from - gap, 1), Math.max(cell - 1, 1));
      });
    }
    pen.globalAlpha = 1;
    this.#scale(pen, palette, count, y, width);
  }

  /** Names on the left, and the line that no answer crosses. */
  #scale(pen, palette, count, y, width) {
    const { latency: { edges_ms: edges }, deadline_ms: deadline } = this.#state;
    pen.fillStyle = palette.soft;
    pen.textAlign = "right";
    edges.slice(0, count - 1).forEach((edge, index) => {
      if (/^[1]0*$/.test(String(edge))) pen.fillText(milliseconds(edge), LEFT - 8, y(index));
    });
    const above = edges.findIndex((edge) => edge >= deadline);
    if (above < 0) return;
    pen.strokeStyle = palette.bad;
    pen.setLineDash([4, 3]);
    pen.beginPath();
    pen.moveTo(LEFT, y(above));
    pen.lineTo(width - RIGHT, y(above));
    pen.stroke();
    pen.setLineDash([]);
    pen.textAlign = "left";
    pen.fillStyle = palette.bad;
    pen.fillText(`deadline ${milliseconds(deadline)}`, LEFT + 8, y(above) - 9);
  }

  get #lanes() {
    const { breaker, health, service, faults } = this.#state;
    const lanes = [["Breaker", breaker, service.breaker], ["Health", health, service.health]];
    if (faults) {
      const switches = faults.switches.map((each, index) => ({ at: each.at, before: faults.switches[index - 1]?.key ?? "none", after: each.key }));
      lanes.push(["Fault", switches, faults.now]);
    }
    return lanes;
  }

  #strips(palette) {
    const lanes = this.#lanes;
    byId("strips").style.height = `${lanes.length * LANE + AXIS}px`;
    const { pen, width } = prepared(byId("strips"));
    const { start, end, length } = this.#span;
    const x = (at) => LEFT + ((at - start) / length) * (width - LEFT - RIGHT);
    lanes.forEach(([name, changes, state], index) => {
      const middle = index * LANE + LANE / 2;
      pen.fillStyle = palette.soft;
      pen.textAlign = "right";
      pen.fillText(name, LEFT - 8, middle);
      for (const each of stretches(changes, state, Math.max(start, end - this.#state.up_seconds), end)) {
        const tone = TONES[each.state] ?? (each.state === "unknown" ? "line" : "bad");
        const tall = tone === "ok" || tone === "line" ? 3 : tone === "bad" ? 14 : 8; // the shape tells it too, not the colour alone
        pen.fillStyle = palette[tone];
        pen.fillRect(x(each.from), middle - tall / 2, Math.max(x(each.to) - x(each.from), 1.5), tall);
      }
    });
    pen.fillStyle = palette.soft;
    for (const minutes of [10, 5, 0]) {
      pen.textAlign = minutes === 10 ? "left" : minutes === 5 ? "center" : "right";
      pen.fillText(minutes ? `${minutes} min ago` : "now", x(end - minutes * 60), lanes.length * LANE + AXIS / 2);
    }
  }

  /** What lies under the pointer, in words. */
  #read() {
    const { latency, deadline_ms: deadline } = this.#state ?? {};
    if (!latency || !this.#pointer) {
      put("readout", latency && this.#total === 0 ? "No decision in these ten minutes." : "Each square: five seconds. The stronger, the more decisions.");
      return;
    }
    const canvas = byId("heat");
    const { start, length } = this.#span;
    const at = start + ((this.#pointer[0] - LEFT) / (canvas.clientWidth - LEFT - RIGHT)) * length;
    const column = latency.columns.findLast((each) => each.at <= at && at < each.at + latency.column_seconds);
    const index = Math.floor((canvas.clientHeight - 2 - this.#pointer[1]) / ((canvas.clientHeight - 4) / rows(latency, deadline)));
    const [below, above] = [latency.edges_ms[index - 1] ?? 0, latency.edges_ms[index]];
    const range = above === undefined ? `over ${milliseconds(below)}` : below === 0 ? `up to ${milliseconds(above)}` : `${milliseconds(below)} to ${milliseconds(above)}`;
    put("readout", `${clockTime(at)}, ${range}: ${column?.counts[index] ?? 0} decisions`);
  }

  #events() {
    const { breaker, health, faults } = this.#state;
    const labels = new Map(faults?.choices.map((choice) => [choice.key, choice.label]) ?? []);
    const events = [
      ...breaker.map(({ at, after }) => ({ at, words: WORDS.breaker[after], tone: TONES[after] })),
      ...health.filter(({ after }) => WORDS.health[after]).map(({ at, after }) => ({ at, words: WORDS.health[after], tone: TONES[after] })),
      ...(faults?.switches ?? []).map(({ at, key }) => ({ at, words: key === "none" ? "Healed by hand" : `Broken by hand: ${labels.get(key)}`, tone: "mark" })),
    ].sort((one, other) => other.at - one.at).slice(0, SHOWN_EVENTS);
    row(byId("events"), events.map(({ at, words }) => `${at} ${words}`), () => {
      const node = document.createElement("li");
      node.append(document.createElement("time"), document.createElement("span"));
      return node;
    }, (node, index) => {
      const { at, words, tone } = events[index];
      node.firstChild.textContent = clockTime(at);
      node.lastChild.textContent = words;
      node.dataset.tone = tone;
    });
  }

  /** The pictures for those who do not see them. */
  #say() {
    const { now, statistics } = this.#state;
    put("heat-words", `How long decisions took in the last ten minutes: ${this.#total} decisions. Of the last five minutes half within ${milliseconds(statistics.p50_ms)}, the slowest ${milliseconds(statistics.max_ms)}.`);
    const since = (changes) => (changes.length ? `, last change ${age(now - changes.at(-1).at)} ago` : "");
    put("strips-words", this.#lanes.map(([name, changes, state]) => `${name}: ${state.replaceAll("_", " ")}${since(changes)}.`).join(" "));
  }
}
