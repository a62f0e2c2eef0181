// What happened, newest first: a short list for the first page, and a page of its own with filters and the past.

import { get } from '../api.js';
import { button, h, icon, list, show, write } from '../dom.js';
import { PAGE, loadEvents } from '../events.js';
import * as format from '../format.js';
import { lookUp, t } from '../i18n.js';
import { state } from '../store.js';
import { eventText } from '../words.js';
import { empty, panel } from './parts.js';

/** @typedef {import('../types.d.ts').Event} Event */
/** @typedef {import('../types.d.ts').State} State */

const LATEST = 6;
// How many are kept that nobody asked for by `older`.
const KEPT_MAX = 300;
const KINDS = ['start', 'reload', 'certificate', 'limit', 'alert', 'user', 'cut', 'auth', 'state', 'cluster'];

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
  let kind = KINDS.find((one) => one === state.route.query.kind) ?? '';
  /**
   * All events of the chosen kind from one id to another, newest first, without a gap.
   * @type {{ from: number, to: number, events: Event[] } | null}
   */
  let held = null;
  let keptMax = KEPT_MAX;
  let loaded = false;
  let complete = false;
  let asking = false;
  let failure = '';
  let closed = false;

  const select = h('select', { 'aria-label': t('events.kind') }, h('option', { value: '', text: t('events.every') }),
    KINDS.map((one) => h('option', { value: one, text: kindName(one), selected: one === kind })));
  select.addEventListener('change', () => {
    kind = select.value;
    held = null;
    render();
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

  /** Takes over what is new. Where the new does not reach what is held, everything older is fetched again on asking. */
  function keepUp() {
    const { events } = state;
    if (!events.length) return;
    const [newest, oldest] = [events[0].id, events[events.length - 1].id];
    if (!held || oldest > held.to + 1 || newest < held.to) {
      held = { from: oldest, to: newest, events: events.filter(isWanted) };
      failure = '';
      keptMax = KEPT_MAX;
      complete = events.length < PAGE;
    } else if (newest > held.to) {
      const { to } = held;
      held.events = [...events.filter((event) => event.id > to && isWanted(event)), ...held.events];
      held.to = newest;
    }
    // The oldest go, and `older` has them again; not while it is under way.
    if (asking || held.events.length <= keptMax) return;
    held.events.length = keptMax;
    held.from = held.events[keptMax - 1].id;
    complete = false;
  }

  /** @param {Event} event */
  const isWanted = (event) => !kind || event.kind === kind;

  async function more() {
    const asked = held;
    if (!asked || complete) return;
    const { from } = asked;
    const query = new URLSearchParams({ limit: String(PAGE), ...(kind ? { kind } : {}), before: String(from) });
    asking = true;
    try {
      const { events } = await get(`/api/events?${query}`);
      // Two clicks ask for the same.
      if (closed || asked !== held || asked.from !== from) return;
      asked.events.push(...events);
      asked.from = events.at(-1)?.id ?? asked.from;
      keptMax = Math.max(KEPT_MAX, asked.events.length);
      complete = events.length < PAGE;
      failure = '';
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error);
    } finally {
      asking = false;
    }
    render();
  }

  function render() {
    keepUp();
    const events = held?.events ?? [];
    const wanted = search.value.trim().toLowerCase();
    const shown = wanted ? events.filter((event) => `${eventText(event)} ${event.by}`.toLowerCase().includes(wanted)) : events;
    show(none, events.length === 0 && (held ? complete : loaded));
    show(unfound, events.length > 0 && shown.length === 0);
    list(rows, shown, (event) => String(event.id), eventRow);
    show(next, Boolean(held) && !complete);
    show(message, failure !== '');
    write(message, failure);
  }

  loadEvents().then(() => {
    loaded = true;
    if (closed) return;
    render();
    if (kind) more();
  }, (error) => {
    failure = error.message;
  });
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
