// All accounts in one table: searched, sorted, with the columns the viewer wants, and what may be done to each.

import { addUser, mayChange } from '../accounts.js';
import { columnsMenu } from '../columns.js';
import { attribute, button, h, icon, show, write } from '../dom.js';
import * as format from '../format.js';
import { t } from '../i18n.js';
import { sessionsHash, userHash } from '../route.js';
import { changeSettings } from '../settings.js';
import { state } from '../store.js';
import { createTable, textCell } from '../table.js';
import { openDialog } from '../ui.js';
import { inOwnWords } from '../validity.js';
import { addressesText, bar, empty, quotaText, serverNow, stateName, userLink, userState } from './parts.js';

/** @typedef {import('../types.d.ts').User} User */
/** @typedef {import('../types.d.ts').Column<User>} Column */

/** @returns {import('../types.d.ts').View} */
export function usersView() {
  let wanted = '';
  const columns = userColumns();
  const table = createTable({
    name: 'users', label: t('nav.users'), columns, keyOf: (user) => user.email, first: { column: 'name', descending: false },
  });
  const search = h('input', { type: 'search', placeholder: t('users.search'), 'aria-label': t('users.search') });
  search.addEventListener('input', () => {
    wanted = search.value.trim().toLowerCase();
    render(state);
  });
  const mask = h('input', { type: 'checkbox', checked: state.settings.masked });
  mask.addEventListener('change', () => changeSettings({ masked: mask.checked }));
  const add = h('button', { type: 'button', class: 'button primary', on: { click: openAdd } }, icon('plus'), h('span', { text: t('user.add') }));
  const count = h('span', { class: 'count' });
  const none = h('div');
  const root = h('div', { class: 'page' },
    h('div', { class: 'page-head' }, h('h1', { tabindex: '-1' }, t('nav.users'), count),
      h('div', { class: 'tools' },
        h('label', { class: 'search' }, icon('search'), search),
        h('label', { class: 'check' }, mask, t('addresses.mask')), columnsMenu(table), add)),
    h('div', { class: 'panel flush' }, table.root, none));

  /** @param {import('../types.d.ts').State} now */
  function render({ stats }) {
    show(add, mayChange());
    if (!stats) return;
    const users = wanted ? stats.users.filter(matches) : stats.users;
    write(count, wanted ? `${format.number(users.length)} / ${format.number(stats.users.length)}` : format.number(users.length));
    show(table.root, users.length > 0);
    show(none, users.length === 0);
    if (users.length === 0) writeNone(stats.users.length > 0);
    table.render(users);
  }

  /** @param {User} user */
  const matches = (user) => [user.email, user.note, user.uuid, ...user.addresses].some((text) => text.toLowerCase().includes(wanted));

  /** @param {boolean} searched */
  function writeNone(searched) {
    const said = searched ? 'searched' : 'nobody';
    if (none.dataset.said === said) return;
    none.dataset.said = said;
    const hint = searched ? '' : mayChange() ? t('users.none.text') : t('users.none.view');
    none.replaceChildren(searched ? empty(t('users.unfound'), t('users.unfound.text')) : empty(t('users.none'), hint,
      mayChange() ? button(t('user.add'), openAdd, { class: 'button primary' }) : null));
  }

  return { root, render, close: table.close };
}

/** A name is all it takes; the new account's page opens with link and QR code. */
export function openAdd() {
  const name = h('input', { type: 'text', required: true, maxlength: '255', autocomplete: 'off', name: 'email' });
  inOwnWords(name);
  const note = h('input', { type: 'text', maxlength: '1000', autocomplete: 'off', name: 'note' });
  const message = h('p', { class: 'form-error', role: 'alert' });
  const form = h('form', { class: 'form' },
    h('label', { class: 'field' }, h('span', { text: t('field.email') }), name, h('small', { text: t('user.add.hint') })),
    h('label', { class: 'field' }, h('span', { text: t('field.note') }), note),
    message,
    h('footer', {}, button(t('cancel'), () => close()), h('button', { type: 'submit', class: 'button primary', text: t('user.add') })));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    try {
      const user = await addUser(name.value.trim(), note.value.trim());
      close();
      location.hash = `${userHash(user.email)}?share=1`;
    } catch (error) {
      write(message, error instanceof Error ? error.message : String(error));
    }
  });
  const { close } = openDialog(t('user.add'), [form]);
  name.focus();
}

/** @returns {Column[]} */
function userColumns() {
  return [
    { key: 'name', label: t('field.email'), sort: (user) => user.email, cell: nameCell, priority: 1, fixed: true },
    { key: 'state', label: t('column.state'), sort: stateRank, cell: stateCell, priority: 1 },
    { key: 'note', label: t('field.note'), sort: (user) => user.note, cell: textCell((user) => user.note, (user) => user.note), priority: 3 },
    { key: 'sessions', label: t('nav.sessions'), sort: (user) => user.active_connections, cell: sessionsCell, numeric: true, priority: 2 },
    {
      key: 'addresses', label: t('column.addresses'), sort: (user) => user.addresses.length,
      cell: textCell((user) => addressesText(user.addresses), (user) => addressesText(user.addresses)), priority: 3,
    },
    number('down', t('column.down'), (user) => user.download_bps, rateText, 2),
    number('up', t('column.up'), (user) => user.upload_bps, rateText, 2),
    { ...number('today', t('today'), (user) => user.today_bytes, format.bytes, 2, format.exactBytes), hint: t('today.hint') },
    { ...number('month', t('month'), (user) => user.month_bytes, format.bytes, 3, format.exactBytes), hint: t('month.hint') },
    number('total', t('total'), (user) => user.total_upload_bytes + user.total_download_bytes, format.bytes, 2, format.exactBytes),
    { key: 'quota', label: t('field.quota_bytes'), sort: quotaShare, cell: quotaCell, numeric: true, priority: 1 },
    {
      key: 'expiry', label: t('field.expires_at'), sort: (user) => user.expires_at ?? Number.MAX_SAFE_INTEGER,
      cell: textCell((user) => (user.expires_at ? format.date(user.expires_at) : '–'), (user) => (user.expires_at ? format.dateTime(user.expires_at) : '')),
      numeric: true, priority: 3,
    },
    {
      key: 'seen', label: t('column.seen'), sort: (user) => (user.online ? Infinity : user.last_seen_at ?? 0), cell: textCell(seenText, seenTitle),
      numeric: true, priority: 3,
    },
  ];
}

/** Idle users are quiet: their zero speeds do not compete with what moves. @param {number} value */
const rateText = (value) => (value > 0 ? format.rate(value) : '–');

/** @param {User} user */
const quotaShare = (user) => (user.quota_bytes > 0 ? user.quota_used_bytes / user.quota_bytes : -1);

/** @param {User} user */
const stateRank = (user) => (user.online ? 3 : user.state === 'active' ? 2 : user.state === 'disabled' ? 0 : 1) + (user.state === 'active' ? 0 : -0.5);

/**
 * @param {string} key
 * @param {string} label
 * @param {(user: User) => number} value
 * @param {(value: number) => string} text
 * @param {1 | 2 | 3} priority
 * @param {(value: number) => string} [title]
 * @returns {Column}
 */
function number(key, label, value, text, priority, title) {
  return {
    key, label, sort: value, numeric: true, priority,
    cell: textCell((user) => text(value(user)), title && ((user) => title(value(user)))),
  };
}

/** The name; beneath it, on narrow screens, what their missing columns would say. */
function nameCell() {
  const link = userLink();
  const lock = h('span', { class: 'lock', title: t('user.locked.hint') }, icon('lock'), h('span', { class: 'visually-hidden', text: t('user.locked') }));
  const beneath = h('span', { class: 'beneath' });
  const node = h('span', { class: 'name-cell' }, h('span', { class: 'name-line' }, link.node, lock), beneath);
  return {
    node,
    /** @param {User} user */
    write(user) {
      link.write(user.email);
      show(lock, user.locked);
      const speeds = `↓ ${format.rate(user.download_bps)}  ↑ ${format.rate(user.upload_bps)}`;
      const seen = user.state === 'active' ? seenText(user) : stateName(user);
      write(beneath, user.download_bps + user.upload_bps > 0 ? speeds : [seen, user.note].filter(Boolean).join(' · '));
      attribute(node, 'data-state', user.online ? 'online' : user.state);
      attribute(node, 'data-removing', Object.hasOwn(state.removing, user.email));
    },
  };
}

function stateCell() {
  const { node, write: fill } = userState();
  return { node, write: fill };
}

function sessionsCell() {
  const node = h('a', { class: 'text' });
  return {
    node,
    /** @param {User} user */
    write(user) {
      write(node, user.active_connections ? format.number(user.active_connections) : '–');
      attribute(node, 'href', user.active_connections ? sessionsHash({ user: user.email }) : null);
    },
  };
}

function quotaCell() {
  const text = h('span', { class: 'text' });
  const share = bar(t('field.quota_bytes'));
  const node = h('span', { class: 'quota-cell' }, text, share.node);
  return {
    node,
    /** @param {User} user */
    write(user) {
      const limited = user.quota_bytes > 0;
      write(text, limited ? quotaText(user) : '–');
      show(share.node, limited);
      if (limited) share.write(quotaShare(user));
    },
  };
}

/** @param {User} user */
function seenText(user) {
  if (user.online) return t('now');
  return user.last_seen_at ? format.relative(user.last_seen_at, serverNow()) : t('never');
}

/** @param {User} user */
const seenTitle = (user) => (user.last_seen_at ? format.dateTime(user.last_seen_at) : '');
