// Throughput over a range: the last minute live from the feed, longer ranges from the server's history. Used for the
// whole server and for one user.

import { get } from '../api.js';
import { createChart } from '../chart.js';
import { attribute, h, show, write } from '../dom.js';
import * as format from '../format.js';
import { t } from '../i18n.js';
import { choice, figure, panel, serverNow } from './parts.js';

/** @typedef {import('../types.d.ts').State} State */
/** @typedef {import('../types.d.ts').History} History */
/** @typedef {import('../types.d.ts').Rates} Rates */
/** @typedef {import('../chart.js').Point} Point */
/** @typedef {'live' | '1h' | '24h' | '30d' | '1y'} Range */

const SECONDS = { '1h': 3600, '24h': 86_400, '30d': 30 * 86_400, '1y': 365 * 86_400 };
// A long range gains a point rarely; more often than this nothing new is to be had.
const REFRESH_MIN_MS = 15_000;
const REFRESH_MAX_MS = 300_000;

/** @param {{ user?: string }} of whom; nobody: the whole server */
export function trafficView({ user } = {}) {
  /** @type {Range} */
  let range = user ? '24h' : 'live';
  /** @type {History | null} */
  let past = null;
  let fetchedAt = -Infinity;
  /** The server's clock when the past was asked for. */
  let fetchedFor = 0;
  let failure = '';
  /** @type {AbortController | null} */
  let asking = null;

  /** @type {[Range, string][]} */
  const ranges = [['live', t('range.live')], ['1h', t('range.1h')], ['24h', t('range.24h')], ['30d', t('range.30d')], ['1y', t('range.1y')]];
  const ways = choice(t('range.title'), user ? ranges.slice(1) : ranges, (chosen) => {
    range = chosen;
    past = null;
    fetchedAt = -Infinity;
    asking?.abort();
    asking = null;
    if (latest) render(latest);
  });
  const chart = createChart({ label: t('traffic.title') });
  const figures = {
    down: figure(t('download')), up: figure(t('upload')), peak: figure(t('peak')), average: figure(t('average')),
  };
  const message = h('p', { class: 'chart-message' });
  const csv = h('a', { class: 'button quiet', download: true, text: t('traffic.csv') });
  const { root, heading } = panel(t('traffic.title'), 'traffic',
    h('dl', { class: 'figures-row' }, Object.values(figures).map((one) => one.node)), chart.root, message);
  heading.append(csv, ways.node);
  /** @type {State | null} */
  let latest = null;

  /** @param {State} state */
  function render(state) {
    latest = state;
    ways.write(range);
    show(csv, range !== 'live');
    if (range !== 'live') attribute(csv, 'href', `/api/history?${query()}&format=csv`);
    if (range === 'live') renderLive(state);
    else renderPast();
    show(message, failure !== '');
    write(message, failure);
  }

  /** @param {State} state */
  function renderLive({ stats, live, liveSeconds }) {
    if (!stats) return;
    failure = '';
    figures.down.write(format.rate(stats.download_bps), t('now'));
    figures.up.write(format.rate(stats.upload_bps), t('now'));
    writeExtremes(stats.peak, stats.average);
    chart.render(live, { step: 1, span: liveSeconds }, summary(t('range.live.words', { n: liveSeconds }), stats.peak, stats.average));
  }

  function renderPast() {
    if (range === 'live') return;
    const pause = Math.min(REFRESH_MAX_MS, Math.max(REFRESH_MIN_MS, (past?.step_seconds ?? 0) * 1000));
    if (!asking && performance.now() - fetchedAt > pause) fetchPast();
    if (!past) return;
    const points = pointsOf(past, SECONDS[range], fetchedFor);
    const sums = past.points.reduce((sum, one) => ({ up: sum.up + one.upload_bytes, down: sum.down + one.download_bytes }), { up: 0, down: 0 });
    figures.down.write(format.bytes(sums.down), t('traffic.sum'), format.exactBytes(sums.down));
    figures.up.write(format.bytes(sums.up), t('traffic.sum'), format.exactBytes(sums.up));
    writeExtremes(past.peak, past.average);
    chart.render(points, { step: past.step_seconds, span: SECONDS[range] }, summary(t(`range.${range}`), past.peak, past.average));
  }

  /** @param {Rates} peak @param {Rates} average */
  function writeExtremes(peak, average) {
    figures.peak.write(format.rate(peak.download_bps), t('traffic.peak.up', { up: format.rate(peak.upload_bps) }));
    figures.average.write(format.rate(average.download_bps), t('traffic.peak.up', { up: format.rate(average.upload_bps) }));
  }

  const query = () => new URLSearchParams({ range, ...(user ? { user } : {}) });

  async function fetchPast() {
    const mine = new AbortController();
    asking = mine;
    try {
      const answer = await get(`/api/history?${query()}`, mine.signal);
      if (asking !== mine) return;
      past = answer;
      fetchedFor = serverNow();
      failure = past?.points.length ? '' : t('traffic.none');
    } catch (error) {
      if (asking !== mine) return;
      failure = error instanceof Error ? error.message : String(error);
    }
    asking = null;
    fetchedAt = performance.now();
    if (latest) render(latest);
  }

  return {
    root, render,
    close() {
      asking?.abort();
      chart.close();
    },
  };
}

/**
 * History points as rates. What is missing between two points is a gap in the line, not a zero; the last point has the
 * rate of what has passed of its step.
 * @param {History} past
 * @param {number} seconds
 * @param {number} now
 * @returns {Point[]}
 */
export function pointsOf({ points, step_seconds: step }, seconds, now) {
  /** @type {Point[]} */
  const shown = [];
  const end = points.at(-1)?.at ?? 0;
  for (const point of points) {
    if (point.at < end - seconds) continue;
    const last = shown.at(-1);
    if (last && point.at - last.at > step * 1.5) shown.push({ at: last.at + step, up: null, down: null });
    const passed = Math.min(step, now - point.at);
    // Less than a tenth of a step would be noise.
    if (passed < step / 10) continue;
    shown.push({ at: point.at, up: point.upload_bytes / passed, down: point.download_bytes / passed });
  }
  return shown;
}

/**
 * What the chart shows, in one sentence.
 * @param {string} range
 * @param {Rates} peak
 * @param {Rates} average
 */
function summary(range, peak, average) {
  return t('traffic.summary', {
    range, peak: format.rate(Math.max(peak.download_bps, peak.upload_bps)),
    down: format.rate(average.download_bps), up: format.rate(average.upload_bps),
  });
}
