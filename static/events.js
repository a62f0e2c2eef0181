// The newest events, without a gap: what the feed says is put in front only where it follows what is there. Whatever was
// missed, while the page was hidden or the feed away, has the newest fetched anew.

import { get } from './api.js';
import { change, state } from './store.js';

/** @typedef {import('./types.d.ts').Event} Event */

export const PAGE = 100;
const EVENTS_MAX = 200;

/** @type {Promise<void> | null} */
let asking = null;
let askAgain = false;

/** Fetches the newest events. Asked while that runs, it fetches once more, so that nothing in between is missed. */
export function loadEvents() {
  askAgain = true;
  asking ??= load().finally(() => {
    asking = null;
  });
  return asking;
}

async function load() {
  while (askAgain) {
    askAgain = false;
    const { events } = await get(`/api/events?limit=${PAGE}`);
    change({ events });
  }
}

/** An event of the feed. Their ids have no holes, so a hole is something missed. @param {Event} event */
export function hearEvent(event) {
  const { events } = state;
  const newest = events[0]?.id;
  if (newest !== undefined && event.id === newest + 1) change({ events: [event, ...events].slice(0, EVENTS_MAX) });
  else if (!events.some((one) => one.id === event.id)) loadEvents().catch(() => {});
}
