// When a user's limit will be reached at the rate so far, and who is near one. Pure: figures in, judgement out.

/** @typedef {import('./types.d.ts').User} User */
/** @typedef {{ user: User, kind: 'quota' | 'expiry', reached: boolean, share: number, at: number | null, rank: number }} Near */

const DAY = 86_400;
const SHARE_NEAR = 0.8;
const EXPIRY_NEAR = 7 * DAY;
// A rate measured over less time says nothing.
const MEASURED_MIN = 3600;

/**
 * Everybody who has reached a limit or will soon, the most pressing first.
 * @param {User[]} users
 * @param {number} now unix seconds
 * @returns {Near[]}
 */
export function nearLimits(users, now) {
  /** @type {Near[]} */
  const near = [];
  for (const user of users) {
    if (user.state === 'disabled') continue;
    const quota = nearQuota(user, now);
    const expiry = nearExpiry(user, now);
    if (quota) near.push(quota);
    if (expiry) near.push(expiry);
  }
  return near.sort((a, b) => a.rank - b.rank || (a.user.email < b.user.email ? -1 : 1));
}

/** @param {User} user @param {number} now @returns {Near | null} */
function nearQuota(user, now) {
  if (!(user.quota_bytes > 0)) return null;
  const share = user.quota_used_bytes / user.quota_bytes;
  const at = quotaFullAt(user, now);
  if (share >= 1) return { user, kind: 'quota', reached: true, share, at: null, rank: 0 };
  // Who is filled up before his period ends is near, however much is left today, once half of it is used.
  const beforeReset = at !== null && share >= 0.5 && at - now < 30 * DAY;
  if (share < SHARE_NEAR && !beforeReset) return null;
  return { user, kind: 'quota', reached: false, share, at, rank: at ? at - now : DAY / share };
}

/** @param {User} user @param {number} now @returns {Near | null} */
function nearExpiry(user, now) {
  if (!user.expires_at) return null;
  const left = user.expires_at - now;
  if (left > EXPIRY_NEAR) return null;
  return { user, kind: 'expiry', reached: left <= 0, share: 0, at: user.expires_at, rank: Math.max(0, left) };
}

/**
 * When the quota will be used up at the average rate of its period, or null: no quota, no rate yet, or not before the
 * period ends.
 * @param {User} user
 * @param {number} now unix seconds
 * @returns {number | null}
 */
export function quotaFullAt(user, now) {
  const left = user.quota_bytes - user.quota_used_bytes;
  const began = measuredSince(user, now);
  if (!(user.quota_bytes > 0) || left <= 0 || began === null) return null;
  const measured = now - began;
  if (measured < MEASURED_MIN || user.quota_used_bytes <= 0) return null;
  const at = now + left / (user.quota_used_bytes / measured);
  return user.quota_resets_at && at >= user.quota_resets_at ? null : at;
}

/**
 * Since when the quota's bytes have been counted: the start of the period, or the user's first use if that is later.
 * @param {User} user
 * @param {number} now
 */
function measuredSince(user, now) {
  const first = user.first_seen_at ?? user.created_at ?? null;
  const start = periodStart(user);
  if (start === null) return first;
  return Math.min(now, Math.max(start, first ?? start));
}

/** @param {User} user */
function periodStart(user) {
  const end = user.quota_resets_at;
  if (!end) return null;
  if (user.quota_period === 'day') return end - DAY;
  if (user.quota_period === 'week') return end - 7 * DAY;
  const date = new Date(end * 1000);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() - 1, date.getUTCDate()) / 1000;
}
