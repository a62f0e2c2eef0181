// Dialogs and notices: what stands above the page. Dialogs are the browser's own, which hold the focus and close on
// Escape.

import { button, h, icon } from './dom.js';
import { t } from './i18n.js';

const NOTICE_MS = 8000;
const notices = h('div', { class: 'notices', role: 'status', 'aria-live': 'polite' });

/** @returns {HTMLElement} the place of notices */
export const noticesRoot = () => notices;

/**
 * Says something for a while.
 * @param {string} text
 * @param {'good' | 'bad'} [tone]
 */
export function notify(text, tone = 'good') {
  const close = () => notice.remove();
  const notice = h('div', { class: `notice ${tone}` },
    icon(tone === 'good' ? 'check' : 'error'), h('span', { text }),
    h('button', { type: 'button', class: 'icon-button', 'aria-label': t('close'), on: { click: close } }, icon('close')));
  notices.append(notice);
  // What went wrong stays until it has been read.
  if (tone === 'good') setTimeout(close, NOTICE_MS);
}

/** @param {HTMLElement} notice */
export function addNotice(notice) {
  notices.append(notice);
}

/**
 * Opens a dialog; it is taken out of the page when it closes.
 * @param {string} title
 * @param {(Node | string | null)[]} content
 * @param {{ wide?: boolean, onClose?: () => void }} [more]
 */
export function openDialog(title, content, { wide, onClose } = {}) {
  const heading = h('h2', { text: title, tabindex: '-1' });
  const close = () => dialog.close();
  const dialog = h('dialog', { class: wide ? 'dialog wide' : 'dialog', 'aria-label': title },
    h('header', {}, heading,
      h('button', { type: 'button', class: 'icon-button', 'aria-label': t('close'), on: { click: close } }, icon('close'))),
    ...content);
  const opener = document.activeElement;
  opener?.setAttribute('data-opener', '');
  dialog.addEventListener('close', () => {
    dialog.remove();
    onClose?.();
    opener?.removeAttribute('data-opener');
    if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
    else /** @type {HTMLElement | null} */ (document.querySelector('.table-scroll:not([hidden]), main'))?.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return { dialog, close };
}

/**
 * Asks before something that cannot be taken back.
 * @param {string} title
 * @param {string} text
 * @param {string} yes what the button says that does it
 * @param {() => Promise<void> | void} act
 */
export function confirm(title, text, yes, act) {
  const agree = button(yes, () => {
    close();
    act();
  }, { class: 'button danger' });
  const { close } = openDialog(title, [
    h('p', { class: 'dialog-text', text }),
    h('footer', {}, button(t('cancel'), () => close()), agree),
  ]);
  agree.focus();
}

/**
 * Runs something that may fail, and says how it failed.
 * @param {() => Promise<void>} act
 */
export async function attempt(act) {
  try {
    await act();
  } catch (error) {
    notify(error instanceof Error ? error.message : String(error), 'bad');
  }
}

/**
 * Puts a text on the clipboard and says so. Browsers permit it on secure pages only; elsewhere the text is selected.
 * @param {string} text
 * @param {HTMLElement} shown
 */
export async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    notify(t('copied'));
  } catch {
    const range = document.createRange();
    range.selectNodeContents(shown);
    getSelection()?.removeAllRanges();
    getSelection()?.addRange(range);
    notify(t('copy.selected'));
  }
}
