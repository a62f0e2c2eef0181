// Every state that the page can be in, against the stand-in, which can be brought into all of them.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Browser, finish } from './support/browser.mjs';
import { StandIn } from './support/stand-in.mjs';
import { until } from './support/wait.mjs';
import { World } from './support/world.mjs';

describe('states of the page', { timeout: 240_000 }, () => {
  /** @type {Browser} */
  let browser;
  before(async () => {
    browser = await Browser.start();
  });
  after(() => browser.stop());

  /** A page on a stand-in of its own; both end with the test. */
  async function open(t, { hash = '', look, world, before, ...options } = {}) {
    const server = new StandIn({ world: new World(world), ...options });
    server.before = before;
    const url = await server.start();
    const page = await browser.page(look);
    t.after(async () => {
      await finish(page);
      await server.stop();
    });
    await page.goto(`${url}/${hash}`);
    return { page, server, url };
  }
  const text = (page, selector) => page.locator(selector).innerText();
  /** Nobody looks at the page, or somebody does again. */
  const hide = (page, hidden) => page.evaluate((value) => {
    Object.defineProperty(document, 'hidden', { value, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);

  test('without a right there is a login, and a wrong token is refused', async (t) => {
    const { page } = await open(t, { right: 'none', token: 'right' });
    await page.locator('input[name=token]').fill('wrong');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByText('This token is not the right one.').waitFor();
    await page.locator('input[name=token]').fill('right');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByText('Online now').waitFor();
  });

  test('accounts come once, and then those that changed', async (t) => {
    const { page, server } = await open(t, { hash: '#/users' });
    const { world } = server;
    const [first, second, ...others] = world.stats().users;
    server.tick = () => {};
    const told = (users_scope, users_version, users, users_removed = []) =>
      server.say('stats', { ...world.stats(), users_scope, users_version, users, users_removed });
    const names = async () => (await page.locator('.of-users tbody tr:not(.spacer)').allInnerTexts()).join(' ');
    told('all', 7, [first, second]);
    await until('both are there', async () => (await names()).includes(first.email) && (await names()).includes(second.email));
    told('none', null, []);
    told('changed', 9, [others[0]], [second.email]);
    await until('one has gone and one has come', async () => {
      const now = await names();
      return now.includes(first.email) && now.includes(others[0].email) && !now.includes(second.email);
    });
  });

  test('a token in the address logs in and disappears from it', async (t) => {
    const { page, url } = await open(t, { right: 'none', token: 'right' });
    await page.getByRole('heading', { name: 'Log in' }).waitFor();
    await page.goto('about:blank');
    await page.goto(`${url}/#token=right`);
    await page.getByText('Online now').waitFor();
    assert.equal(page.url(), `${url}/`);
  });

  test('a token in the address logs in and disappears from it, also where the page is open already', async (t) => {
    const { page, url } = await open(t, { right: 'none', token: 'right' });
    await page.getByRole('heading', { name: 'Log in' }).waitFor();
    await page.goto(`${url}/#token=right`);
    await page.getByText('Online now').waitFor();
    assert.equal(page.url(), `${url}/`);
  });

  test('loading is said, an answer that is none is said, and trying again goes on', async (t) => {
    const { page, server } = await open(t, { before: (request) => {
      if (request === 'GET /api/session') throw new Error('a fault of the test');
    } });
    await page.getByRole('heading', { name: 'The server does not answer as it should' }).waitFor({ state: 'attached' });
    await page.getByText('The server failed at this. Its log says more.').waitFor();
    server.before = null;
    let answer = () => {};
    const asked = new Promise((resolve) => {
      answer = resolve;
    });
    await page.route('**/api/session', async (route) => {
      await asked;
      await route.continue();
    });
    await page.getByRole('button', { name: 'Try again' }).click();
    await page.goto('about:blank');
    await page.goto(`http://127.0.0.1:${server.port}/`);
    await page.getByRole('status', { name: 'Loading' }).waitFor();
    answer();
    await page.getByText('Online now').waitFor();
  });

  test('who may only look sees nothing that changes', async (t) => {
    const { page, url } = await open(t, { right: 'view' });
    await page.getByText('View only').waitFor();
    for (const hash of ['#/users', '#/users/ann', '#/sessions']) {
      await page.goto(`${url}/${hash}`);
      await page.locator('tbody tr:not(.spacer)').first().waitFor();
      for (const name of ['Add user', 'Edit', 'Remove', 'Disable', 'Cut', 'Cut these', 'Show link and QR code']) {
        assert.equal(await page.getByRole('button', { name, exact: true }).filter({ visible: true }).count(), 0, `${hash} ${name}`);
      }
    }
  });

  test('a server that falls silent is said loudly, and its figures turn grey', async (t) => {
    const { page, server } = await open(t);
    await page.locator('[data-link=live]').waitFor();
    const colour = () => page.locator('.totals .value').first().evaluate((node) => getComputedStyle(node).color);
    const fresh = await colour();
    server.cutOff = true;
    await page.locator('.banner.bad').waitFor();
    assert.match(await text(page, '.banner.bad'), /No contact with the server\. The figures are those of \d\d:\d\d:\d\d/);
    assert.notEqual(await colour(), fresh);
    server.cutOff = false;
    await page.locator('[data-link=live]').waitFor();
    assert.equal(await page.locator('.banner.bad').isVisible(), false);
    assert.equal(await colour(), fresh);
  });

  test('a page that is older than the server says so, and loads the new one on asking only', async (t) => {
    const { page, server } = await open(t, { hash: '#/users' });
    await page.locator('[data-link=live]').waitFor();
    const reconnect = async () => {
      const before = looked();
      for (const socket of server.sockets) socket.destroy();
      await until('it has looked', () => looked() > before);
    };
    const looked = () => server.requests.filter((one) => one === 'GET /').length;
    // The same page behind another connection is nothing to talk about.
    await reconnect();
    assert.equal(await page.locator('.banner').filter({ visible: true }).count(), 0);
    // A server with other files names others in its page.
    const index = server.files.get('/');
    server.files.set('/', { ...index, body: index.body.replaceAll('/static/', '/static/0') });
    await reconnect();
    const banner = page.locator('.banner', { hasText: 'newer dashboard' });
    await banner.waitFor();
    assert.equal(await page.getByRole('button', { name: 'Add user' }).isVisible(), true, 'nothing is taken away');
    server.files.set('/', index);
    await banner.getByRole('button', { name: 'Load it' }).click();
    await banner.waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Add user' }).waitFor();
    assert.match(page.url(), /#\/users$/);
  });

  test('without the feed the figures are polled, with growing pauses between tries of the feed', async (t) => {
    const { page, server } = await open(t);
    await page.locator('[data-link=live]').waitFor();
    server.refuseFeed = true;
    for (const socket of server.sockets) socket.destroy();
    await page.locator('[data-link=polling]').waitFor();
    const asked = server.requests.length;
    await until('several polls', () => server.requests.slice(asked).filter((one) => one === 'GET /api/stats').length >= 3);
    const uptime = await text(page, '.totals .figure:last-child .value');
    assert.ok(uptime);
    server.refuseFeed = false;
    await page.locator('[data-link=live]').waitFor();
  });

  test('nothing is fetched while the page is hidden', async (t) => {
    const { page, server } = await open(t, { hash: '#/sessions' });
    await page.locator('tbody tr:not(.spacer)').first().waitFor();
    await hide(page, true);
    await until('the feed is given up', () => server.sockets.size === 0);
    const asked = server.requests.length;
    // Time in which an attentive page would have asked again and again.
    await page.waitForTimeout(4000);
    assert.deepEqual(server.requests.slice(asked), []);
    await hide(page, false);
    await page.locator('[data-link=live]').waitFor();
  });

  test('alerts say what to do, draining is said, a failed reload too', async (t) => {
    const { page, server } = await open(t);
    const { world } = server;
    await page.getByText('Nothing needs your attention.').waitFor();
    world.state = 'draining';
    world.alerts = [{ name: 'certificate_expires', metric: 'certificate_days_left', value: 6, limit: 14, since: world.now - 7200, remedy_code: 'certificate_days_left' }];
    world.lastReload = { at: world.now, ok: false, changes: [], error: 'config.json: line 3' };
    await page.getByText('The server is draining').waitFor();
    await page.getByText('Renew the certificate, then reload.').waitFor();
    await page.getByText('The last reload failed').first().waitFor();
    await page.getByText('config.json: line 3').waitFor();
  });

  test('an empty server says what to do next', async (t) => {
    const { page, url } = await open(t, { world: { users: 0, sessions: 0 } });
    await page.getByText('No users yet').waitFor();
    await page.getByText('Nobody is online').waitFor();
    await page.goto(`${url}/#/users`);
    await page.getByText('Add the first one').waitFor();
    await page.goto(`${url}/#/sessions`);
    await page.getByText('No live sessions').waitFor();
  });

  test('two changes of one field meet: both values are shown and nothing is lost', async (t) => {
    const { page, server } = await open(t, { hash: '#/users/ben' });
    const ben = server.world.users.find((user) => user.email === 'ben');
    await page.getByRole('button', { name: 'Edit' }).click();
    await page.locator('input[name=note]').fill('mine');
    ben.note = 'theirs';
    server.world.revision += 1;
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('Changed meanwhile').waitFor();
    assert.match(await text(page, '.conflict tbody'), /Note\s+theirs\s+mine/);
    assert.equal(ben.note, 'theirs');
    await page.getByRole('button', { name: 'Use mine' }).click();
    await until('the chosen value', () => ben.note === 'mine');
  });

  test('changes of different accounts do not meet', async (t) => {
    const { page, server } = await open(t, { hash: '#/users/ben' });
    await page.getByRole('button', { name: 'Edit' }).click();
    await page.locator('input[name=note]').fill('mine');
    server.world.users[0].note = 'theirs';
    server.world.revision += 1;
    await page.getByRole('button', { name: 'Save' }).click();
    await page.getByText('Saved: ben.').waitFor();
    assert.equal(server.world.users.find((user) => user.email === 'ben').note, 'mine');
    assert.equal(server.world.users[0].note, 'theirs');
  });

  test('a removal can be undone for ten seconds', async (t) => {
    const { page, server } = await open(t, { hash: '#/users/ben' });
    await page.getByRole('button', { name: 'Remove', exact: true }).click();
    await page.getByText(/ben is removed in \d+ seconds/).waitFor();
    await page.getByText('Being removed').waitFor();
    await page.getByRole('button', { name: 'Undo' }).click();
    assert.ok(!server.requests.includes('DELETE /api/users/ben'));
    await page.getByRole('button', { name: 'Remove', exact: true }).click();
    await until('removed after ten seconds', () => server.requests.includes('DELETE /api/users/ben'));
    await page.getByText('ben was removed.').waitFor();
    assert.ok(page.url().endsWith('#/users'));
  });

  test('who closes the page while a removal waits is asked, and afterwards no more', async (t) => {
    const { page, url } = await open(t, { hash: '#/users/ben' });
    let asked = 0;
    page.on('dialog', async (dialog) => {
      asked += Number(dialog.type() === 'beforeunload');
      await dialog.accept();
    });
    await page.getByRole('button', { name: 'Remove', exact: true }).click();
    await page.getByRole('button', { name: 'Undo' }).click();
    await page.goto('about:blank');
    assert.equal(asked, 0, 'nothing waits');
    await page.goto(`${url}/#/users/ben`);
    await page.getByRole('button', { name: 'Remove', exact: true }).click();
    await page.getByRole('button', { name: 'Undo' }).waitFor();
    await page.goto('about:blank');
    assert.equal(asked, 1);
  });

  test('cutting asks first and says afterwards what happened', async (t) => {
    const { page, server } = await open(t, { hash: '#/sessions?user=ann' });
    const before = server.world.sessions.filter((one) => one.user === 'ann').length;
    await page.getByRole('button', { name: 'Cut these' }).click();
    await page.getByRole('button', { name: `Cut ${before} sessions` }).click();
    await page.getByText(`${before} sessions of ann cut in 12 ms.`).waitFor();
    assert.equal(server.world.sessions.filter((one) => one.user === 'ann').length, 0);
    assert.ok(server.world.sessions.length > 0);
  });

  test('what is cut is what the filter says, also when the click comes at once', async (t) => {
    const { page, server } = await open(t, { hash: '#/sessions' });
    await page.locator('tbody tr:not(.spacer)').first().waitFor();
    const before = server.world.sessions.filter((one) => one.user === 'ann').length;
    const all = server.world.sessions.length;
    assert.ok(before > 0 && before < all);
    // Nobody presses Enter: the click itself takes the filter over.
    await page.locator('input[name=user]').fill('ann');
    await page.getByRole('button', { name: 'Cut these' }).click();
    await page.getByRole('button', { name: `Cut ${before} sessions` }).click();
    await until('they are gone', () => !server.world.sessions.some((one) => one.user === 'ann'));
    assert.ok(server.world.sessions.length >= all - before);
  });

  test('a button does what it says, whatever has become of the account meanwhile', async (t) => {
    const { page, server } = await open(t, { hash: '#/users/ben' });
    const ben = server.world.users.find((user) => user.email === 'ben');
    const button = page.getByRole('button', { name: 'Disable' });
    await button.waitFor();
    // Somebody else is faster, between the click and its request reaching the server.
    server.before = (request) => {
      if (request !== 'PATCH /api/users/ben') return;
      server.before = null;
      ben.enabled = false;
      server.world.revision += 1;
    };
    await button.click();
    await page.getByText('ben is disabled').waitFor();
    assert.equal(ben.enabled, false);
  });

  test('events that came while the page was hidden are there afterwards', async (t) => {
    const { page, server } = await open(t, { hash: '#/events' });
    await page.locator('[data-link=live]').waitFor();
    await hide(page, true);
    await until('the feed is given up', () => server.sockets.size === 0);
    server.event('user', 'user unheard added');
    await hide(page, false);
    await page.getByText('user unheard added').waitFor();
  });

  test('no event is missing between what came by the feed and what is older, and not all are kept', async (t) => {
    const { page, server } = await open(t, { hash: '#/events' });
    await page.locator('[data-link=live]').waitFor();
    await page.getByText('Version 0.1.0 started.').waitFor();
    for (let n = 1; n <= 450; n += 1) server.event('user', `storm ${n}`);
    await page.getByText('storm 450', { exact: true }).waitFor();
    await until('the oldest are let go', async () => await page.locator('.event').count() <= 300);
    assert.deepEqual(await allEvents(page), server.world.events.length);
  });

  test('more events than one answer has, while the page was hidden, are all there afterwards', async (t) => {
    const { page, server } = await open(t, { hash: '#/events' });
    await page.locator('[data-link=live]').waitFor();
    await page.getByText('Version 0.1.0 started.').waitFor();
    await hide(page, true);
    await until('the feed is given up', () => server.sockets.size === 0);
    for (let n = 1; n <= 150; n += 1) server.event(n % 2 ? 'user' : 'cut', `unheard ${n}`);
    await hide(page, false);
    await page.getByText('unheard 150', { exact: true }).waitFor();
    assert.deepEqual(await allEvents(page), server.world.events.length);
    await page.getByRole('combobox', { name: 'Kind of event' }).selectOption('cut');
    await page.getByText('unheard 149', { exact: true }).waitFor({ state: 'detached' });
    await page.getByText('unheard 150', { exact: true }).waitFor();
    assert.deepEqual(await allEvents(page), server.world.events.filter((one) => one.kind === 'cut').length);
  });

  /** Asks for older events up to the end, and says how many different ones there are; none is there twice. */
  async function allEvents(page) {
    const older = page.getByRole('button', { name: 'Show older' });
    const rows = page.locator('.event');
    while (await older.isVisible()) {
      const was = await rows.count();
      // It goes as soon as the list is known to be whole.
      await older.click({ timeout: 2000 }).catch(() => {});
      await until('more, or the end', async () => await rows.count() > was || !await older.isVisible());
    }
    const texts = await rows.allInnerTexts();
    assert.equal(new Set(texts).size, texts.length);
    return texts.length;
  }

  test('language, theme, columns and order are remembered', async (t) => {
    const { page, url } = await open(t, { hash: '#/users', look: { lang: 'zh-CN', theme: 'dark' } });
    await page.getByRole('heading', { name: '用户' }).waitFor();
    assert.equal(await page.locator('html').getAttribute('data-theme'), 'dark');
    await page.locator('.settings summary').click();
    await page.getByRole('button', { name: 'English' }).click();
    await page.getByRole('heading', { name: 'Users' }).waitFor();
    await page.locator('.settings summary').click();
    await page.getByRole('button', { name: 'Light' }).click();
    await page.getByRole('button', { name: 'Bits' }).click();
    await page.keyboard.press('Escape');
    await page.locator('.page-head .menu summary').click();
    await page.getByRole('checkbox', { name: 'Note' }).uncheck();
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Total' }).click();
    await page.goto('about:blank');
    await page.goto(`${url}/#/users`);
    await page.getByRole('heading', { name: 'Users' }).waitFor();
    assert.equal(await page.locator('html').getAttribute('data-theme'), 'light');
    assert.equal(await page.locator('thead .c-note').isVisible(), false);
    assert.equal(await page.locator('thead .c-total').getAttribute('aria-sort'), 'descending');
    await page.locator('.c-down .text', { hasText: 'bit/s' }).first().waitFor();
  });

  test('addresses can be covered', async (t) => {
    const { page } = await open(t, { hash: '#/users' });
    await page.getByText('203.0.113.1', { exact: true }).waitFor();
    await page.getByLabel('Mask addresses').check();
    await page.getByText('203.0.•.•').first().waitFor();
    assert.equal(await page.getByText('203.0.113.1', { exact: true }).count(), 0);
    assert.doesNotMatch(await page.locator('main').evaluate((node) => node.outerHTML), /203\.0\.113/);
  });

  test('rows keep their places while somebody points at them', async (t) => {
    const { page, server } = await open(t, { hash: '#/users' });
    await page.getByRole('button', { name: 'Today' }).click();
    const first = () => text(page, 'tbody tr:not(.spacer) .user-link >> nth=0');
    const was = await first();
    await page.locator('tbody tr:not(.spacer)').nth(2).hover();
    const other = server.world.users.find((user) => user.email !== was);
    other.today_bytes = 10 ** 15;
    await page.getByText(/PB|TB/).first().waitFor();
    assert.equal(await first(), was, 'nothing moves under the pointer');
    await page.mouse.move(2, 2);
    await until('sorted again', async () => (await first()) === other.email);
  });
});
