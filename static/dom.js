// Making and writing elements. Text goes in as text nodes only: there is no way from a string to markup in this page.

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * An element. Properties: `class`, `text`, `on` (an object of listeners); everything else is an attribute, left out
 * when it is null or false.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'text') {
      element.textContent = value;
    } else if (name === 'on') {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else {
      attribute(element, name, value);
    }
  }
  append(element, ...children);
  return element;
}

/**
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function append(element, ...children) {
  for (const child of children.flat()) {
    if (child || child === '') element.append(child);
  }
}

/**
 * Replaces what an element holds.
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, ...children);
}

/**
 * Writes a text where it differs, so that a tick without news touches nothing.
 * @param {Node} node
 * @param {string} text
 */
export function write(node, text) {
  const only = node.firstChild;
  // Another text in the node that is there costs the browser less than another node.
  if (only instanceof Text && only === node.lastChild && text !== '') {
    if (only.data !== text) only.data = text;
  } else if (node.textContent !== text) {
    node.textContent = text;
  }
}

/**
 * Sets an attribute where it differs; null, undefined and false take it away, true makes it empty.
 * @param {Element} element
 * @param {string} name
 * @param {string | number | boolean | null | undefined} value
 */
export function attribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
    return;
  }
  const text = value === true ? '' : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/**
 * Shows or hides.
 * @param {HTMLElement} element
 * @param {boolean} shown
 */
export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/** @type {WeakMap<Element, Map<string, { node: HTMLElement, write: (item: any) => void }>>} */
const lists = new WeakMap();

/**
 * Makes the children of an element be one per item, in order. An item that stays keeps its element.
 * @template T
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => { node: HTMLElement, write: (item: T) => void }} make
 */
export function list(parent, items, keyOf, make) {
  const before = lists.get(parent) ?? new Map();
  const after = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const entry = before.get(key) ?? make(item);
    entry.write(item);
    after.set(key, entry);
    if (place && entry.node === place) {
      place = place.nextElementSibling;
    } else {
      parent.insertBefore(entry.node, place);
    }
  }
  for (const [key, entry] of before) {
    if (!after.has(key)) entry.node.remove();
  }
  lists.set(parent, after);
}

/**
 * A button with a text.
 * @param {string} text
 * @param {() => void} onClick
 * @param {Record<string, any>} [more]
 */
export function button(text, onClick, more = {}) {
  return h('button', { type: 'button', class: 'button', ...more, on: { click: onClick } }, text);
}

/**
 * An icon of the sprite in icons.svg would cost a request; these are a handful of paths.
 * @param {keyof typeof ICONS} name
 */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  for (const [key, value] of [['viewBox', '0 0 16 16'], ['class', 'icon'], ['aria-hidden', 'true']]) {
    svg.setAttribute(key, value);
  }
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

const ICONS = {
  check: 'M3 8.5 6.5 12 13 4.5',
  warn: 'M8 2.2 14.5 13.5H1.5ZM8 6.5v3.2M8 11.6v.4',
  error: 'M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8ZM8 4.8v4M8 11v.4',
  info: 'M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8ZM8 7.4v4M8 4.7v.4',
  up: 'M8 13.5v-11M3.5 7 8 2.5 12.5 7',
  down: 'M8 2.5v11M3.5 9 8 13.5 12.5 9',
  lock: 'M4 7.5h8v6H4ZM5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5',
  gear: 'M2 4.5h7M13 4.5h1M2 11.5h1M7 11.5h7M11 2.7v3.6M5 9.7v3.6',
  close: 'M4 4l8 8M12 4l-8 8',
  columns: 'M2.5 3h11v10h-11ZM6.2 3v10M9.8 3v10',
  search: 'M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9ZM10.4 10.4 14 14',
  plus: 'M8 3v10M3 8h10',
  back: 'M10 3 5 8l5 5',
  copy: 'M5.5 5.5h8v8h-8ZM10.5 5.5v-3h-8v8h3',
};
