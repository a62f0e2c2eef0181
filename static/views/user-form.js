// The form that changes an account. Only what the viewer altered is sent, so that two people who change different
// fields do not meet.

import { patchUser } from '../accounts.js';
import { button, h, write } from '../dom.js';
import { t } from '../i18n.js';
import { userHash } from '../route.js';
import { state } from '../store.js';
import { notify, openDialog } from '../ui.js';
import { inOwnWords } from '../validity.js';
import { unixSeconds } from './fields.js';

/** @typedef {import('../accounts.js').Base} Base */
/** @typedef {import('../types.d.ts').User} User */
/** @typedef {{ key: string, node: HTMLElement, read: () => any }} Field what the input says, as the API takes it */

const GB = 1024 ** 3;
const DAYS_OF_MONTH = 28;

/** @param {Base} base */
export function openForm(base) {
  const { user } = base;
  const limits = user.limits ?? {};
  const fields = {
    account: [textField('email', user.email, { required: true, maxlength: '255' }), textField('note', user.note, { maxlength: '1000' }), flowField(user.flow)],
    quota: [
      scaledField('quota_bytes', limits.quota_bytes, GB, 'GB'), periodField(limits.quota_period),
      numberField('quota_day', limits.quota_day || 1, { min: '1', max: String(DAYS_OF_MONTH) }),
    ],
    expiry: [dateField('expires_at', limits.expires_at), numberField('expires_after_days', limits.expires_after_days ?? 0)],
    more: [
      speedField('down_bytes_per_second_max', limits.down_bytes_per_second_max), speedField('up_bytes_per_second_max', limits.up_bytes_per_second_max),
      numberField('sessions_max', limits.sessions_max ?? 0), numberField('addresses_max', limits.addresses_max ?? 0),
    ],
  };
  const all = Object.values(fields).flat();
  const before = new Map(all.map((field) => [field.key, JSON.stringify(field.read())]));
  const message = h('p', { class: 'form-error', role: 'alert' });
  const group = (/** @type {string} */ title, /** @type {Field[]} */ members) => h('fieldset', {}, h('legend', { text: title }), members.map((one) => one.node));
  const save = h('button', { type: 'submit', class: 'button primary', text: t('save') });
  const form = h('form', { class: 'form two-columns' },
    group(t('form.account'), fields.account), group(t('field.quota_bytes'), fields.quota),
    group(t('field.expires_at'), fields.expiry), group(t('form.more'), fields.more),
    h('p', { class: 'form-hint', text: t('form.zero') }), message, h('footer', {}, button(t('cancel'), () => close()), save));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const patch = patchOf(all.filter((field) => JSON.stringify(field.read()) !== before.get(field.key)));
    write(message, '');
    save.disabled = true;
    try {
      if (Object.keys(patch).length === 0 || await patchUser(base, patch)) {
        close();
        if (Object.keys(patch).length) notify(t('saved', { name: user.email }));
        if (patch.email) location.hash = userHash(patch.email);
      } else {
        close();
      }
    } catch (error) {
      write(message, error instanceof Error ? error.message : String(error));
    }
    save.disabled = false;
  });
  const { close } = openDialog(t('user.edit.title', { name: user.email }), [form], { wide: true });
}

/** @param {Field[]} altered */
function patchOf(altered) {
  /** @type {Record<string, any>} */
  const patch = {};
  for (const { key, read } of altered) {
    if (['email', 'note', 'flow'].includes(key)) patch[key] = read();
    else patch.limits = { ...patch.limits, [key]: read() };
  }
  return patch;
}

/**
 * @param {string} key
 * @param {HTMLElement[]} inputs
 * @param {() => any} read
 * @returns {Field}
 */
function field(key, inputs, read) {
  const label = t(`field.${/** @type {'note'} */ (key)}`);
  const node = inputs.length > 1
    ? h('div', { class: 'field', role: 'group', 'aria-label': label }, h('span', { text: label }), h('span', { class: 'input-row' }, inputs))
    : h('label', { class: 'field' }, h('span', { text: label }), inputs);
  return { key, node, read };
}

/** @param {string} key @param {string} value @param {Record<string, any>} more */
function textField(key, value, more) {
  const input = h('input', { type: 'text', autocomplete: 'off', name: key, ...more });
  input.value = value;
  inOwnWords(input);
  return field(key, [input], () => input.value.trim());
}

/**
 * @param {string} key
 * @param {number} value
 * @param {Record<string, any>} [more]
 */
function numberField(key, value, more = {}) {
  const input = h('input', { type: 'number', required: true, min: '0', step: '1', inputmode: 'numeric', name: key, ...more });
  input.value = String(value);
  inOwnWords(input);
  return field(key, [input], () => Number(input.value));
}

/** @param {string} key @param {number | undefined} value @param {number} unit @param {string} name */
function scaledField(key, value, unit, name) {
  const input = h('input', { type: 'number', required: true, min: '0', step: 'any', inputmode: 'decimal', name: key, 'aria-label': `${t(`field.${/** @type {'note'} */ (key)}`)} (${name})` });
  // A figure that is not altered must not be altered by rounding.
  const shown = value ? String(Number((value / unit).toFixed(3))) : '0';
  input.value = shown;
  inOwnWords(input);
  return field(key, [input, h('span', { class: 'unit', 'aria-hidden': 'true', text: name })],
    () => (input.value === shown ? value ?? 0 : Math.round(Number(input.value) * unit)));
}

/** @param {string} key @param {number | undefined} value */
function speedField(key, value) {
  return state.settings.rates === 'bits' ? scaledField(key, value, 125_000, 'Mbit/s') : scaledField(key, value, 1024 ** 2, 'MB/s');
}

/**
 * @param {string} key
 * @param {[string, string][]} choices
 * @param {string} chosen
 * @param {(value: string) => any} read
 */
function selectField(key, choices, chosen, read) {
  const known = choices.some(([value]) => value === chosen) ? choices : [...choices, /** @type {[string, string]} */ ([chosen, chosen])];
  const input = h('select', { name: key }, known.map(([value, text]) => h('option', { value, text, selected: value === chosen })));
  return field(key, [input], () => read(input.value));
}

/** @param {string | undefined} period */
function periodField(period) {
  return selectField('quota_period', [
    ['none', t('period.none')], ['day', t('period.day')], ['week', t('period.week')], ['month', t('period.month')],
  ], period ?? 'none', (value) => value);
}

/** @param {string | null | undefined} flow */
function flowField(flow) {
  return selectField('flow', [
    ['none', t('flow.none')], ['xtls-rprx-vision', 'xtls-rprx-vision'],
    ['xtls-rprx-vision-udp443', 'xtls-rprx-vision-udp443'],
  ], flow || 'none', (value) => value);
}

/**
 * A moment in the viewer's time zone; RFC 3339 towards the API.
 * @param {string} key
 * @param {string | number | null | undefined} value
 */
function dateField(key, value) {
  const input = h('input', { type: 'datetime-local', name: key });
  const shown = value ? localText(unixSeconds(value)) : '';
  input.value = shown;
  inOwnWords(input);
  return field(key, [input], () => {
    if (input.value === shown) return value ?? null;
    return input.value ? new Date(input.value).toISOString().replace('.000Z', 'Z') : null;
  });
}

/** @param {number} at */
function localText(at) {
  const date = new Date(at * 1000);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
