// A made-up server's figures: as many users and sessions as a test wants, in the shapes of the API. Seeded, so that two
// runs see the same. The figures agree with each other as a real server's do: what users used today, this month and at
// all adds up to the server's sums and is what history shows; sessions carried no more than their user; a quota's use is
// that of its period.

const KB = 1024;
const MB = 1024 ** 2;
const GB = 1024 ** 3;
const DAY = 86_400;
const UP_SHARE = 0.11;

/**
 * Names that people could have, with notes that an operator would remember them by; `quota`, `month` and `total` in GB,
 * days to the expiry.
 */
const PEOPLE = [
  { name: 'ann', note: 'laptop and phone', quota: 200, period: 'month', month: 118, total: 402 },
  { name: 'ben', note: 'router in the attic', quota: 100, period: 'month', month: 93, total: 268, down: 5 * MB },
  { name: 'chen.wei', note: '办公室', quota: 300, period: 'none', month: 81, total: 186, addresses: 3 },
  { name: 'dora', note: 'pays in March', month: 64, total: 240, expires: 130 },
  { name: 'emil', note: 'guest', quota: 5, period: 'none', month: 5, total: 5, expires: 3 },
  { name: 'fatima', note: '', month: 71, total: 255 },
  { name: 'george', note: '', quota: 50, period: 'month', month: 14, total: 61, sessions: 40 },
  { name: 'hana', note: 'moved away', month: 0, total: 38, disabled: true },
  { name: 'ivan', note: 'old link, renew', quota: 150, period: 'month', month: 46, total: 120 },
  { name: 'office', note: 'shared by the second floor', month: 97, total: 344, locked: true },
];
const TARGETS = ['www.example.com:443', 'cdn.example.net:443', '198.51.100.20:443', 'mail.example.org:993', '[2001:db8::5]:443', 'dns.example:853'];
const MODES = ['splice', 'direct', 'tls', 'udp', 'vision', 'mux'];
const REJECTED = { unknown_user: 212, tls_failed: 37, handshake_timeout: 19, user_sessions_limit: 6, policy_refused: 4 };
const ENDED = { finished: 17_204, client_reset: 481, target_reset: 122, idle: 64, quota_used: 3, cut: 3 };

export class World {
  /** @param {{ users?: number, sessions?: number, seed?: number, now?: number }} [options] */
  constructor({ users = 10, sessions = 24, seed = 7, now = Math.floor(Date.now() / 1000) } = {}) {
    this.random = generator(seed);
    this.startedAt = now - 3 * DAY - 4 * 3600;
    this.now = now;
    this.revision = 41;
    this.users = Array.from({ length: users }, (_, index) => this.user(index));
    this.byName = new Map(this.users.map((user) => [user.email, user]));
    this.sessions = users ? Array.from({ length: sessions }, (_, index) => this.session(index)) : [];
    this.shareOut();
    this.alerts = [];
    this.rejected = { ...REJECTED };
    this.closed = { ...ENDED };
    this.state = 'serving';
    this.live = Array.from({ length: 60 }, (_, index) => this.speeds(now - 60 + index));
    this.events = this.makeEvents();
    this.lastReload = {
      at: now - 5400, ok: true, changes: ['users +1 -0', 'certificate replaced'], changed: RELOADED, needs_restart: [], error: null,
    };
  }

  user(index) {
    const person = PEOPLE[index] ?? { name: `user-${String(index).padStart(4, '0')}`, note: '', month: 4 + this.random() * 9, total: 20 + this.random() * 30 };
    const { quota = 0, period = 'none', expires, disabled = false } = person;
    const [total, month] = [Math.floor(person.total * GB), Math.floor(person.month * GB)];
    const used = quota ? (period === 'month' ? month : total) : 0;
    const monthBegan = startOfMonth(this.now);
    // About one day's part of the month so far.
    const today = Math.floor((month / Math.max(1, (this.now - monthBegan) / DAY)) * (0.55 + this.random() * 0.2));
    const upload = Math.floor(total * UP_SHARE);
    return {
      uuid: `${(0x5783a3e7 + index * 7919).toString(16)}-e373-51cd-8642-c83782b807c5`, email: person.name, note: person.note, enabled: !disabled,
      state: disabled ? 'disabled' : quota && used >= quota * GB ? 'quota_used' : 'active', locked: Boolean(person.locked),
      flow: index === 5 ? '' : 'xtls-rprx-vision', created_at: this.now - 90 * DAY,
      total_upload_bytes: upload, total_download_bytes: total - upload, today_bytes: today, month_bytes: month,
      quota_bytes: quota * GB, quota_used_bytes: used, quota_period: period, quota_resets_at: quota && period === 'month' ? startOfMonth(this.now, 1) : null,
      expires_at: expires ? this.now + expires * DAY : null, last_seen_at: disabled ? this.now - 41 * DAY : this.now - 600 - index * 2900, first_seen_at: this.now - 89 * DAY,
      limits: {
        quota_bytes: quota * GB, quota_period: period, quota_day: 1, expires_at: expires ? iso(this.now + expires * DAY) : null, expires_after_days: 0,
        addresses_max: person.addresses ?? 0, sessions_max: person.sessions ?? 0, up_bytes_per_second_max: 0, down_bytes_per_second_max: person.down ?? 0,
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

  /** Nobody's live sessions carried more than four fifths of what he used today. */
  shareOut() {
    const carried = new Map();
    for (const one of this.sessions) carried.set(one.user, (carried.get(one.user) ?? 0) + one.upload_bytes + one.download_bytes);
    for (const one of this.sessions) {
      const scale = Math.min(1, (this.byName.get(one.user).today_bytes * 0.8) / carried.get(one.user));
      one.upload_bytes = Math.floor(one.upload_bytes * scale);
      one.download_bytes = Math.floor(one.download_bytes * scale);
      this.byName.get(one.user).last_seen_at = this.now;
    }
  }

  speeds(at) {
    const wave = 1 + Math.sin(at / 9) * 0.35 + Math.sin(at / 3.1) * 0.18;
    const busy = Math.min(1, this.sessions?.length ?? 1);
    return { at, up: Math.floor(busy * wave * 190 * KB * (0.8 + this.random() * 0.4)), down: Math.floor(busy * wave * 1.6 * MB * (0.85 + this.random() * 0.3)) };
  }

  makeEvents() {
    const list = [
      ['start', 'started', { version: '0.1.0' }, 'server', 273_600], ['user', 'user_added', { user: 'dora' }, 'command', 90_000],
      ['auth', 'wrong_tokens', { n: 3, source: '127.0.0.1' }, '127.0.0.1', 70_000, 'warn'],
      ['reload', 'reloaded', { changed: RELOADED, changes: [], needs_restart: [] }, 'command', 5_400],
      ['limit', 'user_ended', { user: 'emil', reason: 'quota_used' }, 'server', 3_100, 'warn'],
      ['cut', 'cut_user', { n: 3, user: 'ivan', ms: 12 }, 'page', 1_200], ['user', 'user_changed', { user: 'ann', keys: ['quota_bytes', 'note'] }, 'page', 240],
    ];
    return list.map(([kind, code, data, by, ago, level = 'info'], index) => ({ id: index + 1, at: this.now - ago, kind, level, code, text: `${code} ${JSON.stringify(data)}`, by, data })).reverse();
  }

  /** One second passes. */
  tick() {
    this.now += 1;
    this.live = [...this.live.slice(-59), this.speeds(this.now)];
    const speed = this.live.at(-1);
    for (const session of this.sessions) {
      const [up, down] = [Math.floor(speed.up / this.sessions.length), Math.floor(speed.down / this.sessions.length)];
      session.upload_bytes += up;
      session.download_bytes += down;
      const user = this.byName.get(session.user);
      user.total_upload_bytes += up;
      user.total_download_bytes += down;
      user.today_bytes += up + down;
      user.month_bytes += up + down;
      if (user.quota_bytes) user.quota_used_bytes += up + down;
    }
  }

  stats() {
    const speed = this.live.at(-1);
    /** @type {Map<string, any[]>} */
    const of = new Map();
    for (const user of this.users) of.set(user.email, []);
    for (const session of this.sessions) of.get(session.user)?.push(session);
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
    const closed = { ...this.closed, ...this.rejected };
    const ended = Object.values(closed).reduce((all, n) => all + n, 0);
    return {
      upload_speed: '', upload_bps: speed.up, download_speed: '', download_bps: speed.down, total_traffic: '', total_upload_bytes: up, total_download_bytes: down,
      today: bothWays(sum('today_bytes')), month: bothWays(sum('month_bytes')), lifetime: { upload_bytes: up, download_bytes: down }, ...this.extremes(),
      uptime: '', uptime_seconds: this.now - this.startedAt, started_at: this.startedAt, now: this.now, version: '0.1.0', state: this.state,
      memory_usage: '', memory_bytes: 21 * MB + this.sessions.length * 3000, total_memory: '', total_memory_bytes: 1 * GB, cpu_percent: 1.9, cpu_seconds: 512.2, threads: 6,
      descriptors: { open: 60 + this.sessions.length * 2, limit: 65_536 }, turn: { p50_us: 38, p99_us: 410, max_us: 2300 },
      active_connections: this.sessions.length, max_connections: 32_000, opened_total: ended + this.sessions.length, rejected: this.rejected, closed,
      users_online: users.filter((one) => one.online).length, users, ...this.machinery(),
      certificates: [{
        names: ['vpn.example.com'], issuer: 'Example CA R3', self_signed: false, not_after: this.now + 61 * DAY, days_left: 61,
        pin_sha256: '9f2c3b5d0a7e41c86f1d92ab33e07c5418b6d0f97a2ce5134408dd91e6b7a350', public_key_sha256: 'b4Xn0cX2YtSg0mX5vJr7M1p1b1iJ0sXqv0b0c1o9cE0=',
      }],
      alerts: this.alerts, last_reload: this.lastReload,
    };
  }

  /** Pools and Vision, since the start. */
  machinery() {
    const [hits, misses, idle, closed] = [3110, 611, 9, 240];
    const bytes = this.series(this.startedAt, 3600).reduce((all, point) => all + point.bytes, 0);
    return {
      connection_pool: {
        total_created: hits + idle + closed, total_reused: hits, total_closed: closed, current_active: this.sessions.length, current_idle: idle, cache_hits: hits,
        cache_misses: misses, hit_rate: Math.round((hits * 10_000) / (hits + misses)) / 100, connect_time_with_us: 45, connect_time_without_us: 23_400,
      },
      memory_pool: {
        small_pool: tier(4096, 6, 40, 90_412, 320), medium_pool: tier(65_536, 3, 22, 30_210, 410), large_pool: tier(131_072, 0, 9, 400, 140),
        waits: 0, waiting: 0, held_bytes: 6 * 4096 + 3 * 65_536,
      },
      xtls_vision: {
        sessions_direct_up: 14_020, sessions_direct_down: 14_911, spliced_bytes: Math.floor(bytes * 0.72), copied_bytes: Math.floor(bytes * 0.06),
        tls_bytes: Math.floor(bytes * 0.22), padding_bytes: 61 * MB,
      },
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

  /**
   * What passed in each step since `from`, of one user or all: the sums of today, month and total, spread over the hours of
   * days with more in the evening than at night.
   */
  series(from, step, email) {
    const sum = (key) => this.users.filter((user) => !email || user.email === email).reduce((all, user) => all + user[key], 0);
    const total = sum('total_upload_bytes') + sum('total_download_bytes');
    const [midnight, month] = [this.now - (this.now % DAY), startOfMonth(this.now)];
    const began = this.now - 89 * DAY;
    const parts = [
      { from: began - (began % DAY), to: month, bytes: total - sum('month_bytes') }, { from: month, to: midnight, bytes: sum('month_bytes') - sum('today_bytes') },
      { from: midnight, to: this.now, bytes: sum('today_bytes') },
    ];
    const points = [];
    for (const part of parts) {
      const weights = [];
      const random = generator(part.from + (email?.length ?? 0));
      for (let at = part.from - (part.from % step); at < part.to; at += step) weights.push({ at, weight: weightOf(at, Math.min(at + step, part.to) - Math.max(at, part.from), random()) });
      const all = weights.reduce((all, one) => all + one.weight, 0);
      for (const { at, weight } of weights) points.push({ at, bytes: Math.floor((part.bytes * weight) / (all || 1)) });
    }
    // A step that lies in two parts, such as the day of a new month, is one point.
    const merged = new Map();
    for (const { at, bytes } of points) merged.set(at, (merged.get(at) ?? 0) + bytes);
    return [...merged].map(([at, bytes]) => ({ at, bytes })).filter((point) => point.at >= from - step);
  }

  history(range, user) {
    const [seconds, step] = { '1h': [3600, 60], '24h': [DAY, 300], '30d': [30 * DAY, 3600], '1y': [365 * DAY, DAY] }[range];
    // For a while the server was off.
    const off = this.now - 11 * 3600;
    const series = this.series(this.now - seconds, step, user).filter(({ at }) => at < off || at > off + 3600);
    const points = series.map(({ at, bytes }) => ({ at, ...bothWays(bytes), upload_peak_bps: Math.floor((bytes * UP_SHARE * 2) / step), download_peak_bps: Math.floor((bytes * (1 - UP_SHARE) * 1.7) / step) }));
    const most = (key) => Math.max(0, ...points.map((one) => one[key]));
    const mean = (key) => Math.floor(points.reduce((all, one) => all + one[key], 0) / Math.max(1, points.length) / step);
    return {
      range, step_seconds: step, points, peak: { upload_bps: most('upload_peak_bps'), download_bps: most('download_peak_bps'), at: this.now - 100 },
      average: { upload_bps: mean('upload_bytes'), download_bps: mean('download_bytes') },
    };
  }
}

const RELOADED = [{ code: 'users', added: 1, removed: 0, changed: 0 }, { code: 'certificate_replaced' }];

/** Buffers of one size: lent `hits` times from what was there, `misses` times anew. */
function tier(size, used, peak, hits, misses) {
  return { buffer_size: size, current_size: used, peak_size: peak, total_allocated: hits + misses, total_returned: hits + misses - used, hits, misses, idle: 16, bytes: (used + 16) * size };
}

function bothWays(bytes) {
  const upload = Math.floor(bytes * UP_SHARE);
  return { upload_bytes: upload, download_bytes: bytes - upload };
}

/** How much of a day's traffic falls into `seconds` from `at` on. */
function weightOf(at, seconds, random) {
  const ofDay = ((at + seconds / 2) % DAY) / DAY;
  // Whole days have no evening of their own.
  const curve = seconds > DAY / 2 ? 0.8 : 0.55 + 0.4 * Math.sin((ofDay - 0.37) * 2 * Math.PI);
  return Math.max(0, seconds) * (curve + random * 0.35);
}

/** The first second of this month, or of one `later`, in UTC. */
function startOfMonth(at, later = 0) {
  const date = new Date(at * 1000);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + later, 1) / 1000;
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
