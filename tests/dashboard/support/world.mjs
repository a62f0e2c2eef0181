// A made-up server's figures: as many users and sessions as a test wants, in the shapes of the API. Seeded, so that two
// runs see the same.

const MB = 1024 ** 2;
const GB = 1024 ** 3;
const DAY = 86_400;

/** Names that people could have; the notes are what an operator would remember them by. */
const PEOPLE = [
  ['ann', 'laptop and phone'], ['ben', ''], ['chen.wei', '办公室'], ['dora', 'pays in March'], ['emil', 'guest'], ['fatima', ''],
  ['george', 'router in the attic'], ['hana', ''], ['ivan', 'old link, renew'], ['office', 'shared by the second floor'],
];
const TARGETS = ['www.example.com:443', 'cdn.example.net:443', '198.51.100.20:443', 'mail.example.org:993', '[2001:db8::5]:443', 'dns.example:853'];
const MODES = ['splice', 'direct', 'tls', 'udp', 'vision', 'mux'];

export class World {
  /** @param {{ users?: number, sessions?: number, seed?: number, now?: number }} [options] */
  constructor({ users = 10, sessions = 24, seed = 7, now = Math.floor(Date.now() / 1000) } = {}) {
    this.random = generator(seed);
    this.startedAt = now - 3 * DAY - 4 * 3600;
    this.now = now;
    this.revision = 41;
    this.users = Array.from({ length: users }, (_, index) => this.user(index));
    this.sessions = users ? Array.from({ length: sessions }, (_, index) => this.session(index)) : [];
    this.alerts = [];
    this.rejected = { unknown_user: 212, tls_failed: 37, handshake_timeout: 19, policy_refused: 4 };
    this.state = 'serving';
    this.live = Array.from({ length: 60 }, (_, index) => this.speeds(now - 60 + index));
    this.events = this.makeEvents();
    this.lastReload = { at: now - 5400, ok: true, changes: ['users +1 -0', 'certificate replaced'], error: null };
  }

  user(index) {
    const [name, note] = index < PEOPLE.length ? PEOPLE[index] : [`user-${String(index).padStart(4, '0')}`, ''];
    const quota = [0, 50 * GB, 20 * GB, 0, 5 * GB][index % 5];
    const used = quota ? Math.floor(quota * [0.4, 0.93, 0.62, 0.2, 1][index % 5]) : 0;
    const total = Math.floor((1 + this.random() * 80) * GB);
    return {
      uuid: `${(0x5783a3e7 + index * 7919).toString(16)}-e373-51cd-8642-c83782b807c5`, email: name, note, enabled: index !== 7,
      state: index === 7 ? 'disabled' : quota && used >= quota ? 'quota_used' : 'active', locked: index === 9,
      flow: index === 5 ? '' : 'xtls-rprx-vision', created_at: this.now - 90 * DAY,
      total_upload_bytes: Math.floor(total / 9), total_download_bytes: total, today_bytes: Math.floor(total / 60), month_bytes: Math.floor(total / 4),
      quota_bytes: quota, quota_used_bytes: used, quota_period: index % 2 ? 'month' : 'none', quota_resets_at: quota && index % 2 ? this.now + 11 * DAY : null,
      expires_at: index === 4 ? this.now + 3 * DAY : index === 3 ? this.now + 200 * DAY : null, last_seen_at: index % 3 ? this.now - index * 7000 : null, first_seen_at: this.now - 60 * DAY,
      limits: {
        quota_bytes: quota, quota_period: index % 2 ? 'month' : 'none', quota_day: 1, expires_at: index === 4 ? iso(this.now + 3 * DAY) : null, expires_after_days: 0,
        addresses_max: index === 2 ? 3 : 0, sessions_max: 0, up_bytes_per_second_max: 0, down_bytes_per_second_max: index === 1 ? 2 * MB : 0,
      },
    };
  }

  session(index) {
    const able = this.users.filter((user) => user.state === 'active');
    const user = able[Math.floor(this.random() ** 2 * Math.min(able.length, 600))] ?? this.users[0];
    const at = this.users.indexOf(user);
    const mode = MODES[Math.floor(this.random() ** 2 * MODES.length)];
    return {
      id: `${index % 2}-${index}-1`, user: user.email, client: `203.0.${113 + (at >> 8)}.${1 + (at % 250)}:${40_000 + (index % 20_000)}`, target: TARGETS[index % TARGETS.length],
      flow: 'xtls-rprx-vision', state: 'relaying', mode, upload_bytes: Math.floor(this.random() * 9 * MB), download_bytes: Math.floor(this.random() ** 4 * 3 * GB),
      began: this.now - Math.floor(this.random() ** 3 * 20_000),
    };
  }

  speeds(at) {
    const wave = 1 + Math.sin(at / 9) * 0.35 + Math.sin(at / 3.1) * 0.18;
    const busy = Math.min(1, this.sessions?.length ?? 1);
    return { at, up: Math.floor(busy * wave * 0.62 * MB * (0.8 + this.random() * 0.4)), down: Math.floor(busy * wave * 7.4 * MB * (0.85 + this.random() * 0.3)) };
  }

  makeEvents() {
    const list = [
      ['start', 'info', 'Listening on 0.0.0.0:443', 'server', 273_600], ['user', 'info', 'dora added', 'command', 90_000],
      ['auth', 'warn', 'Wrong token from 127.0.0.1', 'address', 70_000], ['certificate', 'info', 'Certificate of vpn.example.com replaced, valid until 20 Feb', 'server', 5_400],
      ['reload', 'info', 'Reloaded: users +1 -0, certificate replaced', 'command', 5_400], ['limit', 'warn', 'emil has used his quota of 5.00 GB', 'server', 3_100],
      ['cut', 'info', '3 sessions of ivan cut', 'page', 1_200], ['user', 'info', 'ann: quota 20.0 GB', 'page', 240],
    ];
    return list.map(([kind, level, text, by, ago], index) => ({ id: index + 1, at: this.now - ago, kind, level, text, by, data: {} })).reverse();
  }

  /** One second passes. */
  tick() {
    this.now += 1;
    this.live = [...this.live.slice(-59), this.speeds(this.now)];
    const speed = this.live.at(-1);
    for (const session of this.sessions) {
      session.download_bytes += Math.floor((speed.down / this.sessions.length) * this.random() * 2);
      session.upload_bytes += Math.floor((speed.up / this.sessions.length) * this.random() * 2);
    }
  }

  stats() {
    const speed = this.live.at(-1);
    /** @type {Map<string, any[]>} */
    const of = new Map();
    for (const session of this.sessions) of.set(session.user, [...(of.get(session.user) ?? []), session]);
    const share = 1 / Math.max(1, this.sessions.length);
    const users = this.users.map((user) => {
      const sessions = of.get(user.email) ?? [];
      const addresses = [...new Set(sessions.map((one) => one.client.split(':')[0]))];
      return {
        ...user, uuid: user.uuid.slice(0, 8), active_connections: sessions.length, online: sessions.length > 0, addresses,
        upload_bps: Math.floor(speed.up * share * sessions.length), download_bps: Math.floor(speed.down * share * sessions.length),
        upload_speed: '', download_speed: '', total_traffic: '',
      };
    });
    const sum = (key) => this.users.reduce((all, user) => all + user[key], 0);
    const [up, down] = [sum('total_upload_bytes'), sum('total_download_bytes')];
    return {
      upload_speed: '', upload_bps: speed.up, download_speed: '', download_bps: speed.down, total_traffic: '', total_upload_bytes: up, total_download_bytes: down,
      today: { upload_bytes: Math.floor(up / 50), download_bytes: Math.floor(down / 50) }, month: { upload_bytes: Math.floor(up / 4), download_bytes: Math.floor(down / 4) },
      lifetime: { upload_bytes: up, download_bytes: down }, ...this.extremes(),
      uptime: '', uptime_seconds: this.now - this.startedAt, started_at: this.startedAt, now: this.now, version: '0.1.0', state: this.state,
      memory_usage: '', memory_bytes: 21 * MB + this.sessions.length * 3000, total_memory: '', total_memory_bytes: 1 * GB, cpu_percent: 6.4, cpu_seconds: 512.2, threads: 4,
      descriptors: { open: 60 + this.sessions.length * 2, limit: 65_536 }, turn: { p50_us: 38, p99_us: 410, max_us: 2300 },
      active_connections: this.sessions.length, max_connections: 32_000, opened_total: 18_233, rejected: this.rejected, closed: { finished: 18_000 },
      users_online: users.filter((one) => one.online).length, users,
      connection_pool: {
        total_created: 4212, total_reused: 3110, total_closed: 240, current_active: this.sessions.length, current_idle: 9, cache_hits: 3110, cache_misses: 611, hit_rate: 83.58,
        connect_time_with_us: 45, connect_time_without_us: 23_400,
      },
      memory_pool: {
        small_pool: tier(4096, 6, 40, 90_412, 90_100), medium_pool: tier(65_536, 3, 22, 30_210, 30_020), large_pool: tier(131_072, 0, 9, 400, 260), waits: 0, waiting: 0, held_bytes: 221_184,
      },
      xtls_vision: { sessions_direct_up: 14_020, sessions_direct_down: 14_911, spliced_bytes: Math.floor(down * 0.72), copied_bytes: Math.floor(down * 0.06), tls_bytes: Math.floor(down * 0.22), padding_bytes: 61 * MB },
      certificates: [{ names: ['vpn.example.com'], issuer: 'Example CA R3', self_signed: false, not_after: this.now + 61 * DAY, days_left: 61, pin_sha256: '9f2c3b5d0a7e41c86f1d92ab33e07c5418b6d0f97a2ce5134408dd91e6b7a350' }],
      alerts: this.alerts, last_reload: this.lastReload,
    };
  }

  /** Over the last minute, as the server keeps them. */
  extremes() {
    const of = (key) => this.live.map((one) => one[key]);
    const most = (key) => Math.max(...of(key));
    const mean = (key) => Math.floor(of(key).reduce((all, one) => all + one, 0) / this.live.length);
    return {
      peak: { upload_bps: most('up'), download_bps: most('down'), at: this.now },
      average: { upload_bps: mean('up'), download_bps: mean('down') },
    };
  }

  speedHistory() {
    return {
      history: this.live.map((one) => ({ timestamp: String(one.at - this.startedAt), at: one.at, upload_speed: '', download_speed: '', upload_bps: one.up, download_bps: one.down })),
      duration_seconds: 60,
    };
  }

  history(range, user) {
    const [seconds, step] = { '1h': [3600, 60], '24h': [DAY, 300], '30d': [30 * DAY, 3600], '1y': [365 * DAY, DAY] }[range];
    const random = generator(seconds + (user?.length ?? 0));
    const points = [];
    for (let at = this.now - seconds - ((this.now - seconds) % step); at < this.now; at += step) {
      // The server was off for a while.
      if (at > this.now - seconds * 0.62 && at < this.now - seconds * 0.58) continue;
      const ofDay = (at % DAY) / DAY;
      const down = step * 5 * MB * (0.4 + Math.sin(ofDay * 6.28 - 1.6) * 0.3 + random() * 0.25) * (user ? 0.1 : 1);
      points.push({ at, upload_bytes: Math.floor(down / 8), download_bytes: Math.floor(down), upload_peak_bps: Math.floor(down / step / 4), download_peak_bps: Math.floor((down / step) * 2.4) });
    }
    const most = (key) => Math.max(...points.map((one) => one[key]));
    const mean = (key) => Math.floor(points.reduce((all, one) => all + one[key], 0) / points.length / step);
    return {
      range, step_seconds: step, points, peak: { upload_bps: most('upload_peak_bps'), download_bps: most('download_peak_bps'), at: this.now - 100 },
      average: { upload_bps: mean('upload_bytes'), download_bps: mean('download_bytes') },
    };
  }
}

function tier(size, used, peak, hits, misses) {
  return { buffer_size: size, current_size: used, peak_size: peak, total_allocated: hits + 320, total_returned: hits + 320 - used, hits: misses, misses: hits - misses, idle: 16, bytes: (used + 16) * size };
}

const iso = (at) => new Date(at * 1000).toISOString().replace('.000Z', 'Z');

/** A small generator of numbers from 0 to 1 (mulberry32). */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
