// Numbers, sizes, rates, times and dates as the viewer's language and settings want them. Sizes are powers of 1024 with
// the units that the API uses; rates in bits are powers of 1000, as network people count them.

import { locale } from './i18n.js';
import { state } from './store.js';

/** @type {Map<string, any>} */
const formats = new Map();

/** Forgets the formats of the language before. */
export function resetFormats() {
  formats.clear();
}

/**
 * @template T
 * @param {string} name
 * @param {() => T} make
 * @returns {T}
 */
function kept(name, make) {
  if (!formats.has(name)) formats.set(name, make());
  return formats.get(name);
}

/**
 * @param {number} value
 * @param {number} [digits] digits behind the point
 */
export function number(value, digits = 0) {
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return kept(`n${digits}`, () => new Intl.NumberFormat(locale, options)).format(value);
}

/**
 * A share of one as per cent.
 * @param {number} share
 * @param {number} [digits]
 */
export function percent(share, digits = 0) {
  const options = { style: /** @type {const} */ ('percent'), minimumFractionDigits: digits, maximumFractionDigits: digits };
  return kept(`p${digits}`, () => new Intl.NumberFormat(locale, options)).format(share);
}

/**
 * Three digits that count: 1.23, 12.3, 123.
 * @param {number} value
 * @param {number} base
 * @param {string[]} units
 * @param {boolean} [short] without digits that are all zero
 */
function scaled(value, base, units, short = false) {
  let size = Math.abs(value);
  let unit = 0;
  // What would be rounded up to the next unit belongs to it.
  while (size >= base - 0.5 && unit < units.length - 1) {
    size /= base;
    unit += 1;
  }
  const shown = unit === 0 || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  const digits = short && Number.isInteger(size) ? 0 : shown;
  return `${number(Math.sign(value) * size, digits)}\u00a0${units[unit]}`;
}

/**
 * @param {number} value
 * @param {boolean} [short] without digits that are all zero, as for sizes that somebody chose
 */
export function bytes(value, short) {
  return scaled(value, 1024, ['B', 'KB', 'MB', 'GB', 'TB', 'PB'], short);
}

/**
 * A rate, given in bytes per second.
 * @param {number} value
 * @param {boolean} [short] as for the marks of an axis
 */
export function rate(value, short) {
  return state.settings.rates === 'bits'
    ? scaled(value * 8, 1000, ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s', 'Tbit/s'], short)
    : scaled(value, 1024, ['B/s', 'KB/s', 'MB/s', 'GB/s', 'TB/s'], short);
}

/**
 * The exact figure, for a tooltip.
 * @param {number} value
 */
export function exactBytes(value) {
  return `${number(value)} B`;
}

/** @param {number} micros */
export function micros(micros) {
  if (micros < 1000) return `${number(micros)}\u00a0µs`;
  const millis = micros / 1000;
  return millis < 1000 ? `${number(millis, millis < 10 ? 1 : 0)}\u00a0ms` : `${number(millis / 1000, 1)}\u00a0s`;
}

/**
 * A length of time by its two largest units: 3d 4h, 12m 5s.
 * @param {number} seconds
 */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  /** @type {[string, number][]} */
  const units = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]];
  const first = units.findIndex(([, size]) => whole >= size);
  if (first < 0) return unitOf(0, 'second');
  const parts = [];
  let rest = whole;
  for (const [unit, size] of units.slice(first, first + 2)) {
    const amount = Math.floor(rest / size);
    rest -= amount * size;
    if (amount > 0 || parts.length === 0) parts.push(unitOf(amount, unit));
  }
  return parts.join(' ');
}

/**
 * @param {number} amount
 * @param {string} unit
 */
function unitOf(amount, unit) {
  const options = { style: /** @type {const} */ ('unit'), unit, unitDisplay: /** @type {const} */ ('narrow') };
  return kept(`u${unit}`, () => new Intl.NumberFormat(locale, options)).format(amount);
}

/**
 * How far from now, in words: 5 min ago, in 3 days.
 * @param {number} at unix seconds
 * @param {number} now unix seconds
 */
export function relative(at, now) {
  const away = at - now;
  /** @type {[Intl.RelativeTimeFormatUnit, number][]} */
  const units = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]];
  const [unit, size] = units.find(([, seconds]) => Math.abs(away) >= seconds) ?? ['second', 1];
  const options = { numeric: /** @type {const} */ ('auto'), style: /** @type {const} */ ('short') };
  return kept('relative', () => new Intl.RelativeTimeFormat(locale, options)).format(Math.round(away / size), unit);
}

/**
 * @param {string} name
 * @param {Intl.DateTimeFormatOptions} options
 * @param {number} at unix seconds
 */
function dated(name, options, at) {
  return kept(name, () => new Intl.DateTimeFormat(locale, options)).format(new Date(at * 1000));
}

/** @param {number} at unix seconds */
export function date(at) {
  return dated('date', { year: 'numeric', month: 'short', day: 'numeric' }, at);
}

/** @param {number} at unix seconds */
export function dayMonth(at) {
  return dated('day', { month: 'short', day: 'numeric' }, at);
}

/** @param {number} at unix seconds */
export function month(at) {
  return dated('month', { month: 'short', year: 'numeric' }, at);
}

/** @param {number} at unix seconds */
export function time(at) {
  return dated('time', { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' }, at);
}

/** @param {number} at unix seconds */
export function hour(at) {
  return dated('hour', { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }, at);
}

/** @param {number} at unix seconds */
export function dateTime(at) {
  return dated('both', {
    year: 'numeric', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
  }, at);
}

/**
 * An address of which the part that names the subscriber is covered.
 * @param {string} address
 */
export function masked(address) {
  if (address.includes(':')) return `${address.split(':').slice(0, 2).join(':')}:…`;
  return `${address.split('.').slice(0, 2).join('.')}.•.•`;
}
