//! The metrics that have one value. Every counter of the data path is here or in `labelled.rs`.

use super::Kind::{Counter, Gauge};
use super::{Kind, Number, Row, Source};
use crate::control::view::View;

/// A counter or gauge of the data path.
macro_rules! total {
    ($name:literal, $kind:ident, $unit:literal, $field:ident, $help:literal) => {
        row($name, $kind, $unit, $help, |view| view.sample.totals.$field.into())
    };
}

pub const TABLE: &[Row] = &[
    row("vless_sessions", Gauge, "", "Sessions alive now.", |view| view.sample.sessions.into()),
    row("vless_sessions_limit", Gauge, "", "Sessions that may be alive at the same time.", |view| {
        view.sample.sessions_max.into()
    }),
    total!("vless_sessions_opened_total", Counter, "", sessions_accepted, "Connections accepted from clients."),
    total!("vless_requests_accepted_total", Counter, "", requests_accepted, "Request headers accepted."),
    total!("vless_tls_handshakes_total", Counter, "", tls_handshakes, "TLS handshakes completed."),
    total!("vless_vision_requests_total", Counter, "", vision_requests, "Requests accepted with the flow Vision."),
    total!("vless_stale_events_total", Counter, "", stale_events, "Events for a session that no longer existed."),
    total!(
        "vless_turns_cut_by_budget_total",
        Counter,
        "",
        turns_cut_by_budget,
        "Turns of sessions that ended because their byte budget was used up."
    ),
    total!(
        "vless_accept_pauses_descriptors_total",
        Counter,
        "",
        accept_paused_descriptors,
        "Times accepting stopped because descriptors ran out."
    ),
    total!(
        "vless_accept_pauses_limit_total",
        Counter,
        "",
        accept_paused_limit,
        "Times accepting stopped because the session limit was reached."
    ),
    total!(
        "vless_sources_forgotten_total",
        Counter,
        "",
        sources_forgotten,
        "Sources whose rate was forgotten before its time because too many came."
    ),
    total!(
        "vless_accept_errors_total",
        Counter,
        "",
        accept_errors,
        "Connections lost between the kernel's queue and the server."
    ),
    total!("vless_dials_started_total", Counter, "", dials_started, "Dials asked for by sessions."),
    total!(
        "vless_dial_attempts_total",
        Counter,
        "",
        dial_attempts,
        "Single connection attempts; a dial may make several."
    ),
    total!(
        "vless_targets_connected",
        Gauge,
        "",
        targets_connected,
        "Sessions that have a connection to their target now."
    ),
    total!(
        "vless_dns_lookups_total",
        Counter,
        "",
        dns_lookups,
        "Names asked for by dials, each address family counted."
    ),
    total!("vless_dns_coalesced_total", Counter, "", dns_coalesced, "Look-ups that joined one already under way."),
    total!(
        "vless_dns_refused_busy_total",
        Counter,
        "",
        dns_refused_busy,
        "Look-ups refused because too many were under way."
    ),
    total!(
        "vless_udp_sockets_refused_total",
        Counter,
        "",
        udp_sockets_refused,
        "UDP sockets refused because the user had as many as allowed."
    ),
    total!("vless_udp_sockets_failed_total", Counter, "", udp_sockets_failed, "UDP sockets that could not be opened."),
    total!(
        "vless_udp_sockets_migrated_total",
        Counter,
        "",
        udp_sockets_migrated,
        "UDP sockets that went on in another connection."
    ),
    total!(
        "vless_udp_names_forgotten_total",
        Counter,
        "",
        udp_names_forgotten,
        "Names that UDP sockets forgot for lack of memory."
    ),
    total!(
        "vless_mux_sessions_opened_total",
        Counter,
        "",
        mux_sessions_opened,
        "Sessions opened inside Mux connections."
    ),
    total!(
        "vless_mux_sessions_refused_total",
        Counter,
        "",
        mux_sessions_refused,
        "Sessions refused inside Mux connections."
    ),
    total!(
        "vless_mux_sessions_failed_total",
        Counter,
        "",
        mux_sessions_failed,
        "Sessions inside Mux connections whose target was not to be had."
    ),
    total!(
        "vless_mux_sockets_refused_total",
        Counter,
        "",
        mux_sockets_refused,
        "Sockets of Mux sessions refused because of a limit."
    ),
    total!(
        "vless_mux_frames_astray_total",
        Counter,
        "",
        mux_frames_astray,
        "Mux frames for sessions that do not exist."
    ),
    total!(
        "vless_mux_discarded_bytes_total",
        Counter,
        "bytes",
        mux_bytes_discarded,
        "Bytes of targets thrown away because the client had ended their session inside a Mux connection."
    ),
    total!("vless_fallbacks_total", Counter, "", fallbacks_begun, "Strangers passed on to a fallback."),
    total!(
        "vless_dials_direct_total",
        Counter,
        "",
        dials_connected_directly,
        "Dials that ended with a socket connected for them, not with a spare connection."
    ),
    total!("vless_buffers_held", Gauge, "", buffers_held, "Buffers that sessions hold now."),
    total!(
        "vless_buffers_held_bytes",
        Gauge,
        "bytes",
        buffer_bytes_held,
        "Memory of the buffers that sessions hold now."
    ),
    total!("vless_buffer_waits_total", Counter, "", buffer_waits, "Times a session had to wait for buffer memory."),
    total!(
        "vless_sessions_awaiting_buffer",
        Gauge,
        "",
        sessions_awaiting_buffer,
        "Sessions that wait for buffer memory now."
    ),
    total!("vless_pipes_held", Gauge, "", pipes_held, "Kernel pipes that hold bytes now."),
    total!("vless_spare_attempts_total", Counter, "", spare_attempts, "Attempts to connect a spare connection."),
    total!(
        "vless_spare_failures_total",
        Counter,
        "",
        spare_failures,
        "Attempts to connect a spare connection that failed."
    ),
    total!("vless_spares_connecting", Gauge, "", spares_connecting, "Spare connections being connected now."),
    total!("vless_spares_connected_total", Counter, "", spares_connected, "Spare connections that were connected."),
    total!("vless_spares_idle", Gauge, "", spares_idle, "Spare connections ready now."),
    total!("vless_pool_targets", Gauge, "", pool_targets, "Target addresses whose demand is watched."),
    row("vless_users_online", Gauge, "", "Users with at least one session.", |view| {
        view.sample.users.iter().filter(|user| user.totals.sessions_active > 0).count().to_number()
    }),
    row("vless_lifetime_upload_bytes", Gauge, "bytes", "Payload from clients of all processes together.", |view| {
        view.lifetime().up_bytes.into()
    }),
    row("vless_lifetime_download_bytes", Gauge, "bytes", "Payload to clients of all processes together.", |view| {
        view.lifetime().down_bytes.into()
    }),
    row("vless_config_last_reload_successful", Gauge, "", "1 if the last reload, or the start, went well.", |view| {
        u64::from(view.sample.last_reload.as_ref().is_none_or(|reload| reload.ok)).into()
    }),
    row(
        "vless_config_last_reload_success_timestamp_seconds",
        Gauge,
        "seconds",
        "When a configuration was last taken over.",
        |view| {
            let reload = view.sample.last_reload.as_ref().filter(|reload| reload.ok);
            reload.map_or(view.clock.started_at, |reload| reload.at).into()
        },
    ),
    row("vless_log_lines_dropped_total", Counter, "", "Log lines dropped because the log could not follow.", |view| {
        view.sample.log_lines_dropped.into()
    }),
    row("vless_state_writes_total", Counter, "", "Times the state file was written.", |view| {
        view.own.state_writes_total.into()
    }),
    row("vless_state_write_errors_total", Counter, "", "Times the state file could not be written.", |view| {
        view.own.state_write_errors_total.into()
    }),
    row(
        "vless_state_age_seconds",
        Gauge,
        "seconds",
        "Seconds since the state file last had everything: what a crash now would lose.",
        |view| view.own.state_age_seconds.into(),
    ),
    row("vless_alert_failures_total", Counter, "", "Alerts that could not be delivered.", |view| {
        view.own.alert_failures_total.into()
    }),
    row("vless_feed_clients", Gauge, "", "Readers of the live feed.", |view| view.own.feed_clients.into()),
    row(
        "vless_feed_clients_dropped_total",
        Counter,
        "",
        "Readers of the live feed dropped because they did not read or answer.",
        |view| view.own.feed_clients_dropped_total.into(),
    ),
    row("vless_monitor_clients", Gauge, "", "Connections to the monitoring interface, the feed's included.", |view| {
        view.own.clients.into()
    }),
    row("vless_monitor_clients_evicted_total", Counter, "", "Connections closed to make room for others.", |view| {
        view.own.clients_evicted_total.into()
    }),
    row(
        "vless_monitor_clients_over_share_total",
        Counter,
        "",
        "Connections from a source that had its share of the places: another of its connections was closed, or this one.",
        |view| view.own.clients_over_share_total.into(),
    ),
    row("vless_monitor_requests_total", Counter, "", "Requests to the monitoring interface.", |view| {
        view.own.requests_total.into()
    }),
    row("vless_auth_failures_total", Counter, "", "Requests to the monitoring interface with a wrong token.", |view| {
        view.own.auth_failures_total.into()
    }),
    row("process_cpu_seconds_total", Counter, "seconds", "Processor time used.", |view| {
        view.process.cpu.as_secs_f64().into()
    }),
    row("process_resident_memory_bytes", Gauge, "bytes", "Resident memory.", |view| view.process.memory_bytes.into()),
    row("process_virtual_memory_bytes", Gauge, "bytes", "Virtual memory.", |view| view.process.virtual_bytes.into()),
    row("process_open_fds", Gauge, "", "Open descriptors.", |view| view.process.descriptors.into()),
    row("process_max_fds", Gauge, "", "Descriptors that may be open.", |view| view.process.descriptors_max.into()),
    row("process_threads", Gauge, "", "Threads.", |view| view.process.threads.into()),
    row("process_start_time_seconds", Gauge, "seconds", "When the process started.", |view| {
        view.clock.started_at.into()
    }),
];

const fn row(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
    value: fn(&View) -> Number,
) -> Row {
    Row { name, kind, unit, help, source: Source::One(value) }
}

trait ToNumber {
    fn to_number(self) -> Number;
}

impl ToNumber for usize {
    fn to_number(self) -> Number {
        Number::Whole(self as u64)
    }
}

/// The rows of this table with their values, whole numbers only.
pub fn simple(view: &View) -> impl Iterator<Item = (&'static Row, u64)> {
    TABLE.iter().filter_map(|row| match row.source {
        Source::One(value) => match value(view) {
            Number::Whole(number) => Some((row, number)),
            Number::Real(_) => None,
        },
        Source::Many(_) | Source::Times(..) => None,
    })
}
