// Small pieces that several views are made of: panels, figures with a label, bars, words of state.

import { append, attribute, h, icon, show, write } from '../dom.js';
import * as format from '../format.js';
import { t } from '../i18n.js';
import { userHash } from '../route.js';
import { state } from '../store.js';

/** @typedef {import('../types.d.ts').User} User */

/**
 * A region with a heading.
 * @param {string} title
 * @param {string} className
 * @param {...(Node | string | null)} children
 */
export function panel(title, className, ...children) {
  const id = `h-${(panels += 1)}`;
  const root = h('section', { class: `panel ${className}`, 'aria-labelledby': id });
  const count = h('span', { class: 'count' });
  const heading = h('header', { class: 'panel-head' }, h('h2', { id }, title, count));
  append(root, heading, ...children);
  return { root, heading, count };
}
let panels = 0;

/**
 * A label, a figure and a line beneath it.
 * @param {string} label
 * @param {string} [hint] what the label means
 */
export function figure(label, hint) {
  const value = h('dd', { class: 'value' });
  const more = h('dd', { class: 'more' });
  const node = h('div', { class: 'figure' }, h('dt', { text: label, title: hint }), value, more);
  return {
    node,
    /** @param {string} text @param {string} [beneath] @param {string} [title] */
    write(text, beneath = '', title) {
      write(value, text);
      attribute(value, 'title', title);
      write(more, beneath);
      show(more, beneath !== '');
    },
  };
}

/**
 * A label and its value on one line.
 * @param {string} label
 * @param {string} [title]
 */
export function line(label, title) {
  const value = h('dd');
  const node = h('div', { class: 'line', title }, h('dt', { text: label }), value);
  return {
    node,
    /** @param {string} text @param {string} [hint] */
    write(text, hint) {
      write(value, text);
      attribute(value, 'title', hint);
    },
  };
}

/**
 * A bar that shows a share, with its figures in words beside it.
 * @param {string} label
 */
export function meter(label) {
  const filled = h('span', { class: 'fill' });
  const text = h('span', { class: 'meter-value' });
  const bar = h('div', { class: 'bar', role: 'meter', 'aria-label': label, 'aria-valuemin': '0', 'aria-valuemax': '100' }, filled);
  const node = h('div', { class: 'meter' }, h('div', { class: 'meter-head' }, h('span', { class: 'meter-label', text: label }), text), bar);
  return {
    node,
    /** @param {number} share @param {string} words @param {number} [high] above which it is a warning */
    write(share, words, high = 0.8) {
      write(text, words);
      writeBar(bar, filled, share, high);
      attribute(bar, 'aria-valuetext', words);
    },
  };
}

/** A bar without words of its own, for cells of tables. @param {string} label */
export function bar(label) {
  const filled = h('span', { class: 'fill' });
  const node = h('span', { class: 'bar', role: 'meter', 'aria-label': label, 'aria-valuemin': '0', 'aria-valuemax': '100' }, filled);
  return { node, write: (/** @type {number} */ share) => writeBar(node, filled, share, 0.8) };
}

/** @param {HTMLElement} node @param {HTMLElement} filled @param {number} share @param {number} high */
function writeBar(node, filled, share, high) {
  const bounded = Number.isFinite(share) ? Math.min(1, Math.max(0, share)) : 0;
  const width = `${(bounded * 100).toFixed(1)}%`;
  if (filled.style.width !== width) filled.style.width = width;
  attribute(node, 'aria-valuenow', Math.round(bounded * 100));
  attribute(node, 'data-level', bounded >= 1 ? 'full' : bounded >= high ? 'high' : null);
}

/**
 * Up and down beside each other, with exact figures on asking.
 * @param {(value: number) => string} [shown]
 */
export function bothWays(shown = (value) => format.bytes(value)) {
  const down = h('span', { class: 'way-value' });
  const up = h('span', { class: 'way-value' });
  const node = h('span', { class: 'ways' },
    h('span', { class: 'way' }, icon('down'), h('span', { class: 'visually-hidden', text: t('download') }), down),
    h('span', { class: 'way' }, icon('up'), h('span', { class: 'visually-hidden', text: t('upload') }), up));
  return {
    node,
    /** @param {number} upload @param {number} download */
    write(upload, download) {
      write(down, shown(download));
      write(up, shown(upload));
      attribute(down, 'title', format.exactBytes(download));
      attribute(up, 'title', format.exactBytes(upload));
    },
  };
}

/** A word of state with a mark whose shape differs, too. */
export function userState() {
  const node = h('span', { class: 'state' });
  return {
    node,
    /** @param {User} user */
    write(user) {
      write(node, stateName(user));
      attribute(node, 'data-state', stateOf(user));
    },
  };
}

/** @param {User} user */
function stateOf(user) {
  if (Object.hasOwn(state.removing, user.email)) return 'removing';
  return user.state !== 'active' ? user.state : user.online ? 'online' : 'offline';
}

/** @param {User} user */
export const stateName = (user) => t(`state.${stateOf(user)}`);

/** A user's name as a link to his page. */
export function userLink() {
  const node = h('a', { class: 'user-link' });
  let shown = '';
  return {
    node,
    /** @param {string} email */
    write(email) {
      if (email === shown) return;
      shown = email;
      write(node, email);
      attribute(node, 'href', userHash(email));
      attribute(node, 'title', email);
    },
  };
}

/** @param {string[]} addresses */
export function addressesText(addresses) {
  const shown = state.settings.masked ? addresses.map(format.masked) : addresses;
  return shown.join(', ');
}

/** @param {User} user */
export function quotaText(user) {
  if (!(user.quota_bytes > 0)) return t('quota.none');
  const [used, quota] = [format.bytes(user.quota_used_bytes), format.bytes(user.quota_bytes, true)];
  // One unit is enough where both have the same.
  const [figure, unit] = used.split('\u00a0');
  return t('quota.of', { used: quota.endsWith(`\u00a0${unit}`) ? figure : used, quota });
}

/** The server's clock, in unix seconds. */
export function serverNow() {
  return state.stats?.now ?? Math.floor(Date.now() / 1000);
}

/**
 * What stands where there is nothing yet: what that means and what to do next.
 * @param {string} title
 * @param {string} text
 * @param {...(Node | null)} actions
 */
export function empty(title, text, ...actions) {
  return h('div', { class: 'empty' }, h('p', { class: 'empty-title', text: title }), h('p', { text }), actions);
}

/**
 * Buttons of which one is chosen.
 * @template {string} T
 * @param {string} label
 * @param {[T, string][]} choices
 * @param {(choice: T) => void} onChoose
 */
export function choice(label, choices, onChoose) {
  const buttons = choices.map(([value, text]) => ({
    value, node: h('button', { type: 'button', class: 'segment', on: { click: () => onChoose(value) } }, text),
  }));
  const node = h('div', { class: 'segments', role: 'group', 'aria-label': label }, buttons.map((one) => one.node));
  return {
    node,
    /** @param {T} chosen */
    write(chosen) {
      for (const one of buttons) attribute(one.node, 'aria-pressed', String(one.value === chosen));
    },
  };
}
