// Live sessions: a table that refreshes itself as often as its length allows, filters, and cutting.

import { mayChange } from '../accounts.js';
import { columnsMenu } from '../columns.js';
import { attribute, button, h, icon, show, write } from '../dom.js';
import * as format from '../format.js';
import { lookUp, t } from '../i18n.js';
import { sessionsHash, userHash } from '../route.js';
import { cutAll, cutOne, loadSessions } from '../sessions.js';
import { changeSettings } from '../settings.js';
import { state } from '../store.js';
import { createTable, textCell } from '../table.js';
import { empty } from './parts.js';

/** @typedef {import('../types.d.ts').Connection} Connection */
/** @typedef {import('../types.d.ts').Column<Connection>} Column */
/** @typedef {import('../sessions.js').Filter} Filter */

const REFRESH_MS = 2000;
// Each thousand sessions make the next fetch wait so much longer.
const REFRESH_MS_PER_THOUSAND = 1500;

/**
 * The table, for the page of sessions and for one user's page.
 * @param {Filter} fixed
 */
export function sessionsTable(fixed) {
  /** @type {Filter} */
  let filter = fixed;
  /** @type {Connection[]} */
  let sessions = [];
  let total = 0;
  let loaded = false;
  let failure = '';
  let next = 0;
  /** @type {AbortController | null} */
  let asking = null;

  const columns = sessionColumns(() => refresh(), Boolean(fixed.user));
  const table = createTable({
    name: fixed.user ? 'user-sessions' : 'sessions', label: t('nav.sessions'), columns, keyOf: (one) => one.id,
    first: { column: 'age', descending: false },
  });
  const none = h('div', {}, empty(t('sessions.none'), t('sessions.none.text')));
  const message = h('p', { class: 'chart-message' });
  const cut = button(t('cut.these'), () => cutAll(filter, refresh), { class: 'button danger' });
  const root = h('div', { class: 'sessions' }, table.root, none, message);

  async function fetchAll() {
    const mine = new AbortController();
    asking = mine;
    try {
      const answer = await loadSessions(filter, mine.signal);
      if (asking !== mine) return;
      ({ sessions, total } = answer);
      failure = total > sessions.length ? t('sessions.more', { n: total - sessions.length }) : '';
      loaded = true;
    } catch (error) {
      if (asking !== mine) return;
      failure = error instanceof Error ? error.message : String(error);
    }
    asking = null;
    next = performance.now() + REFRESH_MS + (sessions.length / 1000) * REFRESH_MS_PER_THOUSAND;
    render();
  }

  function refresh() {
    asking?.abort();
    asking = null;
    next = 0;
    render();
  }

  function render() {
    // Ticks drive the refreshing; without ticks, as while hidden, nothing is fetched.
    if (!asking && performance.now() >= next) fetchAll();
    show(table.root, sessions.length > 0);
    show(none, loaded && sessions.length === 0 && !failure);
    // A click that itself takes a new filter over must still find the button.
    show(cut, mayChange() && (sessions.length > 0 || !loaded));
    show(message, failure !== '');
    write(message, failure);
    table.render(sessions);
    onRendered(total);
  }

  /** @type {(total: number) => void} */
  let onRendered = () => {};

  return {
    root, cut, table,
    render: (/** @type {unknown} */ _) => render(),
    /** @param {Filter} wanted */
    setFilter(wanted) {
      filter = { ...wanted, ...fixed };
      // What the filter before let through is not what this one does.
      sessions = [];
      total = 0;
      loaded = false;
      refresh();
    },
    /** @param {(total: number) => void} listener */
    onTotal(listener) {
      onRendered = listener;
    },
    close() {
      asking?.abort();
      asking = null;
      next = Infinity;
      table.close();
    },
  };
}

/** @returns {import('../types.d.ts').View} */
export function sessionsView() {
  const { user = '', source = '', target = '' } = state.route.query;
  const table = sessionsTable({});
  const filters = { user, source, target };
  const inputs = /** @type {const} */ (['user', 'source', 'target']).map((key) => {
    const input = h('input', { type: 'search', placeholder: t(`filter.${key}`), 'aria-label': t(`filter.${key}`), name: key, list: key === 'user' ? 'user-names' : null });
    input.value = filters[key];
    input.addEventListener('change', () => {
      filters[key] = input.value.trim();
      const wanted = Object.fromEntries(Object.entries(filters).filter(([, value]) => value));
      history.replaceState(null, '', sessionsHash(wanted));
      table.setFilter(wanted);
    });
    return input;
  });
  const names = h('datalist', { id: 'user-names' });
  const mask = h('input', { type: 'checkbox', checked: state.settings.masked });
  mask.addEventListener('change', () => changeSettings({ masked: mask.checked }));
  const count = h('span', { class: 'count' });
  table.onTotal((total) => write(count, format.number(total)));
  table.setFilter(Object.fromEntries(Object.entries(filters).filter(([, value]) => value)));
  const root = h('div', { class: 'page' },
    h('div', { class: 'page-head' }, h('h1', { tabindex: '-1' }, t('nav.sessions'), count),
      h('div', { class: 'tools' }, inputs, names, h('label', { class: 'check' }, mask, t('addresses.mask')), columnsMenu(table.table), table.cut)),
    h('div', { class: 'panel flush' }, table.root));
  let named = 0;
  return {
    root,
    render(now) {
      table.render(now);
      const users = now.stats?.users ?? [];
      if (users.length === named) return;
      named = users.length;
      names.replaceChildren(...users.map((one) => h('option', { value: one.email })));
    },
    close: table.close,
  };
}

/**
 * @param {() => void} refresh
 * @param {boolean} ofOne whether the user is plain from the page
 * @returns {Column[]}
 */
function sessionColumns(refresh, ofOne) {
  /** @type {Column[]} */
  const columns = [
    { key: 'user', label: t('field.email'), sort: (one) => one.user, cell: userCell, priority: 1, fixed: true },
    { key: 'target', label: t('column.target'), sort: (one) => one.target, cell: textCell((one) => one.target, (one) => one.target), priority: ofOne ? 1 : 2, fixed: ofOne },
    { key: 'client', label: t('column.client'), sort: (one) => one.client, cell: textCell(clientText, clientText), priority: 3 },
    { key: 'mode', label: t('column.mode'), sort: (one) => one.mode, cell: textCell((one) => lookUp(`mode.${one.mode}`, one.mode), (one) => lookUp(`mode.${one.mode}.hint`, one.flow)), priority: 2 },
    { key: 'state', label: t('column.state'), sort: (one) => one.state, cell: textCell((one) => lookUp(`session.${one.state}`, one.state)), priority: 3 },
    bytesColumn('down', t('download'), (one) => one.download_bytes, 1),
    bytesColumn('up', t('upload'), (one) => one.upload_bytes, 2),
    { key: 'age', label: t('column.age'), sort: (one) => one.age_seconds, cell: textCell((one) => format.duration(one.age_seconds)), numeric: true, priority: 2 },
    { key: 'cut', label: '', sort: () => 0, cell: () => cutCell(refresh), priority: 1, fixed: true },
  ];
  return columns.slice(ofOne ? 1 : 0, mayChange() ? undefined : -1);
}

/**
 * @param {string} key
 * @param {string} label
 * @param {(one: Connection) => number} value
 * @param {1 | 2} priority
 * @returns {Column}
 */
function bytesColumn(key, label, value, priority) {
  return { key, label, sort: value, numeric: true, priority, cell: textCell((one) => format.bytes(value(one)), (one) => format.exactBytes(value(one))) };
}

/** @param {Connection} one */
function clientText({ client }) {
  if (!state.settings.masked) return client;
  const end = client.lastIndexOf(':');
  return `${format.masked(client.slice(0, end).replace(/^\[|\]$/g, ''))}:${client.slice(end + 1)}`;
}

function userCell() {
  const link = h('a', { class: 'user-link' });
  const beneath = h('span', { class: 'beneath' });
  const node = h('span', { class: 'name-cell' }, link, beneath);
  return {
    node,
    /** @param {Connection} one */
    write(one) {
      write(link, one.user || '–');
      attribute(link, 'href', one.user ? userHash(one.user) : null);
      write(beneath, one.target);
    },
  };
}

/** @param {() => void} refresh */
function cutCell(refresh) {
  /** @type {Connection | null} */
  let session = null;
  const node = h('button', { type: 'button', class: 'icon-button danger', title: t('cut'), on: { click: () => session && cutOne(session, refresh) } },
    icon('close'), h('span', { class: 'visually-hidden', text: t('cut') }));
  return {
    node,
    /** @param {Connection} one */
    write(one) {
      session = one;
    },
  };
}
