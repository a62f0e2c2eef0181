//! What a reload changes, in words.
//!
//! Pure: two configurations and two lists of certificates in, lines for log, event and answer out.

use std::collections::HashMap;

use crate::app::certs::LoadedCertificate;
use crate::app::config::{Config, User};
use crate::protocol::user_id::mask;

/// Keys that are read at the start only.
const START_ONLY: [&str; 23] = [
    "server.workers",
    "performance.splice",
    "performance.buffer_memory_max",
    "performance.tcp_nodelay",
    "performance.tcp_recv_buffer",
    "performance.tcp_send_buffer",
    "connection_pool.enable_warmup",
    "connection_pool.warmup_connections",
    "connection_pool.warmup_targets",
    "monitoring.enabled",
    "monitoring.listen",
    "monitoring.port",
    "monitoring.socket",
    "monitoring.state_file",
    "monitoring.metrics_users",
    "cluster.url",
    "cluster.node",
    "cluster.prefix",
    "cluster.interval",
    "cluster.lease_bytes",
    "cluster.away",
    "cluster.ca_file",
    "cluster.folder",
];

/// What was changed, and what was not although the file says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Such as `users +1 -0`, `certificate replaced`, `timeouts.idle`.
    pub(super) said: Vec<String>,
    /// Keys whose new values hold only after a restart.
    pub(super) needs_restart: Vec<String>,
}

impl Changes {
    /// All of it on one line.
    pub(super) fn line(&self) -> String {
        let said = if self.said.is_empty() { "nothing changed".to_owned() } else { self.said.join(", ") };
        if self.needs_restart.is_empty() {
            return said;
        }
        format!("{said}; after a restart only: {}", self.needs_restart.join(", "))
    }
}

/// The changes from one configuration to another.
pub(super) fn changes(old: (&Config, &[LoadedCertificate]), new: (&Config, &[LoadedCertificate])) -> Changes {
    let mut said = Vec::new();
    said.extend(users(&old.0.users, &new.0.users));
    said.extend(certificates(old.1, new.1));
    let (needs_restart, now): (Vec<_>, Vec<_>) =
        old.0.changed_keys(new.0).into_iter().partition(|key| START_ONLY.contains(&key.as_str()));
    said.extend(now);
    Changes { said, needs_restart }
}

/// Accounts by id: who changes the name stays the same account.
fn users(old: &[User], new: &[User]) -> Option<String> {
    let by_id = |users: &[User]| users.iter().map(|user| (mask(user.id), user.clone())).collect::<HashMap<_, _>>();
    let (old, new) = (by_id(old), by_id(new));
    let added = new.keys().filter(|id| !old.contains_key(*id)).count();
    let removed = old.keys().filter(|id| !new.contains_key(*id)).count();
    let changed = new.iter().filter(|(id, user)| old.get(*id).is_some_and(|known| known != *user)).count();
    let changed_words = if changed > 0 { format!(", {changed} changed") } else { String::new() };
    (added + removed + changed > 0).then(|| format!("users +{added} -{removed}{changed_words}"))
}

fn certificates(old: &[LoadedCertificate], new: &[LoadedCertificate]) -> Option<String> {
    let prints = |list: &[LoadedCertificate]| list.iter().map(|one| one.fingerprint).collect::<Vec<_>>();
    let (before, after) = (prints(old), prints(new));
    let added = after.iter().filter(|print| !before.contains(print)).count();
    let removed = before.iter().filter(|print| !after.contains(print)).count();
    match (added, removed) {
        (0, 0) => None,
        (1, 1) => Some("certificate replaced".to_owned()),
        (added, removed) => Some(format!("certificates +{added} -{removed}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    fn config(users: &[(&str, &str)], rest: &str) -> Config {
        let users =
            users.iter().map(|(id, email)| format!(r#"{{ "uuid": "{id}", "email": "{email}" }}"#)).collect::<Vec<_>>();
        let text = format!(r#"{{ "users": [ {} ] {rest} }}"#, users.join(","));
        Config::parse(&text, Path::new("config.json")).unwrap()
    }

    #[test]
    fn users_are_counted_by_id() {
        let old = config(&[("a", "a"), ("b", "b"), ("c", "c")], "");
        let new = config(&[("a", "renamed"), ("b", "b"), ("d", "d")], "");
        assert_eq!(changes((&old, &[]), (&new, &[])).said, ["users +1 -1, 1 changed"]);
        assert_eq!(changes((&old, &[]), (&old, &[])).line(), "nothing changed");
    }

    #[test]
    fn what_needs_a_restart_is_apart() {
        let old = config(&[("a", "a")], "");
        let new = config(
            &[("a", "a")],
            r#", "timeouts": { "idle": 5 }, "server": { "workers": 3 }, "monitoring": { "port": 1 }"#,
        );
        let found = changes((&old, &[]), (&new, &[]));
        assert_eq!(found.said, ["timeouts.idle"]);
        assert_eq!(found.needs_restart, ["monitoring.port", "server.workers"]);
        assert_eq!(found.line(), "timeouts.idle; after a restart only: monitoring.port, server.workers");
    }
}
