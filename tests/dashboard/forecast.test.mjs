// The judgement of who is near a limit: figures in, words out.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import test from 'node:test';

import { ROOT } from './support/tools.mjs';

const { nearLimits, quotaFullAt } = await import(join(ROOT, 'static/forecast.js'));

const DAY = 86_400;
const NOW = Date.UTC(2026, 10, 16) / 1000;
const user = (more) => ({
  email: 'ann', state: 'active', quota_bytes: 1000, quota_used_bytes: 0, quota_period: 'none', quota_resets_at: null, expires_at: null,
  first_seen_at: NOW - 10 * DAY, created_at: null, ...more,
});

test('the rate so far says when a quota is full', () => {
  // 500 in ten days: the other 500 in ten more.
  assert.equal(quotaFullAt(user({ quota_used_bytes: 500 }), NOW), NOW + 10 * DAY);
  assert.equal(quotaFullAt(user({ quota_used_bytes: 0 }), NOW), null, 'nothing used, nothing to go by');
  assert.equal(quotaFullAt(user({ quota_bytes: 0, quota_used_bytes: 5 }), NOW), null, 'no quota');
  assert.equal(quotaFullAt(user({ quota_used_bytes: 500, first_seen_at: NOW - 60 }), NOW), null, 'a minute says nothing');
});

test('a quota that renews before it is full is not full', () => {
  const month = { quota_period: 'month', quota_resets_at: Date.UTC(2026, 11, 1) / 1000, first_seen_at: NOW - 300 * DAY };
  // Half of it in the fifteen days since the first: full on the first, when it renews.
  assert.equal(quotaFullAt(user({ ...month, quota_used_bytes: 500 }), NOW), null);
  assert.equal(quotaFullAt(user({ ...month, quota_used_bytes: 750 }), NOW), NOW + 5 * DAY);
});

test('who has reached a limit comes first, who is far from one not at all', () => {
  const near = nearLimits([
    user({ email: 'far', quota_used_bytes: 100 }), user({ email: 'soon', expires_at: NOW + 2 * DAY }), user({ email: 'full', quota_used_bytes: 1000 }),
    user({ email: 'later', expires_at: NOW + 30 * DAY }), user({ email: 'off', state: 'disabled', quota_used_bytes: 1000 }),
    user({ email: 'high', quota_used_bytes: 900 }),
  ], NOW);
  assert.deepEqual(near.map((one) => one.user.email), ['full', 'high', 'soon']);
  assert.ok(near[0].reached && near[0].kind === 'quota');
  assert.equal(near[2].kind, 'expiry');
});
