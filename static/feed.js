// Where figures come from: the live feed, and polling while there is none. Owns the connection's life: reconnecting
// with growing, scattered pauses, noticing silence, and standing still while the page is hidden.

import { get, loadSession } from './api.js';
import { hearEvent } from './events.js';
import { change, state } from './store.js';

const PAUSE_FIRST_MS = 1000;
const PAUSE_MAX_MS = 30_000;
// The server closes with this code when the right to look has gone or changed.
const RIGHT_CHANGED = 1008;
// After so many ticks figures are old.
const TICKS_MISSED = 2;

/** @type {WebSocket | null} */
let socket = null;
let running = false;
let failures = 0;
let polling = false;
let retryTimer = 0;
let pollTimer = 0;
let silenceTimer = 0;
/** When something was last heard, or began to be waited for: `performance.now()`. */
let heardAt = 0;
/** @type {() => void} */
let onBack = () => {};

/** Calls `listener` whenever the feed has begun again: what happened in between was not heard. @param {() => void} listener */
export function onFeedBack(listener) {
  onBack = listener;
}

/** Starts and stops with the page's visibility, from now on. */
export function followVisibility() {
  document.addEventListener('visibilitychange', () => (document.hidden ? stop() : start()));
  // A page that goes into the browser's back/forward cache must not hold its socket.
  addEventListener('pagehide', stop);
  addEventListener('pageshow', (event) => event.persisted && start());
  if (!document.hidden) start();
}

/** Begins if it may: somebody with the right looks at the page. */
export function start() {
  if (running || document.hidden || !state.session || state.session.right === 'none') return;
  running = true;
  failures = 0;
  change({ link: 'connecting', lost: false });
  listenForSilence();
  connect();
}

/** Stops asking. What is shown grows old from here on. */
export function stop() {
  if (!running) return;
  running = false;
  drop();
  clearTimeout(retryTimer);
  clearTimeout(pollTimer);
  clearTimeout(silenceTimer);
  silenceTimer = 0;
  polling = false;
  change({ link: 'paused', stale: true, lost: false });
}

function connect() {
  drop();
  let isFirst = true;
  const opened = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/api/ws${sinceSeen()}`);
  socket = opened;
  opened.onmessage = (message) => {
    if (socket !== opened) return;
    onMessage(message.data);
    if (isFirst) onBack();
    isFirst = false;
  };
  opened.onclose = ({ code }) => {
    if (socket !== opened) return;
    socket = null;
    if (code === RIGHT_CHANGED) loadSession();
    retryLater();
  };
}

/** Lets go of the socket without hearing of its end. */
function drop() {
  const old = socket;
  socket = null;
  old?.close();
}

function retryLater() {
  if (!running) return;
  if (!polling) poll();
  const pause = Math.min(PAUSE_FIRST_MS * 2 ** failures, PAUSE_MAX_MS);
  failures += 1;
  clearTimeout(retryTimer);
  // Pages that lost one server must not come back in one moment.
  retryTimer = setTimeout(connect, pause * (0.5 + Math.random() / 2));
}

/** Fetches the figures until the feed is back: with every tick while that works, else with every try of the feed. */
async function poll() {
  polling = true;
  let succeeded = true;
  try {
    onStats(await get(`/api/stats${sinceSeen()}`));
    if (running && polling) change({ link: 'polling' });
  } catch {
    succeeded = false;
  }
  if (!running || !polling) return;
  if (state.session?.right === 'none') {
    stop();
    return;
  }
  const pause = succeeded ? state.tickMs : Math.min(PAUSE_FIRST_MS * 2 ** Math.min(failures, 3), PAUSE_MAX_MS);
  clearTimeout(pollTimer);
  pollTimer = setTimeout(poll, pause);
}

/** @param {string} text */
function onMessage(text) {
  const { type, payload } = JSON.parse(text);
  if (state.link !== 'live') change({ link: 'live' });
  failures = 0;
  polling = false;
  clearTimeout(pollTimer);
  if (type === 'stats') onStats(payload);
  if (type === 'history') onHistory(payload);
  if (type === 'event') hearEvent(payload);
}

/** Asks for the accounts that changed after those that are known, if any are. */
function sinceSeen() {
  return state.stats?.users_version ? `?users_since=${state.stats.users_version}` : '';
}

/**
 * The figures with all accounts in them: most messages hold those that changed, or none.
 * @param {import('./types.d.ts').Stats} stats
 */
function completed(stats) {
  const known = state.stats;
  if (!known || stats.users_scope === 'all' || !stats.users_scope) return stats;
  if (stats.users_scope === 'none') return { ...stats, users: known.users, users_version: known.users_version };
  const users = new Map(known.users.map((user) => [user.email, user]));
  for (const email of stats.users_removed) users.delete(email);
  for (const user of stats.users) users.set(user.email, user);
  return { ...stats, users: [...users.values()] };
}

/**
 * Exported for tests that replay a day.
 * @param {import('./types.d.ts').Stats} told
 */
export function onStats(told) {
  const stats = completed(told);
  const { now: at } = stats;
  const point = { at, up: stats.upload_bps, down: stats.download_bps };
  const earlier = state.live.filter((old) => old.at < at && old.at > at - state.liveSeconds);
  change({
    stats, live: [...earlier, point], statsAt: performance.now(), statsWallAt: Date.now(), stale: false, lost: false,
  });
  listenForSilence();
}

/** @param {{ history: { at: number, upload_bps: number, download_bps: number }[], duration_seconds: number }} past */
function onHistory(past) {
  const points = past.history.map((one) => ({ at: one.at, up: one.upload_bps, down: one.download_bps }));
  change({ live: points, liveSeconds: past.duration_seconds });
}

/**
 * What is late depends on how often the operator wants messages sent.
 * @param {number} seconds between two messages
 */
export function keepPace(seconds) {
  const tickMs = seconds * 1000;
  if (!(tickMs > 0) || tickMs === state.tickMs) return;
  change({ tickMs });
  // The one that runs may be for a slower pace.
  clearTimeout(silenceTimer);
  silenceTimer = 0;
  listenForSilence();
}

/** From now on counts the time in which nothing may be heard before what is shown is old. */
function listenForSilence() {
  heardAt = performance.now();
  // A timer set anew with every tick would cost more than one that finds, now and then, that it came too early.
  if (running && !silenceTimer) silenceTimer = setTimeout(judgeSilence, silenceMax());
}

const silenceMax = () => TICKS_MISSED * state.tickMs + 500;

/** What has been shown for too long is old, and a socket that says nothing for so long is given up. */
function judgeSilence() {
  silenceTimer = 0;
  if (!running) return;
  const left = heardAt + silenceMax() - performance.now();
  if (left > 0) {
    silenceTimer = setTimeout(judgeSilence, left);
    return;
  }
  change({ stale: true, lost: true });
  if (socket?.readyState === WebSocket.OPEN) {
    drop();
    retryLater();
  }
}
