//! Smaller bodies, and parts that several bodies share.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::control::format;
use crate::control::metrics::table;
use crate::control::sample::{CertificateSample, Sample};
use crate::control::view::View;
use crate::stats::Totals;
use crate::stats::histogram::Durations;
use crate::stats::pools::ConnectionPoolStats;

/// How long the workers' turns were in the last minute.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the unit is a part of the name")]
pub struct Turn {
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
}

impl Turn {
    pub fn of(turns: &Durations) -> Self {
        Self { p50_us: turns.percentile_us(50), p99_us: turns.percentile_us(99), max_us: turns.percentile_us(100) }
    }
}

/// The connection pool, and what it is worth: how long a session waits for its target with a spare and without.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ConnectionPool<'a> {
    #[serde(flatten)]
    stats: &'a ConnectionPoolStats,
    /// From the request to a connected target, median since the start; `None` before the first dial.
    connect_time_with_us: Option<u64>,
    connect_time_without_us: Option<u64>,
}

impl<'a> ConnectionPool<'a> {
    pub fn of(sample: &'a Sample) -> Self {
        let median = |dials: &Durations| (dials.count() > 0).then(|| dials.percentile_us(50));
        Self {
            stats: &sample.connection_pool,
            connect_time_with_us: median(&sample.timings.dial_pool),
            connect_time_without_us: median(&sample.timings.dial_new),
        }
    }
}

/// What became of the bytes, as counted.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Vision {
    sessions: u64,
    sessions_direct_up: u64,
    sessions_direct_down: u64,
    spliced_bytes: u64,
    copied_bytes: u64,
    tls_bytes: u64,
    padding_bytes: u64,
}

impl Vision {
    pub fn of(totals: &Totals) -> Self {
        let all = totals.uplink_bytes + totals.downlink_bytes;
        let unchanged = totals.uplink_unchanged_bytes + totals.downlink_unchanged_bytes;
        let spliced = totals.uplink_spliced_bytes + totals.downlink_spliced_bytes;
        Self {
            sessions: totals.vision_requests,
            sessions_direct_up: totals.uplinks_direct,
            sessions_direct_down: totals.downlinks_direct,
            spliced_bytes: spliced,
            // Counters are read one after the other while they grow.
            copied_bytes: unchanged.saturating_sub(spliced),
            tls_bytes: all.saturating_sub(unchanged),
            padding_bytes: totals.uplink_padding_bytes + totals.downlink_padding_bytes,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Certificate<'a> {
    names: &'a [String],
    issuer: &'a str,
    self_signed: bool,
    not_after: u64,
    days_left: i64,
    pin_sha256: &'a str,
    public_key_sha256: &'a str,
}

impl<'a> Certificate<'a> {
    pub fn of(certificate: &'a CertificateSample, unix_time: u64) -> Self {
        let left = i64::try_from(certificate.not_after).unwrap_or(i64::MAX) - unix_time.cast_signed();
        Self {
            names: &certificate.names,
            issuer: &certificate.issuer,
            self_signed: certificate.self_signed,
            not_after: certificate.not_after,
            days_left: left.div_euclid(86_400),
            pin_sha256: &certificate.pin_sha256,
            public_key_sha256: &certificate.public_key_sha256,
        }
    }
}

/// `/api/speed-history`. The timestamp is a text because it always was one.
pub fn speed_history(view: &View) -> Value {
    let points = view.speeds.points().map(|point| {
        json!({
            "timestamp": point.uptime_s.to_string(),
            "at": point.at,
            "upload_speed": format::speed(point.up_bps),
            "upload_bps": point.up_bps,
            "download_speed": format::speed(point.down_bps),
            "download_bps": point.down_bps,
        })
    });
    json!({ "history": points.collect::<Vec<_>>(), "duration_seconds": view.settings.speed_history_s })
}

/// `/api/config`.
pub fn limits(view: &View) -> Value {
    let settings = &view.settings;
    json!({
        "speed_history_duration": settings.speed_history_s,
        "broadcast_interval": settings.broadcast_interval.as_secs(),
        "websocket_max_connections": settings.feed_clients_max,
        "websocket_heartbeat_timeout": settings.heartbeat_timeout.as_secs(),
        "vless_max_connections": settings.sessions_max_configured,
    })
}

/// `/api/performance`: the section of the configuration, and every counter of the data path by its name in the metrics.
pub fn performance(view: &View) -> Value {
    let mut body = match &view.settings.performance {
        Value::Object(section) => section.clone(),
        _ => Map::new(),
    };
    let turns = view.recent_turns();
    body.insert("turn".to_owned(), json!(Turn::of(&turns)));
    let counters = table::simple(view).map(|(row, value)| (row.name.to_owned(), value.into()));
    body.insert("counters".to_owned(), Value::Object(counters.collect()));
    Value::Object(body)
}
