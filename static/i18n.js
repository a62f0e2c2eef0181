// The language: which one, and its strings. Both languages have the same keys; a test compares them.

import en from './lang/en.js';
import zh from './lang/zh.js';

/** @typedef {keyof typeof en} Key */

const LANGUAGES = { en, zh };
/** @type {Record<string, string>} */
let strings = en;
let plural = new Intl.PluralRules('en');

let numbers = new Intl.NumberFormat('en');
let lists = new Intl.ListFormat('en');
let collator = new Intl.Collator('en', { numeric: true });

/** What `Intl` is asked with: the viewer's own variant of the language where the browser has one. */
export let locale = 'en';

/**
 * @param {'auto' | 'en' | 'zh'} wanted
 * @returns {'en' | 'zh'} the language in force
 */
export function setLanguage(wanted) {
  const preferred = navigator.languages ?? [navigator.language];
  const known = preferred.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in LANGUAGES);
  const language = wanted === 'auto' ? /** @type {'en' | 'zh'} */ (known ?? 'en') : wanted;
  strings = LANGUAGES[language];
  locale = preferred.find((tag) => tag.toLowerCase().startsWith(language)) ?? (language === 'zh' ? 'zh-CN' : 'en');
  plural = new Intl.PluralRules(language);
  numbers = new Intl.NumberFormat(locale);
  collator = new Intl.Collator(locale, { numeric: true });
  lists = new Intl.ListFormat(locale, { type: 'conjunction', style: 'narrow' });
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  return language;
}

/**
 * A string in the viewer's language. `{name}` stands for a value; where a string has the forms `one|other`, the value
 * `n` chooses.
 * @param {Key} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values) {
  return fillIn(strings[key] ?? key, values);
}

/**
 * A string whose key is put together from what the server said, with a way out for words this page does not know.
 * @param {string} key
 * @param {string} otherwise
 * @param {Record<string, string | number>} [values]
 */
export function lookUp(key, otherwise, values) {
  return key in strings ? fillIn(strings[key], values) : otherwise;
}

/** The order of two texts; many times quicker than `localeCompare`. @param {string} a @param {string} b */
export const compare = (a, b) => collator.compare(a, b);

/** Things one after the other, as the language does it. @param {string[]} words */
export const list = (words) => lists.format(words);

/**
 * Numbers are written as the language does it; what must not be (a port, a status) comes as a text.
 * @param {string} text
 * @param {Record<string, string | number>} [values]
 */
function fillIn(text, values) {
  if (!values) return text;
  const forms = text.split('|');
  const chosen = forms.length > 1 && plural.select(Number(values.n)) !== 'one' ? forms[1] : forms[0];
  const shown = (/** @type {string | number} */ value) => (typeof value === 'number' ? numbers.format(value) : String(value));
  return chosen.replace(/\{(\w+)\}/g, (all, name) => (name in values ? shown(values[name]) : all));
}
