// Small things that go wrong without anybody noticing: what an emptied field becomes, where the focus is after a row has
// gone, what is announced, what is said when something fails half-way, and in which language.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { Browser, finish } from './support/browser.mjs';
import { StandIn } from './support/stand-in.mjs';
import { ROOT } from './support/tools.mjs';
import { until } from './support/wait.mjs';
import { World } from './support/world.mjs';

describe('details', { timeout: 240_000 }, () => {
  /** @type {Browser} */
  let browser;
  before(async () => {
    browser = await Browser.start();
  });
  after(() => browser.stop());

  async function open(t, { hash = '', look, world, ...options } = {}) {
    const server = new StandIn({ world: new World(world), ...options });
    const url = await server.start();
    const page = await browser.page(look);
    t.after(async () => {
      await finish(page);
      await server.stop();
    });
    await page.goto(`${url}/${hash}`);
    await page.locator('main > :not(.loading)').waitFor();
    return { page, server, url };
  }

  test('an emptied number is not saved as zero, and the page says so in its language', async (t) => {
    const { page, server } = await open(t, { hash: '#/users/ben', look: { lang: 'zh-CN' } });
    const ben = server.world.byName.get('ben');
    const before = JSON.stringify(ben.limits);
    await page.locator('.page-head .primary').click();
    for (const name of ['quota_bytes', 'sessions_max', 'down_bytes_per_second_max']) {
      const field = page.locator(`dialog [name=${name}]`);
      const was = await field.inputValue();
      await field.fill('');
      await page.locator('dialog [type=submit]').click();
      assert.match(await field.evaluate((node) => node.validationMessage), /此处缺少数字/, name);
      assert.ok(await page.locator('dialog').isVisible(), 'the form stays open');
      await field.fill(was);
    }
    assert.equal(JSON.stringify(ben.limits), before);
    assert.ok(!server.requests.includes('PATCH /api/users/ben'));
    await page.locator('dialog [name=sessions_max]').fill('0');
    await page.locator('dialog [name=addresses_max]').fill('7');
    await page.locator('dialog [type=submit]').click();
    await until('the one that was changed', () => ben.limits.addresses_max === 7);
  });

  test('what is wrong with an input is said in the page\'s language, whatever the browser\'s is', async (t) => {
    const { page } = await open(t, { hash: '#/users/ben', look: { lang: 'zh-CN' } });
    const said = (name) => page.locator(`dialog [name=${name}]`).evaluate((node) => node.validationMessage);
    await page.locator('.page-head .primary').click();
    for (const [name, wrong] of [['email', ''], ['quota_day', '29'], ['quota_day', '0'], ['quota_day', ''], ['sessions_max', '-1'], ['sessions_max', '1.5'], ['quota_bytes', '-1']]) {
      await page.locator(`dialog [name=${name}]`).fill(wrong);
      assert.match(await said(name), /[\u4e00-\u9fff]/, `${name} ${wrong}: ${await said(name)}`);
      await page.locator(`dialog [name=${name}]`).fill('5');
      assert.equal(await said(name), '', name);
    }
    await page.keyboard.press('Escape');
    await page.goto(`${new URL(page.url()).origin}/#/users`);
    await page.locator('.page-head .primary').click();
    await page.locator('dialog [type=submit]').click();
    assert.match(await said('email'), /此处不能为空/);
  });

  test('every reason of refusals can be reached, each with its remedy', async (t) => {
    const { page, server } = await open(t);
    const { default: en } = await import(join(ROOT, 'static/lang/en.js'));
    const reasons = Object.keys(en).filter((key) => /^reason\.\w+$/.test(key)).slice(0, 23);
    server.world.rejected = Object.fromEntries(reasons.map((key, at) => [key.replace('reason.', ''), 100 - at]));
    await page.getByRole('button', { name: 'Show all 23 reasons' }).click();
    const rows = page.locator('.refusals > .reasons > .reason');
    assert.deepEqual(await rows.locator('.reason-name').allTextContents(), reasons.map((key) => en[key]));
    assert.deepEqual(await rows.locator('.remedy').allTextContents(), reasons.map((key) => en[`${key}.remedy`]));
    await page.getByRole('button', { name: 'Show fewer' }).click();
    assert.equal(await rows.count(), 6);
  });

  test('columns that a narrow screen has no room for are named as such, and sorted by all the same', async (t) => {
    for (const [width, hash, dropped, column] of [[320, '#/sessions', ['Target', 'Source', 'Way', 'State', 'Upload', 'Age'], 'target'], [768, '#/users', ['Note', 'Sessions', 'From', 'Down now', 'Up now', 'Today', 'This month', 'Total', 'Expiry', 'Last seen'], 'total']]) {
      const { page } = await open(t, { hash, look: { width } });
      await page.locator('tbody tr:not(.spacer)').first().waitFor();
      await page.locator('.columns summary').click();
      await page.locator('.columns .dropped').filter({ visible: true }).first().waitFor();
      const named = await page.locator('.columns .check', { has: page.locator('.dropped:not([hidden])') }).allInnerTexts();
      assert.deepEqual(named.map((text) => text.replace(/\s*no room/, '').trim()), dropped, `${width} px`);
      await page.getByRole('combobox', { name: 'Sort by' }).selectOption(column);
      await until('sorted', async () => ['ascending', 'descending'].includes(await page.locator(`thead .c-${column}`).getAttribute('aria-sort')));
      const first = () => page.locator('tbody tr:not(.spacer)').first().textContent();
      await page.mouse.move(1, 1);
      const was = await first();
      await page.locator('.columns .setting .button').click();
      await page.mouse.move(1, 1);
      await until('turned round', async () => await first() !== was);
      const box = await page.locator('.columns .popup').boundingBox();
      assert.ok(box.x >= 0 && box.x + box.width <= width, `the menu is on the screen: ${JSON.stringify(box)}`);
    }
  });

  test('a day is said to be the server\'s, in UTC, in both languages', async (t) => {
    for (const [lang, label, hint] of [['en-GB', 'Today (UTC)', 'The server\'s day: since 00:00 UTC'], ['zh-CN', '今天（UTC）', '服务器的日期：自 00:00 UTC 起']]) {
      const { page, url } = await open(t, { look: { lang } });
      const name = page.locator('.totals dt').first();
      assert.equal(await name.innerText(), label);
      assert.equal(await name.getAttribute('title'), hint);
      await page.goto(`${url}/#/users`);
      assert.equal(await page.locator('thead .c-today .head').getAttribute('title'), hint);
    }
  });

  test('a chart that nobody sees is not drawn, and is up to date when it comes into sight', async (t) => {
    const { page, server } = await open(t, { look: { height: 240 } });
    await page.locator('.plot canvas').waitFor();
    await page.evaluate(() => {
      globalThis.strokes = 0;
      const { stroke } = CanvasRenderingContext2D.prototype;
      CanvasRenderingContext2D.prototype.stroke = function count(...path) {
        globalThis.strokes += 1;
        return stroke.apply(this, path);
      };
    });
    const strokes = () => page.evaluate(() => globalThis.strokes);
    const shown = () => page.locator('.totals .figure').last().locator('.value').textContent();
    const ticks = async (count) => {
      for (let tick = 0; tick < count; tick += 1) {
        const was = await shown();
        await until('a tick', async () => await shown() !== was);
      }
    };
    server.world.startedAt = server.world.now;
    await ticks(2);
    const before = await strokes();
    await ticks(3);
    assert.equal(await strokes(), before, 'out of sight');
    await page.locator('.plot').scrollIntoViewIfNeeded();
    await until('it is drawn', async () => await strokes() > before);
    const seen = await strokes();
    await until('it goes on', async () => await strokes() > seen);
  });

  test('the marked moment stays marked while the chart moves on; keys are announced, ticks and the pointer are not', async (t) => {
    const { page, server } = await open(t);
    await page.locator('.plot canvas').waitFor();
    const said = page.locator('.chart [aria-live=polite]');
    await page.evaluate(() => {
      globalThis.announced = [];
      new MutationObserver(() => globalThis.announced.push(document.querySelector('.chart [aria-live]').textContent)).observe(document.querySelector('.chart [aria-live]'), { childList: true, characterData: true, subtree: true });
    });
    await page.locator('.plot').hover();
    assert.equal(await said.innerText(), '', 'the pointer says nothing');
    await page.locator('.plot').focus();
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('ArrowLeft');
    const first = await said.textContent();
    assert.match(first, /^\d\d:\d\d:\d\d\s+↓ .+\/s\s+↑ .+\/s$/);
    const end = server.world.now + 4;
    await until('four ticks', () => server.world.now >= end);
    assert.equal(await said.textContent(), first);
    assert.equal(await page.locator('.readout').textContent(), first, 'the same moment, though the chart has moved');
    assert.equal((await page.evaluate(() => globalThis.announced)).length, 2, 'one announcement for each key');
    await page.keyboard.press('Home');
    await page.getByText('The marked moment has left the chart.').waitFor({ state: 'attached' });
  });

  test('a row that somebody stands in never becomes another\'s', async (t) => {
    const { page, server } = await open(t, { hash: '#/sessions', world: { users: 60, sessions: 600 } });
    await page.locator('h1 .count', { hasText: '600' }).waitFor();
    const rows = page.locator('tbody tr:not(.spacer)');
    const cut = rows.first().getByRole('button', { name: 'Cut' });
    await cut.focus();
    await page.locator('.table-scroll').evaluate((node) => node.scrollTo(0, node.scrollHeight / 2));
    await until('the table has the focus', () => page.evaluate(() => document.activeElement.classList.contains('table-scroll')));
    await page.keyboard.press('Enter');
    assert.equal(await page.locator('dialog').count(), 0, 'Enter meant the row that has gone');
    await page.locator('.table-scroll').evaluate((node) => node.scrollTo(0, 0));
    // The session ends while the viewer stands in its row: its neighbour has the focus, and is not cut unasked.
    await page.waitForTimeout(200);
    await rows.nth(2).getByRole('button', { name: 'Cut' }).focus();
    await page.keyboard.press('Enter');
    await page.locator('dialog .danger').click();
    await page.getByText(/session of .+ cut in 12 ms/).waitFor();
    await until('the row has gone', async () => (await page.locator('h1 .count').innerText()) === '599');
    await until('the focus is in the table', () => page.evaluate(() => Boolean(document.activeElement.closest('.table-scroll'))));
    await page.keyboard.press('Enter');
    await page.locator('dialog').waitFor();
    await page.keyboard.press('Escape');
    assert.equal(server.world.sessions.length, 599, 'its neighbour is not cut unasked');
    // One that ends by itself hands the focus to the row that comes into its place.
    await rows.nth(3).getByRole('button', { name: 'Cut' }).focus();
    const ids = await page.evaluate(() => [...document.querySelectorAll('tbody tr:not(.spacer)')].slice(3, 5).map((row) => row.innerText));
    const [leaving] = ids;
    const known = server.world.sessions.find((one) => leaving.includes(one.client) && leaving.includes(one.target));
    assert.ok(known, leaving);
    server.world.sessions = server.world.sessions.filter((one) => one !== known);
    await until('the heir has the focus', () => page.evaluate((was) => {
      const row = document.activeElement.closest('tbody tr');
      return Boolean(row) && !was.includes(row.querySelector('.c-client').innerText) && row.getAttribute('aria-rowindex') === '5';
    }, leaving));
  });

  test('a bulk cut that fails half-way says how far it came', async (t) => {
    const { page, server } = await open(t, { hash: '#/sessions?target=cdn.example.net', world: { sessions: 240 } });
    const all = server.world.sessions.length;
    const wanted = server.world.sessions.filter((one) => one.target.includes('cdn.example.net')).length;
    await page.locator('tbody tr:not(.spacer)').first().waitFor();
    server.failCutsAfter = 10;
    await page.getByRole('button', { name: 'Cut these' }).click();
    await page.getByRole('button', { name: `Cut ${wanted} sessions` }).click();
    const notice = page.locator('.notice.bad');
    await notice.waitFor();
    assert.match(await notice.innerText(), new RegExp(`^10 of ${wanted} sessions of cdn\\.example\\.net cut, then it failed: The server has too much to do`));
    assert.equal(server.world.sessions.length, all - 10);
  });

  test('a new id that meets another new id never becomes a removal', async (t) => {
    const { page, server } = await open(t, { hash: '#/users/ben' });
    const ben = server.world.byName.get('ben');
    await page.getByRole('button', { name: 'New id' }).click();
    // Somebody else is faster, between the question and its answer reaching the server.
    server.before = (request) => {
      if (request !== 'POST /api/users/ben/rotate') return;
      server.before = null;
      ben.uuid = `ffffffff${ben.uuid.slice(8)}`;
      server.world.revision += 1;
    };
    await page.locator('dialog').getByRole('button', { name: 'New id' }).click();
    await page.getByText('Changed meanwhile').waitFor();
    assert.match(await page.locator('.conflict tbody').innerText(), /another new id/);
    await page.getByRole('button', { name: 'Use mine' }).click();
    await page.getByText('ben has a new id.').waitFor();
    assert.ok(server.world.byName.has('ben') && !server.requests.some((one) => one.startsWith('DELETE')), 'he is still there');
  });

  test('the whole id is fetched and shown on asking only', async (t) => {
    const { page, server } = await open(t, { hash: '#/users/ben' });
    const { uuid } = server.world.byName.get('ben');
    await page.locator('.limits .id').waitFor();
    const html = () => page.evaluate(() => document.documentElement.outerHTML);
    assert.ok((await html()).includes(`${uuid.slice(0, 8)}…`));
    assert.ok(!(await html()).includes(uuid), 'nobody has asked');
    await page.locator('.id').getByRole('button', { name: 'Show' }).click();
    await page.getByText(uuid, { exact: true }).waitFor();
    await page.locator('.id').getByRole('button', { name: 'Hide' }).click();
    await until('it is covered again', async () => !(await html()).includes(uuid));
    await page.getByRole('button', { name: 'Show link and QR code' }).click();
    await page.locator('.copy-text').filter({ hasText: uuid }).waitFor();
  });

  test('events, reloads and errors are in the language of the page', async (t) => {
    const { page, server, url } = await open(t, { hash: '#/events', look: { lang: 'zh-CN' } });
    const texts = page.locator('.event-text');
    await texts.first().waitFor();
    for (const text of await texts.allInnerTexts()) assert.match(text, /[\u4e00-\u9fff]/, text);
    await page.getByText('已修改 ann：流量配额、备注。').waitFor();
    await page.getByText('emil 从现在起被拒绝：配额用尽。').waitFor();
    await page.getByText('已重载：用户 +1 −0、证书已更换。').waitFor();
    // What a server of another version says without a code is shown as it is.
    server.event('limit', 'something new happened');
    await page.getByText('something new happened').waitFor();
    await page.goto(`${url}/#/`);
    await page.locator('.identity .changes', { hasText: '用户 +1 −0、证书已更换' }).waitFor();
    await page.goto(`${url}/#/users`);
    await page.getByRole('button', { name: '添加用户' }).click();
    await page.locator('dialog input[name=email]').fill('ann');
    await page.locator('dialog button[type=submit]').click();
    await page.getByText('该名称已被其他用户使用。').waitFor();
    server.invalid = [{ key: 'note', message: 'must be at most 1000 characters without line breaks or tabs' }, { key: 'limits.quota_day', message: 'must be between 1 and 28, not 29' }];
    await page.locator('dialog input[name=email]').fill('new');
    await page.locator('dialog button[type=submit]').click();
    await page.getByText('每月起始日：1 至 28 之间的日期。').waitFor();
    assert.doesNotMatch(await page.locator('.form-error').innerText(), /must be/);
  });

  test('alerts of single users stand beside each other, and warnings have words', async (t) => {
    const { page, server } = await open(t);
    const { world } = server;
    world.alerts = ['ann', 'ben'].map((user) => ({ name: 'quota_nearly_used', metric: 'quota_percent', value: 97, limit: 95, user, since: world.now - 60, remedy_code: 'quota_percent' }));
    await page.getByText('A user is near the quota: ann').waitFor();
    await page.getByText('A user is near the quota: ben').waitFor();
    assert.equal(await page.locator('.alert').count(), 2);
    server.event('limit', 'user ben: 97 % of the quota is used', { data: { code: 'quota_low', user: 'ben', quota_used_bytes: 97, quota_bytes: 100, quota_resets_at: null } });
    await page.getByText('ben has used 97% of 100 B.').waitFor();
  });

  test('numbers are written as the viewer\'s language writes them', async (t) => {
    const { page } = await open(t, { hash: '#/sessions', look: { lang: 'en-IN' }, world: { sessions: 1234 } });
    await page.locator('h1 .count', { hasText: '1,234' }).waitFor();
    await page.getByRole('button', { name: 'Cut these' }).click();
    await page.getByRole('button', { name: 'Cut 1,234 sessions' }).waitFor();
    await page.getByRole('button', { name: 'Cancel' }).click();
  });

  test('no figure of a table is cut off, nor a short name, on no screen and in no language', async (t) => {
    for (const lang of ['en-GB', 'zh-CN']) {
      for (const width of [320, 640, 768, 1239, 1241, 1329, 1366, 1440]) {
        const { page, server } = await open(t, { hash: '#/users', look: { lang, width } });
        const { world } = server;
        // As wide as such figures become.
        Object.assign(world.byName.get('ann'), { quota_bytes: 1024 ** 4, quota_used_bytes: 999 * 1024 ** 2, expires_at: world.now + 200 * 86400, online: false, sessions: 0, last_seen_at: world.now - 300 * 86400 });
        Object.assign(world.byName.get('ben'), { quota_bytes: 1023 * 1024 ** 3, quota_used_bytes: 1001 * 1024 ** 3, online: false, last_seen_at: world.now - 59 * 60 });
        await until('they are there', async () => /1,001/.test(await page.locator('tbody').first().innerText()));
        const cut = await page.locator('tbody :is(td:not(.c-note, .c-addresses), .name-line)').evaluateAll((cells) => cells
          .flatMap((cell) => [cell, ...cell.querySelectorAll('*')]).concat([...document.querySelectorAll('.beneath')].filter((node) => node.textContent.startsWith('↓'))).filter((node) => node.clientWidth > 1 && node.scrollWidth > node.clientWidth + 1).map((node) => node.textContent));
        assert.deepEqual(cut, [], `${lang} ${width}`);
        await page.close();
      }
    }
  });

  test('an account that never ends is not called one that has never ended', async (t) => {
    const { page } = await open(t, { hash: '#/users/ann', look: { lang: 'zh-CN' } });
    await page.locator('.limits .line', { hasText: '到期' }).getByText('永不').waitFor();
  });

  test('an address that asks for a kind of event that is not known shows every kind, and says so', async (t) => {
    const { page } = await open(t, { hash: '#/events?kind=nonsense' });
    await page.locator('.event').first().waitFor({ timeout: 5000 });
    assert.equal(await page.getByLabel('Kind of event').inputValue(), '');
  });

  test('nothing is called well from figures that are old', async (t) => {
    const { page, server } = await open(t);
    await page.getByText('Nothing needs your attention.').waitFor();
    server.cut();
    await page.locator('.banner.bad').waitFor();
    await page.getByText('Nothing needs your attention.').waitFor({ state: 'hidden' });
  });

  test('on a phone, too, changes can be unlocked', async (t) => {
    const { page } = await open(t, { right: 'view', token: 'right', look: { width: 320 } });
    await page.locator('.settings summary').click();
    await page.locator('.settings .popup').getByRole('button', { name: 'Unlock changes' }).click();
    await page.locator('dialog input[name=token]').fill('right');
    await page.locator('dialog button[type=submit]').click();
    await page.locator('dialog').waitFor({ state: 'detached' });
    await page.getByText('View only').waitFor({ state: 'hidden' });
  });
});
