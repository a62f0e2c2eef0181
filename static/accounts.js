// Changes to accounts. Each goes out with the revision it was made on; when somebody was faster, nothing of his is
// overwritten without the viewer having seen both values.

import { ApiError, loadUsers, request, userPath } from './api.js';
import { button, h, icon, write } from './dom.js';
import { t } from './i18n.js';
import { change, state } from './store.js';
import { addNotice, attempt, confirm, notify, openDialog } from './ui.js';
import { fieldText } from './views/fields.js';
import { fieldName } from './words.js';

/** @typedef {import('./types.d.ts').User} User */
/** @typedef {{ revision: number, user: User }} Base what the viewer saw when he decided */

const UNDO_SECONDS = 10;
// Changes of others to other accounts may come in between; more often than this is not chance any more.
const TRIES_MAX = 4;

export const mayChange = () => state.session?.right === 'admin';

/** Fetches the accounts for those parts of the page that need more than the feed has. */
export async function loadAccounts() {
  const accounts = await loadUsers();
  change({ accounts });
  return accounts;
}

/**
 * The account as it is now, to be changed.
 * @param {string} email
 * @returns {Promise<Base>}
 */
export async function baseOf(email) {
  const { revision, users } = await loadAccounts();
  const user = users.find((one) => one.email === email);
  if (!user) throw new Error(t('user.gone', { name: email }));
  return { revision, user };
}

/**
 * @param {string} email
 * @param {string} note
 * @returns {Promise<User>}
 */
export async function addUser(email, note) {
  const { revision } = await loadAccounts();
  const body = note ? { email, note } : { email };
  const user = await persist(revision, (current) => request('POST', '/api/users', { body, revision: current }));
  await loadAccounts();
  return user;
}

/**
 * Changes some fields of one account.
 * @param {Base} base
 * @param {Record<string, any>} patch as the API takes it, limits nested
 * @returns {Promise<boolean>} whether it was done
 */
export async function patchUser(base, patch) {
  const send = (/** @type {number} */ revision) => request('PATCH', userPath(base.user.email), { body: patch, revision });
  return carryOut(base, send, {
    fields: Object.keys(flat(patch)), mine: (field) => fieldText(field, flat(patch)[field]), wanted: (field) => flat(patch)[field], again: (now) => patchUser(now, patch),
    // What nobody else had touched is done all the same.
    otherwise: async (now, changed) => {
      const rest = without(patch, changed);
      return Object.keys(flat(rest)).length > 0 && patchUser(now, rest);
    },
  });
}

/** @param {Base} base */
export async function resetUsed(base) {
  const send = (/** @type {number} */ revision) => request('POST', `${userPath(base.user.email)}/reset`, { revision });
  if (await carryOut(base, send, { fields: [], again: async () => false })) notify(t('user.reset.done', { name: base.user.email }));
}

/** @param {Base} base @returns {Promise<boolean>} */
function rotateId(base) {
  const send = (/** @type {number} */ revision) => request('POST', `${userPath(base.user.email)}/rotate`, { revision });
  return carryOut(base, send, { fields: ['uuid'], mine: () => t('conflict.rotated'), again: rotateId });
}

/**
 * What to do when somebody else was faster.
 * @typedef {{
 *   fields: string[], mine?: (field: string) => string, wanted?: (field: string) => any,
 *   again: (now: Base) => Promise<boolean>, otherwise?: (now: Base, changed: string[]) => Promise<boolean>,
 * }} Conflict `fields` are those that the viewer judged by, flat; `mine` says what becomes of one by the viewer's will
 */

/**
 * Sends a change; where the list has moved on, looks whether that concerns what the viewer saw.
 * @param {Base} base
 * @param {(revision: number) => Promise<any>} send
 * @param {Conflict} conflict
 * @returns {Promise<boolean>}
 */
async function carryOut(base, send, conflict) {
  let { revision } = base;
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    try {
      await send(revision);
      await loadAccounts();
      return true;
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 412)) throw error;
    }
    const now = await baseOf(base.user.email);
    const { wanted } = conflict;
    // What the other one made of it is what is wanted here: nobody has to choose.
    const changed = conflict.fields.filter((field) => differ(valueOf(now.user, field), valueOf(base.user, field))
      && !(wanted && !differ(valueOf(now.user, field), wanted(field))));
    if (changed.length) return settle(now, changed, conflict);
    revision = now.revision;
  }
  throw new Error(t('conflict.busy'));
}

/**
 * A change to the list as a whole; what others did to other accounts does not matter to it.
 * @param {number} revision
 * @param {(revision: number) => Promise<any>} send
 */
async function persist(revision, send) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await send(revision);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 412) || tries === TRIES_MAX) throw error;
    }
    ({ revision } = await loadAccounts());
  }
}

/**
 * Shows both values and lets the viewer choose.
 * @param {Base} now
 * @param {string[]} changed
 * @param {Conflict} conflict
 * @returns {Promise<boolean>}
 */
function settle(now, changed, { mine = () => t('conflict.removed'), again, otherwise = async () => false }) {
  const rows = changed.map((field) => h('tr', {},
    h('th', { scope: 'row', text: fieldName(field) }),
    h('td', { text: fieldText(field, valueOf(now.user, field)) }),
    h('td', { text: mine(field) })));
  return new Promise((resolve, reject) => {
    let answer = /** @type {'mine' | 'theirs'} */ ('theirs');
    const keep = button(t('conflict.mine'), () => {
      answer = 'mine';
      close();
    }, { class: 'button danger' });
    const { close } = openDialog(t('conflict.title'), [
      h('p', { class: 'dialog-text', text: t('conflict.text', { name: now.user.email }) }),
      h('table', { class: 'rows conflict' },
        h('thead', {}, h('tr', {}, [t('conflict.field'), t('conflict.theirs'), t('conflict.yours')].map((text) => h('th', { scope: 'col', text })))),
        h('tbody', {}, rows)),
      h('footer', {}, button(t('conflict.leave'), () => close(), { class: 'button primary' }), keep),
    ], {
      onClose: () => {
        (answer === 'mine' ? again(now) : otherwise(now, changed)).then(resolve, reject);
      },
    });
  });
}

/**
 * A change without some of its fields.
 * @param {Record<string, any>} patch
 * @param {string[]} fields flat
 */
function without(patch, fields) {
  const keep = (/** @type {Record<string, any>} */ values, prefix = '') => Object.fromEntries(Object.entries(values).filter(([key]) => !fields.includes(prefix + key)));
  const { limits, ...others } = patch;
  const left = keep(limits ?? {}, 'limits.');
  return { ...keep(others), ...(Object.keys(left).length ? { limits: left } : {}) };
}

/**
 * Removes an account after ten seconds in which that can be taken back. Until then nothing has happened to him, also
 * when this page is closed.
 * @param {Base} base
 */
export function removeLater(base) {
  const { email } = base.user;
  if (Object.hasOwn(state.removing, email)) return;
  let left = UNDO_SECONDS;
  const text = h('span');
  const say = () => write(text, t('remove.pending', { name: email, n: left }));
  // Who goes now has removed nobody, and is asked whether he means that.
  const stay = (/** @type {globalThis.Event} */ event) => event.preventDefault();
  const done = () => {
    clearInterval(timer);
    removeEventListener('beforeunload', stay);
    notice.remove();
    const { [email]: _, ...removing } = state.removing;
    change({ removing });
  };
  const carry = () => {
    done();
    attempt(() => removeNow(base));
  };
  const notice = h('div', { class: 'notice pending' }, icon('warn'), text,
    button(t('remove.undo'), done, { class: 'button primary' }),
    button(t('remove.now'), carry, { class: 'button quiet' }));
  const timer = setInterval(() => {
    left -= 1;
    say();
    if (left <= 0) carry();
  }, 1000);
  say();
  addEventListener('beforeunload', stay);
  addNotice(notice);
  change({ removing: { ...state.removing, [email]: Date.now() + UNDO_SECONDS * 1000 } });
}

/** @param {Base} base */
async function removeNow(base) {
  const { email } = base.user;
  if (!await removeOnce(base)) return;
  notify(t('remove.done', { name: email }));
  if (state.route.page === 'user' && state.route.email === email) location.hash = '#/users';
}

/** @param {Base} base @returns {Promise<boolean>} */
function removeOnce(base) {
  const send = (/** @type {number} */ revision) => request('DELETE', userPath(base.user.email), { revision });
  return carryOut(base, send, { fields: ['note', 'enabled', ...LIMITS.map((limit) => `limits.${limit}`)], again: removeOnce });
}

/** @param {string} email */
export function askToRotate(email) {
  return new Promise((resolve) => {
    confirm(t('user.rotate'), t('user.rotate.text', { name: email }), t('user.rotate'), () => attempt(async () => {
      const done = await rotateId(await baseOf(email));
      if (done) notify(t('user.rotate.done', { name: email }));
      resolve(done);
    }));
  });
}

export const LIMITS = /** @type {const} */ ([
  'quota_bytes', 'quota_period', 'quota_day', 'expires_at', 'expires_after_days', 'addresses_max', 'sessions_max',
  'up_bytes_per_second_max', 'down_bytes_per_second_max',
]);

/** @param {Record<string, any>} patch */
function flat(patch) {
  const { limits = {}, ...others } = patch;
  return { ...others, ...Object.fromEntries(Object.entries(limits).map(([key, value]) => [`limits.${key}`, value])) };
}

/** @param {User} user @param {string} field */
function valueOf(user, field) {
  const [outer, inner] = field.split('.');
  return inner ? user.limits?.[/** @type {keyof User['limits']} */ (inner)] : user[/** @type {keyof User} */ (outer)];
}

/** @param {any} a @param {any} b */
const differ = (a, b) => JSON.stringify(a ?? null) !== JSON.stringify(b ?? null);
