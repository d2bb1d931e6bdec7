export const NOW = 1_000_000;

/** A clock that only moves when told to. */
export function manualClock() {
  const timers = new Map();
  let now = NOW;
  let next = 1;
  return {
    now: () => now,
    setTimeout: (callback, ms) => { timers.set(next, { due: now + ms, callback }); return next++; },
    clearTimeout: (id) => timers.delete(id),
    pending: () => timers.size,
    advance(ms) {
      now += ms;
      for (const [id, timer] of [...timers]) {
        if (timer.due <= now && timers.delete(id)) timer.callback();
      }
    },
  };
}
