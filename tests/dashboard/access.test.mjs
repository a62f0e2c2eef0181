// Usable by everybody: axe-core's rules on every page in both themes and languages, narrow screens, keyboard, large
// text, less motion.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { Browser, finish } from './support/browser.mjs';
import { StandIn } from './support/stand-in.mjs';
import { TARGET, axePath } from './support/tools.mjs';

const AXE = readFileSync(axePath, 'utf8');
const RULES = { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] };
const PAGES = ['#/', '#/users', '#/users/ben?share=1', '#/sessions', '#/events'];
const SHOTS = join(TARGET, 'shots');

/** What the picture of a page is called. */
const nameOf = (hash) => hash.replaceAll(/\W+/g, ' ').trim().replaceAll(' ', '-') || 'overview';

describe('accessibility', { timeout: 400_000 }, () => {
  /** @type {Browser} */
  let browser;
  /** @type {StandIn} */
  let server;
  let url = '';
  before(async () => {
    mkdirSync(SHOTS, { recursive: true });
    browser = await Browser.start();
    server = new StandIn();
    url = await server.start();
  });
  after(async () => {
    await browser.stop();
    await server.stop();
  });

  async function shown(page, hash) {
    await page.goto('about:blank');
    await page.goto(`${url}/${hash}`);
    await page.locator('.panel:not(.bone)').first().waitFor();
    if (hash === '#/') await page.locator('.plot canvas').waitFor();
    if (hash.includes('share')) await page.locator('.qr').waitFor();
  }

  /** What axe finds wrong at all, not only from serious upwards. */
  async function violations(page) {
    await page.evaluate(AXE);
    const { violations: found } = await page.evaluate((rules) => globalThis.axe.run(document, rules), RULES);
    return found.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map((node) => node.target.join(' ')).slice(0, 4).join(', ')}`);
  }

  for (const theme of /** @type {const} */ (['light', 'dark'])) {
    for (const lang of ['en-GB', 'zh-CN']) {
      test(`no violations: ${theme}, ${lang}`, async () => {
        for (const width of [1440, 768, 320]) {
          const page = await browser.page({ theme, lang, width });
          for (const hash of PAGES) {
            await shown(page, hash);
            assert.deepEqual(await violations(page), [], `${hash} at ${width} px`);
            await page.screenshot({ path: join(SHOTS, `${nameOf(hash)}-${width}-${theme}-${lang.slice(0, 2)}.png`), fullPage: true });
          }
          await finish(page);
        }
      });
    }
  }

  test('no violations in dialogs, banners and the login', async () => {
    for (const theme of /** @type {const} */ (['light', 'dark'])) {
      const page = await browser.page({ theme });
      await shown(page, '#/users/ben');
      await page.getByRole('button', { name: 'Edit' }).click();
      await page.locator('dialog').waitFor();
      assert.deepEqual(await violations(page), [], `form, ${theme}`);
      await page.keyboard.press('Escape');
      server.world.state = 'draining';
      server.world.alerts = [{ name: 'x', metric: 'memory_percent', value: 95, limit: 90, since: server.world.now, remedy_code: 'memory_percent' }];
      await shown(page, '#/');
      await page.locator('.alert').waitFor();
      await page.locator('.settings summary').click();
      assert.deepEqual(await violations(page), [], `alerts and menu, ${theme}`);
      server.world.state = 'serving';
      server.world.alerts = [];
      server.right = 'none';
      await page.goto('about:blank');
      await page.goto(url);
      await page.locator('input[name=token]').waitFor();
      assert.deepEqual(await violations(page), [], `login, ${theme}`);
      server.right = 'admin';
      await finish(page);
    }
  });

  test('nothing is cut off at 320 px, nor at 200 % zoom, and no page goes on empty below its end', async () => {
    for (const look of [{ width: 320 }, { width: 720, more: { deviceScaleFactor: 2 } }]) {
      const page = await browser.page(look);
      for (const hash of PAGES) {
        await shown(page, hash);
        const [inner, whole] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
        assert.ok(whole <= inner, `${hash} is ${whole} wide in ${inner}`);
        const [below, end] = await page.evaluate(() => [document.documentElement.scrollHeight, document.querySelector('main').getBoundingClientRect().bottom + scrollY]);
        assert.ok(below <= Math.max(end + 1, page.viewportSize().height), `${hash} ends at ${end} and goes on empty to ${below}`);
      }
      await finish(page);
    }
  });

  test('the page can be gone through by keyboard, and the focus is seen', async () => {
    const page = await browser.page();
    await shown(page, '#/');
    const stops = [];
    for (let press = 0; press < 60; press += 1) {
      await page.keyboard.press('Tab');
      const stop = await page.evaluate(() => {
        const node = document.activeElement;
        if (!node || node === document.body) return null;
        const { outlineStyle, outlineWidth } = getComputedStyle(node);
        return { name: node.getAttribute('aria-label') || node.textContent, seen: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 };
      });
      if (!stop) break;
      stops.push(stop);
    }
    assert.equal(stops[0].name, 'To the content');
    for (const stop of stops) assert.ok(stop.seen, `no visible focus on ${stop.name}`);
    for (const name of ['Users', 'Settings', 'Live', '1 h', 'Table', 'ann', 'All events']) {
      assert.ok(stops.some((stop) => stop.name === name), `${name} is not reached: ${stops.map((stop) => stop.name).join(' | ')}`);
    }
    await finish(page);
  });

  test('the chart is a figure with a sentence, a cursor by keys and a table', async () => {
    const page = await browser.page();
    await shown(page, '#/');
    const plot = page.locator('.plot');
    assert.match(await plot.getAttribute('aria-label'), /Throughput\. Last 60 seconds: peak .+, average download .+, average upload .+\. Arrow keys/);
    await plot.focus();
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('ArrowLeft');
    assert.match(await page.locator('.readout').innerText(), /\d\d:\d\d:\d\d\s+↓ .+\/s\s+↑ .+\/s/);
    await page.getByRole('button', { name: 'Table' }).click();
    assert.ok(await page.locator('.plot-table tbody tr').count() >= 59);
    await finish(page);
  });

  test('sorted columns say so, dialogs give the focus back', async () => {
    const page = await browser.page();
    await shown(page, '#/users');
    assert.equal(await page.locator('thead .c-name').getAttribute('aria-sort'), 'ascending');
    await page.getByRole('button', { name: 'Name' }).press('Enter');
    await page.locator('thead .c-name[aria-sort=descending]').waitFor();
    const add = page.getByRole('button', { name: 'Add user' });
    await add.focus();
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute('name')), 'email');
    await page.keyboard.press('Escape');
    assert.ok(await add.evaluate((node) => node === document.activeElement));
    await finish(page);
  });

  test('less motion and forced colours are honoured', async () => {
    const page = await browser.page({ more: { forcedColors: 'active' } });
    await shown(page, '#/');
    const moving = await page.evaluate(() => document.getAnimations().length + [...document.querySelectorAll('*')].filter((node) => parseFloat(getComputedStyle(node).transitionDuration) > 0).length);
    assert.equal(moving, 0);
    await page.screenshot({ path: join(SHOTS, 'forced-colours.png') });
    await finish(page);
  });
});
