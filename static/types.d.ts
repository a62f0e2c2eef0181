// The shapes that the API answers with and that the page's state consists of. For the type checker only; never served.

export type Right = 'none' | 'view' | 'admin';

export interface Session {
  right: Right;
  login_required: boolean;
  version: string;
}

export interface ClusterNode {
  name: string;
  online: boolean;
  seen_seconds_ago: number;
  address: string;
  version: string;
  sessions: number;
  upload_bps: number;
  download_bps: number;
  accounts_version: number;
  last_error: string | null;
}

export interface ClusterOnline {
  complete: boolean;
  total: number;
  users: { email: string; sessions: number; nodes: { node: string; sessions: number; addresses: string[]; seconds_ago: number }[] }[];
}

export interface Limits {
  quota_bytes?: number;
  quota_period?: 'none' | 'day' | 'week' | 'month';
  quota_day?: number;
  expires_at?: string | number | null;
  expires_after_days?: number | null;
  addresses_max?: number;
  sessions_max?: number;
  up_bytes_per_second_max?: number;
  down_bytes_per_second_max?: number;
}

export interface User {
  uuid: string;
  email: string;
  note: string;
  enabled: boolean;
  state: 'active' | 'disabled' | 'expired' | 'quota_used';
  locked: boolean;
  flow?: string | null;
  created_at?: number | null;
  upload_bps: number;
  download_bps: number;
  total_traffic: string;
  total_upload_bytes: number;
  total_download_bytes: number;
  today_bytes: number;
  month_bytes: number;
  active_connections: number;
  online: boolean;
  addresses: string[];
  quota_bytes: number;
  quota_used_bytes: number;
  quota_period: string;
  quota_resets_at: number | null;
  expires_at: number | null;
  last_seen_at: number | null;
  first_seen_at: number | null;
  limits: Limits;
}

export interface Tier {
  buffer_size: number;
  current_size: number;
  peak_size: number;
  total_allocated: number;
  total_returned: number;
  hits: number;
  misses: number;
  idle: number;
  bytes: number;
}

export interface Certificate {
  names: string[];
  issuer: string;
  self_signed: boolean;
  not_after: number;
  days_left: number;
  /** Of the certificate, in hexadecimal. */
  pin_sha256: string;
  /** Of its public key, in Base64. */
  public_key_sha256?: string;
}

export interface Alert {
  name: string;
  metric: string;
  value: number;
  limit: number;
  /** Whom it is about, where it is about a user. */
  user?: string;
  since: number;
  remedy_code: string;
}

export interface Both {
  upload_bytes: number;
  download_bytes: number;
}

export interface Rates {
  upload_bps: number;
  download_bps: number;
  at?: number;
}

export interface Reload {
  at: number;
  ok: boolean;
  /** In the server's words. */
  changes: string[];
  /** The same by codes. */
  changed?: Record<string, any>[];
  needs_restart?: string[];
  error: string | null;
}

export interface Stats {
  upload_bps: number;
  download_bps: number;
  total_traffic: string;
  total_upload_bytes: number;
  total_download_bytes: number;
  today: Both;
  month: Both;
  lifetime: Both;
  peak: Rates;
  average: Rates;
  uptime_seconds: number;
  started_at: number;
  /** The server's clock. */
  now: number;
  version: string;
  state: 'starting' | 'serving' | 'draining';
  memory_bytes: number;
  total_memory_bytes: number;
  cpu_percent: number;
  cpu_seconds: number;
  threads: number;
  descriptors: { open: number; limit: number };
  turn: { p50_us: number; p99_us: number; max_us: number };
  active_connections: number;
  max_connections: number;
  opened_total: number;
  rejected: Record<string, number>;
  closed: Record<string, number>;
  users_online: number;
  /** Which accounts a message holds: all, those that changed after a version, or none. What is kept holds all. */
  users_scope: 'all' | 'changed' | 'none';
  users_version: number | null;
  users_removed: string[];
  users: User[];
  connection_pool: Record<string, any>;
  memory_pool: { small_pool: Tier; medium_pool: Tier; large_pool: Tier; [more: string]: any };
  xtls_vision: Record<string, any>;
  certificates: Certificate[];
  alerts: Alert[];
  last_reload: Reload | null;
}

export interface Connection {
  id: string;
  user: string;
  client: string;
  target: string;
  flow: string;
  state: string;
  mode: string;
  upload_bytes: number;
  download_bytes: number;
  age_seconds: number;
}

export interface HistoryPoint {
  at: number;
  upload_bytes: number;
  download_bytes: number;
  upload_peak_bps?: number;
  download_peak_bps?: number;
}

export interface History {
  range: string;
  step_seconds: number;
  points: HistoryPoint[];
  peak: Rates;
  average: Rates;
}

export interface Event {
  id: number;
  at: number;
  kind: string;
  level: 'info' | 'warn' | 'error';
  /** What happened, by a word; empty in what older versions kept. */
  code?: string;
  text: string;
  data: Record<string, any> | null;
  by: string;
}

/** One second of the live chart: bytes per second each way. */
export interface LivePoint {
  at: number;
  up: number;
  down: number;
}

export interface Settings {
  lang: 'auto' | 'en' | 'zh';
  theme: 'system' | 'light' | 'dark';
  rates: 'bytes' | 'bits';
  masked: boolean;
  sorts: Record<string, { column: string; descending: boolean }>;
  hidden: Record<string, string[]>;
}

export type LinkState = 'connecting' | 'live' | 'polling' | 'paused';

export interface State {
  /** Null until the server has said who we are. */
  session: Session | null;
  /** What the whole page cannot go on without, as an error of the first request. */
  failure: string | null;
  stats: Stats | null;
  /** When the last figures came, by the browser's monotonic clock in milliseconds, and by its calendar. */
  statsAt: number;
  statsWallAt: number;
  link: LinkState;
  /** The figures shown are older than two ticks. */
  stale: boolean;
  /** They have been missing for so long since the page began to ask that it must be said. */
  lost: boolean;
  /** The server has been replaced by one with another dashboard. */
  outdated: boolean;
  tickMs: number;
  live: LivePoint[];
  /** How many seconds of `live` are kept. */
  liveSeconds: number;
  events: Event[];
  settings: Settings;
  route: Route;
  /** Removals that wait for their ten seconds to pass, by email. */
  removing: Record<string, number>;
  /** The accounts as last fetched, with the revision that changes are made on. */
  accounts: { revision: number; users: User[] } | null;
}

export interface Route {
  page: 'overview' | 'users' | 'user' | 'sessions' | 'events';
  /** The email of page `user`. */
  email: string;
  query: Record<string, string>;
}

/** A part of the page: it has a root and writes the state into it. */
export interface View {
  root: HTMLElement;
  render(state: State): void;
  /** Gives back timers and listeners. */
  close?(): void;
}

export interface Column<T> {
  key: string;
  label: string;
  /** What the label means, on asking. */
  hint?: string;
  /** Sorting value; numbers sort from big to small at first. */
  sort: (row: T) => number | string;
  /** Makes the cell once, and writes a row into it as often as wanted. */
  cell: () => { node: HTMLElement; write: (row: T) => void };
  numeric?: boolean;
  /** 1 is always there, 2 from tablets on, 3 on desks. */
  priority: 1 | 2 | 3;
  /** Cannot be hidden. */
  fixed?: boolean;
}
