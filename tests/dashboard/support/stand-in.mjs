// A stand-in for the server, for what a real one cannot be brought to in a test: ten thousand sessions, a day of ticks
// in a minute, alerts, draining. It serves the page from static/ the way the server does, under the same policy.
//
//   node tests/dashboard/support/stand-in.mjs [PORT]     to look at the page without a server

import { createHash } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { World } from './world.mjs';

export const STATIC = join(dirname(fileURLToPath(import.meta.url)), '../../../static');
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml' };
export const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

export class StandIn {
  /** @param {{ world?: World, right?: 'none' | 'view' | 'admin', token?: string, tickMs?: number }} [options] */
  constructor({ world = new World(), right = 'admin', token = '', tickMs = 1000 } = {}) {
    Object.assign(this, { world, right, token, tickMs });
    // As if the wire were cut, and as if there were too many listeners of the feed.
    Object.assign(this, { cutOff: false, refuseFeed: false });
    // So many cuts still succeed; then the server is busy. And what is wrong with the next account, by its fields.
    this.failCutsAfter = Infinity;
    this.invalid = null;
    /** What happens just before a request is answered. @type {((request: string) => void) | null} */
    this.before = null;
    this.sockets = new Set();
    this.requests = [];
    this.server = createServer((request, response) => this.answer(request, response).catch((error) => send(response, 500, { error: { code: 'internal', message: error.message } })));
    this.server.on('upgrade', (request, socket) => this.upgrade(request, socket));
  }

  async start(port = 0) {
    this.files = await servedFiles();
    await new Promise((resolve) => this.server.listen(port, '127.0.0.1', resolve));
    this.port = this.server.address().port;
    if (this.tickMs) this.timer = setInterval(() => this.tick(), this.tickMs);
    return `http://127.0.0.1:${this.port}`;
  }

  async stop() {
    clearInterval(this.timer);
    for (const socket of this.sockets) socket.destroy();
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  /** Falls silent towards everybody, as if the wire were cut. */
  cut() {
    this.cutOff = true;
  }

  tick() {
    this.world.tick();
    if (this.cutOff) return;
    this.say('stats', this.world.stats());
  }

  say(type, payload) {
    const frame = textFrame(JSON.stringify({ type, payload }));
    for (const socket of this.sockets) socket.write(frame);
  }

  event(kind, text, { level = 'info', code = '', data = {} } = {}) {
    const event = { id: this.world.events[0].id + 1, at: this.world.now, kind, level, code, text, by: 'page', data };
    this.world.events.unshift(event);
    this.say('event', event);
  }

  upgrade(request, socket) {
    if (this.cutOff || this.refuseFeed || this.right === 'none') {
      socket.destroy();
      return;
    }
    const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
    this.sockets.add(socket);
    socket.on('close', () => this.sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    // A closing client says so with a frame of its own; the connection is then of no more use.
    socket.on('data', (data) => (data[0] & 0x0f) === 8 && socket.end());
    socket.write(textFrame(JSON.stringify({ type: 'history', payload: this.world.speedHistory() })));
    socket.write(textFrame(JSON.stringify({ type: 'stats', payload: this.world.stats() })));
  }

  async answer(request, response) {
    if (this.cutOff) {
      response.destroy();
      return;
    }
    const url = new URL(request.url, 'http://x');
    const path = decodeURIComponent(url.pathname);
    this.requests.push(`${request.method} ${path}`);
    this.before?.(`${request.method} ${path}`);
    const file = this.files.get(path);
    if (file) {
      response.writeHead(200, { 'Content-Type': file.type, 'Content-Security-Policy': POLICY, 'Cache-Control': path === '/' ? 'no-cache' : 'public, max-age=31536000, immutable' });
      response.end(file.body);
      return;
    }
    const body = await text(request);
    if (path === '/api/session') return send(response, 200, { right: this.right, login_required: Boolean(this.token), version: '0.1.0', lang_hint: null });
    if (path === '/api/login') {
      if (JSON.parse(body).token !== this.token) return send(response, 401, { error: { code: 'wrong_token', message: 'this token opens nothing here' } });
      this.right = 'admin';
      return send(response, 204);
    }
    if (path === '/api/logout') {
      this.right = 'none';
      return send(response, 204);
    }
    if (this.right === 'none') return send(response, 401, { error: { code: 'token_needed', message: 'a token is needed' } });
    this.api(request, response, path, url.searchParams, body && JSON.parse(body));
  }

  api(request, response, path, query, body) {
    const { world } = this;
    if (path === '/api/stats') return send(response, 200, world.stats());
    if (path === '/api/events') {
      const kind = query.get('kind');
      const before = Number(query.get('before') ?? Infinity);
      return send(response, 200, { events: world.events.filter((event) => (!kind || event.kind === kind) && event.id < before).slice(0, Number(query.get('limit') ?? 100)) });
    }
    if (path === '/api/history') return send(response, 200, world.history(query.get('range'), query.get('user')));
    if (path === '/api/reload') return send(response, 200, { ok: true, changes: [], changed: [], needs_restart: [] });
    if (path.startsWith('/api/connections')) return this.connections(request, response, path, query);
    if (path.startsWith('/api/users')) return this.accounts(request, response, path, body);
    send(response, 404, { error: { code: 'not_found', message: `no such path: ${path}` } });
  }

  connections(request, response, path, query) {
    const { world } = this;
    const id = path.split('/')[3];
    const fits = (one) => (!id || one.id === id) && (!query.get('user') || one.user === query.get('user'))
      && (!query.get('source') || one.client.startsWith(query.get('source'))) && (!query.get('target') || one.target.includes(query.get('target')));
    const found = world.sessions.filter(fits);
    if (request.method === 'DELETE') {
      if (this.failCutsAfter <= 0) return send(response, 503, { error: { code: 'busy', message: 'the server has too much to do; try again' } });
      this.failCutsAfter -= 1;
      world.sessions = world.sessions.filter((one) => !fits(one));
      return send(response, 200, { cut: found.length, took_ms: 12 });
    }
    const from = query.get('after') ? found.findIndex((one) => one.id === query.get('after')) + 1 : 0;
    const page = found.slice(from, from + Number(query.get('limit') ?? 100));
    const next = from + page.length < found.length ? page.at(-1).id : null;
    send(response, 200, { total: found.length, connections: page.map(({ began, ...one }) => ({ ...one, age_seconds: world.now - began })), next });
  }

  accounts(request, response, path, body) {
    const { world } = this;
    const [, , , email, action] = path.split('/');
    const user = world.users.find((one) => one.email === email);
    if (email && !user) return send(response, 404, { error: { code: 'not_found', message: 'no such user' } });
    if (action === 'link') return send(response, 200, { link: `vless://${user.uuid}@vpn.example.com:443?security=tls#${email}`, formats: { xray: '{}', 'sing-box': '{}', mihomo: '' } });
    if (action === 'qr.svg') {
      response.writeHead(200, { 'Content-Type': 'image/svg+xml' });
      response.end('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><path d="M1 1h3v3h-3zM6 1h3v3h-3zM1 6h3v3h-3zM5 5h1v1h-1zM7 7h2v2h-2z"/></svg>');
      return undefined;
    }
    if (request.method === 'GET') return send(response, 200, { revision: world.revision, users: world.users });
    if (request.headers['if-match'] !== `"${world.revision}"`) {
      return send(response, 412, { error: { code: 'stale', message: 'somebody was faster' }, revision: world.revision, current: user ?? null });
    }
    if (this.invalid) return send(response, 422, { error: { code: 'invalid', message: 'no' }, fields: this.invalid });
    if (!email && world.byName.has(body.email)) return send(response, 409, { error: { code: 'exists', message: `there is a user "${body.email}" already` } });
    world.revision += 1;
    if (request.method === 'DELETE') world.users = world.users.filter((one) => one !== user);
    else if (request.method === 'PATCH') Object.assign(user, body, { limits: { ...user.limits, ...body.limits } });
    else if (!email) {
      world.users.push({ ...world.user(999), email: body.email, note: body.note ?? '', quota_bytes: 0 });
      world.byName.set(body.email, world.users.at(-1));
    }
    const code = request.method === 'DELETE' ? 'user_removed' : email ? 'user_changed' : 'user_added';
    this.event('user', `user ${email ?? body.email}`, { code, data: { user: email ?? body.email, keys: Object.keys(body?.limits ?? body ?? {}) } });
    send(response, email ? 200 : 201, email ? user : world.users.at(-1));
  }
}

/** The files as the server serves them: below one hash of all, which index.html names. */
async function servedFiles() {
  const names = (await readdir(STATIC, { recursive: true })).filter((name) => extname(name) in TYPES).sort();
  const bodies = await Promise.all(names.map((name) => readFile(join(STATIC, name))));
  const hash = createHash('sha256');
  bodies.forEach((body) => hash.update(body));
  const base = `/static/${hash.digest('hex').slice(0, 12)}/`;
  const files = new Map();
  names.forEach((name, index) => {
    const type = TYPES[extname(name)];
    if (name === 'index.html') files.set('/', { type, body: bodies[index].toString().replaceAll('/static/', base) });
    else files.set(base + name, { type, body: bodies[index] });
  });
  return files;
}

function send(response, status, body) {
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}

async function text(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

/** An unmasked text frame, as servers send it. */
function textFrame(message) {
  const body = Buffer.from(message);
  const head = body.length < 126 ? Buffer.from([0x81, body.length]) : body.length < 65_536 ? Buffer.from([0x81, 126, 0, 0]) : Buffer.from([0x81, 127, 0, 0, 0, 0, 0, 0, 0, 0]);
  if (head.length === 4) head.writeUInt16BE(body.length, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(body.length), 2);
  return Buffer.concat([head, body]);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const standIn = new StandIn();
  console.log(await standIn.start(Number(process.argv[2] ?? 9191)));
}
