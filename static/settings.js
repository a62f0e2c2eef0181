// What the viewer chose: language, theme, units, columns. Kept in the browser, and worth nothing to anybody else.

import { resetFormats } from './format.js';
import { setLanguage } from './i18n.js';
import { change, state } from './store.js';

/** @typedef {import('./types.d.ts').Settings} Settings */

const PLACE = 'vless-settings';
const darkSystem = matchMedia('(prefers-color-scheme: dark)');

/** Reads what was kept, and follows the system's theme from now on. */
export function loadSettings() {
  try {
    const kept = JSON.parse(localStorage.getItem(PLACE) ?? '{}');
    Object.assign(state.settings, Object.fromEntries(
      Object.entries(kept).filter(([key, value]) => typeof value === typeof state.settings[/** @type {keyof Settings} */ (key)]),
    ));
  } catch {
    // Nothing kept, or nothing that can be read: the defaults hold.
  }
  apply();
  darkSystem.addEventListener('change', () => {
    apply();
    change({});
  });
}

/** @param {Partial<Settings>} parts */
export function changeSettings(parts) {
  const settings = { ...state.settings, ...parts };
  change({ settings });
  apply();
  try {
    localStorage.setItem(PLACE, JSON.stringify(settings));
  } catch {
    // The choice then lasts as long as the page.
  }
}

function apply() {
  const { theme, lang } = state.settings;
  const dark = theme === 'dark' || (theme !== 'light' && darkSystem.matches);
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  setLanguage(lang);
  resetFormats();
}
