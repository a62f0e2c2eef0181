//! Which keys differ between two configurations.

use serde_json::Value;

use super::Config;

impl Config {
    /// The keys outside the lists of accounts whose values differ, sorted by name.
    pub fn changed_keys(&self, other: &Self) -> Vec<String> {
        let of = |config: &Self| serde_json::to_value(&config.source).unwrap_or_default();
        let mut changed = Vec::new();
        differ(&of(self), &of(other), "", &mut changed);
        changed.retain(|key| key != "users");
        changed
    }
}

fn differ(one: &Value, other: &Value, path: &str, changed: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let dot = if path.is_empty() { "" } else { "." };
            for (key, value) in one {
                differ(value, other.get(key).unwrap_or(&Value::Null), &format!("{path}{dot}{key}"), changed);
            }
        }
        (one, other) if one != other => changed.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn keys_that_differ_are_named_and_accounts_are_not() {
        let parsed = |rest: &str, id: &str| {
            let text = format!(r#"{{ "users": [ {{ "uuid": "{id}" }} ], {rest} }}"#);
            Config::parse(&text, Path::new("config.json")).unwrap()
        };
        let old = parsed(r#""timeouts": { "idle": 5 }, "outbound": { "deny_ports": [25] }"#, "a");
        let new =
            parsed(r#""timeouts": { "idle": 6 }, "outbound": { "deny_ports": [], "dns": { "timeout": 9 } }"#, "b");
        assert_eq!(old.changed_keys(&new), ["outbound.deny_ports", "outbound.dns.timeout", "timeouts.idle"]);
        assert_eq!(old.changed_keys(&old), Vec::<String>::new());
    }
}
