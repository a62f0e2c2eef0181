// The way of a new operator: first run, open the page, add a user, scan the QR code with a decoder that is not ours,
// connect a real client with it, watch it, limit it, cut it, remove it. Each step says what was seen.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { Browser, finish } from './support/browser.mjs';
import { Server } from './support/server.mjs';
import { SingBox } from './support/sing-box.mjs';
import { PNG, TARGET, jsQR } from './support/tools.mjs';
import { Target } from './support/traffic.mjs';
import { until } from './support/wait.mjs';

const SHOTS = join(TARGET, 'shots');
const MB = 1024 ** 2;

test('a new operator gets a client connected, watches it and ends it', { timeout: 180_000 }, async (t) => {
  mkdirSync(SHOTS, { recursive: true });
  const target = await Target.start();
  const { server, said, address } = await Server.firstRun();
  const browser = await Browser.start();
  const page = await browser.page();
  t.after(async () => {
    await browser.stop();
    await server.stop();
    await target.stop();
  });
  let step = 0;
  const saw = async (what) => {
    step += 1;
    await page.screenshot({ path: join(SHOTS, `walk-${step}.png`) });
    console.log(`    ${step}. ${what}`);
  };

  console.log(`    0. vless-rust init said: "${said.split('\n').filter((line) => /page|written|link/i.test(line)).map((line) => line.trim()).join(' / ')}"`);
  await page.goto(address);
  await page.getByText('Nobody is online').waitFor();
  assert.ok(!page.url().includes('token'), 'the token does not stay in the address');
  await page.getByText('Self-signed').waitFor();
  await saw(`the page: "${await page.locator('.online .empty-title').innerText()}", certificate "${await page.locator('.certificate .muted').first().innerText()}"`);

  await page.goto(`${server.url}/#/users`);
  await page.getByRole('button', { name: 'Add user' }).click();
  await page.locator('dialog input[name=email]').fill('ann');
  await page.locator('dialog button[type=submit]').click();
  await page.locator('.qr').waitFor();
  await saw('added "ann" by her name alone; her page opens with QR code and link');

  const image = PNG.sync.read(await page.locator('.qr').screenshot());
  const code = jsQR(new Uint8ClampedArray(image.data), image.width, image.height);
  assert.ok(code, 'the QR code can be read');
  assert.equal(code.data, await page.locator('.copy-text').innerText());
  assert.match(code.data, /pcs=[0-9a-f]{64}/, 'the link pins the self-signed certificate');
  await saw(`the QR code reads ${code.data.replace(/\/\/[^@]+@/, '//…@')}`);

  const singBox = await SingBox.start(code.data, server.folder);
  t.after(() => singBox.stop());
  const connection = await singBox.open(target.port);
  connection.socket.write(`${4 * MB}\n`);
  await until('4 MB came through', () => connection.received === 4 * MB).catch((error) => {
    throw new Error(`${error.message}; sing-box said: ${singBox.said}`);
  });
  await page.locator('.user-title .state[data-state=online]').waitFor();
  const total = page.locator('.use .figures-row .figure').nth(2).locator('.value');
  await until('her total is shown', async () => Number((await total.getAttribute('title')).replaceAll(/\D/g, '')) >= 4 * MB);
  await page.locator('.user-sessions tbody tr:not(.spacer)').waitFor();
  const past = page.locator('.traffic .value').first();
  await page.getByRole('button', { name: '1 h' }).click();
  await until('the hour has it', async () => Number(((await past.getAttribute('title')) ?? '').replaceAll(/\D/g, '')) >= 4 * MB);
  await saw(`sing-box is connected: ann is "${await page.locator('.user-title .state').innerText()}", total ${await total.innerText()}, session "${await page.locator('.user-sessions tbody tr:not(.spacer)').innerText()}"`.replaceAll(/\s+/g, ' '));

  await page.getByRole('button', { name: 'Edit' }).click();
  await page.locator('dialog [name=quota_bytes]').fill('0.0045');
  await page.locator('dialog button[type=submit]').click();
  await page.getByText('Saved: ann.').waitFor();
  await page.getByText(/full on|no forecast|lasts until/).waitFor();
  await saw(`limited: quota ${await page.locator('.limits .meter-value').innerText()}, "${await page.locator('.limits .forecast').innerText()}"`);

  await page.getByRole('button', { name: 'Cut these' }).click();
  await page.locator('dialog .danger').click();
  const notice = page.getByText(/sessions? of ann cut in/);
  await notice.waitFor();
  await until('the client notices', () => connection.closed);
  await saw(`cut: "${await notice.innerText()}"`);

  const again = await singBox.open(target.port);
  again.socket.write(`${8 * MB}\n`);
  await until('the quota ends it', () => again.closed);
  await page.locator('.user-title .state[data-state=quota_used]').waitFor();
  await saw(`connected again and used up: after ${(again.received / MB).toFixed(2)} MB more she is "${await page.locator('.user-title .state').innerText()}"`);

  await page.getByRole('button', { name: 'Remove', exact: true }).click();
  await page.getByRole('button', { name: 'Undo' }).waitFor();
  await page.getByText('ann was removed.').waitFor({ timeout: 20_000 });
  assert.equal(await server.user('ann'), undefined);
  await saw('removed after ten seconds in which it could be undone');
  await finish(page);
});
