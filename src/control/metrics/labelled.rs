//! The metrics that have a value for each of some labels. Labels have few and known values, except the names of users,
//! which can be switched off.

use super::Kind::{Counter, Gauge, Histogram, Info};
use super::{Kind, Labels, Number, Row, Source, TimesOf, USERS_MAX};
use crate::control::history::book::Key;
use crate::control::sample::{UserSample, UserState};
use crate::control::view::View;
use crate::stats::pools::TierStats;

pub const TABLE: &[Row] = &[
    row("vless_build_info", Info, "", "What was built.", |view| {
        let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
        let tls = if view.settings.tls { "on" } else { "off" };
        let labels =
            vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("target", target), ("tls", tls.to_owned())];
        vec![(labels, Number::Whole(1))]
    }),
    row("vless_sessions_closed_total", Counter, "", "Sessions that ended, by reason.", |view| {
        by("reason", &view.sample.closes)
    }),
    row("vless_rejected_total", Counter, "", "Clients that were not served, by reason.", |view| {
        by("reason", &view.sample.rejected)
    }),
    row("vless_source_refusals_total", Counter, "", "Connections refused because of a source's limits.", |view| {
        let totals = &view.sample.totals;
        let limits = [
            ("sessions", totals.source_sessions_refused),
            ("handshakes", totals.source_openings_refused),
            ("accepts", totals.source_accepts_refused),
        ];
        by("limit", &limits)
    }),
    row("vless_account_refusals_total", Counter, "", "Requests of accounts that may not connect.", |view| {
        let totals = &view.sample.totals;
        let states = [
            ("disabled", totals.disabled_users_refused),
            ("expired", totals.expired_users_refused),
            ("quota_used", totals.used_quotas_refused),
        ];
        by("state", &states)
    }),
    row("vless_payload_bytes_total", Counter, "bytes", "Payload, by direction and by how it went through.", payload),
    row("vless_vision_padding_bytes_total", Counter, "bytes", "Block headers and padding of Vision.", |view| {
        let totals = &view.sample.totals;
        by("direction", &[("uplink", totals.uplink_padding_bytes), ("downlink", totals.downlink_padding_bytes)])
    }),
    row("vless_fallback_bytes_total", Counter, "bytes", "Bytes of strangers, to and from fallbacks.", |view| {
        let totals = &view.sample.totals;
        by("direction", &[("uplink", totals.fallback_uplink_bytes), ("downlink", totals.fallback_downlink_bytes)])
    }),
    row("vless_vision_direct_total", Counter, "", "Directions of sessions that left TLS.", |view| {
        let totals = &view.sample.totals;
        by("direction", &[("uplink", totals.uplinks_direct), ("downlink", totals.downlinks_direct)])
    }),
    row("vless_dials_total", Counter, "", "Dials that ended, by result.", |view| {
        let totals = &view.sample.totals;
        let results = [
            ("connected", totals.dials_connected),
            ("failed", totals.dials_failed),
            ("timed_out", totals.dials_timed_out),
            ("refused_by_policy", totals.dials_refused_by_policy),
            ("unresolved", totals.dials_unresolved),
            ("no_descriptors", totals.dials_no_descriptors),
            ("cancelled", totals.dials_cancelled),
        ];
        by("result", &results)
    }),
    row(
        "vless_pool_dials_total",
        Counter,
        "",
        "Dials that reached an address, by whether a spare connection answered.",
        |view| by("result", &[("hit", view.sample.totals.pool_hits), ("miss", view.sample.totals.pool_misses)]),
    ),
    row("vless_spares_closed_total", Counter, "", "Spare connections closed unused, by reason.", |view| {
        let totals = &view.sample.totals;
        let reasons = [
            ("target", totals.spares_closed_by_target),
            ("dead_at_hand_over", totals.spares_closed_at_hand_over),
            ("too_old", totals.spares_closed_too_old),
            ("unneeded", totals.spares_closed_unneeded),
            ("room", totals.spares_closed_for_room),
        ];
        by("reason", &reasons)
    }),
    row("vless_dns_queries_total", Counter, "", "Queries to name servers, and what became of them.", |view| {
        let totals = &view.sample.totals;
        let results = [
            ("sent", totals.dns_queries),
            ("cached", totals.dns_cache_hits),
            ("timed_out", totals.dns_timeouts),
            ("truncated", totals.dns_truncated),
            ("bad_answer", totals.dns_bad_answers),
        ];
        by("result", &results)
    }),
    row("vless_udp_packets_total", Counter, "", "Datagrams passed on.", |view| {
        let totals = &view.sample.totals;
        by("direction", &[("uplink", totals.udp_uplink_packets), ("downlink", totals.udp_downlink_packets)])
    }),
    row("vless_udp_dropped_total", Counter, "", "Datagrams dropped, by reason.", |view| {
        let totals = &view.sample.totals;
        let reasons = [
            ("policy", totals.udp_dropped_by_policy),
            ("undecided", totals.udp_dropped_undecided),
            ("unresolved", totals.udp_dropped_unresolved),
            ("kernel", totals.udp_dropped_by_kernel),
            ("no_room", totals.udp_dropped_no_room),
            ("too_long", totals.udp_dropped_too_long),
        ];
        by("reason", &reasons)
    }),
    row(
        "vless_buffer_bytes",
        Gauge,
        "bytes",
        "Memory of the buffer pool, by tier and whether a session holds it.",
        buffers,
    ),
    row("vless_certificate_not_after_timestamp_seconds", Gauge, "seconds", "When a certificate expires.", |view| {
        let names = |names: &[String]| names.first().cloned().unwrap_or_default();
        let lines = view.sample.certificates.iter();
        lines.map(|one| (vec![("name", names(&one.names))], Number::Whole(one.not_after))).collect()
    }),
    row("vless_alerts_firing", Gauge, "", "Alerts that fire: 0 or 1, or of how many users.", |view| {
        view.watch
            .states()
            .map(|(name, fires)| (vec![("rule", name.to_owned())], Number::Whole(fires as u64)))
            .collect()
    }),
    row("vless_users", Gauge, "", "Accounts by state.", |view| {
        let count = |state: UserState| view.sample.users.iter().filter(|user| user.state == state).count() as u64;
        by("state", &UserState::ALL.map(|(state, name)| (name, count(state))))
    }),
    row("vless_user_payload_bytes_total", Counter, "bytes", "Payload of a user.", |view| {
        let mut series = Vec::new();
        for user in users(view) {
            let (up, down) = (user.totals.uplink_bytes, user.totals.downlink_bytes);
            for (direction, bytes) in [("uplink", up), ("downlink", down)] {
                let labels = vec![("user", user.email.to_string()), ("direction", direction.to_owned())];
                series.push((labels, Number::Whole(bytes)));
            }
        }
        series
    }),
    row(
        "vless_user_lifetime_bytes",
        Gauge,
        "bytes",
        "Payload of a user over all processes, both directions.",
        |view| of_users(view, |user| view.book.entry(Key::of(&user.ledger_id)).map(|entry| entry.lifetime().total())),
    ),
    row("vless_user_sessions", Gauge, "", "Sessions of a user.", |view| {
        of_users(view, |user| Some(user.totals.sessions_active))
    }),
    row("vless_user_addresses", Gauge, "", "Addresses that a user's sessions come from.", |view| {
        of_users(view, |user| Some(user.addresses.len() as u64))
    }),
    row("vless_user_quota_bytes", Gauge, "bytes", "What a user may use in a period; absent without a quota.", |view| {
        of_users(view, |user| Some(user.limits.quota_bytes).filter(|bytes| *bytes > 0))
    }),
    row("vless_user_quota_used_bytes", Gauge, "bytes", "What a user has used of the quota.", |view| {
        of_users(view, |user| Some(user.quota_used_bytes))
    }),
    row(
        "vless_user_expiry_timestamp_seconds",
        Gauge,
        "seconds",
        "When an account expires; absent if it does not.",
        |view| of_users(view, |user| user.expires_at),
    ),
    row(
        "vless_user_last_seen_timestamp_seconds",
        Gauge,
        "seconds",
        "When a user last had a session; absent before the first.",
        |view| of_users(view, |user| view.book.entry(Key::of(&user.ledger_id)).and_then(|entry| entry.last_seen_at)),
    ),
    times("vless_handshake_duration_seconds", "From accept to a finished TLS handshake.", "", |view| {
        vec![("", &view.sample.timings.handshake)]
    }),
    times("vless_dial_duration_seconds", "From the request to a connected target.", "source", |view| {
        vec![("pool", &view.sample.timings.dial_pool), ("new", &view.sample.timings.dial_new)]
    }),
    times("vless_first_byte_seconds", "From the request to the target's first byte.", "", |view| {
        vec![("", &view.sample.timings.first_byte)]
    }),
    times("vless_worker_turn_seconds", "One turn of a worker, without the wait before it.", "", |view| {
        vec![("", &view.sample.timings.turn)]
    }),
];

type Series = Vec<(Labels, Number)>;

const fn row(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
    source: fn(&View) -> Series,
) -> Row {
    Row { name, kind, unit, help, source: Source::Many(source) }
}

const fn times(name: &'static str, help: &'static str, label: &'static str, source: TimesOf) -> Row {
    Row { name, kind: Histogram, unit: "seconds", help, source: Source::Times(label, source) }
}

fn by(label: &'static str, pairs: &[(&'static str, u64)]) -> Series {
    pairs.iter().map(|&(value, count)| (vec![(label, value.to_owned())], Number::Whole(count))).collect()
}

fn payload(view: &View) -> Series {
    let totals = &view.sample.totals;
    let directions = [
        (
            "uplink",
            [totals.uplink_bytes, totals.uplink_unchanged_bytes, totals.uplink_spliced_bytes, totals.uplink_udp_bytes],
        ),
        (
            "downlink",
            [
                totals.downlink_bytes,
                totals.downlink_unchanged_bytes,
                totals.downlink_spliced_bytes,
                totals.downlink_udp_bytes,
            ],
        ),
    ];
    let mut series = Vec::new();
    for (direction, [all, unchanged, spliced, udp]) in directions {
        // Counters are read one after the other while they grow; the sum of the methods is always `all`.
        let unchanged = unchanged.min(all);
        let spliced = spliced.min(unchanged);
        let udp = udp.min(all - unchanged);
        let methods =
            [("splice", spliced), ("copy", unchanged - spliced), ("udp", udp), ("tls", all - unchanged - udp)];
        for (method, bytes) in methods {
            let labels = vec![("direction", direction.to_owned()), ("method", method.to_owned())];
            series.push((labels, Number::Whole(bytes)));
        }
    }
    series
}

fn buffers(view: &View) -> Series {
    let pool = &view.sample.memory_pool;
    let tiers = [("small", &pool.small_pool), ("medium", &pool.medium_pool), ("large", &pool.large_pool)];
    let states = |tier: &TierStats| {
        [("held", tier.current_size), ("idle", tier.idle)].map(|(state, n)| (state, n * tier.buffer_size))
    };
    let mut series = Vec::new();
    for (tier, stats) in tiers {
        for (state, bytes) in states(stats) {
            let labels = vec![("tier", tier.to_owned()), ("state", state.to_owned())];
            series.push((labels, Number::Whole(bytes)));
        }
    }
    series
}

/// The users that have series of their own: none where there are too many, because some of them would be worse.
fn users(view: &View) -> &[UserSample] {
    let users = &view.sample.users;
    if view.settings.metrics_users && users.len() <= USERS_MAX { users } else { &[] }
}

fn of_users(view: &View, value: impl Fn(&UserSample) -> Option<u64>) -> Series {
    let lines = users(view).iter();
    lines.filter_map(|user| Some((vec![("user", user.email.to_string())], Number::Whole(value(user)?)))).collect()
}
