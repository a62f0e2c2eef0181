// What happened, newest first: a short list for the first page, and a page of its own with filters and the past.

import { get } from '../api.js';
import { button, h, icon, list, show, write } from '../dom.js';
import * as format from '../format.js';
import { lookUp, t } from '../i18n.js';
import { change, state } from '../store.js';
import { eventText } from '../words.js';
import { empty, panel } from './parts.js';

/** @typedef {import('../types.d.ts').Event} Event */
/** @typedef {import('../types.d.ts').State} State */

const LATEST = 6;
const PAGE = 100;
const KINDS = ['start', 'reload', 'certificate', 'limit', 'alert', 'user', 'cut', 'auth', 'state', 'cluster'];

/** Fetches the newest events; further ones come by the feed. */
export async function loadEvents() {
  const { events } = await get(`/api/events?limit=${PAGE}`);
  change({ events });
}

export function latestEventsView() {
  const rows = h('ul', { class: 'list events' });
  const none = h('div', {}, empty(t('events.none'), t('events.none.text')));
  const { root } = panel(t('events.latest'), 'latest-events', none, rows,
    h('a', { class: 'more-link', href: '#/events', text: t('events.all') }));
  return {
    root,
    /** @param {State} state */
    render({ events }) {
      show(none, events.length === 0);
      list(rows, events.slice(0, LATEST), (event) => String(event.id), eventRow);
    },
  };
}

/** @returns {import('../types.d.ts').View} */
export function eventsView() {
  let kind = state.route.query.kind ?? '';
  /** @type {Event[]} */
  let older = [];
  let complete = false;
  let failure = '';
  let closed = false;

  const select = h('select', { 'aria-label': t('events.kind') }, h('option', { value: '', text: t('events.every') }),
    KINDS.map((one) => h('option', { value: one, text: kindName(one), selected: one === kind })));
  select.addEventListener('change', () => {
    kind = select.value;
    older = [];
    complete = false;
    more();
  });
  const search = h('input', { type: 'search', placeholder: t('events.search'), 'aria-label': t('events.search') });
  search.addEventListener('input', () => render());
  const rows = h('ul', { class: 'list events' });
  const none = h('div', {}, empty(t('events.none'), t('events.none.text')));
  const unfound = h('div', {}, empty(t('events.unfound'), t('events.unfound.text')));
  const message = h('p', { class: 'chart-message' });
  const next = button(t('events.older'), () => more(), { class: 'button' });
  const root = h('div', { class: 'page' },
    h('div', { class: 'page-head' }, h('h1', { tabindex: '-1', text: t('nav.events') }), h('div', { class: 'tools' }, h('label', { class: 'search' }, icon('search'), search), select)),
    h('section', { class: 'panel', 'aria-label': t('nav.events') }, none, unfound, rows, message, h('div', { class: 'center' }, next)));

  /** Those of the feed first, then what was fetched. */
  function all() {
    const fresh = state.events.filter((event) => !kind || event.kind === kind);
    const known = new Set(fresh.map((event) => event.id));
    return [...fresh, ...older.filter((event) => !known.has(event.id))].sort((a, b) => b.id - a.id);
  }

  async function more() {
    const asked = kind;
    const last = older.at(-1)?.id;
    const query = new URLSearchParams({ limit: String(PAGE), ...(kind ? { kind } : {}), ...(last ? { before: String(last) } : {}) });
    try {
      const { events } = await get(`/api/events?${query}`);
      if (closed || asked !== kind) return;
      older = [...older, ...events];
      complete = events.length < PAGE;
      failure = '';
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error);
    }
    render();
  }

  function render() {
    const events = all();
    const wanted = search.value.trim().toLowerCase();
    const shown = wanted ? events.filter((event) => `${eventText(event)} ${event.by}`.toLowerCase().includes(wanted)) : events;
    show(none, events.length === 0 && complete);
    show(unfound, events.length > 0 && shown.length === 0);
    list(rows, shown, (event) => String(event.id), eventRow);
    show(next, !complete);
    show(message, failure !== '');
    write(message, failure);
  }

  more();
  return {
    root, render,
    close: () => {
      closed = true;
    },
  };
}

/** @param {Event} event */
function eventRow(event) {
  const mark = event.level === 'error' ? 'error' : event.level === 'warn' ? 'warn' : 'info';
  const when = h('time', { datetime: new Date(event.at * 1000).toISOString(), title: format.dateTime(event.at), text: format.dateTime(event.at) });
  const by = event.by && event.by !== 'server' ? t('events.by', { by: lookUp(`by.${event.by}`, event.by) }) : '';
  const node = h('li', { class: 'event', 'data-level': event.level },
    icon(mark), when, h('span', { class: 'event-kind', text: kindName(event.kind) }), h('span', { class: 'event-text', text: eventText(event) }),
    h('span', { class: 'event-by', text: by }));
  return { node, write() {} };
}

/** @param {string} kind */
const kindName = (kind) => lookUp(`kind.${kind}`, kind);
