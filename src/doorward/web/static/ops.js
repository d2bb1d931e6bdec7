/** The ops page: asks the door once a second, and hands what it says to the parts of the page. */

import { createSession, localStore } from "./doorward.js";
import { Decisions } from "./ops-decisions.js";
import { Faults } from "./ops-faults.js";
import { Picture } from "./ops-picture.js";
import { age, byId, clockTime, milliseconds, put, row } from "./ops-words.js";
import { BASE, SESSION_KEY } from "./place.js";

const EVERY_MS = 1_000;
const EVERY_MS_HEALING = 500;
const EVERY_MS_HIDDEN = 5_000;
const TIMEOUT_MS = 5_000;
const LOST_AFTER = 3;

const HOW = { ops_token: (viewer) => `Ops token, until ${clockTime(viewer.until)}`, admin: (viewer) => viewer.name, this_host: () => "From this host" };

/** What outlives a reload of this tab, and nothing more. Where the browser allows none, it lives as long as the page. */
class Keep {
  #held = new Map();

  get(name) {
    try { return sessionStorage.getItem(`doorward.${name}`) ?? this.#held.get(name) ?? null; } catch { return this.#held.get(name) ?? null; }
  }

  set(name, value) {
    this.#held.set(name, value);
    try { sessionStorage.setItem(`doorward.${name}`, value); } catch { /* it lives as long as the page */ }
  }

  drop(name) {
    this.#held.delete(name);
    try { sessionStorage.removeItem(`doorward.${name}`); } catch { /* it was never there */ }
  }
}

/** A token in the address leaves it, and the history, before anything else happens. */
function takeFragment(keep) {
  const [, name, token] = /^#(token|change)=([\w.~-]+)$/.exec(location.hash) ?? [];
  if (!name) return;
  history.replaceState(null, "", location.pathname);
  keep.set(name === "token" ? "ops" : "change", token);
}

class Refused extends Error {
  constructor(status, problem) {
    super(problem.title ?? `The door answered ${status}.`);
    this.status = status;
  }
}

class Ops {
  #keep = new Keep();
  #session = createSession({ baseUrl: BASE, store: localStore(SESSION_KEY) });
  #picture = new Picture();
  #decisions = new Decisions();
  #faults = new Faults({ change: (fault) => this.#change(fault), token: () => this.#session.getToken()?.token ?? null });
  #timer = null;
  #asking = null;
  #failures = 0;
  #healing = false;
  #shownAt = 0;
  #issuer = null;
  #state = null;

  start() {
    takeFragment(this.#keep);
    globalThis.addEventListener("hashchange", () => { takeFragment(this.#keep); this.#soon(); });
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.#soon(); });
    byId("gate-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#keep.set("ops", byId("token").value.trim());
      byId("token").value = "";
      this.#soon();
    });
    byId("forget").addEventListener("click", () => { this.#keep.drop("ops"); this.#decisions.clear(); this.#soon(); });
    this.#look();
  }

  /** Look now; a look that is under way is enough. */
  #soon() {
    clearTimeout(this.#timer);
    if (this.#asking === null) this.#look();
  }

  async #look() {
    this.#asking = this.#ask("state", { after: this.#decisions.newest ?? "" });
    try {
      this.#show(await this.#asking);
      this.#failures = 0;
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#asking = null;
      this.#timer = setTimeout(() => this.#look(), document.hidden ? EVERY_MS_HIDDEN : this.#healing ? EVERY_MS_HEALING : EVERY_MS);
    }
  }

  async #change(fault) {
    this.#show(await this.#ask("fault", { after: this.#decisions.newest ?? "" }, { fault }));
  }

  async #ask(what, query, body = null) {
    const headers = {};
    const [token, change] = [await this.#token(), this.#keep.get("change")];
    if (token) headers.authorization = `Bearer ${token}`;
    if (change) headers["x-doorward-change"] = change;
    if (body) headers["content-type"] = "application/json";
    const response = await fetch(`${BASE}/ops/api/${what}?${new URLSearchParams(query)}`, {
      method: body ? "POST" : "GET",
      headers,
      body: body && JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Refused(response.status, answer);
    return answer;
  }

  /** An ops token first; else the sign-in of the chat, refreshed if that works. Without either this host may still look. */
  async #token() {
    const ops = this.#keep.get("ops");
    if (ops) return ops;
    if (!this.#session.signedIn()) return null;
    try {
      return (this.#session.getToken() ?? (await this.#session.refresh({ signal: AbortSignal.timeout(TIMEOUT_MS) }))).token;
    } catch {
      return null;
    }
  }

  #failed(error) {
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
      this.#keep.drop("ops");
      this.#refused(error.message);
      return;
    }
    this.#failures += 1;
    const lost = this.#failures >= LOST_AFTER;
    this.#pill(lost ? "bad" : "warn", error instanceof Refused ? error.message : lost ? "The door is not answering" : "Late");
    if (lost && this.#state !== null) this.#outdated();
  }

  /** What was true then may not be so now: nothing here says that all is well. */
  #outdated() {
    byId("headline").closest("section").dataset.tone = "bad";
    put("headline", "Not known.");
    put("because", `All that stands here is from ${clockTime(this.#shownAt)}: since then the door could not be asked.`);
  }

  #refused(why) {
    put("gate-why", why);
    byId("board").hidden = true;
    byId("forget").hidden = true;
    put("who", "");
    this.#pill("warn", "Not let in");
    if (!byId("gate").hidden) return;
    byId("gate").hidden = false;
    byId("token").focus();
  }

  #show(state) {
    if (state.now < this.#shownAt) return; // overtaken by the answer to a change
    this.#shownAt = state.now;
    this.#healing = state.in_outage && state.faults?.now === "none";
    byId("gate").hidden = true;
    byId("board").hidden = false;
    byId("forget").hidden = state.viewer.how !== "ops_token";
    put("who", HOW[state.viewer.how](state.viewer));
    byId("who").title = byId("who").textContent;
    this.#pill("ok", "Live");
    this.#issuers(state);
    this.#verdicts(state);
    this.#decisions.show(state);
    this.#connections(state);
  }

  /** One auth service at a time: the one that was chosen, else the first that is in trouble, else the first. */
  #issuers(state) {
    const { services } = state;
    const service = services.find(({ issuer }) => issuer === this.#issuer) ?? services.find((each) => each.in_outage) ?? services[0];
    byId("issuers").hidden = services.length < 2;
    row(byId("issuers"), services.map(({ issuer }) => issuer), (name) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "outlined";
      button.addEventListener("click", () => { this.#issuer = name; this.#issuers(this.#state); });
      return button;
    }, (button, index) => {
      const [tone, headline] = standing(services[index]);
      button.textContent = services[index].issuer + (tone === "warn" || tone === "bad" ? ", in trouble" : "");
      button.title = headline;
      button.setAttribute("aria-pressed", String(services[index] === service));
    });
    this.#state = state;
    const one = { ...state, service, in_outage: service.in_outage, breaker: service.breaker_changes, health: service.health_changes };
    this.#service(one);
    this.#picture.show(one);
    this.#faults.show(one);
  }

  #pill(tone, words) {
    byId("pill").dataset.tone = tone;
    put("pill-text", words);
  }

  #service(state) {
    const { service } = state;
    const [tone, headline] = standing(service);
    byId("headline").closest("section").dataset.tone = tone;
    put("headline", headline);
    put("because", state.in_outage || service.health === "unhealthy" ? service.last_error ?? "" : "");
    const facts = [
      ["Breaker", `${service.breaker.replace("_", " ")} for ${age(service.breaker_since_seconds)}`],
      ["Health", health(service)],
      ["Last answer", service.last_contact_age_seconds === null ? "never" : `${age(service.last_contact_age_seconds)} ago`],
      ["Key set", service.keyset_age_seconds === null ? "none yet" : `${age(service.keyset_age_seconds)} old`],
      ["Revocations", service.feed_age_seconds === null ? service.feed : `${service.feed}, ${age(service.feed_age_seconds)} old`],
      ["In an outage", { local_jwt: "proven tokens get in", cached_only: "known tokens get in", deny: "nobody gets in" }[service.degrade_mode] ?? service.degrade_mode],
      ["Calls in flight", String(service.in_flight)],
      ["Barred tokens", String(service.bars)],
      ["Address", service.url],
    ];
    row(byId("facts"), facts.map(([name]) => name), (name) => {
      const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
      dt.textContent = name;
      const node = document.createElement("div");
      node.append(dt, dd);
      return node;
    }, (node, index) => { node.lastChild.textContent = facts[index][1]; });
  }

  #verdicts({ statistics, deadline_ms: deadline }) {
    for (const verdict of ["allow", "deny", "unavailable"]) put(`count-${verdict}`, (statistics.by_verdict[verdict] ?? 0).toLocaleString("en"));
    put("p50", milliseconds(statistics.p50_ms));
    put("p99", milliseconds(statistics.p99_ms));
    put("slowest", milliseconds(statistics.max_ms));
    put("deadline", milliseconds(deadline));
  }

  #connections({ connections: { total, newest }, now }) {
    put("connections-total", total.toLocaleString("en"));
    byId("connections-none").hidden = total > 0;
    row(byId("connections"), newest.map((each) => each.id), () => {
      const node = document.createElement("li");
      node.append(...["person", "state", "where"].map((name) => Object.assign(document.createElement("span"), { className: name })));
      return node;
    }, (node, index) => {
      const each = newest[index];
      const words = [each.user_id, each.degraded ? `${each.assurance}, degraded` : each.assurance, `${each.path} from ${each.address}, ${age(now - each.since)}`];
      words.forEach((text, at) => { node.children[at].textContent = text; });
      node.children[0].title = each.user_id;
      node.dataset.tone = each.assurance === "live" ? "ok" : "warn";
    });
  }
}

/** Of the last few probes, and of the very last where that says otherwise. */
function health({ health: condition, last_probe_ms: ms, last_probe_passed: passed }) {
  if (ms === null) return condition;
  const told = passed === (condition === "healthy") ? "" : passed ? "the last passed, " : "the last failed, ";
  return `${condition}, ${told}${milliseconds(ms)}`;
}

/** How it is, in one sentence. */
function standing(service) {
  if (service.breaker === "open") return ["bad", "No good answer. The breaker is open."];
  if (service.breaker === "half_open") return ["warn", "Answering again. One more answer closes the breaker."];
  if (service.in_outage) return ["warn", "The last question got no good answer."];
  if (service.health === "unhealthy" && service.last_error) return ["warn", "Its health page does not answer."];
  if (service.last_contact_age_seconds === null && service.health === "unknown") return ["busy", "Not heard from yet."];
  return ["ok", "Answering."];
}

new Ops().start();
