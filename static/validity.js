// What is wrong with an input, in the page's language: the browser's own messages are in the browser's.

import { t } from './i18n.js';

/**
 * Says of an input that may not be sent as it is why, before anything is sent.
 * @param {HTMLInputElement} input
 */
export function inOwnWords(input) {
  const check = () => {
    // What the browser finds is only to be seen while nothing of ours is said.
    input.setCustomValidity('');
    input.setCustomValidity(messageOf(input));
  };
  for (const event of ['input', 'change', 'invalid']) input.addEventListener(event, check);
  check();
}

/** @param {HTMLInputElement} input */
function messageOf({ type, min, max, validity }) {
  if (validity.valid) return '';
  if (type === 'number' && (validity.valueMissing || validity.badInput)) return t(Number(min) > 0 ? 'form.number' : 'form.empty');
  if (validity.badInput) return t('form.date');
  if (validity.valueMissing) return t('form.missing');
  if (validity.rangeUnderflow || validity.rangeOverflow) return max ? t('form.range', { min: Number(min), max: Number(max) }) : t('form.least', { n: Number(min) });
  return t(validity.stepMismatch ? 'form.whole' : 'form.missing');
}
