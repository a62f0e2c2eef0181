// One throughput chart: a figure with a sentence that says what it shows, a cursor by pointer and arrow keys, and the
// same figures as a table. The drawing is uPlot's; everything around it is made here.

import { attribute, button, fill, h, write } from './dom.js';
import * as format from './format.js';
import { t } from './i18n.js';
import { state } from './store.js';

/** @typedef {{ at: number, up: number | null, down: number | null }} Point bytes per second */
/** @typedef {import('./vendor/uplot/uPlot.esm.js')} Plot */

const HEIGHT = 240;
const TABLE_ROWS_MAX = 400;
// Loaded beside the first figures, not before them.
const library = import('./vendor/uplot/uPlot.esm.js');

/** @param {{ label: string }} options */
export function createChart({ label }) {
  /** @type {Point[]} */
  let points = [];
  let step = 1;
  let span = 60;
  /** @type {Plot | null} */
  let plot = null;
  let drawnAs = '';
  // Asked for in every tick it would have the whole page laid out.
  let width = 0;
  let seen = true;
  let asTable = false;
  /** @type {number | null} the moment that the keys have marked; it stays marked while the chart moves on */
  let marked = null;

  const readout = h('p', { class: 'readout' });
  // What the keys mark is said; what the pointer passes over, and what a tick changes, is not.
  const said = h('p', { class: 'visually-hidden', 'aria-live': 'polite' });
  const canvas = h('div', { class: 'plot', tabindex: '0', role: 'img' });
  const table = h('div', { class: 'plot-table', hidden: true, tabindex: '0', role: 'region', 'aria-label': label });
  const caption = h('figcaption', { class: 'visually-hidden' });
  const toggle = button(t('chart.table'), () => {
    asTable = !asTable;
    write(toggle, t(asTable ? 'chart.chart' : 'chart.table'));
    attribute(toggle, 'aria-pressed', String(asTable));
    draw();
  }, { class: 'button quiet', 'aria-pressed': 'false' });
  const root = h('figure', { class: 'chart' }, caption, h('div', { class: 'chart-head' }, legend(), readout, toggle), canvas, table, said);

  canvas.addEventListener('keydown', (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    const move = moves[/** @type {keyof typeof moves} */ (event.key)];
    if (move === undefined || !points.length) return;
    event.preventDefault();
    const place = Math.min(points.length - 1, Math.max(0, markedPlace(points.length) + move));
    marked = points[place].at;
    showMarked();
    write(said, readout.textContent ?? '');
  });
  canvas.addEventListener('blur', () => {
    marked = null;
    plot?.setCursor({ left: -10, top: -10 }, false);
    writeReadout(null);
    write(said, '');
  });
  const resized = new ResizeObserver(() => {
    width = canvas.clientWidth;
    if (plot && width && width !== plot.width) plot.setSize({ width, height: HEIGHT });
    if (points.length) draw();
  });
  resized.observe(canvas);
  const scrolled = new IntersectionObserver((entries) => {
    seen = entries[entries.length - 1].isIntersecting;
    if (seen && points.length) draw();
  });
  scrolled.observe(canvas);

  /** Where the marked moment is among the points. @param {number} otherwise */
  const markedPlace = (otherwise) => (marked === null ? otherwise : points.findIndex((one) => one.at >= /** @type {number} */ (marked)));

  function showMarked() {
    const place = Math.max(0, markedPlace(0));
    const left = plot ? plot.valToPos(points[place].at, 'x') : 0;
    plot?.setCursor({ left, top: 10 }, false);
    writeReadout(place);
  }

  /** A marked moment that the chart has left behind is said to have gone, once. */
  function keepMarked() {
    if (marked === null || !points.length) return;
    if (points[0].at > marked) {
      marked = points[0].at;
      write(said, t('chart.left'));
    }
    showMarked();
  }

  /** @param {number | null} index */
  function writeReadout(index) {
    const point = index === null ? null : points[index];
    write(readout, point
      ? t('chart.at', { time: stamp(point.at), up: rateOrGap(point.up), down: rateOrGap(point.down) })
      : '');
  }

  /** @param {number} at */
  const stamp = (at) => (step < 60 ? format.time(at) : step < 86_400 ? format.dateTime(at) : format.date(at));

  /**
   * @param {Point[]} next
   * @param {{ step: number, span: number }} seconds between two points, and of the whole range
   * @param {string} summary
   */
  function render(next, seconds, summary) {
    points = next;
    ({ step, span } = seconds);
    write(caption, summary);
    attribute(canvas, 'aria-label', `${label}. ${summary} ${t('chart.keys')}`);
    draw();
  }

  async function draw() {
    canvas.hidden = asTable;
    table.hidden = !asTable;
    if (asTable) {
      writeTable();
      return;
    }
    const { default: uPlot } = await library;
    const { theme } = document.documentElement.dataset;
    const look = `${theme} ${state.settings.rates} ${state.settings.lang} ${step} ${span}`;
    if (!width) return;
    if (!plot || look !== drawnAs) {
      plot?.destroy();
      drawnAs = look;
      plot = new uPlot(options(width, { step, span }, onCursor), data(points), canvas);
    } else if (seen) {
      // Out of sight nothing is drawn; the newest are drawn as soon as it comes into sight.
      plot.setData(data(points));
    }
    keepMarked();
  }

  /** @param {number | null | undefined} index */
  const onCursor = (index) => {
    if (marked === null) writeReadout(index ?? null);
  };

  function writeTable() {
    const rows = points.slice(-TABLE_ROWS_MAX).reverse().map((point) => h('tr', {},
      h('th', { scope: 'row', text: stamp(point.at) }),
      h('td', { class: 'numeric', text: rateOrGap(point.down) }),
      h('td', { class: 'numeric', text: rateOrGap(point.up) })));
    fill(table, h('table', { class: 'rows' },
      h('thead', {}, h('tr', {}, [t('chart.time'), t('download'), t('upload')].map((text, at) => h('th', { scope: 'col', class: at ? 'numeric' : '', text })))),
      h('tbody', {}, rows)));
  }

  return {
    root, render,
    close() {
      resized.disconnect();
      scrolled.disconnect();
      plot?.destroy();
    },
  };
}

function legend() {
  return h('p', { class: 'legend', 'aria-hidden': 'true' },
    h('span', { class: 'key down', text: t('download') }), h('span', { class: 'key up', text: t('upload') }));
}

/** @param {number | null} value */
const rateOrGap = (value) => (value === null ? '–' : format.rate(value));

/**
 * @param {Point[]} points
 * @returns {import('./vendor/uplot/uPlot.esm.js').AlignedData}
 */
function data(points) {
  // Rates in bits have decimal marks on the axis, rates in bytes binary ones.
  const factor = state.settings.rates === 'bits' ? 8 : 1;
  const scale = (/** @type {number | null} */ value) => (value === null ? null : value * factor);
  return [points.map((one) => one.at), points.map((one) => scale(one.down)), points.map((one) => scale(one.up))];
}

/**
 * @param {number} width
 * @param {{ step: number, span: number }} seconds
 * @param {(index: number | null | undefined) => void} onCursor
 * @returns {import('./vendor/uplot/uPlot.esm.js').Options}
 */
function options(width, { step, span }, onCursor) {
  const style = getComputedStyle(document.documentElement);
  const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  const font = `11px ${style.fontFamily}`;
  const factor = state.settings.rates === 'bits' ? 8 : 1;
  const grid = { stroke: colour('--line'), width: 1 };
  return {
    width, height: HEIGHT, pxAlign: true,
    padding: [8, 18, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 7, width: 2 }, drag: { x: false, y: false } },
    scales: {
      // The whole range, however little of it there is yet.
      x: { range: (_, __, max) => [max - span + step, max] },
      y: { range: (_, __, max) => [0, niceTop(max, factor)] },
    },
    axes: [
      {
        stroke: colour('--muted'), font, grid: { show: false }, ticks: { show: false }, size: 26, space: 72,
        values: (_, splits) => splits.map((at) => axisTime(at, step)),
      },
      {
        stroke: colour('--muted'), font, grid, ticks: { show: false }, size: 76, space: 44,
        splits: (_, __, ___, max) => [0, 1, 2, 3, 4].map((part) => (max * part) / 4),
        values: (_, splits) => splits.map((value) => format.rate(value / factor, true)),
      },
    ],
    series: [
      {},
      { stroke: colour('--accent'), width: 1.75, fill: colour('--accent-wash'), points: { show: false } },
      { stroke: colour('--ink-2'), width: 1.25, points: { show: false }, dash: [4, 3] },
    ],
    hooks: { setCursor: [(self) => onCursor(self.cursor.idx)] },
  };
}

/**
 * The top of the axis: a round figure above the highest point that four marks divide well.
 * @param {number} max
 * @param {number} factor
 */
function niceTop(max, factor) {
  const least = factor === 8 ? 1000 : 1024;
  if (!(max > least)) return least;
  const base = factor === 8 ? 1000 : 1024;
  const unit = base ** Math.floor(Math.log(max) / Math.log(base));
  const steps = [1, 2, 4, 8, 12, 16, 20, 40, 60, 80, 100, 120, 160, 200, 400, 600, 800, 1024];
  return unit * (steps.find((one) => one * unit >= max * 1.02) ?? 1024);
}

/** @param {number} at @param {number} step */
function axisTime(at, step) {
  if (step < 60) return format.time(at);
  if (step < 3600) return format.hour(at);
  return step < 86_400 ? format.dayMonth(at) : format.month(at);
}
