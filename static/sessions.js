// Live sessions: fetching them page by page, and cutting them.

import { ApiError, get, request } from './api.js';
import { t } from './i18n.js';
import { attempt, confirm, notify } from './ui.js';

/** @typedef {import('./types.d.ts').Connection} Connection */
/** @typedef {{ user?: string, source?: string, target?: string }} Filter */

const PAGE = 1000;
// What one browser tab is asked to hold.
const SESSIONS_MAX = 20_000;
const CUTS_AT_A_TIME = 6;

/**
 * All sessions that a filter lets through, up to what the page holds.
 * @param {Filter} filter
 * @param {AbortSignal} signal
 * @returns {Promise<{ total: number, sessions: Connection[] }>}
 */
export async function loadSessions(filter, signal) {
  /** @type {Connection[]} */
  const sessions = [];
  let after = '';
  for (;;) {
    const query = new URLSearchParams({ ...given(filter), limit: String(PAGE), ...(after ? { after } : {}) });
    const { total, connections, next } = await get(`/api/connections?${query}`, signal);
    sessions.push(...connections);
    if (!next || !connections.length || sessions.length >= SESSIONS_MAX) return { total, sessions };
    after = next;
  }
}

/**
 * Asks, cuts one, and says what happened.
 * @param {Connection} session
 * @param {() => void} then
 */
export function cutOne(session, then) {
  confirm(t('cut.title'), t('cut.one.text', { user: session.user || '–', target: session.target || '–' }), t('cut'), () => attempt(async () => {
    const { cut, took_ms: took } = await request('DELETE', `/api/connections/${encodeURIComponent(session.id)}`);
    notify(cut ? t('cut.done', { n: cut, name: session.user || session.client, ms: took }) : t('cut.gone'));
    then();
  }));
}

/**
 * Fetches what a filter lets through now, asks, cuts just that, and says what happened. What is shown may be of an
 * earlier filter, or of a moment ago.
 * @param {Filter} filter
 * @param {() => void} then
 */
export function cutAll(filter, then) {
  attempt(async () => {
    const { sessions } = await loadSessions(filter, new AbortController().signal);
    if (sessions.length) askToCut(filter, sessions, then);
    else notify(t('cut.gone'));
  });
}

/**
 * @param {Filter} filter
 * @param {Connection[]} sessions
 * @param {() => void} then
 */
function askToCut(filter, sessions, then) {
  const who = Object.values(given(filter)).join(', ') || t('cut.everybody');
  confirm(t('cut.title'), t('cut.all.text', { n: sessions.length, name: who }), t('cut.all', { n: sessions.length }), () => attempt(async () => {
    const { cut, took, told, failure } = await cutFiltered(given(filter), sessions);
    if (failure) notify(t('cut.partly', { n: cut, all: sessions.length, name: who, error: failure.message }), 'bad');
    else if (told === false) notify(t('cut.here', { n: cut, name: who }), 'bad');
    else notify(t('cut.done', { n: cut, name: who, ms: took }));
    then();
  }));
}

/**
 * The server cuts by one user or one source at once; any other choice is cut one by one, up to the first failure: what
 * was done by then is done, and is said.
 * @param {Filter} filter
 * @param {Connection[]} sessions
 * @returns {Promise<{ cut: number, took: number, told?: boolean, failure?: Error }>} whether the other nodes, if any, were told
 */
async function cutFiltered(filter, sessions) {
  const keys = Object.keys(filter);
  if (keys.length === 1 && keys[0] !== 'target') {
    const { cut, took_ms: took, other_nodes_told: told } = await request('DELETE', `/api/connections?${new URLSearchParams(/** @type {Record<string, string>} */ (filter))}`);
    return { cut, took, told };
  }
  const began = performance.now();
  const left = sessions.map((one) => one.id);
  let cut = 0;
  /** @type {Error | undefined} */
  let failure;
  const worker = async () => {
    for (let id = left.pop(); id !== undefined && !failure; id = left.pop()) {
      try {
        const answer = await request('DELETE', `/api/connections/${encodeURIComponent(id)}`);
        cut += answer.cut;
      } catch (error) {
        // One that has ended meanwhile is no failure.
        if (!(error instanceof ApiError && error.status === 404)) failure ??= /** @type {Error} */ (error);
      }
    }
  };
  await Promise.all(Array.from({ length: CUTS_AT_A_TIME }, worker));
  return { cut, took: Math.round(performance.now() - began), failure };
}

/** @param {Filter} filter @returns {Record<string, string>} */
function given(filter) {
  return Object.fromEntries(Object.entries(filter).filter(([, value]) => value));
}
