// The nodes' panel before real nodes on a real engine: what it shows is what the API says, of a node that is gone, too; and
// what it orders reaches the other node.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { Browser, finish } from './support/browser.mjs';
import { ADMIN, Server, VIEW, freePort } from './support/server.mjs';
import { Client, Target } from './support/traffic.mjs';
import { until } from './support/wait.mjs';

/** Nodes say every second that they are there, and count as gone after six. */
const soon = (what, probe) => until(what, probe, 60_000);

describe('the nodes of a cluster', { timeout: 300_000 }, () => {
  /** @type {Browser} */
  let browser;
  /** @type {Target} */
  let target;
  /** @type {{ child: import('node:child_process').ChildProcess, folder: string }} */
  let engine;
  /** @type {Server[]} */
  const nodes = [];
  const clients = [];
  before(async () => {
    browser = await Browser.start();
    target = await Target.start();
    const port = await freePort();
    const folder = await mkdtemp(join(tmpdir(), 'dashboard-engine-'));
    const options = ['--bind', '127.0.0.1', '--port', String(port), '--save', '', '--appendonly', 'yes', '--dir', folder];
    engine = { child: spawn('redis-server', options, { stdio: 'ignore' }), folder };
    for (const node of ['fra-1', 'nyc-1']) {
      const cluster = { url: `redis://127.0.0.1:${port}/0`, node, interval: 1 };
      nodes.push(await Server.start({ cluster, users: [], monitoring: { token: VIEW } }));
    }
    await soon('both nodes see each other', async () => {
      const seen = await Promise.all(nodes.map((node) => node.get('/api/nodes')));
      return seen.every((one) => one.connected && one.nodes.filter((node) => node.online).length === 2);
    });
  });
  after(async () => {
    clients.forEach((client) => client.close());
    await browser?.stop();
    await Promise.all(nodes.map((node) => node.stop()));
    engine?.child.kill();
    await rm(engine.folder, { recursive: true, force: true });
    await target?.stop();
  });

  /** The panel, seen with this token on the first node. */
  async function panel(t, token) {
    const page = await browser.page({});
    t.after(() => finish(page));
    await page.goto(`${nodes[0].url}/#token=${token}`);
    const found = page.locator('.panel.nodes');
    await found.waitFor();
    return { page, found };
  }
  const cells = (found) => found.locator('tbody tr').evaluateAll((rows) => rows.map((row) => [...row.children].map((cell) => cell.innerText.trim())));

  test('every node has a row with what the API says, and who is online has the nodes of each', async (t) => {
    const { uuid } = await nodes[0].add('anna');
    await soon('the other node has the account', () => nodes[1].user('anna'));
    for (const node of nodes) clients.push(await Client.open({ port: node.port, uuid, target: { host: '127.0.0.1', port: target.port } }));
    const { page, found } = await panel(t, ADMIN);
    await soon('both rows are as the API says', async () => {
      const { nodes: said } = await nodes[0].get('/api/nodes');
      const rows = await cells(found);
      const figures = said.map((node) => [node.name, 'online', '1', node.version, String(node.accounts_version)]);
      const shown = rows.map((row) => [row[0], row[1], row[2], row[5], row[6]]);
      return said.length === 2 && JSON.stringify(shown) === JSON.stringify(figures);
    });
    assert.match(await found.locator('p').first().textContent(), /fra-1.*answers/);
    await found.locator('summary').click();
    await soon('anna is online on both', async () => {
      const text = await found.locator('.online-everywhere').textContent();
      return /anna.*fra-1: 1.*nyc-1: 1/.test(text);
    });
    assert.equal(await found.locator('.online-everywhere a').getAttribute('href'), '#/users/anna');
    await page.locator('.online-everywhere a').click();
    await page.waitForURL(/#\/users\/anna/);
  });

  test('one click reloads all nodes, for whoever may change something', async (t) => {
    const { found } = await panel(t, ADMIN);
    await found.getByRole('button', { name: 'Reload all nodes' }).click();
    await soon('the other node has reloaded', async () => (await nodes[1].stats()).last_reload?.ok === true);
    const { found: seen } = await panel(t, VIEW);
    await seen.locator('tbody tr').first().waitFor();
    assert.equal(await seen.getByRole('button', { name: 'Reload all nodes' }).count(), 0);
  });

  test('a node that is killed is shown as silent', async (t) => {
    const { found } = await panel(t, ADMIN);
    nodes[1].child.kill('SIGKILL');
    await soon('its row says so', async () => (await cells(found)).some((row) => row[0] === 'nyc-1' && row[1].startsWith('silent for')));
    const states = (await cells(found)).map((row) => row[1]);
    assert.equal(states[0], 'online');
    const { found: seen } = await panel(t, VIEW);
    await seen.locator('tbody tr').first().waitFor();
    assert.equal(await seen.getByRole('button', { name: 'Forget' }).count(), 0);
  });

  test('a node that is gone for good is taken off the list', async (t) => {
    const { page, found } = await panel(t, ADMIN);
    const forget = found.getByRole('button', { name: 'Forget: nyc-1' });
    await forget.focus();
    await page.waitForResponse((answer) => answer.url().endsWith('/api/nodes'));
    await soon('the button is stood on in the next look, too', () => forget.evaluate((one) => one === document.activeElement));
    assert.equal(await found.getByRole('button', { name: 'Forget' }).count(), 1);
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').getByRole('button', { name: 'Forget', exact: true }).click();
    await soon('it is said', async () => /nyc-1 is not listed any more/.test(await page.locator('body').textContent()));
    await soon('its row goes', async () => (await cells(found)).length === 1);
    assert.deepEqual((await nodes[0].get('/api/nodes')).nodes.map((node) => node.name), ['fra-1']);
  });

  test('without the engine the panel says that it is away, and a cut that it is one of this node', async (t) => {
    const { page, found } = await panel(t, ADMIN);
    engine.child.kill('SIGKILL');
    await soon('it says so', async () => {
      const { error } = await nodes[0].get('/api/nodes');
      return error && (await found.locator('p').first().textContent()) === error;
    });
    await page.goto(`${nodes[0].url}/#/sessions?user=anna`);
    await page.getByRole('button', { name: 'Cut these' }).click();
    await page.getByRole('button', { name: 'Cut 1 session' }).click();
    await page.getByText('1 session of anna cut here; the other nodes could not be told.').waitFor();
  });
});
