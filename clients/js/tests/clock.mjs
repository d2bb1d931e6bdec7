export const NOW = 1_000_000;

/** A clock that only moves when told to. */
export function manualClock() {
  const timers = new Map();
  let now = NOW;
  let ahead = 0;
  let next = 1;
  return {
    now: () => now + ahead,
    monotonic: () => now,
    setTimeout: (callback, ms) => { timers.set(next, { due: now + ms, callback }); return next++; },
    clearTimeout: (id) => timers.delete(id),
    pending: () => timers.size,
    /** Somebody sets the wall clock; forward it is also what a machine sees that slept. */
    put(ms) { ahead += ms; },
    advance(ms) {
      now += ms;
      for (const [id, timer] of [...timers]) {
        if (timer.due <= now && timers.delete(id)) timer.callback();
      }
    },
  };
}
