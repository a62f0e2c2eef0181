// Pictures of every page and state, in both languages and themes, at 320, 768 and 1440 px: artefacts to look at, in
// target/dashboard/gallery. See `screenshots`.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { Browser, finish } from './browser.mjs';
import { StandIn } from './stand-in.mjs';
import { TARGET } from './tools.mjs';
import { World } from './world.mjs';

const FOLDER = join(TARGET, 'gallery');
const WIDTHS = [320, 768, 1440];
const LOOKS = [['en-GB', 'light'], ['en-GB', 'dark'], ['zh-CN', 'light'], ['zh-CN', 'dark']];

/** Name, address, and what makes the page complete. */
const PAGES = [
  ['overview', '#/', '.plot canvas'], ['users', '#/users', 'tbody tr:not(.spacer)'], ['user', '#/users/ben', '.plot canvas'],
  ['user-shared', '#/users/ben?share=1', '.qr'], ['sessions', '#/sessions', 'tbody tr:not(.spacer)'], ['events', '#/events', '.event'],
];

/** Further states, each with what brings the stand-in there and what is waited for. */
const STATES = [
  { name: 'loading', shown: '.bone', act: () => {}, before: (page) => page.route('**/api/session', () => {}) },
  { name: 'error', shown: '.empty', before: (_, server) => { server.before = (request) => { if (request === 'GET /api/session') throw new Error('x'); }; } },
  { name: 'login', options: { right: 'none', token: 'x' }, shown: 'input[name=token]' },
  { name: 'view-only', hash: '#/users/ann', options: { right: 'view' }, shown: '.plot canvas' },
  { name: 'empty', options: { world: new World({ users: 0, sessions: 0 }) }, shown: '.alert' },
  { name: 'empty-users', hash: '#/users', options: { world: new World({ users: 0, sessions: 0 }) }, shown: '.empty' },
  { name: 'locked', hash: '#/users/office', shown: '.locked-text' },
  { name: 'gone', hash: '#/users/nobody', shown: '.empty' },
  {
    name: 'alerts', shown: '.alert', act: (_, server) => {
      const { world } = server;
      world.state = 'draining';
      world.alerts = [{ name: 'certificate_expires', metric: 'certificate_days_left', value: 6, limit: 14, since: world.now - 7200, remedy_code: 'certificate_days_left' }];
      world.lastReload = { at: world.now - 60, ok: false, changes: [], error: 'config.json:3:9: timeouts.idle: must be between 1 and 86400 seconds, not 0' };
    },
  },
  { name: 'lost', shown: '.banner.bad', act: (_, server) => server.cut() },
  { name: 'edit', hash: '#/users/ben', shown: '.dialog', act: (page) => page.locator('.page-head .primary').click() },
  { name: 'add', hash: '#/users', shown: '.dialog', act: (page) => page.locator('.page-head .primary').click() },
  { name: 'menu', shown: '.popup', act: (page) => page.locator('.settings summary').click() },
  { name: 'chart-table', shown: '.plot-table table', act: (page) => page.locator('.chart-head .button').click() },
  { name: 'forced-colours', shown: '.plot canvas', more: { forcedColors: 'active' } },
  {
    name: 'conflict', hash: '#/users/ben', shown: '.conflict', act: async (page, server) => {
      await page.locator('.page-head .primary').click();
      await page.locator('dialog [name=note]').fill('attic, second floor');
      server.world.byName.get('ben').note = 'moved to the cellar';
      server.world.revision += 1;
      await page.locator('dialog [type=submit]').click();
    },
  },
];

/** @param {string} wanted a word that the name of a picture has in it, or nothing */
export async function gallery(wanted = '') {
  await mkdir(FOLDER, { recursive: true });
  const browser = await Browser.start();
  let count = 0;
  const take = async ({ name, hash = '#/', options = {}, shown, before, act, more }, lang, theme, width) => {
    const label = `${name}-${width}-${theme}-${lang.slice(0, 2)}`;
    if (!label.includes(wanted)) return;
    const server = new StandIn(options);
    const url = await server.start();
    const page = await browser.page({ lang, theme, width, height: width < 700 ? 700 : 900, more });
    await before?.(page, server);
    await page.goto(`${url}/${hash}`);
    if (name !== 'loading') await page.locator('main > :not(.loading)').waitFor();
    await act?.(page, server);
    await page.locator(shown).filter({ visible: true }).first().waitFor();
    // What is out of sight is not drawn, not even for a picture of the whole page.
    if (!act) await page.setViewportSize({ width, height: Math.max(700, await page.evaluate(() => document.documentElement.scrollHeight)) });
    await page.screenshot({ path: join(FOLDER, `${label}.png`), fullPage: !act });
    count += 1;
    await finish(page);
    await server.stop();
  };
  for (const [lang, theme] of LOOKS) {
    for (const width of WIDTHS) {
      for (const [name, hash, shown] of PAGES) await take({ name, hash, shown }, lang, theme, width);
      for (const state of STATES) await take(state, lang, theme, width);
    }
  }
  await browser.stop();
  console.log(`${count} pictures in target/dashboard/gallery`);
}
