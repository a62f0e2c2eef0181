// The page before the real server, with real traffic through it: what is shown equals what the API says, what is
// changed is changed in the server, what ends comes back.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { Browser, finish } from './support/browser.mjs';
import { ADMIN, CUT, EVIL, LOCKED, Server, VIEW } from './support/server.mjs';
import { ROOT, TARGET } from './support/tools.mjs';
import { Client, Target } from './support/traffic.mjs';
import { until } from './support/wait.mjs';

const SHOTS = join(TARGET, 'shots');
const KB = 1024;
const GB = 1024 ** 3;

describe('the page before the real server', { timeout: 300_000 }, () => {
  /** @type {Browser} */
  let browser;
  /** @type {Server} */
  let server;
  /** @type {Target} */
  let target;
  /** @type {Client[]} */
  const clients = [];
  before(async () => {
    mkdirSync(SHOTS, { recursive: true });
    browser = await Browser.start();
    target = await Target.start();
    server = await Server.start();
  });
  after(async () => {
    clients.forEach((client) => client.close());
    await browser?.stop();
    await server?.stop();
    await target?.stop();
  });

  /** A page of somebody with the admin right. */
  async function admin(t, hash = '', look = {}) {
    const page = await browser.page(look);
    t.after(() => finish(page));
    await page.goto(`${server.url}/#token=${ADMIN}`);
    await page.locator('.panel:not(.bone)').first().waitFor();
    if (hash) await page.goto(`${server.url}/${hash}`);
    return page;
  }

  async function client(uuid, host = '127.0.0.1') {
    const made = await Client.open({ port: server.port, uuid, target: { host, port: target.port } });
    clients.push(made);
    return made;
  }
  const digits = (text) => Number(text.replaceAll(/\D/g, ''));
  const exact = async (locator) => digits(await locator.getAttribute('title'));

  test('files come compressed, under one hash, with a strict policy', async () => {
    const page = await fetch(server.url);
    const policy = page.headers.get('content-security-policy');
    for (const part of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]) assert.ok(policy.includes(part), policy);
    assert.ok(!policy.includes('unsafe'), policy);
    assert.match(page.headers.get('cache-control'), /no-cache/);
    const tag = page.headers.get('etag');
    assert.equal((await fetch(server.url, { headers: { 'If-None-Match': tag } })).status, 304);
    const html = await page.text();
    const paths = [...html.matchAll(/"(\/static\/[^"]+)"/g)].map(([, path]) => path);
    let sum = 0;
    for (const path of new Set(paths)) {
      const file = await fetch(server.url + path, { headers: { 'Accept-Encoding': 'gzip' } });
      assert.equal(file.status, 200, path);
      assert.match(file.headers.get('cache-control'), /immutable/, path);
      assert.equal(file.headers.get('content-encoding'), 'gzip', path);
      sum += Number(file.headers.get('content-length'));
    }
    console.log(`    ${new Set(paths).size} files, ${(sum / KB).toFixed(1)} KB on the wire`);
    assert.ok(sum <= 150 * KB);
  });

  test('figures are those of the API, in both languages and themes', async (t) => {
    const live = await client(LOCKED.uuid);
    await live.fetch(3 * 1024 * KB);
    await live.fetch(512 * KB);
    // Nothing moves any more, so the page and the API can be asked one after the other.
    await until('the server has counted', async () => (await server.user(LOCKED.email)).total_download_bytes === live.received);
    for (const [lang, theme] of /** @type {const} */ ([['en-GB', 'light'], ['zh-CN', 'dark']])) {
      const page = await admin(t, '', { lang, theme });
      const stats = await server.stats();
      const totals = page.locator('.totals .figure');
      await until('today', async () => await exact(totals.nth(0).locator('.value')) === stats.today.upload_bytes + stats.today.download_bytes);
      assert.equal(await exact(totals.nth(1).locator('.value')), stats.month.upload_bytes + stats.month.download_bytes);
      assert.equal(await exact(totals.nth(2).locator('.value')), stats.total_upload_bytes + stats.total_download_bytes);
      assert.equal(await exact(totals.nth(2).locator('.way-value').nth(0)), stats.total_download_bytes);
      assert.equal(await exact(totals.nth(2).locator('.way-value').nth(1)), stats.total_upload_bytes);
      assert.equal(stats.total_download_bytes, live.received);
      assert.equal(stats.total_upload_bytes, live.sent);
      assert.equal(digits(await totals.nth(3).locator('.value').innerText()), stats.active_connections);
      assert.equal(await page.locator('.online-row').count(), stats.users_online);
      const { connection_pool: pool, xtls_vision: vision } = stats;
      const line = (panel, place) => page.locator(`.${panel} .line dd`).nth(place);
      assert.equal(digits(await line('pool', 0).innerText()), pool.current_active);
      assert.equal(digits(await line('pool', 2).innerText()), pool.total_created);
      assert.equal(await exact(line('vision', 2)), vision.spliced_bytes);
      assert.equal(await exact(line('vision', 4)), vision.tls_bytes);
      const tiers = page.locator('.memory-pool tbody tr');
      for (const [at, key] of ['small_pool', 'medium_pool', 'large_pool'].entries()) {
        const shown = async () => (await tiers.nth(at).locator('td').allInnerTexts()).slice(0, 3).map(digits);
        // The page's own connections borrow buffers, too; at some moment both say the same.
        await until(`the memory pool's ${key}`, async () => {
          const { memory_pool: { [key]: tier } } = await server.stats();
          return String(await shown()) === String([tier.current_size, tier.idle, tier.peak_size]);
        });
        const { memory_pool: { [key]: tier } } = await server.stats();
        assert.equal(await tiers.nth(at).locator('th').innerText(), `${tier.buffer_size / KB}\u00a0KB`);
        const lent = tier.hits + tier.misses;
        const hits = await tiers.nth(at).locator('td').nth(3).innerText();
        assert.ok(lent ? Math.abs(parseFloat(hits) - (tier.hits / lent) * 100) < 1 : hits === '–', `${hits}: ${tier.hits} of ${lent}`);
      }
      const { memory_pool: held } = await server.stats();
      assert.equal(digits(await page.locator('.memory-pool .line dd').nth(1).innerText()), held.waits);
      assert.ok((await page.locator('.identity .line dd').first().innerText()).includes(stats.version));
      await page.goto(`${server.url}/#/users`);
      const row = page.locator('tbody tr', { hasText: LOCKED.email });
      assert.equal(await exact(row.locator('.c-total .text')), live.received + live.sent);
      assert.equal(digits(await row.locator('.c-sessions').innerText()), 1);
      assert.equal(await row.locator('.c-addresses').innerText(), '127.0.0.1');
      await row.getByText(LOCKED.note, { exact: true }).waitFor();
      await page.screenshot({ path: join(SHOTS, `server-users-${theme}-${lang}.png`) });
    }
  });

  test('every reason that the server counts has a sentence and a remedy', async () => {
    const { rejected, closed } = await server.stats();
    const { default: en } = await import(join(ROOT, 'static/lang/en.js'));
    assert.ok(Object.keys(rejected).length > 5 && Object.keys(closed).length > 30);
    for (const reason of Object.keys({ ...rejected, ...closed })) assert.ok(`reason.${reason}` in en && `reason.${reason}.remedy` in en, reason);
  });

  test('who connects is online at once, and offline the second the session ends', async (t) => {
    const page = await admin(t);
    const row = page.locator('.online-row', { hasText: CUT.email });
    const flash = await client(CUT.uuid);
    await flash.fetch(KB);
    await row.waitFor({ timeout: 3000 });
    flash.close();
    await row.waitFor({ state: 'detached', timeout: 3000 });
  });

  test('history has what passed, for the server and for one user', async (t) => {
    const page = await admin(t, `#/users/${LOCKED.email}`);
    await page.getByRole('button', { name: '1 h' }).click();
    const sum = page.locator('.traffic .value').first();
    const past = await server.get('/api/history?range=1h&user=file-user');
    const wanted = past.points.reduce((all, point) => all + point.download_bytes, 0);
    assert.ok(wanted > 0);
    await until('the sum of the range', async () => await exact(sum) === wanted);
  });

  test('live sessions are listed, filtered and cut', async (t) => {
    const { uuid } = CUT;
    const held = [await client(uuid), await client(uuid), await client(uuid, 'localhost')];
    for (const one of held) await one.fetch(KB);
    const page = await admin(t, '#/sessions?user=cutter');
    const rows = page.locator('.table-scroll tbody tr:not(.spacer)');
    await until('three sessions', async () => await rows.count() === 3);
    await page.locator('input[name=target]').fill('localhost');
    await page.locator('input[name=target]').press('Enter');
    await until('one target', async () => await rows.count() === 1);
    await rows.getByRole('button', { name: 'Cut' }).click();
    await page.locator('dialog').getByRole('button', { name: 'Cut' }).click();
    await page.getByText(/^1 session of cutter cut in \d+ ms\.$/).waitFor();
    await until('it is closed', () => held[2].closed);
    assert.ok(!held[0].closed && !held[1].closed, 'nobody else is touched');
    await page.locator('input[name=target]').fill('');
    await page.locator('input[name=target]').press('Enter');
    await page.getByRole('button', { name: 'Cut these' }).click();
    await page.getByRole('button', { name: 'Cut 2 sessions' }).click();
    await page.getByText(/^2 sessions of cutter cut in \d+ ms\.$/).waitFor();
    await until('both are closed', () => held[0].closed && held[1].closed);
  });

  test('every change of an account arrives in the server', async (t) => {
    const page = await admin(t, '#/users');
    await page.getByRole('button', { name: 'Add user' }).click();
    await page.locator('dialog input[name=email]').fill('ben');
    await page.locator('dialog input[name=note]').fill('a note');
    await page.locator('dialog button[type=submit]').click();
    await page.locator('.qr').waitFor();
    const made = await server.user('ben');
    assert.equal(made.note, 'a note');
    assert.ok((await page.locator('.copy-text').innerText()).includes(made.uuid));

    await page.getByRole('button', { name: 'Edit' }).click();
    const field = (name) => page.locator(`dialog [name=${name}]`);
    await field('note').fill('another');
    await field('quota_bytes').fill('1.5');
    await field('quota_period').selectOption('month');
    await field('quota_day').fill('15');
    await field('expires_at').fill('2031-05-06T07:08');
    await field('expires_after_days').fill('90');
    await field('down_bytes_per_second_max').fill('2');
    await field('up_bytes_per_second_max').fill('1');
    await field('sessions_max').fill('20');
    await field('addresses_max').fill('3');
    await page.locator('dialog button[type=submit]').click();
    await page.getByText('Saved: ben.').waitFor();
    const { limits, note, expires_at: expiry } = await server.user('ben');
    assert.equal(note, 'another');
    assert.equal(expiry, Date.UTC(2031, 4, 6, 5, 8) / 1000, 'the viewer is two hours ahead of UTC in May');
    const { expires_at: _, ...others } = limits;
    assert.deepEqual(others, {
      quota_bytes: 1.5 * GB, quota_period: 'month', quota_day: 15, expires_after_days: 90, addresses_max: 3, sessions_max: 20,
      up_bytes_per_second_max: KB * KB, down_bytes_per_second_max: 2 * KB * KB,
    });

    const live = await client(made.uuid);
    await live.fetch(10 * KB);
    await page.getByRole('button', { name: 'Disable' }).click();
    await page.getByText('ben is disabled').waitFor();
    await until('his session is cut', () => live.closed);
    assert.equal((await server.user('ben')).state, 'disabled');
    await page.getByRole('button', { name: 'Enable' }).click();
    await until('enabled', async () => (await server.user('ben')).enabled);

    await page.getByRole('button', { name: 'Reset used' }).click();
    await page.getByText('counts from zero').waitFor();
    await until('reset', async () => (await server.user('ben')).quota_used_bytes === 0);

    await page.getByRole('button', { name: 'New id' }).click();
    await page.locator('dialog').getByRole('button', { name: 'New id' }).click();
    await page.getByText('ben has a new id.').waitFor();
    assert.notEqual((await server.user('ben')).uuid, made.uuid);

    await page.getByRole('button', { name: 'Edit' }).click();
    await field('email').fill('benjamin');
    await page.locator('dialog button[type=submit]').click();
    await page.getByRole('heading', { name: 'benjamin' }).waitFor();
    assert.equal(await server.user('ben'), undefined);

    await page.getByRole('button', { name: 'Remove', exact: true }).click();
    await page.getByRole('button', { name: 'Remove now' }).click();
    await page.getByText('benjamin was removed.').waitFor();
    assert.equal(await server.user('benjamin'), undefined);
  });

  test('a change by somebody else in between is not lost', async (t) => {
    await server.add('carol', { note: 'first' });
    const page = await admin(t, '#/users/carol');
    await page.getByRole('button', { name: 'Edit' }).click();
    await page.locator('dialog [name=note]').fill('from the page');
    const { revision } = await server.get('/api/users');
    await server.call('PATCH', '/api/users/carol', { body: { note: 'from a command' }, revision });
    await page.locator('dialog button[type=submit]').click();
    await page.getByText('Changed meanwhile').waitFor();
    assert.match(await page.locator('.conflict tbody').innerText(), /from a command\s+from the page/);
    assert.equal((await server.user('carol')).note, 'from a command');
    await page.getByRole('button', { name: 'Leave as it is' }).click();
    assert.equal((await server.user('carol')).note, 'from a command');
  });

  test('accounts of the configuration file are locked and say so', async (t) => {
    const page = await admin(t, `#/users/${LOCKED.email}`);
    await page.getByText('This account is in the configuration file.').waitFor();
    assert.equal(await page.getByRole('button', { name: 'Edit' }).count(), 0);
  });

  test('names, notes and targets of strangers are text', async (t) => {
    const { uuid, email } = EVIL;
    // Two targets, one of them no name at all: it is shown in lists and events as long as it is tried.
    const held = await client(uuid);
    await held.fetch(KB);
    const refused = await client(uuid, '<b>x</b>.localhost');
    const page = await admin(t);
    page.on('dialog', (dialog) => page.faults.push(`a script ran: ${dialog.message()}`));
    for (const hash of ['#/', '#/users', `#/users/${encodeURIComponent(email)}`, '#/sessions', '#/events', `#/sessions?user=${encodeURIComponent(email)}`, `#/users/${encodeURIComponent('<svg/onload=alert(3)>')}`]) {
      await page.goto(`${server.url}/${hash}`);
      await page.locator('.panel:not(.bone)').filter({ visible: true }).first().waitFor();
      assert.equal(await page.locator('main img[src=x], main b, main script, main svg[onload]').count(), 0, hash);
    }
    await page.goto(`${server.url}/#/users`);
    await page.getByText(email).first().waitFor();
    held.close();
    refused.close();
  });

  test('a live session\'s target, source and way are text, whatever they say', async (t) => {
    const { uuid, email } = EVIL;
    // The server lets no such target in: the request is refused as malformed.
    const refused = await client(uuid, '<b>x</b>.example');
    await until('refused', () => refused.closed);
    await until('counted', async () => (await server.stats()).closed.bad_request > 0);
    // The session is live and the server's; what its answer says of it is made worse on the way to the page.
    const held = await client(uuid);
    await held.fetch(KB);
    const evil = '<img src=x onerror=alert(4)>"\'`&{n}|</td></table><script>alert(5)</script>';
    const page = await admin(t);
    page.on('dialog', (dialog) => page.faults.push(`a script ran: ${dialog.message()}`));
    await page.route('**/api/connections?*', async (route) => {
      const response = await route.fetch();
      const body = await response.json();
      for (const one of body.connections) Object.assign(one, { target: evil, client: `${evil}:1`, flow: evil, state: evil, mode: evil });
      await route.fulfill({ response, json: body });
    });
    for (const hash of ['#/sessions', `#/users/${encodeURIComponent(email)}`]) {
      await page.goto(`${server.url}/${hash}`);
      const cell = page.locator('.table-scroll .c-target .text').first();
      await cell.waitFor();
      assert.equal(await cell.textContent(), evil);
      assert.equal(await cell.getAttribute('title'), evil);
      assert.equal(await page.locator('main img[src=x], main script, main table table').count(), 0, hash);
    }
    await page.getByRole('button', { name: 'Cut', exact: true }).first().click();
    assert.ok((await page.locator('dialog .dialog-text').textContent()).includes(evil), 'the question names it as text');
    assert.equal(await page.locator('dialog img, dialog script').count(), 0);
    await page.locator('dialog .danger').click();
    await until('the real session is cut', () => held.closed);
    // An answer that is under way must not come to a page that is gone.
    await page.unrouteAll({ behavior: 'wait' });
  });

  test('a feed that the operator wants slower is not called lost', async (t) => {
    const slow = await Server.start({ monitoring: { broadcast_interval: 5 } });
    const page = await browser.page();
    t.after(async () => {
      await finish(page);
      await slow.stop();
    });
    await page.goto(`${slow.url}/#token=${ADMIN}`);
    await page.locator('[data-link=live]').waitFor();
    const uptime = page.locator('.totals .figure').last().locator('.value');
    await page.evaluate(() => {
      globalThis.lost = 0;
      const look = () => {
        if (document.querySelector('[data-link=lost], .banner.bad:not([hidden])') || 'stale' in document.body.dataset) globalThis.lost += 1;
      };
      new MutationObserver(look).observe(document.body, { attributes: true, subtree: true });
    });
    // Three messages, as many as show that silence between them is no loss.
    for (let message = 0; message < 3; message += 1) {
      const was = await uptime.innerText();
      await until('the next message', async () => await uptime.innerText() !== was, 30_000);
    }
    assert.equal(await page.evaluate(() => globalThis.lost), 0);
  });

  test('a server that drains says so, and goes on serving what is live', async (t) => {
    const draining = await Server.start({ timeouts: { drain: 60 } });
    const page = await browser.page();
    t.after(async () => {
      await finish(page);
      await draining.stop();
    });
    const held = await Client.open({ port: draining.port, uuid: LOCKED.uuid, target: { host: '127.0.0.1', port: target.port } });
    await held.fetch(KB);
    await page.goto(`${draining.url}/#token=${ADMIN}`);
    await page.locator('.online-row').waitFor();
    draining.child.kill('SIGTERM');
    await page.getByText('The server is draining').waitFor();
    assert.equal((await draining.stats()).state, 'draining');
    assert.ok(await held.isServed(), 'the live session goes on');
    await page.locator('.online-row').waitFor();
    await page.screenshot({ path: join(SHOTS, 'server-draining.png') });
    held.close();
    await draining.ended;
    await page.locator('.banner.bad').waitFor();
  });

  test('a restart is survived: stale is said, then the page goes on by itself', async (t) => {
    const page = await admin(t);
    await page.locator('[data-link=live]').waitFor();
    const before = (await server.stats()).total_download_bytes;
    await server.quit();
    await page.locator('.banner.bad').waitFor();
    await server.launch();
    // The login went with the process; without one everybody on the machine may look.
    await page.locator('[data-link=live]').waitFor({ timeout: 40_000 });
    await page.locator('.banner.bad').waitFor({ state: 'hidden' });
    assert.equal(await exact(page.locator('.totals .figure').nth(2).locator('.way-value').first()), before, 'totals survive');
  });

  test('with a token set nobody looks without it, and rights differ', async (t) => {
    const closed = await Server.start({ monitoring: { token: VIEW } });
    t.after(() => closed.stop());
    const page = await browser.page();
    t.after(() => finish(page));
    await page.goto(closed.url);
    await page.locator('input[name=token]').fill('not the token');
    await page.locator('button[type=submit]').click();
    await page.getByText('This token is not the right one.').waitFor();
    await page.locator('input[name=token]').fill(VIEW);
    await page.locator('button[type=submit]').click();
    await page.getByText('View only').waitFor();
    await page.goto(`${closed.url}/#/users/${LOCKED.email}`);
    await page.getByText('This account is in the configuration file.').waitFor();
    assert.equal(await page.getByRole('button', { name: 'Show link and QR code' }).count(), 0);
    assert.ok(!(await page.locator('main').innerText()).includes(LOCKED.uuid), 'whole ids need the admin right');
    assert.equal(await page.locator('.id .button').filter({ visible: true }).count(), 0);
    // What the page does not offer, the server does not do either.
    const tried = await page.evaluate(async (email) => {
      const ask = (method, path, body) => fetch(path, { method, headers: { 'If-Match': '"0"' }, body }).then((answer) => answer.status);
      return [await ask('PATCH', `/api/users/${email}`, '{"note":"x"}'), await ask('DELETE', `/api/connections?user=${email}`), await ask('POST', '/api/reload'), await ask('GET', `/api/users/${email}/link`)];
    }, LOCKED.email);
    assert.deepEqual(tried, [403, 403, 403, 403]);
    await page.getByRole('button', { name: 'Unlock changes' }).click();
    await page.locator('dialog input[name=token]').fill(ADMIN);
    await page.locator('dialog button[type=submit]').click();
    await page.getByRole('button', { name: 'Show link and QR code' }).waitFor();
    await page.locator('.settings summary').click();
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByRole('heading', { name: 'Log in' }).waitFor();
  });
});
