// The screenshots of the README. See `screenshots`.

import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { Browser, finish } from './browser.mjs';
import { gallery } from './gallery.mjs';
import { StandIn } from './stand-in.mjs';
import { ROOT } from './tools.mjs';
import { World } from './world.mjs';

const FOLDER = join(ROOT, 'tests/dashboard/shots');
const BYTES_MAX = 200 * 1024;
// A fixed day, so that two runs differ in nothing.
const NOW = Date.UTC(2026, 10, 20, 14, 31, 7) / 1000;

const SHOTS = [
  { name: 'overview-light-en', hash: '#/', lang: 'en-GB', theme: 'light', height: 1000 },
  { name: 'overview-dark-zh', hash: '#/', lang: 'zh-CN', theme: 'dark', height: 1000 },
  { name: 'users-dark-en', hash: '#/users', lang: 'en-GB', theme: 'dark', height: 660 },
  { name: 'user-light-zh', hash: '#/users/ben', lang: 'zh-CN', theme: 'light', height: 1000 },
  { name: 'phone-light-en', hash: '#/', lang: 'en-GB', theme: 'light', width: 390, height: 844, scale: 2 },
  { name: 'phone-dark-zh', hash: '#/users', lang: 'zh-CN', theme: 'dark', width: 390, height: 844, scale: 2 },
];

const [what = '', word] = process.argv.slice(2);
if (what === 'all') {
  await gallery(word);
  process.exit();
}
await mkdir(FOLDER, { recursive: true });
const server = new StandIn({ world: new World({ now: NOW }), tickMs: 0 });
const url = await server.start();
const browser = await Browser.start();
for (const { name, hash, lang, theme, width = 1440, height, scale = 1 } of SHOTS) {
  const page = await browser.page({ lang, theme, width, height, more: { deviceScaleFactor: scale } });
  await page.clock.setFixedTime(NOW * 1000);
  await page.goto(`${url}/${hash}`);
  await page.locator(hash === '#/users' ? 'tbody tr:not(.spacer)' : '.plot canvas').first().waitFor();
  const path = join(FOLDER, `${name}.png`);
  await page.screenshot({ path });
  const { size } = await stat(path);
  console.log(`${name}.png ${(size / 1024).toFixed(0)} KB`);
  if (size > BYTES_MAX) throw new Error(`${name}.png has more than ${BYTES_MAX} bytes`);
  await finish(page);
}
await browser.stop();
await server.stop();
