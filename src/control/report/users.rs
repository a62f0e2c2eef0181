//! The accounts as they are shown.

use std::net::IpAddr;
use std::ops::Range;

use serde::Serialize;

use crate::control::format;
use crate::control::roll::Record;
use crate::control::sample::{UserLimits, UserSample, UserState};
use crate::control::view::View;

#[derive(Serialize)]
pub struct UserShown<'a> {
    uuid: String,
    email: &'a str,
    note: &'a str,
    flow: &'a str,
    enabled: bool,
    state: UserState,
    locked: bool,
    upload_speed: String,
    upload_bps: u64,
    download_speed: String,
    download_bps: u64,
    total_traffic: String,
    total_upload_bytes: u64,
    total_download_bytes: u64,
    today_bytes: u64,
    month_bytes: u64,
    active_connections: u64,
    online: bool,
    addresses: &'a [IpAddr],
    quota_bytes: u64,
    quota_used_bytes: u64,
    quota_period: &'a str,
    quota_resets_at: Option<u64>,
    expires_at: Option<u64>,
    created_at: Option<u64>,
    first_seen_at: Option<u64>,
    last_seen_at: Option<u64>,
    limits: &'a UserLimits,
}

/// `/api/users`, or a part of it.
#[derive(Serialize)]
pub struct UserList<'a> {
    revision: u64,
    total: usize,
    /// The `offset` at which the next part begins; `None`: this is the last one.
    next: Option<usize>,
    users: Vec<UserShown<'a>>,
}

/// How much of an id is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    Masked,
    Whole,
}

/// The field `ETag` of the list: its revision, by which changes are made, and what changes along with every figure in it.
pub fn tag(view: &View, ids: Ids) -> String {
    let seen = match ids {
        Ids::Masked => "masked",
        Ids::Whole => "whole",
    };
    format!("\"{}-{:016x}-{seen}\"", view.sample.users_revision, view.roll.fingerprint())
}

/// These accounts of the view.
pub fn shown_all<'a>(view: &View, users: impl IntoIterator<Item = &'a UserSample>, ids: Ids) -> Vec<UserShown<'a>> {
    users.into_iter().map(|user| shown(view, user, ids)).collect()
}

/// The accounts in `part`, which must lie within the view's.
pub fn list(view: &View, part: Range<usize>, ids: Ids) -> UserList<'_> {
    let all = &view.sample.users;
    UserList {
        revision: view.sample.users_revision,
        total: all.len(),
        next: Some(part.end).filter(|end| *end < all.len()),
        users: shown_all(view, &all[part], ids),
    }
}

/// What is shown of an account is its sample and its [`Record`], nothing else: by these it is known whether it changed.
fn shown<'a>(view: &View, user: &'a UserSample, ids: Ids) -> UserShown<'a> {
    let record = Record::of(&view.book, user, view.clock.unix_time);
    UserShown {
        uuid: match ids {
            Ids::Masked => format::masked_id(&user.id),
            Ids::Whole => format::id(&user.id),
        },
        email: &user.email,
        note: &user.note,
        flow: user.flow,
        enabled: user.enabled,
        state: user.state,
        locked: user.locked,
        upload_speed: format::speed(record.up_bps),
        upload_bps: record.up_bps,
        download_speed: format::speed(record.down_bps),
        download_bps: record.down_bps,
        total_traffic: format::bytes(record.lifetime.total()),
        total_upload_bytes: record.lifetime.up_bytes,
        total_download_bytes: record.lifetime.down_bytes,
        today_bytes: record.today_bytes,
        month_bytes: record.month_bytes,
        active_connections: user.totals.sessions_active,
        online: user.totals.sessions_active > 0,
        addresses: &user.addresses,
        quota_bytes: user.limits.quota_bytes,
        quota_used_bytes: user.quota_used_bytes,
        quota_period: if user.limits.quota_period.is_empty() { "none" } else { user.limits.quota_period },
        quota_resets_at: user.quota_resets_at,
        expires_at: user.expires_at,
        created_at: user.created_at,
        first_seen_at: record.first_seen_at,
        last_seen_at: record.last_seen_at,
        limits: &user.limits,
    }
}
