// The start: settings, language, who we are, the feed; then one view per address, written whenever the state changes.

import { get, loadSession, logIn } from './api.js';
import { attribute, button, fill, h } from './dom.js';
import { loadEvents } from './events.js';
import { followVisibility, keepPace, onFeedBack, start, stop } from './feed.js';
import { t } from './i18n.js';
import { followRoute, takeToken } from './route.js';
import { loadSettings } from './settings.js';
import { change, onChange, state } from './store.js';
import { noticesRoot, notify } from './ui.js';
import { eventsView } from './views/events.js';
import { loginView } from './views/login.js';
import { overviewView } from './views/overview.js';
import { empty } from './views/parts.js';
import { sessionsView } from './views/sessions.js';
import { bannersView, closeMenusOutside, headerView } from './views/shell.js';
import { userView } from './views/user.js';
import { usersView } from './views/users.js';

/** @typedef {import('./types.d.ts').State} State */
/** @typedef {import('./types.d.ts').View} View */

const PAGE_WAIT_MS = 10_000;

/** @type {{ header: ReturnType<typeof headerView>, banners: ReturnType<typeof bannersView>, main: HTMLElement } | null} */
let frame = null;
/** @type {View | null} */
let view = null;
let shownAs = '';
let framedAs = '';
let loggedIn = false;

async function main() {
  loadSettings();
  onChange(render);
  const token = takeToken();
  followRoute(useToken);
  closeMenusOutside();
  await loadSession();
  if (token) await useToken(token);
  onFeedBack(catchUp);
  followVisibility();
}

/** @param {string} token */
async function useToken(token) {
  if (!state.session || state.session.right === 'admin') return;
  await logIn(token).catch((error) => notify(error.message, 'bad'));
}

/** After a restart the login is gone, the pace may be another, and events of the time in between came to nobody. */
function catchUp() {
  loadSession();
  loadPace();
  loadEvents().catch(() => {});
  // What is loaded just now is not old.
  if (state.stats) lookForNewer();
}

/** Whether the server has another page by now: its page names this very module, by a hash of all files, if not. */
async function lookForNewer() {
  const page = await fetch('/', { cache: 'no-cache', signal: AbortSignal.timeout(PAGE_WAIT_MS) }).catch(() => null);
  if (!page?.ok) return;
  const { pathname } = new URL(import.meta.url);
  const html = await page.text().catch(() => `"${pathname}"`);
  change({ outdated: !html.includes(`"${pathname}"`) });
}

/** Without an answer the pace so far holds. */
function loadPace() {
  get('/api/config').then((config) => keepPace(config.broadcast_interval), () => {});
}

/** @param {State} now */
function render(now) {
  const looking = Boolean(now.session) && now.session?.right !== 'none';
  if (looking !== loggedIn) {
    loggedIn = looking;
    if (looking) begin();
    else stop();
  }
  writeFrame(now);
  writeView(now, looking);
}

function begin() {
  start();
  loadPace();
  loadEvents().catch((error) => notify(error.message, 'bad'));
}

/** Header, banners and the place of the view; made anew for another language. @param {State} now */
function writeFrame(now) {
  if (!frame || framedAs !== now.settings.lang) {
    framedAs = now.settings.lang;
    shownAs = '';
    const main = h('main', { id: 'main', tabindex: '-1' });
    frame = { header: headerView(), banners: bannersView(), main };
    fill(document.body, h('a', { class: 'skip', href: '#main', text: t('skip'), on: { click: focusMain } }),
      frame.header.root, frame.banners.root, main, noticesRoot());
  }
  frame.header.render(now);
  frame.banners.render(now);
  attribute(document.body, 'data-stale', now.stale && Boolean(now.stats));
}

/** @param {globalThis.Event} event */
function focusMain(event) {
  // The address's fragment belongs to the route.
  event.preventDefault();
  frame?.main.focus();
}

/** @param {State} now @param {boolean} looking */
function writeView(now, looking) {
  const { page, email, query } = now.route;
  const shown = now.failure && !now.session ? `failure ${now.failure}` : !now.session ? 'loading' : !looking ? 'login'
    : !now.stats && page !== 'events' ? 'loading' : `${page} ${email} ${JSON.stringify(query)} ${now.session.right}`;
  if (shown !== shownAs) {
    const first = shownAs === '' || shownAs === 'loading';
    shownAs = shown;
    view?.close?.();
    view = shown === 'loading' ? loadingView() : shown === 'login' ? loginView() : shown.startsWith('failure') ? failureView(now.failure ?? '') : viewOf(now);
    fill(/** @type {HTMLElement} */ (frame?.main), view.root);
    document.title = title(now, shown);
    // Who went to another page hears and continues there; who just opened this one is left alone.
    if (!first) /** @type {HTMLElement | null} */ (view.root.querySelector('h1'))?.focus({ preventScroll: false });
    scrollTo(0, 0);
  }
  view?.render(now);
}

/** @param {State} now @returns {View} */
function viewOf({ route }) {
  switch (route.page) {
    case 'users': return usersView();
    case 'user': return userView(route.email, { share: 'share' in route.query });
    case 'sessions': return sessionsView();
    case 'events': return eventsView();
    default: return overviewView();
  }
}

/** @param {State} now @param {string} shown */
function title(now, shown) {
  if (shown === 'login') return `${t('login.title')} · VLESS-Rust`;
  const { page, email } = now.route;
  return `${page === 'user' ? email : t(`nav.${page}`)} · VLESS-Rust`;
}

/** @returns {View} */
function loadingView() {
  const bones = Array.from({ length: 7 }, () => h('div', { class: 'panel bone' }));
  const root = h('div', { class: 'overview loading', role: 'status', 'aria-label': t('loading') }, bones);
  return { root, render() {} };
}

/** @param {string} reason @returns {View} */
function failureView(reason) {
  const again = button(t('failure.again'), () => loadSession(), { class: 'button primary' });
  return { root: h('div', { class: 'page' }, h('section', { class: 'panel' }, h('h1', { class: 'visually-hidden', text: t('failure.title') }), empty(t('failure.title'), reason, again))), render() {} };
}

main();
