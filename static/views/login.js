// Shown instead of the page to who has no right to look: the token, and where it is to be found.

import { logIn } from '../api.js';
import { h, write } from '../dom.js';
import { t } from '../i18n.js';
import { inOwnWords } from '../validity.js';

/**
 * @param {() => void} [onDone]
 * @returns {HTMLElement}
 */
export function loginForm(onDone) {
  const token = h('input', { type: 'password', required: true, autocomplete: 'current-password', name: 'token', 'aria-label': t('login.token') });
  inOwnWords(token);
  const message = h('p', { class: 'form-error', role: 'alert' });
  const send = h('button', { type: 'submit', class: 'button primary', text: t('login.send') });
  const form = h('form', { class: 'form login' },
    h('label', { class: 'field' }, h('span', { text: t('login.token') }), token, h('small', { text: t('login.where') })),
    message, h('footer', {}, send));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    send.disabled = true;
    write(message, '');
    try {
      await logIn(token.value);
      onDone?.();
    } catch (error) {
      write(message, error instanceof Error ? error.message : String(error));
      token.select();
    }
    send.disabled = false;
  });
  return form;
}

/** @returns {import('../types.d.ts').View} */
export function loginView() {
  const form = loginForm();
  const root = h('div', { class: 'login-page' }, h('section', { class: 'panel', 'aria-label': t('login.title') },
    h('h1', { tabindex: '-1', text: t('login.title') }), form));
  return { root, render() {} };
}
