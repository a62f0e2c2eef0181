// One account: how it does, its limits, its history, its live sessions, how to connect, and what may be changed.

import { loadId } from '../api.js';
import { askToRotate, baseOf, loadAccounts, mayChange, patchUser, removeLater, resetUsed } from '../accounts.js';
import { button, h, icon, show, write } from '../dom.js';
import { nearLimits } from '../forecast.js';
import * as format from '../format.js';
import { t } from '../i18n.js';
import { state } from '../store.js';
import { attempt, notify } from '../ui.js';
import { forecastText } from './attention.js';
import { fieldText, periodText } from './fields.js';
import { addressesText, bothWays, empty, figure, line, meter, panel, quotaText, serverNow, userState } from './parts.js';
import { sessionsTable } from './sessions.js';
import { shareView } from './share.js';
import { trafficView } from './traffic.js';
import { openForm } from './user-form.js';

/** @typedef {import('../types.d.ts').User} User */

/**
 * @param {string} email
 * @param {{ share: boolean }} options whether the QR code is wanted at once
 * @returns {import('../types.d.ts').View}
 */
export function userView(email, { share }) {
  const head = headView(email);
  const use = useView();
  const limits = limitsView();
  const traffic = trafficView({ user: email });
  const sessions = sessionsTable({ user: email });
  const sharing = shareView(email, share);
  const live = panel(t('user.sessions'), 'flush user-sessions', sessions.root);
  live.heading.append(sessions.cut);
  const body = h('div', { class: 'user-grid' }, sharing.root, use.root, limits.root, traffic.root, live.root);
  const gone = h('div', { class: 'panel' }, empty(t('user.gone', { name: email }), t('user.gone.text'),
    h('a', { class: 'button', href: '#/users', text: t('nav.users') })));
  const root = h('div', { class: 'page' },
    h('p', { class: 'crumb' }, h('a', { href: '#/users' }, icon('back'), t('nav.users'))), head.root, body, gone);
  let heard = 0;
  // The feed leaves out what changes rarely (the whole id, flow, when the account was made); events tell when it did.
  const refreshAccount = (/** @type {import('../types.d.ts').Event[]} */ events) => {
    const newest = events.find((event) => event.kind === 'user' || event.kind === 'reload')?.id ?? 0;
    if (newest > heard || heard === 0) attempt(async () => void (await loadAccounts()));
    heard = Math.max(newest, heard, 1);
  };
  return {
    root,
    render(now) {
      if (!now.stats) return;
      refreshAccount(now.events);
      const user = now.stats.users.find((one) => one.email === email);
      const listed = user || now.accounts?.users.some((one) => one.email === email);
      show(body, Boolean(user));
      show(gone, !listed);
      show(head.root, Boolean(user));
      if (!user) return;
      const known = now.accounts?.users.find((one) => one.email === email);
      const whole = { ...user, uuid: known?.uuid ?? user.uuid, flow: known?.flow, created_at: known?.created_at, limits: user.limits ?? known?.limits ?? {} };
      for (const view of [head, use, limits]) view.render(whole);
      sharing.render(whole);
      traffic.render(now);
      sessions.render(now);
    },
    close() {
      traffic.close();
      sessions.close();
    },
  };
}

/** @param {string} email */
function headView(email) {
  const status = userState();
  const note = h('p', { class: 'user-note' });
  const locked = h('p', { class: 'locked-text' }, icon('lock'), h('span', { text: t('user.locked.hint') }));
  const act = (/** @type {() => Promise<unknown>} */ what) => () => attempt(async () => void (await what()));
  const edit = button(t('user.edit'), act(async () => openForm(await baseOf(email))), { class: 'button primary' });
  let shownEnabled = true;
  const toggle = button('', act(() => setEnabled(email, !shownEnabled)));
  const reset = button(t('user.reset'), act(async () => resetUsed(await baseOf(email))));
  const rotate = button(t('user.rotate'), () => askToRotate(email));
  const remove = button(t('user.remove'), act(async () => removeLater(await baseOf(email))), { class: 'button danger' });
  const actions = h('div', { class: 'tools' }, edit, toggle, reset, rotate, remove);
  const root = h('div', { class: 'page-head' },
    h('div', { class: 'user-title' }, h('h1', { tabindex: '-1', text: email }), status.node, note, locked), actions);
  return {
    root,
    /** @param {User} user */
    render(user) {
      status.write(user);
      write(note, user.note);
      show(note, user.note !== '');
      show(locked, user.locked);
      show(actions, mayChange() && !user.locked);
      shownEnabled = user.enabled;
      write(toggle, t(user.enabled ? 'user.disable' : 'user.enable'));
      remove.disabled = Object.hasOwn(state.removing, email);
    },
  };
}

/** Does what the button said, whatever has become of the account meanwhile. @param {string} email @param {boolean} enabled */
async function setEnabled(email, enabled) {
  const base = await baseOf(email);
  if (base.user.enabled === enabled || await patchUser(base, { enabled })) notify(t(enabled ? 'user.enabled' : 'user.disabled', { name: email }));
}

/** What he uses: speed, sums, where from. */
function useView() {
  const speed = bothWays(format.rate);
  const total = bothWays();
  const sums = { today: figure(t('today.utc'), t('today.hint')), month: figure(t('month.utc'), t('month.hint')), total: figure(t('total')), sessions: figure(t('sessions.now')) };
  const rows = { from: line(t('column.addresses')), first: line(t('user.first')), seen: line(t('column.seen')) };
  const { root } = panel(t('user.use'), 'use',
    h('dl', { class: 'figures-row' }, Object.values(sums).map((one) => one.node)),
    h('dl', { class: 'lines' },
      h('div', { class: 'line' }, h('dt', { text: t('speed') }), h('dd', {}, speed.node)),
      h('div', { class: 'line' }, h('dt', { text: t('total') }), h('dd', {}, total.node)),
      Object.values(rows).map((one) => one.node)));
  return {
    root,
    /** @param {User} user */
    render(user) {
      const all = user.total_upload_bytes + user.total_download_bytes;
      sums.today.write(format.bytes(user.today_bytes), '', format.exactBytes(user.today_bytes));
      sums.month.write(format.bytes(user.month_bytes), '', format.exactBytes(user.month_bytes));
      sums.total.write(format.bytes(all), '', format.exactBytes(all));
      sums.sessions.write(format.number(user.active_connections), '', String(user.active_connections));
      speed.write(user.upload_bps, user.download_bps);
      total.write(user.total_upload_bytes, user.total_download_bytes);
      rows.from.write(addressesText(user.addresses) || '–');
      rows.first.write(user.first_seen_at ? format.dateTime(user.first_seen_at) : t('never'));
      rows.seen.write(user.online ? t('now') : user.last_seen_at ? format.relative(user.last_seen_at, serverNow()) : t('never'));
    },
  };
}

/** The id: its beginning for everybody, the whole on asking and with the admin right, because it is the credential. */
function idLine() {
  const text = h('span', { class: 'id-text' });
  const ask = button('', () => attempt(async () => {
    whole = whole ? '' : await loadId(email);
    put();
  }), { class: 'button quiet small' });
  const node = h('div', { class: 'line' }, h('dt', { text: t('field.uuid') }), h('dd', { class: 'id' }, text, ask));
  let email = '';
  let known = '';
  let whole = '';
  const put = () => {
    write(text, whole || `${known}…`);
    write(ask, t(whole ? 'uuid.hide' : 'uuid.show'));
    show(ask, mayChange());
  };
  return {
    node,
    /** @param {User} user */
    write(user) {
      // A new id covers the one before.
      if (user.uuid !== known || !mayChange()) whole = '';
      ({ email, uuid: known } = user);
      put();
    },
  };
}

/** What he may use, and how much of it is left. */
function limitsView() {
  const quota = meter(t('field.quota_bytes'));
  const forecast = h('p', { class: 'forecast' });
  const shown = /** @type {const} */ (['down_bytes_per_second_max', 'up_bytes_per_second_max', 'sessions_max', 'addresses_max']);
  const rows = shown.map((key) => ({ key, ...line(t(`field.${key}`)) }));
  const period = line(t('field.quota_period'));
  const expiry = line(t('field.expires_at'));
  const flow = line(t('field.flow'));
  const uuid = idLine();
  const { root } = panel(t('user.limits'), 'limits', quota.node, forecast,
    h('dl', { class: 'lines' }, period.node, expiry.node, rows.map((one) => one.node), flow.node, uuid.node));
  return {
    root,
    /** @param {User} user */
    render(user) {
      const share = user.quota_bytes > 0 ? user.quota_used_bytes / user.quota_bytes : 0;
      quota.node.classList.toggle('bare', !(user.quota_bytes > 0));
      quota.write(share, user.quota_bytes > 0 ? `${quotaText(user)} · ${format.percent(share)}` : t('quota.none'));
      const near = nearLimits([user], serverNow())[0];
      show(forecast, Boolean(near));
      if (near) write(forecast, forecastText(near));
      const resets = user.quota_resets_at ? ` · ${t('quota.resets', { date: format.dateTime(user.quota_resets_at) })}` : '';
      period.write(periodText(user.quota_period) + resets);
      const days = user.limits.expires_after_days;
      expiry.write(user.expires_at ? `${format.dateTime(user.expires_at)} (${format.relative(user.expires_at, serverNow())})`
        : days ? t('expiry.after', { n: days }) : t('expiry.never'));
      for (const row of rows) row.write(fieldText(row.key, user.limits[row.key]));
      flow.write(fieldText('flow', user.flow));
      uuid.write(user);
    },
  };
}
