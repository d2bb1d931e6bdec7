/** Where the server is: one folder above this file, so that the pages work under any path that a proxy puts before them. */

/** The path before `/ws`, `/api` and `/auth`, without the slash at its end; at the root of an origin it is empty. */
export const BASE = new URL("..", import.meta.url).pathname.slice(0, -1);

/** Where the tokens are kept. Two servers on one origin, under different paths, know different people. */
export const SESSION_KEY = `doorward.session${BASE}`;
