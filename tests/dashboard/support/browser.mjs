// One Chromium for a file of tests, and pages in it with the language, theme and size that a test wants. A page that
// reports an error or breaks the content policy fails its test.

import assert from 'node:assert/strict';
import { join } from 'node:path';

import { ROOT, chromium } from './tools.mjs';

const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--no-proxy-server', '--enable-precise-memory-info', '--js-flags=--expose-gc',
];

export class Browser {
  static async start() {
    const browser = new Browser();
    browser.chromium = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
    return browser;
  }

  stop() {
    return this.chromium.close();
  }

  /**
   * @param {{ lang?: string, theme?: 'light' | 'dark', width?: number, height?: number, more?: object }} [look]
   * @returns {Promise<import('playwright-core').Page & { faults: string[] }>}
   */
  async page({ lang = 'en-GB', theme = 'light', width = 1440, height = 900, more = {} } = {}) {
    const context = await this.chromium.newContext({
      viewport: { width, height }, colorScheme: theme, locale: lang, timezoneId: 'Europe/Berlin', reducedMotion: 'reduce', ...more,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    if (process.env.PAGE === 'disk') await page.route('**/static/**', (route) => route.fulfill({ path: join(ROOT, 'static', new URL(route.request().url()).pathname.split('/').slice(3).join('/')) }));
    page.faults = [];
    page.on('pageerror', (error) => page.faults.push(error.stack ?? String(error)));
    page.on('console', (message) => {
      // Chromium reports every failed request; those are what some tests are about.
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource') && !message.text().startsWith('WebSocket connection')) {
        page.faults.push(message.text());
      }
    });
    return page;
  }
}

/** Closes a page's context, having looked that nothing went wrong in it. */
export async function finish(page) {
  assert.deepEqual(page.faults, [], 'errors on the page');
  await page.context().close();
}
