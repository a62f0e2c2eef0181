// The values of an account's fields in words.

import * as format from '../format.js';
import { lookUp, t } from '../i18n.js';

/**
 * @param {string} field flat: `note`, `limits.quota_bytes`
 * @param {any} value
 */
export function fieldText(field, value) {
  const name = field.replace('limits.', '');
  if (name === 'enabled') return t(value ? 'yes' : 'no');
  if (name === 'quota_bytes') return value > 0 ? format.bytes(value, true) : t('quota.none');
  if (name === 'quota_period') return periodText(value);
  if (name === 'expires_at') return value ? format.dateTime(unixSeconds(value)) : t('expiry.never');
  if (name.endsWith('_per_second_max')) return value > 0 ? format.rate(value, true) : t('unlimited');
  if (name === 'addresses_max' || name === 'sessions_max') return value > 0 ? format.number(value) : t('unlimited');
  if (name === 'flow') return value && value !== 'none' ? value : t('flow.none');
  return value === null || value === undefined || value === '' ? '–' : String(value);
}

/** @param {string | null | undefined} period */
export const periodText = (period) => lookUp(`period.${period || 'none'}`, String(period));

/**
 * Times in limits are written as RFC 3339.
 * @param {string | number} value
 */
export function unixSeconds(value) {
  return typeof value === 'number' ? value : Math.floor(Date.parse(value) / 1000);
}
