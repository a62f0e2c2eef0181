// How to connect: link, QR code and client configurations of one account. They are credentials: fetched only when the
// viewer asks for them and has the admin right, and never part of the feed.

import { get, userPath } from '../api.js';
import { mayChange } from '../accounts.js';
import { attribute, button, fill, h, icon, show } from '../dom.js';
import { t } from '../i18n.js';
import { attempt, copy } from '../ui.js';
import { choice, panel } from './parts.js';

/**
 * @param {string} email
 * @param {boolean} openAtOnce
 */
export function shareView(email, openAtOnce) {
  const content = h('div', { class: 'share' });
  const ask = button(t('share.show'), () => open());
  const { root, heading } = panel(t('share.title'), 'sharing', content);
  const hide = button(t('share.hide'), () => closed(), { class: 'button quiet' });
  heading.append(hide);
  const closed = () => {
    shownId = null;
    show(hide, false);
    attribute(root, 'data-open', false);
    fill(content, h('p', { class: 'muted', text: t('share.text') }), ask);
  };
  /** @type {string | null} the id that the content shows */
  let shownId = null;
  let wanted = openAtOnce;
  let uuid = '';
  closed();

  const open = () => attempt(async () => {
    const { link, formats } = await get(`${userPath(email)}/link`);
    shownId = uuid;
    // The id in the address makes the browser ask again after a rotation.
    const image = h('img', { class: 'qr', src: `${userPath(email)}/qr.svg?${encodeURIComponent(uuid)}`, alt: t('share.qr', { name: email }), width: '240', height: '240' });
    fill(content, image, h('div', { class: 'share-texts' }, h('p', { class: 'muted', text: t('share.scan') }), textBox(t('share.link'), link), formats ? clients(formats) : null));
    show(hide, true);
    attribute(root, 'data-open', true);
  });

  return {
    root,
    /** @param {import('../types.d.ts').User} user */
    render(user) {
      show(root, mayChange());
      if (uuid && uuid !== user.uuid && shownId) {
        uuid = user.uuid;
        open();
      }
      uuid = user.uuid;
      if (!wanted || !mayChange()) return;
      wanted = false;
      open();
    },
  };
}

/** @param {string} label @param {string} text */
function textBox(label, text) {
  const code = h('code', { class: 'copy-text', tabindex: '0', text });
  return h('div', { class: 'copy-box', role: 'group', 'aria-label': label }, code,
    h('button', { type: 'button', class: 'button', on: { click: () => copy(text, code) } }, icon('copy'), h('span', { text: t('copy') })));
}

/** @param {Record<string, unknown>} formats */
function clients(formats) {
  const names = Object.keys(formats);
  const place = h('div');
  const ways = choice(t('share.clients'), names.map((name) => /** @type {[string, string]} */ ([name, name])), (name) => {
    ways.write(name);
    const given = formats[name];
    const text = typeof given === 'string' ? given : JSON.stringify(given, null, 2);
    const code = h('pre', { class: 'config', tabindex: '0', text });
    fill(place, code, button(t('copy'), () => copy(text, code)));
  });
  return h('details', { class: 'clients' }, h('summary', { text: t('share.clients') }), ways.node, place);
}
