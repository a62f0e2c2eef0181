// Requests to the API. Every one has a deadline, and every failure is an `ApiError` whose message is a sentence in the
// viewer's language.

import { t } from './i18n.js';
import { change, state } from './store.js';
import { errorText } from './words.js';

const DEADLINE_MS = 10_000;
// As much of an id as the server shows to everybody.
const ID_SHOWN = 8;

export class ApiError extends Error {
  /**
   * @param {number} status 0 where there was no answer
   * @param {string} message
   * @param {any} body
   */
  constructor(status, message, body) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {{ body?: unknown, revision?: number, signal?: AbortSignal }} [more]
 * @returns {Promise<any>} the JSON of the answer, or null where it has none
 */
export async function request(method, path, { body, revision, signal } = {}) {
  /** @type {Record<string, string>} */
  const headers = { Accept: 'application/json' };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (revision !== undefined) headers['If-Match'] = `"${revision}"`;
  const deadline = AbortSignal.timeout(DEADLINE_MS);
  const options = {
    method, headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
  };
  let response;
  let answer;
  try {
    response = await fetch(path, options);
    const text = await response.text();
    answer = text ? JSON.parse(text) : null;
  } catch (error) {
    throw failed(response?.status ?? 0, error);
  }
  if (response.ok) return answer;
  if (response.status === 401 && path !== '/api/login') askToLogIn();
  // The right to change has gone, though the one to look is still there.
  if (response.status === 403 && state.session?.right === 'admin') loadSession();
  throw new ApiError(response.status, errorText(response.status, answer), answer);
}

/** What stands for an answer that never came, or is no JSON. @param {number} status @param {unknown} error */
function failed(status, error) {
  const name = error instanceof Error ? error.name : '';
  if (name === 'AbortError') return error;
  if (name === 'TimeoutError') return new ApiError(status, t('error.timeout'), null);
  return new ApiError(status, t(name === 'SyntaxError' ? 'error.garbled' : 'error.network'), null);
}

/** @param {string} path @param {AbortSignal} [signal] */
export const get = (path, signal) => request('GET', path, { signal });

/** The right has gone (logged out elsewhere, token changed, server restarted): the login is shown. */
function askToLogIn() {
  const version = state.session?.version ?? '';
  change({ session: { right: 'none', login_required: true, version }, accounts: null });
}

/** Asks who we are; the first thing the page does. */
export async function loadSession() {
  try {
    change({ session: await get('/api/session'), failure: null });
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 401)) {
      change({ failure: error instanceof Error ? error.message : String(error) });
    }
  }
}

/** @param {string} token */
export async function logIn(token) {
  await request('POST', '/api/login', { body: { token } });
  await loadSession();
}

export async function logOut() {
  await request('POST', '/api/logout');
  change({ stats: null, live: [], events: [], accounts: null });
  await loadSession();
}

/** @param {string} email */
export const userPath = (email) => `/api/users/${encodeURIComponent(email)}`;

/**
 * The accounts with their revision.
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ revision: number, users: import('./types.d.ts').User[] }>}
 */
export async function loadUsers(signal) {
  const { revision, users } = await get('/api/users', signal);
  // Ids are credentials: whole ones are fetched when somebody asks to see one, and kept no longer than shown.
  return { revision, users: users.map((/** @type {import('./types.d.ts').User} */ user) => ({ ...user, uuid: user.uuid.slice(0, ID_SHOWN) })) };
}

/** The whole id of one account, for the admin right. @param {string} email @returns {Promise<string>} */
export async function loadId(email) {
  const { users } = await get('/api/users');
  const user = users.find((/** @type {import('./types.d.ts').User} */ one) => one.email === email);
  if (!user) throw new Error(t('user.gone', { name: email }));
  return user.uuid;
}
