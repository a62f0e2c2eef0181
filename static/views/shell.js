// What stands around every page: name, navigation, how fresh the figures are, settings, and banners about the whole.

import { logOut } from '../api.js';
import { attribute, button, fill, h, icon, show, write } from '../dom.js';
import * as format from '../format.js';
import { t } from '../i18n.js';
import { changeSettings } from '../settings.js';
import { state } from '../store.js';
import { openDialog } from '../ui.js';
import { loginForm } from './login.js';
import { choice } from './parts.js';

/** @typedef {import('../types.d.ts').State} State */

const PAGES = /** @type {const} */ (['overview', 'users', 'sessions', 'events']);

export function headerView() {
  const links = PAGES.map((page) => ({ page, node: h('a', { href: page === 'overview' ? '#/' : `#/${page}`, text: t(`nav.${page}`) }) }));
  const nav = h('nav', { 'aria-label': t('nav.title') }, links.map((one) => one.node));
  const link = h('span', { class: 'link-state', role: 'status' });
  const right = h('span', { class: 'right' });
  const unlock = button(t('login.admin'), openLogin, { class: 'button quiet' });
  const root = h('header', { class: 'top' }, h('div', { class: 'top-inner' },
    h('a', { class: 'brand', href: '#/', 'aria-label': 'VLESS-Rust' }, mark(), h('span', { text: 'VLESS-Rust' })),
    nav, h('div', { class: 'top-end' }, right, unlock, link, settingsMenu())));
  return {
    root,
    /** @param {State} now */
    render(now) {
      const { page } = now.route;
      for (const one of links) attribute(one.node, 'aria-current', one.page === page || (one.page === 'users' && page === 'user') ? 'page' : null);
      const known = now.session?.right ?? 'none';
      show(nav, known !== 'none');
      show(right, known === 'view');
      write(right, t('right.view'));
      attribute(right, 'title', t('right.view.hint'));
      show(unlock, known === 'view');
      show(link, known !== 'none');
      const shown = now.lost ? 'lost' : now.link;
      write(link, t(`link.${shown}`));
      attribute(link, 'data-link', shown);
    },
  };
}

function openLogin() {
  const { close } = openDialog(t('login.admin'), [loginForm(() => close())]);
}

/** The mark of the page: two ways through one point. */
function mark() {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', 'mark');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', 'M3 5l9 14L21 5M8 5l4 6.5L16 5');
  svg.append(path);
  return svg;
}

function settingsMenu() {
  /** @type {{ write: (chosen: any) => void, node: HTMLElement, key: 'lang' | 'theme' | 'rates' }[]} */
  const choices = [
    { key: 'lang', ...choice(t('settings.lang'), [['auto', t('settings.auto')], ['en', 'English'], ['zh', '中文']], (lang) => changeSettings({ lang })) },
    { key: 'theme', ...choice(t('settings.theme'), [['system', t('settings.system')], ['light', t('settings.light')], ['dark', t('settings.dark')]], (theme) => changeSettings({ theme })) },
    { key: 'rates', ...choice(t('settings.rates'), [['bytes', t('settings.bytes')], ['bits', t('settings.bits')]], (rates) => changeSettings({ rates })) },
  ];
  const labels = { lang: t('settings.lang'), theme: t('settings.theme'), rates: t('settings.rates') };
  const unlock = button(t('login.admin'), openLogin);
  const leave = button(t('logout'), () => logOut());
  const menu = h('details', { class: 'menu settings' },
    h('summary', { class: 'icon-button', 'aria-label': t('settings.title'), title: t('settings.title') }, icon('gear')),
    h('div', { class: 'popup' }, choices.map((one) => h('div', { class: 'setting' }, h('p', { text: labels[one.key] }), one.node)), unlock, leave));
  const update = () => {
    for (const one of choices) one.write(state.settings[one.key]);
    const { right, login_required: required } = state.session ?? {};
    // On phones the header has no room for it.
    show(unlock, right === 'view');
    // Whoever may look without logging in is logged in only while he may change.
    show(leave, right === 'admin' || (right === 'view' && required === true));
  };
  menu.addEventListener('toggle', update);
  menu.addEventListener('click', update);
  return menu;
}

/** Menus close when somebody clicks or goes elsewhere, and on Escape. */
export function closeMenusOutside() {
  /** @param {globalThis.Event} event */
  const close = (event) => {
    for (const menu of document.querySelectorAll('details.menu[open]')) {
      if (!(event.target instanceof Node) || !menu.contains(event.target)) menu.removeAttribute('open');
    }
  };
  addEventListener('pointerdown', close);
  addEventListener('focusin', close);
  addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    for (const menu of document.querySelectorAll('details.menu[open]')) {
      menu.removeAttribute('open');
      /** @type {HTMLElement | null} */ (menu.querySelector('summary'))?.focus();
    }
  });
}

/** Said loudly: figures that are old, a server that is about to end, a page that is not the server's any more. */
export function bannersView() {
  const lost = h('p', { class: 'banner bad', role: 'alert', hidden: true });
  const draining = h('p', { class: 'banner', role: 'status', hidden: true });
  const outdated = h('p', { class: 'banner', role: 'status', hidden: true });
  const root = h('div', { class: 'banners' }, lost, draining, outdated);
  let said = '';
  return {
    root,
    /** @param {State} now */
    render(now) {
      const stale = now.lost && now.session?.right !== 'none';
      const text = !stale ? '' : now.stats ? t('banner.lost', { time: format.time(now.statsWallAt / 1000) }) : t('banner.unreached');
      show(lost, stale);
      if (text !== said) fill(lost, icon('warn'), h('span', { text }));
      said = text;
      const ends = now.stats?.state === 'draining';
      show(draining, ends);
      if (ends && !draining.childElementCount) fill(draining, icon('warn'), h('span', { text: t('banner.draining') }));
      show(outdated, now.outdated);
      if (now.outdated && !outdated.childElementCount) {
        fill(outdated, icon('info'), h('span', { text: t('banner.outdated') }), button(t('banner.reload'), () => location.reload(), { class: 'button' }));
      }
    },
  };
}
