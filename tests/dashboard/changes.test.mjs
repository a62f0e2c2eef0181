// Every change that the page offers, made on the page before the real server and then proved with traffic: what is set
// holds for the clients, and nobody else notices.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { Browser, finish } from './support/browser.mjs';
import { ADMIN, BINARY, LOCKED, Server } from './support/server.mjs';
import { Client, Target } from './support/traffic.mjs';
import { until } from './support/wait.mjs';

const KB = 1024;
const MB = 1024 ** 2;
const GB = 1024 ** 3;

describe('changes on the page hold for the clients', { timeout: 300_000 }, () => {
  /** @type {Browser} */
  let browser;
  /** @type {Server} */
  let server;
  /** @type {Target} */
  let target;
  /** @type {Client} somebody whom none of this concerns */
  let bystander;
  before(async () => {
    browser = await Browser.start();
    target = await Target.start();
    server = await Server.start();
    bystander = await client(LOCKED.uuid);
    await bystander.fetch(KB);
  });
  after(async () => {
    // Nobody else was touched by any of the changes.
    const served = await bystander?.isServed();
    bystander?.close();
    await browser?.stop();
    await server?.stop();
    await target?.stop();
    assert.equal(served, true, 'the bystander was served all the time');
  });

  const client = (uuid, from) => Client.open({ port: server.port, uuid, target: { host: '127.0.0.1', port: target.port }, from });

  /** A new account, and a page that shows it to somebody with the admin right. */
  async function account(t, email, look = {}) {
    const { uuid } = await server.add(email);
    const page = await browser.page(look);
    t.after(() => finish(page));
    await page.goto(`${server.url}/#token=${ADMIN}`);
    await page.locator('.panel:not(.bone)').first().waitFor();
    await page.goto(`${server.url}/#/users/${email}`);
    await page.getByRole('heading', { name: email, exact: true }).waitFor();
    return { page, uuid };
  }

  /** Edits fields in the form of the account that the page shows. */
  async function edit(page, email, fields) {
    await page.getByRole('button', { name: 'Edit', exact: true }).click();
    for (const [name, value] of Object.entries(fields)) {
      const field = page.locator(`dialog [name=${name}]`);
      if (await field.evaluate((node) => node.tagName === 'SELECT')) await field.selectOption(value);
      else await field.fill(value);
    }
    await page.locator('dialog [type=submit]').click();
    await page.getByText(`Saved: ${email}.`).last().waitFor();
    await page.locator('dialog').waitFor({ state: 'detached' });
  }
  const refused = (uuid, from) => until('refused', async () => {
    const one = await client(uuid, from);
    const served = await one.isServed();
    one.close();
    return !served;
  });
  const served = (uuid) => until('served', async () => {
    const one = await client(uuid);
    const answer = await one.isServed();
    one.close();
    return answer;
  });

  test('a quota cuts within 1 MiB of it; what was used, reset, lets in again', async (t) => {
    const { page, uuid } = await account(t, 'quota');
    // 2.1 MB: the field is in GB.
    await edit(page, 'quota', { quota_bytes: '0.002' });
    const limit = (await server.user('quota')).limits.quota_bytes;
    assert.equal(limit, Math.round(0.002 * GB));
    const greedy = await client(uuid);
    await greedy.fetch(16 * MB).catch(() => {});
    assert.ok(greedy.closed);
    assert.ok(greedy.received <= limit + MB, `${greedy.received} of ${limit}`);
    await page.locator('.user-title .state[data-state=quota_used]').waitFor();
    assert.equal((await server.user('quota')).state, 'quota_used');
    await refused(uuid);
    await page.getByRole('button', { name: 'Reset used' }).click();
    await page.getByText('counts from zero').waitFor();
    await until('active again', async () => (await server.user('quota')).state === 'active');
    await served(uuid);
  });

  test('an expiry that has come cuts and refuses; lifted, it lets in again', async (t) => {
    const { page, uuid } = await account(t, 'expiry');
    const held = await client(uuid);
    await held.fetch(KB);
    await edit(page, 'expiry', { expires_at: '2020-01-02T03:04' });
    await until('cut', () => held.closed);
    await page.locator('.user-title .state[data-state=expired]').waitFor();
    const { state, expires_at: at } = await server.user('expiry');
    assert.deepEqual([state, at], ['expired', Date.UTC(2020, 0, 2, 2, 4) / 1000]);
    await refused(uuid);
    await edit(page, 'expiry', { expires_at: '' });
    assert.equal((await server.user('expiry')).expires_at, null);
    await served(uuid);
  });

  test('days from first use become a date with the first use', async (t) => {
    const { page, uuid } = await account(t, 'first');
    await edit(page, 'first', { expires_after_days: '30' });
    assert.equal((await server.user('first')).expires_at, null, 'nobody has used it yet');
    await page.getByText('30 days after first use').waitFor();
    await served(uuid);
    const user = await until('the date', async () => {
      const now = await server.user('first');
      return now.expires_at && now;
    });
    assert.ok(Math.abs(user.expires_at - (Date.now() / 1000 + 30 * 86_400)) < 120, String(user.expires_at));
    await page.locator('.limits .line', { hasText: 'Expiry' }).getByText('in 30 days').waitFor();
  });

  test('a speed holds, and lifted no longer', async (t) => {
    const { page, uuid } = await account(t, 'speed');
    await edit(page, 'speed', { down_bytes_per_second_max: '0.5' });
    assert.equal((await server.user('speed')).limits.down_bytes_per_second_max, MB / 2);
    const slow = await client(uuid);
    const began = performance.now();
    await slow.fetch(2 * MB, 60_000);
    const seconds = (performance.now() - began) / 1000;
    // Four seconds' worth, less a burst; a machine that is busy only makes it longer.
    assert.ok(seconds > 3, `${seconds} s for 2 MB at 0.5 MB/s`);
    slow.close();
    await edit(page, 'speed', { down_bytes_per_second_max: '0' });
    assert.equal((await server.user('speed')).limits.down_bytes_per_second_max, 0);
    const quick = await client(uuid);
    await quick.fetch(2 * MB);
    quick.close();
  });

  test('a number of sessions refuses the one too many, and the page says why', async (t) => {
    const { page, uuid } = await account(t, 'sessions');
    await edit(page, 'sessions', { sessions_max: '1' });
    const held = await client(uuid);
    await held.fetch(KB);
    await refused(uuid);
    assert.ok(await held.isServed(), 'the first goes on');
    await until('counted', async () => (await server.stats()).closed.user_sessions_limit > 0);
    await page.goto(`${server.url}/#/`);
    await page.getByText('How sessions ended').click();
    await page.locator('.refusals').getByText('Too many sessions of a user').first().waitFor();
    held.close();
  });

  test('a number of addresses lets one guest in and refuses the next', async (t) => {
    const { page, uuid } = await account(t, 'addresses');
    await edit(page, 'addresses', { addresses_max: '1' });
    const held = [await client(uuid, '127.0.0.1'), await client(uuid, '127.0.0.2')];
    for (const one of held) assert.ok(await one.isServed());
    await refused(uuid, '127.0.0.3');
    await until('counted', async () => (await server.stats()).closed.user_addresses_limit > 0);
    await page.locator('.use .line', { hasText: 'From' }).getByText(/127\.0\.0\.1, 127\.0\.0\.2|127\.0\.0\.2, 127\.0\.0\.1/).waitFor();
    for (const one of held) one.close();
  });

  test('a note, a new id, disabled and enabled', async (t) => {
    const { page, uuid } = await account(t, 'various');
    await edit(page, 'various', { note: 'a "note" <b> 注' });
    assert.equal((await server.user('various')).note, 'a "note" <b> 注');
    const held = await client(uuid);
    await held.fetch(KB);
    await page.getByRole('button', { name: 'New id' }).click();
    await page.locator('dialog').getByRole('button', { name: 'New id' }).click();
    await page.getByText('various has a new id.').waitFor();
    await until('the old one is cut', () => held.closed);
    await refused(uuid);
    const { uuid: fresh } = await server.user('various');
    await served(fresh);
    await page.getByRole('button', { name: 'Disable' }).click();
    await page.getByText('various is disabled').waitFor();
    await refused(fresh);
    await page.getByRole('button', { name: 'Enable' }).click();
    await page.getByText('various is enabled').waitFor();
    await served(fresh);
  });

  test('a removal that is undone touches nobody; one that is not ends it', async (t) => {
    const { page, uuid } = await account(t, 'leaving');
    const held = await client(uuid);
    await held.fetch(KB);
    const remove = page.getByRole('button', { name: 'Remove', exact: true });
    await remove.click();
    await page.getByText(/leaving is removed in \d+ seconds/).waitFor();
    await page.getByRole('button', { name: 'Undo' }).click();
    assert.ok(await held.isServed());
    assert.ok(await server.user('leaving'));
    await remove.click();
    await page.getByText('leaving was removed.').waitFor({ timeout: 30_000 });
    await until('cut', () => held.closed);
    assert.equal(await server.user('leaving'), undefined);
    await refused(uuid);
  });

  test('two tabs and a command at once lose nothing: who is late sees both values', async (t) => {
    const { page: one } = await account(t, 'shared');
    const two = await browser.page();
    t.after(() => finish(two));
    await two.goto(`${server.url}/#token=${ADMIN}`);
    await two.locator('.panel:not(.bone)').first().waitFor();
    await two.goto(`${server.url}/#/users/shared`);
    for (const [page, gigabytes] of /** @type {const} */ ([[one, '1'], [two, '2']])) {
      await page.getByRole('button', { name: 'Edit', exact: true }).click();
      await page.locator('dialog [name=quota_bytes]').fill(gigabytes);
    }
    await two.locator('dialog [name=note]').fill('from the second tab');
    assert.equal(await command('set', 'shared', '--quota', '3GB'), 0);
    const now = async () => (await server.user('shared')).limits.quota_bytes;
    assert.equal(await now(), 3 * GB);

    await one.locator('dialog [type=submit]').click();
    await one.getByText('Changed meanwhile').waitFor();
    assert.match(await one.locator('.conflict tbody').innerText(), /Quota\s+3\sGB\s+1\sGB/);
    assert.equal(await now(), 3 * GB, 'nothing is overwritten unseen');
    await one.getByRole('button', { name: 'Use mine' }).click();
    await until('the first tab has its way', async () => await now() === GB);

    await two.locator('dialog [type=submit]').click();
    await two.getByText('Changed meanwhile').waitFor();
    assert.match(await two.locator('.conflict tbody').innerText(), /Quota\s+1\sGB\s+2\sGB/);
    await two.getByRole('button', { name: 'Leave as it is' }).click();
    await two.getByText('Saved: shared.').waitFor();
    const { note } = await server.user('shared');
    assert.deepEqual([await now(), note], [GB, 'from the second tab'], 'what nobody else had touched is saved all the same');
    const { events } = await server.get('/api/events?kind=user');
    const whose = events.filter((event) => event.data.user === 'shared').map((event) => [event.code, event.by]);
    assert.deepEqual(whose, [['user_changed', 'page'], ['user_changed', 'page'], ['user_changed', 'command'], ['user_added', '127.0.0.1']]);
  });

  test('a reload says in the page\'s language what it changed, and what only a restart does', async (t) => {
    const page = await browser.page({ lang: 'zh-CN' });
    t.after(() => finish(page));
    await page.goto(`${server.url}/#token=${ADMIN}`);
    const button = page.locator('.identity').getByRole('button', { name: '重载' });
    server.config.users = [...server.config.users, { uuid: 'a1cb11f1-0c6e-5ec2-99aa-48ca3cc1a35f', email: 'newcomer' }];
    server.config.timeouts = { ...server.config.timeouts, idle: 299 };
    server.config.server = { ...server.config.server, workers: 3 };
    await server.writeConfig();
    await button.click();
    await page.getByText('已重载：用户 +1 −0、timeouts.idle 由 300 改为 299。需要重启才生效：server.workers。').first().waitFor();
    await page.locator('.identity .changes', { hasText: '用户 +1 −0、timeouts.idle 由 300 改为 299' }).waitFor();
    const good = await readFile(join(server.folder, 'config.json'), 'utf8');
    server.config.timeouts.idle = 0;
    await server.writeConfig();
    await button.click();
    await page.locator('.notice.bad', { hasText: '无效：' }).waitFor();
    await page.getByText('上次重载失败').first().waitFor();
    await page.locator('.event-text', { hasText: '未能重载，一切照旧' }).first().waitFor();
    server.config = JSON.parse(good);
    await server.writeConfig();
  });

  test('a reload is told with the old and the new values of keys, and without secrets', async (t) => {
    const page = await browser.page({ lang: 'en-GB' });
    t.after(() => finish(page));
    await page.goto(`${server.url}/#token=${ADMIN}`);
    const before = await readFile(join(server.folder, 'config.json'), 'utf8');
    const secret = 'a-view-token-that-nobody-may-see';
    server.config = JSON.parse(before);
    server.config.log.level = 'debug';
    server.config.outbound = { ...server.config.outbound, deny_ports: [], prefer: 'ipv4', allow_private: true, bind: '127.0.0.1' };
    server.config.timeouts = { ...server.config.timeouts, idle: 86400 };
    server.config.monitoring = { ...server.config.monitoring, token: secret };
    await server.writeConfig();
    await server.call('POST', '/api/reload');
    const words = 'log.level from info to debug, monitoring.token changed, outbound.allow_private from off to on, '
      + 'outbound.bind from nothing to 127.0.0.1, outbound.deny_ports from 25 to nothing, outbound.prefer from auto to ipv4, timeouts.idle from 299 to 86400';
    await page.locator('.identity .changes', { hasText: words }).waitFor();
    await page.locator('.latest-events .event-text', { hasText: `Reloaded: ${words}.` }).waitFor();
    await page.goto(`${server.url}/#/events`);
    await page.locator('.event-text', { hasText: `Reloaded: ${words}.` }).waitFor();
    for (const path of ['/api/events?limit=100', '/api/stats']) assert.ok(!JSON.stringify(await server.get(path)).includes(secret), path);
    server.config = JSON.parse(before);
    await server.writeConfig();
    await server.call('POST', '/api/reload');
    await page.locator('.event-text', { hasText: 'outbound.bind from 127.0.0.1 to nothing' }).waitFor();
  });

  /** `vless-rust user …` beside the running server, which it asks through its socket. */
  async function command(...words) {
    const child = spawn(BINARY, ['user', ...words, '-c', 'config.json'], { cwd: server.folder, stdio: 'ignore' });
    return new Promise((end) => child.on('exit', end));
  }
});
