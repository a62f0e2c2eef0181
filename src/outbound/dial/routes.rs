//! For which families the host has a route to the internet, asked of the kernel now and then.

use std::time::{Duration, Instant};

use crate::outbound::policy;
use crate::outbound::resolve::Family;

/// For which families the host has a route to the internet.
#[derive(Debug, Default)]
pub(super) struct Routes {
    v4: bool,
    v6: bool,
    checked: Option<Instant>,
}

/// How long an answer about routes is believed; a host may get its IPv6 address after we started.
const ROUTES_CHECK_INTERVAL: Duration = Duration::from_secs(30);

impl Routes {
    /// The families to look up, the preferred one first.
    pub(super) fn families(&mut self, now: Instant) -> &'static [Family] {
        if self.checked.is_none_or(|checked| now.saturating_duration_since(checked) >= ROUTES_CHECK_INTERVAL) {
            self.checked = Some(now);
            self.v4 = policy::has_route(policy::IPV4_PROBE);
            self.v6 = policy::has_route(policy::IPV6_PROBE);
        }
        match (self.v4, self.v6) {
            (true, false) => &[Family::V4],
            (false, true) => &[Family::V6],
            // Without any route there may still be local targets.
            _ => &[Family::V6, Family::V4],
        }
    }
}
