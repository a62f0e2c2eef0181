// What the server says by codes, as sentences in the viewer's language. Events, reloads and errors carry a code and what
// fills its sentence in; the server's own English is shown only where this page does not know a code.

import * as format from './format.js';
import { list, lookUp, t } from './i18n.js';

/** @typedef {import('./types.d.ts').Event} Event */
/** @typedef {Record<string, any>} Data */

/** What happened, as one sentence. @param {Event} event */
export function eventText(event) {
  const { data, text } = event;
  const given = /** @type {Data} */ (data ?? {});
  const code = event.code || given.code;
  if (!code) return text;
  switch (code) {
    case 'reloaded':
      return reloadText(given);
    case 'certificate_files_changed':
      return lookUp(`event.${code}`, text, { changes: changesText(given.changed, given.changes) });
    case 'user_changed':
      return lookUp(`event.${code}`, text, { user: given.user, keys: list(given.keys.map(fieldName)) });
    case 'user_ended':
      return lookUp(`event.${code}`, text, { user: given.user, reason: reasonName(given.reason) });
    case 'quota_low':
      return lookUp(`event.${code}`, text, { user: given.user, share: format.percent(given.quota_used_bytes / given.quota_bytes), quota: format.bytes(given.quota_bytes, true) });
    case 'account_ends_soon':
      return lookUp(`event.${code}`, text, { user: given.user, date: format.dateTime(given.expires_at) });
    case 'alert_fired':
    case 'alert_resolved':
      return lookUp(`event.${code}`, text, {
        metric: alertName(given), value: metricValue(given.metric, given.value), limit: metricValue(given.metric, given.limit),
      });
    default:
      return lookUp(`event.${code}`, text, given);
  }
}

/** What a reload came to, as the API answers it and events keep it. @param {Data} reload */
export function reloadText({ changed, changes, needs_restart: later }) {
  const words = changesText(changed, changes);
  return later?.length ? t('reload.done.later', { changes: words, later: list(later) }) : t('reload.done', { changes: words });
}

/**
 * What a reload changed: users +1 -0, certificate replaced.
 * @param {Data[] | undefined} changed by codes
 * @param {string[] | undefined} otherwise the server's words, from before it had codes
 */
export function changesText(changed, otherwise) {
  const words = changed ? changed.map(changeText) : otherwise ?? [];
  return words.length ? list(words) : t('reload.nothing');
}

/** @param {Data} change */
function changeText({ code, key, from, to, ...counts }) {
  if (code === 'key') {
    // The server keeps values to itself that are secret or long.
    return to === undefined ? t('change.key', { key }) : t('change.key.values', { key, from: valueText(from), to: valueText(to) });
  }
  const form = code === 'users' && counts.changed > 0 ? 'users.changed' : code;
  return lookUp(`change.${form}`, String(code), counts);
}

/**
 * The value of a key of the configuration: numbers as they stand in the file, where nobody separates thousands.
 * @param {unknown} value
 * @returns {string}
 */
function valueText(value) {
  if (value === null || value === '' || (Array.isArray(value) && !value.length)) return t('value.nothing');
  if (typeof value === 'boolean') return t(value ? 'value.on' : 'value.off');
  if (Array.isArray(value)) return value.map(valueText).join(' ');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/**
 * An error of the API. A refusal of single fields says of each what it may be.
 * @param {number} status
 * @param {any} body
 */
export function errorText(status, body) {
  const { code, message } = body?.error ?? {};
  const fields = /** @type {{ key: string, message: string }[]} */ (body?.fields ?? []);
  const ruled = fields.map((field) => {
    const name = field.key.replace('limits.', '');
    return t('error.field', { field: fieldName(name), rule: lookUp(`rule.${name}`, field.message) });
  });
  if (ruled.length) return ruled.join('\n');
  return lookUp(`error.${code}`, message ?? t('error.status', { status: String(status) }), { message: message ?? '' });
}

/** The name of a field of an account. @param {string} field flat: `note`, `limits.quota_bytes` */
export function fieldName(field) {
  return lookUp(`field.${field.replace('limits.', '')}`, field);
}

/** Why a session was refused or ended. @param {string} reason */
export const reasonName = (reason) => lookUp(`reason.${reason}`, reason);

/** What can be done about it. @param {string} reason */
export const reasonRemedy = (reason) => lookUp(`reason.${reason}.remedy`, t('reason.unknown.remedy'));

/** What an alert is about, and of whom where it is about a user. @param {Data} alert */
export function alertName({ metric, name, user }) {
  const about = lookUp(`metric.${metric}`, name);
  return user ? t('alerts.of', { metric: about, user }) : about;
}

/** A figure that alerts watch. @param {string} metric @param {number} value */
export function metricValue(metric, value) {
  if (metric.endsWith('_percent')) return format.percent(value / 100);
  if (metric.endsWith('_days_left')) return format.duration(value * 86_400);
  if (metric.endsWith('_seconds')) return format.duration(value);
  if (metric.endsWith('_milliseconds')) return format.micros(value * 1000);
  return format.number(value, Number.isInteger(value) ? 0 : 1);
}
