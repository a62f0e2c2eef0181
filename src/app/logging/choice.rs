//! What the operator wants to see of the log, and in which form. Both may change while the process runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use log::LevelFilter;

use crate::app::clock::rfc3339;
use crate::app::config::{Log as LogSettings, LogFormat};

/// Everything we log has this target.
pub(super) const OUR_TARGET: &str = "vless_rust";

/// What the operator wants to see and how; shared by all who write.
#[derive(Clone)]
pub(super) struct Choice(Arc<(AtomicUsize, AtomicBool)>);

impl Choice {
    pub(super) fn new(level: LevelFilter, format: LogFormat) -> Self {
        Self(Arc::new((AtomicUsize::new(level as usize), AtomicBool::new(format == LogFormat::Json))))
    }

    pub(super) fn set(&self, settings: &LogSettings) {
        self.0.0.store(settings.level as usize, Ordering::Relaxed);
        self.0.1.store(settings.format == LogFormat::Json, Ordering::Relaxed);
    }

    pub(super) fn format(&self) -> LogFormat {
        if self.0.1.load(Ordering::Relaxed) { LogFormat::Json } else { LogFormat::Text }
    }

    pub(super) fn shows(&self, level: log::Level) -> bool {
        level as usize <= self.0.0.load(Ordering::Relaxed)
    }
}

/// One JSON object per record. simplelog has no such format.
pub(super) fn json_line(level: &str, target: &str, message: &str) -> String {
    let time = rfc3339(SystemTime::now());
    serde_json::json!({ "time": time, "level": level, "target": target, "message": message }).to_string()
}
