//! The access log: one line per session, as text or JSON.

use std::time::SystemTime;

use serde::Serialize;

use crate::app::clock::rfc3339;
use crate::app::config::{Log, LogFormat};
use crate::app::logging::{AccessLog, LogHandle};
use crate::reactor::Observer;
use crate::session::{Flow, SessionRecord};

/// Writes a line when a session ends, if the operator wants that.
pub struct AccessLines {
    /// `None`: no access log.
    pub log: Option<AccessLog>,
    pub format: LogFormat,
}

impl AccessLines {
    /// As `settings` want it.
    pub fn new(settings: &Log, log: &LogHandle) -> Self {
        Self { log: settings.access.then(|| log.access_log()), format: settings.format }
    }
}

impl Observer for AccessLines {
    fn on_closed(&self, record: SessionRecord) {
        log::debug!("{}: closed: {}", record.client, record.reason.name());
        if let Some(log) = &self.log {
            log.line(line(&record, SystemTime::now(), self.format));
        }
    }
}

/// What a line says; the order is that of the text form.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    client: String,
    /// Absent where no request was accepted.
    user: Option<&'a str>,
    target: Option<String>,
    flow: &'a str,
    uplink_bytes: u64,
    downlink_bytes: u64,
    /// Passed on as they came: without TLS, or after Vision had left it.
    uplink_direct_bytes: u64,
    downlink_direct_bytes: u64,
    /// Of the direct ones, those that the kernel moved.
    uplink_spliced_bytes: u64,
    downlink_spliced_bytes: u64,
    age_seconds: f64,
    reason: &'a str,
}

fn line(record: &SessionRecord, now: SystemTime, format: LogFormat) -> String {
    let line = Line {
        time: rfc3339(now),
        client: record.client.to_string(),
        user: record.user.as_ref().map(|user| user.email.as_str()),
        target: record.target.as_ref().map(ToString::to_string),
        flow: match record.flow {
            Flow::None => "none",
            Flow::Vision => "xtls-rprx-vision",
        },
        uplink_bytes: record.uplink.payload_bytes,
        downlink_bytes: record.downlink.payload_bytes,
        uplink_direct_bytes: record.uplink.unchanged_bytes,
        downlink_direct_bytes: record.downlink.unchanged_bytes,
        uplink_spliced_bytes: record.uplink.spliced_bytes,
        downlink_spliced_bytes: record.downlink.spliced_bytes,
        age_seconds: (record.age.as_secs_f64() * 1000.0).round() / 1000.0,
        reason: record.reason.name(),
    };
    match format {
        // A struct of strings and numbers always becomes JSON.
        LogFormat::Json => serde_json::to_string(&line).unwrap_or_default(),
        LogFormat::Text => format!(
            "{} access {} user={} target={} flow={} up={} down={} direct={}/{} spliced={}/{} age={:.3}s {}",
            line.time,
            line.client,
            line.user.unwrap_or("-"),
            line.target.as_deref().unwrap_or("-"),
            line.flow,
            line.uplink_bytes,
            line.downlink_bytes,
            line.uplink_direct_bytes,
            line.downlink_direct_bytes,
            line.uplink_spliced_bytes,
            line.downlink_spliced_bytes,
            line.age_seconds,
            line.reason,
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::session::close::CloseReason;
    use crate::session::transfer::Moved;

    fn record() -> SessionRecord {
        SessionRecord {
            client: "192.0.2.1:4000".parse().unwrap(),
            user: None,
            target: None,
            flow: Flow::None,
            uplink: Moved { payload_bytes: 12, unchanged_bytes: 10, spliced_bytes: 7 },
            downlink: Moved { payload_bytes: 34, unchanged_bytes: 30, spliced_bytes: 9 },
            age: Duration::from_millis(1500),
            reason: CloseReason::UnknownUser,
        }
    }

    #[test]
    fn a_text_line_has_every_field() {
        let text = line(&record(), UNIX_EPOCH, LogFormat::Text);
        assert_eq!(
            text,
            "1970-01-01T00:00:00.000Z access 192.0.2.1:4000 user=- target=- flow=none up=12 down=34 direct=10/30 \
             spliced=7/9 age=1.500s unknown_user"
        );
    }

    #[test]
    fn a_json_line_is_an_object_of_numbers_and_names() {
        let value: serde_json::Value = serde_json::from_str(&line(&record(), UNIX_EPOCH, LogFormat::Json)).unwrap();
        assert_eq!(value["downlink_spliced_bytes"], 9);
        assert_eq!(value["user"], serde_json::Value::Null);
        assert_eq!(value["reason"], "unknown_user");
    }
}
