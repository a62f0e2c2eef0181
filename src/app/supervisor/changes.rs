//! What a reload changes, in words.
//!
//! Pure: two configurations and two lists of certificates in, lines for log, event and answer out.

use std::collections::HashMap;
use std::fmt;

use serde_json::{Value, json};

use crate::app::certs::LoadedCertificate;
use crate::app::config::{ChangedKey, Config, User};
use crate::protocol::user_id::mask;

/// Keys that are read at the start only.
const START_ONLY: [&str; 20] = [
    "server.workers",
    "performance.splice",
    "performance.buffer_memory_max",
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
    pub(super) said: Vec<Said>,
    /// Keys whose new values hold only after a restart.
    pub(super) needs_restart: Vec<String>,
}

/// One thing that a reload changed. `Display` is for people, [`Said::data`] for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Users { added: usize, removed: usize, changed: usize },
    Certificates { added: usize, removed: usize },
    Key(ChangedKey),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Users { added, removed, changed: 0 } => write!(f, "users +{added} -{removed}"),
            Self::Users { added, removed, changed } => write!(f, "users +{added} -{removed}, {changed} changed"),
            Self::Certificates { added: 1, removed: 1 } => f.write_str("certificate replaced"),
            Self::Certificates { added, removed } => write!(f, "certificates +{added} -{removed}"),
            Self::Key(ChangedKey { key, values: None }) => f.write_str(key),
            Self::Key(ChangedKey { key, values: Some((old, new)) }) => write!(f, "{key} {old} -> {new}"),
        }
    }
}

impl Said {
    pub(super) fn data(&self) -> Value {
        match self {
            Self::Users { added, removed, changed } => {
                json!({ "code": "users", "added": added, "removed": removed, "changed": changed })
            }
            Self::Certificates { added: 1, removed: 1 } => json!({ "code": "certificate_replaced" }),
            Self::Certificates { added, removed } => {
                json!({ "code": "certificates", "added": added, "removed": removed })
            }
            Self::Key(ChangedKey { key, values: None }) => json!({ "code": "key", "key": key }),
            Self::Key(ChangedKey { key, values: Some((old, new)) }) => {
                json!({ "code": "key", "key": key, "from": old, "to": new })
            }
        }
    }
}

impl Changes {
    /// Such as `users +1 -0`, `certificate replaced`, `timeouts.idle 300 -> 60`.
    pub(super) fn words(&self) -> Vec<String> {
        self.said.iter().map(ToString::to_string).collect()
    }

    /// All of it for programs, and in words.
    pub(super) fn data(&self) -> Value {
        let changed: Vec<_> = self.said.iter().map(Said::data).collect();
        json!({ "changes": self.words(), "changed": changed, "needs_restart": self.needs_restart })
    }

    /// All of it on one line.
    pub(super) fn line(&self) -> String {
        let said = if self.said.is_empty() { "nothing changed".to_owned() } else { self.words().join(", ") };
        if self.needs_restart.is_empty() {
            return said;
        }
        format!("{said}; after a restart only: {}", self.needs_restart.join(", "))
    }
}

/// The changes from one configuration to another. What is read at the start only is compared with `started`, the
/// configuration of the start: it needs a restart as long as it differs from that.
pub(super) fn changes(
    old: (&Config, &[LoadedCertificate]),
    new: (&Config, &[LoadedCertificate]),
    started: &Config,
) -> Changes {
    let is_of_start = |changed: &ChangedKey| START_ONLY.contains(&changed.key.as_str());
    let mut said = Vec::new();
    said.extend(users(&old.0.users, &new.0.users));
    said.extend(certificates(old.1, new.1));
    said.extend(old.0.changed_keys(new.0).into_iter().filter(|changed| !is_of_start(changed)).map(Said::Key));
    let later = started.changed_keys(new.0).into_iter().filter(is_of_start);
    Changes { said, needs_restart: later.map(|changed| changed.key).collect() }
}

/// Accounts by id: who changes the name stays the same account.
fn users(old: &[User], new: &[User]) -> Option<Said> {
    let by_id = |users: &[User]| users.iter().map(|user| (mask(user.id), user.clone())).collect::<HashMap<_, _>>();
    let (old, new) = (by_id(old), by_id(new));
    let added = new.keys().filter(|id| !old.contains_key(*id)).count();
    let removed = old.keys().filter(|id| !new.contains_key(*id)).count();
    let changed = new.iter().filter(|(id, user)| old.get(*id).is_some_and(|known| known != *user)).count();
    (added + removed + changed > 0).then_some(Said::Users { added, removed, changed })
}

fn certificates(old: &[LoadedCertificate], new: &[LoadedCertificate]) -> Option<Said> {
    let prints = |list: &[LoadedCertificate]| list.iter().map(|one| one.fingerprint).collect::<Vec<_>>();
    let (before, after) = (prints(old), prints(new));
    let added = after.iter().filter(|print| !before.contains(print)).count();
    let removed = before.iter().filter(|print| !after.contains(print)).count();
    (added + removed > 0).then_some(Said::Certificates { added, removed })
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
        assert_eq!(changes((&old, &[]), (&new, &[]), &old).words(), ["users +1 -1, 1 changed"]);
        assert_eq!(changes((&old, &[]), (&old, &[]), &old).line(), "nothing changed");
    }

    #[test]
    fn programs_are_told_the_same_by_codes() {
        let (old, new) =
            (config(&[("a", "a")], ""), config(&[("a", "a"), ("b", "b")], r#", "timeouts": { "idle": 5 }"#));
        let data = changes((&old, &[]), (&new, &[]), &old).data();
        let users = json!({ "code": "users", "added": 1, "removed": 0, "changed": 0 });
        assert_eq!(data["changed"], json!([users, { "code": "key", "key": "timeouts.idle", "from": 300, "to": 5 }]));
        assert_eq!(data["changes"], json!(["users +1 -0", "timeouts.idle 300 -> 5"]));
        let both = [Said::Certificates { added: 1, removed: 1 }, Said::Certificates { added: 2, removed: 0 }];
        assert_eq!(both.each_ref().map(ToString::to_string), ["certificate replaced", "certificates +2 -0"]);
        assert_eq!(both[0].data(), json!({ "code": "certificate_replaced" }));
    }

    #[test]
    fn what_needs_a_restart_is_apart() {
        let old = config(&[("a", "a")], "");
        let new = config(
            &[("a", "a")],
            r#", "timeouts": { "idle": 5 }, "server": { "workers": 3 }, "monitoring": { "port": 1 }"#,
        );
        let found = changes((&old, &[]), (&new, &[]), &old);
        assert_eq!(found.words(), ["timeouts.idle 300 -> 5"]);
        assert_eq!(found.needs_restart, ["monitoring.port", "server.workers"]);
        assert_eq!(found.line(), "timeouts.idle 300 -> 5; after a restart only: monitoring.port, server.workers");
        // The next reload says it again, unless what the server was started with is back.
        let again = changes((&new, &[]), (&new, &[]), &old);
        assert_eq!(again.line(), "nothing changed; after a restart only: monitoring.port, server.workers");
        assert_eq!(changes((&new, &[]), (&old, &[]), &old).line(), "timeouts.idle 5 -> 300");
    }
}
