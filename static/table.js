// A table of any length: only the rows in view are in the document. Columns are sorted by their heads, hidden by the
// viewer, and dropped on narrow screens. Rows keep their places while somebody points at them, so that a click never
// meets another row than the one it was meant for.

import { attribute, h, write } from './dom.js';
import { compare, t } from './i18n.js';
import { changeSettings } from './settings.js';
import { state } from './store.js';

/**
 * @template T
 * @typedef {import('./types.d.ts').Column<T>} Column
 */

/**
 * @template T
 * @typedef {{ node: HTMLElement, write: (row: T, index: number, isHidden: (column: Column<T>) => boolean) => void }} Row
 */

// Rows made above and below what is seen, so that a quick scroll does not show a gap.
const OVERSCAN = 8;

/**
 * @template T
 * @param {{ name: string, label: string, columns: Column<T>[], keyOf: (row: T) => string,
 *   first: { column: string, descending: boolean } }} options
 */
export function createTable({ name, label, columns, keyOf, first }) {
  /** @type {T[]} */
  let rows = [];
  /** @type {string[]} */
  let order = [];
  /** @type {Map<string, Row<T>>} */
  let shown = new Map();
  let rowHeight = 0;
  let frame = 0;
  let sortedBy = '';

  const head = h('tr');
  const above = h('tr', { class: 'spacer', 'aria-hidden': 'true' }, h('td'));
  const below = h('tr', { class: 'spacer', 'aria-hidden': 'true' }, h('td'));
  const body = h('tbody', {}, above, below);
  const table = h('table', { class: 'rows', 'aria-label': label }, h('thead', {}, head), body);
  const root = h('div', { class: `table-scroll of-${name}`, tabindex: '0', role: 'region', 'aria-label': label }, table);
  root.addEventListener('scroll', () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      writeRows();
    });
  }, { passive: true });
  const heads = columns.map((column) => makeHead(column, () => sortBy(column)));
  head.append(...heads.map((one) => one.node));

  const sort = () => state.settings.sorts[name] ?? first;
  const isHidden = (/** @type {Column<T>} */ column) => (state.settings.hidden[name] ?? []).includes(column.key);

  /** @param {Column<T>} column */
  function sortBy(column) {
    const { column: key, descending } = sort();
    setSort(column.key, key === column.key ? !descending : Boolean(column.numeric));
  }

  /** @param {string} column @param {boolean} descending */
  function setSort(column, descending) {
    changeSettings({ sorts: { ...state.settings.sorts, [name]: { column, descending } } });
  }

  /** Whether the screen has no room for a column. @param {Column<T>} column */
  function isDropped(column) {
    const head = heads.find((one) => one.column === column)?.node;
    return Boolean(head && !head.hidden) && getComputedStyle(/** @type {Element} */ (head)).display === 'none';
  }

  /** @param {T[]} next */
  function render(next) {
    rows = next;
    const { column: key, descending } = sort();
    for (const one of heads) one.write(key, descending, isHidden(one.column));
    const wanted = `${key} ${descending}`;
    if (wanted === sortedBy && isPointedAt()) {
      keepPlaces();
    } else {
      const column = columns.find((one) => one.key === key) ?? columns[0];
      rows = sorted(rows, column, descending);
      sortedBy = wanted;
    }
    order = rows.map(keyOf);
    attribute(table, 'aria-rowcount', rows.length + 1);
    writeRows();
  }

  const isPointedAt = () => body.matches(':hover') || body.contains(document.activeElement);

  /** The order so far, without the rows that have gone and with the new ones at the end. */
  function keepPlaces() {
    const places = new Map(order.map((key, place) => [key, place]));
    const place = (/** @type {T} */ row) => places.get(keyOf(row)) ?? Infinity;
    rows = rows.map((row) => ({ row, at: place(row) })).sort((a, b) => (a.at === b.at ? 0 : a.at - b.at)).map(({ row }) => row);
  }

  function writeRows() {
    if (!rowHeight && rows.length) measure();
    const focus = focused();
    const height = rowHeight || 40;
    const start = Math.max(0, Math.floor(root.scrollTop / height) - OVERSCAN);
    const end = Math.min(rows.length, Math.ceil((root.scrollTop + root.clientHeight) / height) + OVERSCAN);
    /** @type {typeof shown} */
    const next = new Map();
    const wanted = new Set(order.slice(start, end));
    // Rows that went out of sight are written anew rather than made anew, which is what scrolling mostly costs.
    // One that somebody stands in never becomes another's: the next key press would do to B what was meant for A.
    const spare = [];
    for (const [key, row] of shown) {
      if (wanted.has(key)) continue;
      // Out of the way first: a row that stays is then not moved, and a row that is not moved keeps the focus.
      row.node.remove();
      if (key !== focus?.key && !row.node.querySelector('[data-opener]')) spare.push(row);
    }
    let before = /** @type {Element} */ (above);
    for (let index = start; index < end; index += 1) {
      const key = order[index];
      const row = shown.get(key) ?? spare.pop() ?? makeRow(columns);
      row.write(rows[index], index, isHidden);
      if (before.nextElementSibling !== row.node) before.after(row.node);
      before = row.node;
      next.set(key, row);
    }
    shown = next;
    if (focus && !next.has(focus.key)) keepFocus(focus);
    setHeight(above, start * height);
    setHeight(below, (rows.length - end) * height);
  }

  /** Where in the table the focus is. */
  function focused() {
    const row = document.activeElement?.closest('tbody tr');
    if (!row || !body.contains(row)) return null;
    const key = [...shown].find(([, one]) => one.node === row)?.[0];
    const column = [...row.children].findIndex((cell) => cell.contains(document.activeElement));
    return key === undefined ? null : { key, column, index: Number(row.getAttribute('aria-rowindex')) - 2 };
  }

  /**
   * The row has gone: out of sight, and then the table has the focus so that keys go on scrolling it; or altogether, and
   * then the row that came into its place has it.
   * @param {{ key: string, column: number, index: number }} was
   */
  function keepFocus({ key, column, index }) {
    const heir = order.includes(key) ? undefined : shown.get(order[Math.min(index, order.length - 1)]);
    const control = heir?.node.children[column]?.querySelector('a[href], button:not([hidden])');
    /** @type {HTMLElement} */ (control ?? root).focus({ preventScroll: true });
  }

  /** All rows are of one height, which depends on the screen. */
  function measure() {
    const probe = makeRow(columns);
    probe.write(rows[0], 0, isHidden);
    above.after(probe.node);
    rowHeight = probe.node.getBoundingClientRect().height;
    probe.node.remove();
  }

  const resized = new ResizeObserver(() => {
    rowHeight = 0;
    writeRows();
  });
  resized.observe(root);

  return { root, render, close: () => resized.disconnect(), name, columns, isHidden, isDropped, sort, setSort };
}

/** @param {HTMLElement} row @param {number} height */
function setHeight(row, height) {
  const cell = /** @type {HTMLElement} */ (row.firstElementChild);
  const text = `${height}px`;
  if (cell.style.height !== text) cell.style.height = text;
  row.hidden = height === 0;
}

/**
 * @template T
 * @param {T[]} rows
 * @param {Column<T>} column
 * @param {boolean} descending
 */
function sorted(rows, column, descending) {
  const sign = descending ? -1 : 1;
  const keyed = rows.map((row) => ({ row, key: column.sort(row) }));
  keyed.sort(({ key: a }, { key: b }) => sign
    * (typeof a === 'number' && typeof b === 'number' ? a - b : compare(String(a), String(b))));
  return keyed.map(({ row }) => row);
}

/**
 * @template T
 * @param {Column<T>} column
 * @param {() => void} onClick
 */
function makeHead(column, onClick) {
  const arrow = h('span', { class: 'arrow', 'aria-hidden': 'true' });
  const content = column.label
    ? h('button', { type: 'button', class: 'head', title: column.hint, on: { click: onClick } }, h('span', { text: column.label }), arrow)
    : h('span', { class: 'visually-hidden', text: t('table.actions') });
  const node = h('th', { scope: 'col', class: cellClass(column) }, content);
  return {
    node, column,
    /** @param {string} key @param {boolean} descending @param {boolean} hidden */
    write(key, descending, hidden) {
      const direction = descending ? 'descending' : 'ascending';
      if (column.label) attribute(node, 'aria-sort', key === column.key ? direction : 'none');
      write(arrow, key === column.key ? (descending ? '↓' : '↑') : '');
      node.hidden = hidden;
    },
  };
}

/**
 * @template T
 * @param {Column<T>[]} columns
 * @returns {Row<T>}
 */
function makeRow(columns) {
  const cells = columns.map((column) => {
    const { node, write: fill } = column.cell();
    const cell = h(column.fixed && column.label ? 'th' : 'td', { class: cellClass(column) }, node);
    if (column.fixed && column.label) cell.scope = 'row';
    return { cell, column, fill };
  });
  const node = h('tr', {}, cells.map(({ cell }) => cell));
  return {
    node,
    write(row, index, isHidden) {
      attribute(node, 'aria-rowindex', index + 2);
      for (const { cell, column, fill } of cells) {
        const hidden = isHidden(column);
        if (cell.hidden !== hidden) cell.hidden = hidden;
        if (!hidden) fill(row);
      }
    },
  };
}

/**
 * @template T
 * @param {Column<T>} column
 */
function cellClass(column) {
  return `c-${column.key} p${column.priority}${column.numeric ? ' numeric' : ''}`;
}

/**
 * A cell that is a text.
 * @template T
 * @param {(row: T) => string} text
 * @param {(row: T) => string} [title]
 * @returns {() => { node: HTMLElement, write: (row: T) => void }}
 */
export function textCell(text, title) {
  return () => {
    const node = h('span', { class: 'text' });
    return {
      node,
      write(row) {
        write(node, text(row));
        if (title) attribute(node, 'title', title(row) || null);
      },
    };
  };
}
