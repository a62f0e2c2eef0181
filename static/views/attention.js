// What needs somebody: alerts with what to do about each, who is online now, and who is near a limit.

import { mayChange } from '../accounts.js';
import { attribute, h, icon, list, show, write } from '../dom.js';
import { nearLimits } from '../forecast.js';
import * as format from '../format.js';
import { compare, lookUp, t } from '../i18n.js';
import { sessionsHash } from '../route.js';
import { alertName, metricValue } from '../words.js';
import { addressesText, bar, bothWays, empty, panel, quotaText, serverNow, userLink } from './parts.js';

/** @typedef {import('../types.d.ts').Alert} Alert */
/** @typedef {import('../types.d.ts').State} State */
/** @typedef {import('../types.d.ts').User} User */
/** @typedef {import('../forecast.js').Near} Near */

const ROWS_MAX = 8;
const CERTIFICATE_DAYS = 14;

/** Alerts, or one quiet line. */
export function alertsView() {
  const rows = h('ul', { class: 'alerts' });
  const quiet = h('p', { class: 'all-well' }, icon('check'), h('span', { text: t('alerts.none') }));
  const root = h('section', { class: 'attention', 'aria-label': t('alerts.title') }, quiet, rows);
  return {
    root,
    /** @param {State} state */
    render({ stats, stale }) {
      if (!stats) return;
      const notes = [...stats.alerts.map(alertNote), ...ownNotes(stats)];
      // Nobody knows that all is well from figures that are old.
      show(quiet, notes.length === 0 && !stale);
      show(rows, notes.length > 0);
      list(rows, notes, (note) => note.key, alertRow);
    },
  };
}

/** @typedef {{ key: string, title: string, figures: string, remedy: string }} Note */

/** @param {Alert} alert @returns {Note} */
function alertNote(alert) {
  const figures = t('alerts.figures', {
    value: metricValue(alert.metric, alert.value), limit: metricValue(alert.metric, alert.limit),
    since: format.relative(alert.since, serverNow()),
  });
  return {
    key: `alert ${alert.name} ${alert.user ?? ''}`,
    title: alertName(alert),
    figures,
    remedy: lookUp(`remedy.${alert.remedy_code}`, lookUp(`remedy.${alert.metric}`, t('remedy.unknown', { name: alert.name }))),
  };
}

/**
 * What is shown although no rule of alerts is there for it: a reload that failed, a certificate near its end.
 * @param {import('../types.d.ts').Stats} stats
 * @returns {Note[]}
 */
function ownNotes(stats) {
  const notes = [];
  if (stats.users.length === 0) notes.push({ key: 'users', title: t('users.none'), figures: '', remedy: t(mayChange() ? 'users.none.text' : 'users.none.view') });
  const reload = stats.last_reload;
  if (reload && !reload.ok) {
    notes.push({
      key: 'reload', title: t('reload.failed'), figures: format.relative(reload.at, serverNow()),
      remedy: t('reload.failed.remedy', { error: reload.error ?? '' }),
    });
  }
  const said = stats.alerts.some((alert) => alert.metric.startsWith('certificate'));
  for (const certificate of said ? [] : stats.certificates) {
    if (certificate.days_left > CERTIFICATE_DAYS) continue;
    notes.push({
      key: `certificate ${certificate.pin_sha256}`,
      title: t('certificate.ending', { name: certificate.names[0] ?? '' }),
      figures: t('certificate.left', { n: certificate.days_left, date: format.date(certificate.not_after) }),
      remedy: t('remedy.certificate_days_left'),
    });
  }
  return notes;
}

/** @param {Note} _ */
function alertRow(_) {
  const title = h('strong');
  const figures = h('span', { class: 'alert-figures' });
  const remedy = h('p', { class: 'remedy' });
  const node = h('li', { class: 'alert' }, icon('warn'), h('div', {}, h('p', { class: 'alert-title' }, title, figures), remedy));
  return {
    node,
    /** @param {Note} note */
    write(note) {
      write(title, note.title);
      write(figures, note.figures);
      write(remedy, note.remedy);
    },
  };
}

/** Who has a session this very second. */
export function onlineView() {
  const { root, count } = panel(t('online.title'), 'online');
  const rows = h('ul', { class: 'list' });
  const more = h('a', { class: 'more-link', href: '#/users' });
  const nobody = h('div', {}, empty(t('online.none'), t('online.none.text')));
  root.append(nobody, rows, more);
  return {
    root,
    /** @param {State} state */
    render({ stats }) {
      if (!stats) return;
      const online = stats.users.filter((user) => user.online);
      write(count, format.number(online.length));
      // The busiest of today, an order that changes slowly.
      const shown = [...online].sort((a, b) => b.today_bytes - a.today_bytes || compare(a.email, b.email)).slice(0, ROWS_MAX);
      show(nobody, online.length === 0);
      list(rows, shown, (user) => user.email, onlineRow);
      show(more, online.length > ROWS_MAX);
      write(more, t('online.more', { n: online.length - ROWS_MAX }));
    },
  };
}

/** @param {User} of whom, for as long as the row is there */
function onlineRow({ email }) {
  const name = userLink();
  name.write(email);
  const note = h('span', { class: 'note' });
  const sessions = h('a', { class: 'sessions-link', href: sessionsHash({ user: email }) });
  const from = h('span', { class: 'from' });
  const speed = bothWays(format.rate);
  const node = h('li', { class: 'online-row' },
    h('span', { class: 'who' }, name.node, note), h('span', { class: 'where' }, sessions, from), speed.node);
  return {
    node,
    /** @param {User} user */
    write(user) {
      write(note, user.note);
      attribute(note, 'title', user.note || null);
      write(sessions, t('sessions.count', { n: user.active_connections }));
      write(from, addressesText(user.addresses));
      attribute(from, 'title', addressesText(user.addresses) || null);
      speed.write(user.upload_bps, user.download_bps);
    },
  };
}

/** Who will soon be refused, and when. */
export function nearView() {
  const { root, count } = panel(t('near.title'), 'near');
  const rows = h('ul', { class: 'list' });
  const nobody = h('div', {}, empty(t('near.none'), t('near.none.text')));
  const more = h('a', { class: 'more-link', href: '#/users' });
  root.append(nobody, rows, more);
  return {
    root,
    /** @param {State} state */
    render({ stats }) {
      if (!stats) return;
      const near = nearLimits(stats.users, serverNow());
      write(count, format.number(near.length));
      show(nobody, near.length === 0);
      list(rows, near.slice(0, ROWS_MAX), (one) => `${one.kind} ${one.user.email}`, nearRow);
      show(more, near.length > ROWS_MAX);
      write(more, t('near.more', { n: near.length - ROWS_MAX }));
    },
  };
}

/** @param {Near} near */
function nearRow(near) {
  const name = userLink();
  const words = h('span', { class: 'forecast' });
  const figures = h('span', { class: 'figures' });
  const share = near.kind === 'quota' ? bar(t('field.quota_bytes')) : null;
  const node = h('li', { class: 'near-row' }, name.node, figures, share?.node ?? null, words);
  return {
    node,
    /** @param {Near} now */
    write(now) {
      name.write(now.user.email);
      share?.write(now.share);
      write(figures, now.kind === 'quota' ? quotaText(now.user) : t('near.expiry'));
      write(words, forecastText(now));
      attribute(node, 'data-reached', now.reached);
    },
  };
}

/**
 * The judgement in words; also what a user's own page says.
 * @param {Near} near
 */
export function forecastText({ user, kind, reached, at }) {
  if (kind === 'expiry') {
    const values = { date: format.date(at ?? 0), distance: format.relative(at ?? 0, serverNow()) };
    return t(reached ? 'near.expired' : 'near.expires', values);
  }
  if (reached) return user.quota_resets_at ? t('near.used.until', { date: format.dayMonth(user.quota_resets_at) }) : t('near.used');
  if (at) return t('near.full', { date: format.dayMonth(at) });
  return user.quota_resets_at ? t('near.enough', { date: format.dayMonth(user.quota_resets_at) }) : t('near.unknown');
}
