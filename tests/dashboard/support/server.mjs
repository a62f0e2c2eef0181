// The real server in a folder of its own, and an API client that is not the page's.

import { spawn, spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

import { ROOT } from './tools.mjs';
import { until } from './wait.mjs';

/** What is below is often taken by services of the machine. */
const LOWEST_PORT = 10_000;
/** Less room than this does not keep test files that run side by side apart. */
const FEWEST_PORTS = 1_000;

export const BINARY = resolve(ROOT, process.env.SERVER ?? 'target/release/vless-rust');
export const ADMIN = 'admin-token-of-a-test-0123456789';
export const VIEW = 'view-token-of-a-test-0123456789';
/** Accounts in the configuration file, and therefore locked: one for everything, one to be cut, one with a wicked name. */
export const LOCKED = { uuid: '5783a3e7-e373-51cd-8642-c83782b807c5', email: 'file-user', note: 'laptop' };
export const CUT = { uuid: 'a1cb11f1-0c6e-5ec2-99aa-48ca3cc1a35e', email: 'cutter' };
export const EVIL = { uuid: '0c1f2c9e-6b1b-4c0f-9a55-3d9f4d1e2a77', email: '<img src=x onerror=alert(1)>"\'&/', note: '<script>alert(2)</script>{n}|' };

export class Server {
  /** @param {Record<string, any>} [more] sections that override those below */
  static async start(more = {}) {
    const server = new Server();
    server.folder = await mkdtemp(join(tmpdir(), 'dashboard-'));
    server.port = await freePort();
    server.apiPort = await freePort();
    const { monitoring, users, ...others } = more;
    server.config = {
      server: { listen: '127.0.0.1', port: server.port, public_ip: '127.0.0.1' },
      users: users ?? [LOCKED, CUT, EVIL],
      monitoring: { port: server.apiPort, admin_token: ADMIN, ...monitoring },
      outbound: { allow: ['127.0.0.0/8', '::1/128'] },
      timeouts: { drain: 1 },
      log: { level: 'info' },
      ...others,
    };
    await server.writeConfig();
    await server.launch();
    return server;
  }

  /**
   * As a newcomer gets one: `vless-rust init` in an empty folder, then `run`. The answers keep ports of other servers free;
   * the one thing added afterwards is that clients may reach this machine, because that is where the test's target is.
   * @returns {Promise<{ server: Server, said: string, address: string }>} what `init` said, and the page's address in it
   */
  static async firstRun() {
    const server = new Server();
    server.folder = await mkdtemp(join(tmpdir(), 'dashboard-first-'));
    server.port = await freePort();
    server.apiPort = await freePort();
    await writeFile(join(server.folder, 'answers'), `listen = 127.0.0.1\nport = ${server.port}\npublic_address = 127.0.0.1\nmonitoring_port = ${server.apiPort}\n`);
    const init = spawnSync(BINARY, ['init', '--answers', 'answers', '--lang', 'en'], { cwd: server.folder, encoding: 'utf8' });
    const said = init.stdout + init.stderr;
    const address = /http:\/\/\S+#token=\S+/.exec(said)?.[0];
    if (init.status !== 0 || !address) throw new Error(`init: ${init.status} ${said}`);
    server.config = JSON.parse(await readFile(join(server.folder, 'config.json'), 'utf8'));
    server.config.outbound = { ...server.config.outbound, allow: ['127.0.0.0/8'] };
    await server.writeConfig();
    await server.launch();
    return { server, said, address };
  }

  writeConfig() {
    return writeFile(join(this.folder, 'config.json'), JSON.stringify(this.config), { mode: 0o600 });
  }

  async launch() {
    this.log = '';
    const child = spawn(BINARY, ['run', '-c', 'config.json'], { cwd: this.folder, stdio: ['ignore', 'pipe', 'pipe'] });
    this.child = child;
    this.ended = new Promise((end) => {
      child.on('exit', end);
      child.on('error', (error) => {
        this.log += error.message;
        end(undefined);
      });
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => {
        this.log += data;
      });
    }
    await until(`the server answers; it said: ${this.log}`, () => this.get('/readyz')).catch((error) => {
      throw new Error(`${error.message}\n${this.log}`);
    });
  }

  get url() {
    return `http://127.0.0.1:${this.apiPort}`;
  }

  /** Ends the process in order. */
  async quit() {
    this.child.kill('SIGTERM');
    const killer = setTimeout(() => this.child.kill('SIGKILL'), 10_000);
    await this.ended;
    clearTimeout(killer);
  }

  async stop() {
    await this.quit();
    await rm(this.folder, { recursive: true, force: true });
  }

  /** What the API answers, by the admin token. */
  async call(method, path, { body, revision, token = this.config.monitoring.admin_token } = {}) {
    const headers = { ...(token ? { Authorization: `Bearer ${token}` } : {}), ...(revision === undefined ? {} : { 'If-Match': `"${revision}"` }) };
    const response = await fetch(this.url + path, { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(10_000) });
    const text = await response.text();
    const type = response.headers.get('content-type') ?? '';
    if (!response.ok) throw Object.assign(new Error(`${method} ${path}: ${response.status} ${text}`), { status: response.status });
    return type.includes('json') && text ? JSON.parse(text) : text;
  }

  get(path) {
    return this.call('GET', path);
  }

  stats() {
    return this.get('/api/stats');
  }

  async user(email) {
    const { users } = await this.get('/api/users');
    return users.find((user) => user.email === email);
  }

  async add(email, more = {}) {
    const { revision } = await this.get('/api/users');
    return this.call('POST', '/api/users', { body: { email, ...more }, revision });
  }
}

let given = 0;

/**
 * A port nobody listens on. A port that the kernel chose once it may choose again, for any connection that goes out. It
 * chooses from one range only, so a port below that stays free until its use.
 */
export async function freePort() {
  const range = await readFile('/proc/sys/net/ipv4/ip_local_port_range', 'utf8');
  const room = Number.parseInt(range, 10) - LOWEST_PORT;
  if (room < FEWEST_PORTS) return portOf(0);
  // Test files run side by side, in processes with ids next to each other; 7919 is a prime number.
  for (let tries = 0; tries < room; tries += 1) {
    const port = await portOf(LOWEST_PORT + ((process.pid * 7919 + given++) % room)).catch(() => 0);
    if (port !== 0) return port;
  }
  throw new Error('no port is free');
}

/**
 * @param {number} port
 * @returns {Promise<number>} the port, or the kernel's choice for 0; rejected when somebody listens there
 */
async function portOf(port) {
  const server = createServer();
  await new Promise((listening, taken) => server.once('error', taken).listen(port, '127.0.0.1', listening));
  const bound = server.address().port;
  await new Promise((closed) => server.close(closed));
  return bound;
}
