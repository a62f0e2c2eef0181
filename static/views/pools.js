// The machinery: connection pool, memory pool, Vision.

import { attribute, h, icon, write } from '../dom.js';
import * as format from '../format.js';
import { t } from '../i18n.js';
import { line, panel } from './parts.js';

/** @typedef {import('../types.d.ts').State} State */
/** @typedef {import('../types.d.ts').Tier} Tier */

// A rate of fewer is chance.
const DIALS_MIN = 20;

/** A rate of hits as figure, mark and word: what it means does not hang on a colour. */
function hitRate() {
  const value = h('span', { class: 'hit-value' });
  const mark = h('span', { class: 'hit-mark' });
  const word = h('span', { class: 'hit-word' });
  const node = h('p', { class: 'hit-rate' }, value, h('span', { class: 'hit-judgement' }, mark, word));
  return {
    node,
    /** @param {number} share @param {number} dials of which it is the share */
    write(share, dials) {
      const level = dials < DIALS_MIN ? 'none' : share >= 0.8 ? 'good' : share >= 0.6 ? 'fair' : share >= 0.4 ? 'poor' : 'bad';
      write(value, dials > 0 ? format.percent(share, 1) : '–');
      if (node.dataset.level === level) return;
      node.dataset.level = level;
      mark.replaceChildren(icon(level === 'good' ? 'check' : level === 'none' ? 'info' : 'warn'));
      write(word, t(`hit.${/** @type {'good'} */ (level)}`));
    },
  };
}

export function connectionPoolView() {
  const rate = hitRate();
  /** @type {[string, string, string][]} */
  const wanted = [
    ['current_active', t('pool.active'), t('pool.active.hint')], ['current_idle', t('pool.idle'), t('pool.idle.hint')],
    ['total_created', t('pool.created'), ''], ['total_reused', t('pool.reused'), t('pool.reused.hint')],
    ['total_closed', t('pool.closed'), t('pool.closed.hint')],
  ];
  const lines = wanted.map(([key, label, hint]) => ({ key, ...line(label, hint || undefined) }));
  const hits = h('p', { class: 'muted' });
  const times = [line(t('pool.time.with'), t('pool.time.hint')), line(t('pool.time.without'), t('pool.time.hint'))];
  const { root } = panel(t('pool.title'), 'pool', rate.node, hits, h('dl', { class: 'lines' }, lines.map((one) => one.node), times.map((one) => one.node)));
  return {
    root,
    /** @param {State} state */
    render({ stats }) {
      const pool = stats?.connection_pool;
      if (!pool) return;
      rate.write(pool.hit_rate / 100, pool.cache_hits + pool.cache_misses);
      write(hits, t('pool.counts', { hits: format.number(pool.cache_hits), misses: format.number(pool.cache_misses) }));
      for (const one of lines) one.write(format.number(pool[one.key] ?? 0));
      const given = [pool.connect_time_with_us, pool.connect_time_without_us];
      times.forEach((one, at) => {
        one.node.hidden = given[at] === undefined;
        one.write(given[at] ? format.micros(given[at]) : '–');
      });
    },
  };
}

export function memoryPoolView() {
  const tiers = /** @type {const} */ (['small_pool', 'medium_pool', 'large_pool']);
  const rows = tiers.map((key) => ({ key, ...tierRow() }));
  const head = [t('memory.tier'), t('memory.used'), t('memory.free'), t('peak'), t('memory.hits')];
  const held = line(t('memory.held'));
  const waits = line(t('memory.waits'), t('memory.waits.hint'));
  const { root } = panel(t('memory.title'), 'memory-pool',
    h('table', { class: 'rows small' },
      h('thead', {}, h('tr', {}, head.map((text, at) => h('th', { scope: 'col', class: at ? 'numeric' : '', text })))),
      h('tbody', {}, rows.map((one) => one.node))),
    h('dl', { class: 'lines' }, held.node, waits.node));
  return {
    root,
    /** @param {State} state */
    render({ stats }) {
      const pool = stats?.memory_pool;
      if (!pool) return;
      for (const row of rows) row.write(pool[row.key]);
      held.write(format.bytes(pool.held_bytes ?? 0));
      waits.write(format.number(pool.waits ?? 0));
    },
  };
}

function tierRow() {
  const size = h('th', { scope: 'row' });
  const cells = Array.from({ length: 4 }, () => h('td', { class: 'numeric' }));
  return {
    node: h('tr', {}, size, cells),
    /** @param {Tier | undefined} tier */
    write(tier) {
      if (!tier) return;
      write(size, format.bytes(tier.buffer_size, true));
      const lent = tier.hits + tier.misses;
      const texts = [tier.current_size, tier.idle, tier.peak_size].map((n) => format.number(n));
      texts.push(lent > 0 ? format.percent(tier.hits / lent, 1) : '–');
      texts.forEach((text, at) => write(cells[at], text));
    },
  };
}

export function visionView() {
  const ways = /** @type {const} */ (['spliced_bytes', 'copied_bytes', 'tls_bytes']);
  const parts = ways.map((key) => ({ key, fill: h('span', { class: `part ${key}` }) }));
  const bar = h('div', { class: 'stacked', role: 'img' }, parts.map((one) => one.fill));
  const lines = {
    sessions_direct_up: line(t('vision.up')), sessions_direct_down: line(t('vision.down')),
    spliced_bytes: line(t('vision.spliced'), t('vision.spliced.hint')), copied_bytes: line(t('vision.copied'), t('vision.copied.hint')),
    tls_bytes: line(t('vision.tls'), t('vision.tls.hint')), padding_bytes: line(t('vision.padding'), t('vision.padding.hint')),
  };
  for (const { key } of parts) lines[key].node.classList.add('keyed', key);
  const { root } = panel(t('vision.title'), 'vision', bar, h('dl', { class: 'lines' }, Object.values(lines).map((one) => one.node)));
  return {
    root,
    /** @param {State} state */
    render({ stats }) {
      const vision = stats?.xtls_vision;
      if (!vision) return;
      const all = ways.reduce((sum, key) => sum + (vision[key] ?? 0), 0);
      for (const { key, fill } of parts) {
        const width = `${all ? ((vision[key] ?? 0) / all) * 100 : 0}%`;
        if (fill.style.width !== width) fill.style.width = width;
      }
      attribute(bar, 'aria-label', t('vision.summary', { spliced: format.percent(all ? (vision.spliced_bytes ?? 0) / all : 0) }));
      for (const [key, one] of Object.entries(lines)) {
        const value = vision[key] ?? 0;
        if (key.endsWith('_bytes')) one.write(format.bytes(value), format.exactBytes(value));
        else one.write(format.number(value));
      }
    },
  };
}
