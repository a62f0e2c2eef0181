// How the server itself does: totals, sessions and refusals, machine, certificate, last reload.

import { request } from '../api.js';
import { attribute, button, h, list, show, write } from '../dom.js';
import * as format from '../format.js';
import { t } from '../i18n.js';
import { mayChange } from '../accounts.js';
import { state } from '../store.js';
import { attempt, notify } from '../ui.js';
import { changesText, reasonName, reasonRemedy, reloadText } from '../words.js';
import { bothWays, empty, figure, line, meter, panel, serverNow } from './parts.js';

/** @typedef {import('../types.d.ts').State} State */
/** @typedef {import('../types.d.ts').Certificate} Certificate */

const REASONS_FIRST = 6;

/** Totals in a row: today, this month, overall, sessions, uptime. */
export function totalsView() {
  const sums = { today: sum(t('today.utc'), t('today.hint')), month: sum(t('month.utc'), t('month.hint')), total: sum(t('total')) };
  const sessions = figure(t('sessions.now'));
  const uptime = figure(t('uptime'));
  const root = h('dl', { class: 'totals', 'aria-label': t('totals.title') },
    Object.values(sums).map((one) => one.node), sessions.node, uptime.node);
  return {
    root,
    /** @param {State} state */
    render({ stats }) {
      if (!stats) return;
      sums.today.write(stats.today);
      sums.month.write(stats.month);
      sums.total.write(stats.lifetime);
      const { active_connections: now, max_connections: limit } = stats;
      sessions.write(format.number(now), limit > 0 ? t('sessions.of', { limit: format.number(limit) }) : '', String(now));
      uptime.write(format.duration(stats.uptime_seconds), t('since', { time: format.dateTime(stats.started_at) }));
    },
  };
}

/** @param {string} label @param {string} [hint] */
function sum(label, hint) {
  const total = h('dd', { class: 'value' });
  const ways = bothWays();
  return {
    node: h('div', { class: 'figure' }, h('dt', { text: label, title: hint }), total, h('dd', { class: 'more' }, ways.node)),
    /** @param {import('../types.d.ts').Both} both */
    write(both) {
      const all = both.upload_bytes + both.download_bytes;
      write(total, format.bytes(all));
      attribute(total, 'title', format.exactBytes(all));
      ways.write(both.upload_bytes, both.download_bytes);
    },
  };
}

/** Memory, processor, descriptors, the length of a turn. */
export function machineView() {
  const cpu = meter(t('cpu'));
  const memory = meter(t('memory'));
  const descriptors = meter(t('descriptors'));
  const sessions = meter(t('sessions.now'));
  const turn = line(t('turn'), t('turn.hint'));
  const threads = line(t('threads'));
  const { root } = panel(t('machine.title'), 'machine', cpu.node, memory.node, descriptors.node, sessions.node,
    h('dl', { class: 'lines' }, turn.node, threads.node));
  return {
    root,
    /** @param {State} state */
    render({ stats }) {
      if (!stats) return;
      // Several cores can be busy: 200 % are two of them.
      cpu.write(stats.cpu_percent / 100, format.percent(stats.cpu_percent / 100, 1));
      memory.write(stats.memory_bytes / stats.total_memory_bytes,
        t('x.of', { x: format.bytes(stats.memory_bytes), y: format.bytes(stats.total_memory_bytes) }));
      const { open, limit } = stats.descriptors;
      descriptors.write(open / limit, t('x.of', { x: format.number(open), y: format.number(limit) }));
      const { active_connections: now, max_connections: most } = stats;
      sessions.write(most > 0 ? now / most : 0, most > 0 ? t('x.of', { x: format.number(now), y: format.number(most) }) : format.number(now));
      turn.write(`${format.micros(stats.turn.p50_us)} · ${format.micros(stats.turn.p99_us)} · ${format.micros(stats.turn.max_us)}`);
      threads.write(format.number(stats.threads));
    },
  };
}

/** Who was not served, why, and what can be done about it: the most frequent reasons, and all of them on asking. */
export function refusalsView() {
  const { root, count } = panel(t('rejected.title'), 'refusals');
  const rows = h('ul', { class: 'list reasons' });
  const none = h('div', {}, empty(t('rejected.none'), t('rejected.none.text')));
  let all = false;
  const more = button('', () => {
    all = !all;
    render(state);
  }, { class: 'button quiet more-reasons', 'aria-expanded': 'false' });
  const ends = endsView();
  root.append(none, rows, more, ends.root);

  /** @param {State} now */
  function render({ stats }) {
    if (!stats) return;
    const reasons = Object.entries(stats.rejected).filter(([, n]) => n > 0).sort(([, a], [, b]) => b - a);
    write(count, format.number(reasons.reduce((sum, [, n]) => sum + n, 0)));
    show(none, reasons.length === 0);
    list(rows, all ? reasons : reasons.slice(0, REASONS_FIRST), ([reason]) => reason, reasonRow);
    show(more, reasons.length > REASONS_FIRST);
    write(more, all ? t('rejected.fewer') : t('rejected.all', { n: reasons.length }));
    attribute(more, 'aria-expanded', String(all));
    ends.render(stats.closed);
  }

  return { root, render };
}

/** How sessions ended, on asking: what is not among the refused is there. */
function endsView() {
  const rows = h('ul', { class: 'list reasons' });
  const root = h('details', { class: 'ends' }, h('summary', { text: t('closed.title') }), rows);
  return {
    root,
    /** @param {Record<string, number>} closed */
    render(closed) {
      const ended = Object.entries(closed).filter(([, n]) => n > 0).sort(([, a], [, b]) => b - a);
      show(root, ended.length > 0);
      if (root.open) list(rows, ended, ([reason]) => reason, reasonRow);
    },
  };
}

/** @param {[string, number]} entry */
function reasonRow([reason]) {
  const amount = h('span', { class: 'amount' });
  const node = h('li', { class: 'reason' }, h('span', { class: 'reason-name', text: reasonName(reason) }), amount,
    h('p', { class: 'remedy', text: reasonRemedy(reason) }));
  return { node, write: (/** @type {[string, number]} */ [, n]) => write(amount, format.number(n)) };
}

/** Certificates, version and the last reload. */
export function identityView() {
  const certificates = h('ul', { class: 'certificates' });
  const plain = h('p', { class: 'muted', text: t('certificate.none') });
  const version = line(t('version'));
  const reload = line(t('reload.last'));
  const changes = h('p', { class: 'muted changes' });
  const again = button(t('reload.now'), () => attempt(reloadNow), { class: 'button quiet', title: t('reload.hint') });
  const { root, heading } = panel(t('certificate.title'), 'identity', certificates, plain,
    h('dl', { class: 'lines' }, version.node, reload.node), changes);
  heading.append(again);
  return {
    root,
    /** @param {State} state */
    render({ stats }) {
      if (!stats) return;
      show(again, mayChange());
      show(plain, stats.certificates.length === 0);
      list(certificates, stats.certificates, (one) => `${one.names.join()} ${one.pin_sha256}`, certificateRow);
      version.write(stats.version);
      const last = stats.last_reload;
      reload.write(last ? format.relative(last.at, serverNow()) : t('never'), last ? format.dateTime(last.at) : undefined);
      show(changes, Boolean(last));
      write(changes, !last ? '' : last.ok ? reloadWords(last) : t('reload.failed'));
    },
  };
}

/** @param {Certificate} _ */
function certificateRow(_) {
  const names = h('p', { class: 'certificate-names' });
  const until = h('span', { class: 'badge' });
  const issuer = h('p', { class: 'muted' });
  const pin = pinLine(t('certificate.pin.label'), t('certificate.pin'));
  const key = pinLine(t('certificate.key.label'), t('certificate.key'));
  const node = h('li', { class: 'certificate' }, h('div', { class: 'certificate-head' }, names, until), issuer, pin.node, key.node);
  return {
    node,
    /** @param {Certificate} certificate */
    write(certificate) {
      write(names, certificate.names.join(', '));
      attribute(names, 'title', certificate.names.join(', '));
      write(until, t('days.left', { n: certificate.days_left }));
      attribute(until, 'title', format.dateTime(certificate.not_after));
      attribute(until, 'data-level', certificate.days_left <= 3 ? 'full' : certificate.days_left <= 14 ? 'high' : null);
      const until_date = format.date(certificate.not_after);
      write(issuer, certificate.self_signed ? t('certificate.self', { date: until_date }) : t('certificate.by', { issuer: certificate.issuer, date: until_date }));
      pin.write(certificate.pin_sha256);
      key.write(certificate.public_key_sha256);
    },
  };
}

/** @param {string} label @param {string} hint */
function pinLine(label, hint) {
  const code = h('code', { class: 'pin' });
  const node = h('p', { class: 'pin-line', title: hint }, h('span', { class: 'pin-label', text: label }), code);
  return {
    node,
    /** @param {string | undefined} text */
    write(text) {
      write(code, text ?? '');
      show(node, Boolean(text));
    },
  };
}

/** @param {import('../types.d.ts').Reload} last */
function reloadWords(last) {
  return last.needs_restart?.length ? reloadText(last) : changesText(last.changed, last.changes);
}

async function reloadNow() {
  notify(reloadText(await request('POST', '/api/reload')));
}
