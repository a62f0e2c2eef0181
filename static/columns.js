// The menu of a table's columns: which are shown, which the screen has no room for, and by which the table is sorted. The
// heads of dropped columns cannot be clicked; here they can be chosen all the same.

import { attribute, h, icon, show, write } from './dom.js';
import { t } from './i18n.js';
import { changeSettings } from './settings.js';
import { state } from './store.js';

/**
 * @template T
 * @param {ReturnType<typeof import('./table.js').createTable<T>>} table
 */
export function columnsMenu({ name, columns, isHidden, isDropped, sort, setSort }) {
  const named = columns.filter((column) => column.label);
  const boxes = named.filter((column) => !column.fixed).map((column) => {
    const box = h('input', { type: 'checkbox', checked: !isHidden(column) });
    box.addEventListener('change', () => {
      const others = (state.settings.hidden[name] ?? []).filter((key) => key !== column.key);
      const hidden = box.checked ? others : [...others, column.key];
      changeSettings({ hidden: { ...state.settings.hidden, [name]: hidden } });
    });
    const dropped = h('small', { class: 'dropped', text: t('table.dropped') });
    return { column, box, dropped, node: h('label', { class: 'check' }, box, column.label, dropped) };
  });
  const by = h('select', { 'aria-label': t('table.sort') }, named.map((column) => h('option', { value: column.key, text: column.label })));
  by.addEventListener('change', () => {
    setSort(by.value, Boolean(named.find((column) => column.key === by.value)?.numeric));
    update();
  });
  const turn = h('button', { type: 'button', class: 'button', on: { click: () => {
    setSort(sort().column, !sort().descending);
    update();
  } } });
  const root = h('details', { class: 'menu columns' },
    h('summary', { class: 'button', title: t('table.columns') }, icon('columns'), h('span', { text: t('table.columns') })),
    h('div', { class: 'popup' }, boxes.map((one) => one.node),
      h('div', { class: 'setting' }, h('p', { text: t('table.sort') }), h('span', { class: 'input-row' }, by, turn))));

  function update() {
    if (!root.open) return;
    for (const { column, box, dropped } of boxes) {
      box.checked = !isHidden(column);
      show(dropped, isDropped(column));
    }
    const { column, descending } = sort();
    by.value = column;
    write(turn, descending ? '↓' : '↑');
    attribute(turn, 'aria-label', t(descending ? 'table.descending' : 'table.ascending'));
    attribute(turn, 'title', t(descending ? 'table.descending' : 'table.ascending'));
  }
  root.addEventListener('toggle', update);
  return root;
}
