/** The page: who is signed in decides which of the two views is shown. */

import { createSession, localStore } from "./doorward.js";
import { Chat } from "./chat.js";
import { BASE, SESSION_KEY } from "./place.js";
import { linkWords, SignIn } from "./signin.js";
import { signedOutMessage } from "./status.js";

const CONFIG_TIMEOUT_MS = 5_000;

const byId = (id) => document.getElementById(id);

/** What the server says about itself. The page works without it. */
async function fetchConfig() {
  try {
    const response = await fetch(`${BASE}/api/config`, { signal: AbortSignal.timeout(CONFIG_TIMEOUT_MS) });
    return response.ok ? await response.json() : {};
  } catch {
    return {};
  }
}

/** Another agent than the warden answers: nothing is suggested that only the warden knows. */
function greetForAnybody() {
  document.body.classList.add("own-agent");
  byId("question").placeholder = "Ask anything";
  byId("welcome").querySelector("p").textContent = "Ask whatever you like. An answer goes on where it was, in every tab, and after a break.";
}

/** The code of a one-time sign-in link. It leaves the address bar and the history, for `address`, before anything else happens. */
function takeCode(address) {
  const code = /^#signin=([\w.~-]+)$/.exec(location.hash)?.[1] ?? null;
  if (code !== null) history.replaceState(null, "", address);
  return code;
}

class App {
  #session = createSession({ baseUrl: BASE, store: localStore(SESSION_KEY) });
  #signIn = new SignIn({ session: this.#session, onSignedIn: () => this.#enter() });
  #chat = null;
  #config = {};
  #leaving = false;

  start() {
    byId("sign-out").addEventListener("click", () => { this.#leaving = true; }, { capture: true });
    this.#session.watchToken((token) => this.#tokenChanged(token));
    globalThis.addEventListener("hashchange", () => this.#followLink());
    if (this.#session.signedIn()) this.#enter();
    if (!this.#followLink() && this.#chat === null) this.#leave("");
    this.#configure();
  }

  async #configure() {
    const config = this.#config = await fetchConfig();
    this.#signIn.allowRegister(config.register === true);
    if (config.warden === false) greetForAnybody();
    this.#chat?.configure(config);
  }

  #followLink() {
    const code = takeCode(this.#chat?.address ?? location.pathname);
    if (code === null) return false;
    if (this.#chat !== null) {
      this.#exchange(code);
    } else {
      this.#leave("");
      this.#signIn.follow(code);
    }
    return true;
  }

  /** A link that works signs in as its person. One that does not leaves whoever is signed in where they are. */
  async #exchange(code) {
    try {
      await this.#session.signIn({ one_time_code: code });
      this.#enter();
    } catch (error) {
      if (this.#chat !== null) this.#chat.say(linkWords(error));
      else this.#signIn.follow(code); // signed out meanwhile
    }
  }

  #enter() {
    this.#leaving = false;
    const user = this.#session.user();
    if (this.#chat?.userId === (user?.user_id ?? null) && this.#chat) return;
    if (this.#chat) history.replaceState(null, "", location.pathname); // what was shown is somebody else's
    this.#chat?.dispose();
    byId("signin").hidden = true;
    byId("chat").hidden = false;
    this.#chat = new Chat({
      session: this.#session,
      user,
      config: this.#config,
      onSignedOut: (reason) => this.#leave(this.#leaving ? "" : signedOutMessage(reason)),
    });
    byId("question").focus({ preventScroll: true });
  }

  #leave(message) {
    this.#chat?.dispose();
    this.#chat = null;
    byId("chat").hidden = true;
    byId("signin").hidden = false;
    this.#signIn.show(message);
  }

  /** Another tab signed in or out, perhaps as somebody else. */
  #tokenChanged(token) {
    if (token !== null && (this.#chat === null || this.#chat.userId !== (this.#session.user()?.user_id ?? null))) this.#enter();
  }
}

new App().start();
