// Real traffic: a target that answers with as many bytes as it is asked for, and a VLESS client written from the wire
// format, so that the page's figures can be compared with bytes that somebody else counted.

import { connect, createServer } from 'node:net';

/** A target: a line `N\n` is answered with N bytes; whatever else comes in is swallowed. */
export class Target {
  static async start() {
    const target = new Target();
    target.sockets = new Set();
    target.server = createServer((socket) => {
      target.sockets.add(socket);
      socket.on('close', () => target.sockets.delete(socket));
      socket.on('error', () => socket.destroy());
      let line = '';
      socket.on('data', (data) => {
        line += data.toString('latin1');
        for (let end = line.indexOf('\n'); end >= 0; end = line.indexOf('\n')) {
          const wanted = Number(line.slice(0, end));
          line = line.slice(end + 1);
          if (wanted > 0) socket.write(Buffer.alloc(wanted));
        }
      });
    });
    // Thousands may connect at once, and on a busy machine wait longer than a dial may take.
    await new Promise((listening) => target.server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, listening));
    target.port = target.server.address().port;
    return target;
  }

  async stop() {
    for (const socket of this.sockets) socket.destroy();
    await new Promise((closed) => this.server.close(closed));
  }
}

/** One VLESS connection without TLS; counts what passes as payload. */
export class Client {
  /**
   * @param {{ port: number, uuid: string, target: { host: string, port: number }, from?: string }} options `from` is the
   *   address that the server sees
   */
  static async open({ port, uuid, target, from = '127.0.0.1' }) {
    const client = new Client();
    client.sent = 0;
    client.received = 0;
    client.head = 2;
    client.closed = false;
    client.socket = connect({ port, host: '127.0.0.1', localAddress: from });
    client.socket.on('error', () => {});
    client.socket.on('close', () => {
      client.closed = true;
      client.wake?.();
    });
    client.socket.on('data', (data) => {
      // The response's head: version and an empty list of additions.
      const skipped = Math.min(client.head, data.length);
      client.head -= skipped;
      client.received += data.length - skipped;
      client.wake?.();
    });
    await new Promise((connected, failed) => {
      client.socket.once('connect', connected);
      client.socket.once('error', failed);
    });
    client.socket.write(requestHead(uuid, target));
    return client;
  }

  /** Sends a wish of so many bytes and waits until they have come. */
  async fetch(bytes, ms = 10_000) {
    const wish = `${bytes}\n`;
    const until = this.received + bytes;
    this.sent += wish.length;
    this.socket.write(wish);
    const deadline = setTimeout(() => this.socket.destroy(new Error('deadline')), ms);
    while (this.received < until && !this.closed) {
      await new Promise((wake) => {
        this.wake = wake;
      });
    }
    clearTimeout(deadline);
    if (this.received < until) throw new Error(`closed after ${this.received} of ${until} bytes`);
  }

  /** Whether the server serves this client: a byte comes back. */
  async isServed() {
    return this.fetch(1).then(() => true, () => false);
  }

  close() {
    this.socket.destroy();
  }
}

/** VLESS version 0: id, no additions, command TCP, port, name or IPv4 address. */
function requestHead(uuid, { host, port }) {
  const id = Buffer.from(uuid.replaceAll('-', ''), 'hex');
  const isAddress = /^\d+(\.\d+){3}$/.test(host);
  const address = isAddress ? Buffer.from([1, ...host.split('.').map(Number)]) : Buffer.concat([Buffer.from([2, Buffer.byteLength(host)]), Buffer.from(host)]);
  return Buffer.concat([Buffer.from([0]), id, Buffer.from([0, 1, port >> 8, port & 0xff]), address]);
}
