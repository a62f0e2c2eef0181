// Which page is shown, from and to the address's fragment: `#/users/ann`, `#/sessions?user=ann`. The fragment needs
// nothing of the server, and back and forward work.

import { change } from './store.js';

/** @typedef {import('./types.d.ts').Route} Route */

/** @returns {Route} */
export function readRoute() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [page = '', ...rest] = path.split('/');
  const email = decode(rest.join('/'));
  const parameters = Object.fromEntries(new URLSearchParams(query));
  if (page === 'users') return { page: email ? 'user' : 'users', email, query: parameters };
  if (page === 'sessions' || page === 'events') return { page, email: '', query: parameters };
  return { page: 'overview', email: '', query: parameters };
}

/** @param {(token: string) => void} onToken the address with a token may be opened where the page is open already */
export function followRoute(onToken) {
  addEventListener('hashchange', () => {
    const token = takeToken();
    if (token) onToken(token);
    change({ route: readRoute() });
  });
  change({ route: readRoute() });
}

/** @param {string} email */
export const userHash = (email) => `#/users/${encodeURIComponent(email)}`;

/** @param {Record<string, string>} filter */
export function sessionsHash(filter) {
  return `#/sessions?${new URLSearchParams(filter)}`;
}

/**
 * A token in the address (`#token=…`, as `init` prints it) is taken out of it at once, so that it stays neither in the
 * history nor on the screen. The fragment is never sent to a server.
 * @returns {string | null}
 */
export function takeToken() {
  const found = /^#\/?\??token=(.+)$/.exec(location.hash);
  if (!found) return null;
  history.replaceState(null, '', location.pathname);
  return decode(found[1]);
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
