//! Which keys differ between two configurations, and how.

use serde_json::Value;

use super::Config;
use super::error::is_id;
use super::keys::File;
use super::section::Section;

/// A longer value says less than its key.
const VALUE_CHARS_MAX: usize = 80;

/// A key whose value another configuration has otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedKey {
    /// Such as `timeouts.idle`.
    pub key: String,
    /// The old value and the new one, as JSON; `None` where they may be secret, or are too long to be told.
    pub values: Option<(Value, Value)>,
}

impl Config {
    /// The keys outside the lists of accounts whose values differ in `other`, the newer one, sorted by name.
    pub fn changed_keys(&self, other: &Self) -> Vec<ChangedKey> {
        let of = |config: &Self| serde_json::to_value(&config.source).unwrap_or_default();
        let mut changed = Vec::new();
        differ(&of(self), &of(other), "", &mut changed);
        changed.retain(|changed| changed.key != "users");
        let rows = File::rows("");
        // A key that has no row is a list of objects, which are named only.
        let is_told = |key: &str| rows.iter().any(|row| row.key == key && !row.is_secret);
        for changed in &mut changed {
            let is_told = is_told(&changed.key);
            changed.values.take_if(|(old, new)| !(is_told && may_be_told(old) && may_be_told(new)));
        }
        changed
    }
}

fn differ(one: &Value, other: &Value, path: &str, changed: &mut Vec<ChangedKey>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let dot = if path.is_empty() { "" } else { "." };
            for (key, value) in one {
                differ(value, other.get(key).unwrap_or(&Value::Null), &format!("{path}{dot}{key}"), changed);
            }
        }
        (one, other) if one != other => {
            changed.push(ChangedKey { key: path.to_owned(), values: Some((one.clone(), other.clone())) });
        }
        _ => {}
    }
}

/// An id or a token that stands in the place of something else by mistake stays untold.
fn may_be_told(value: &Value) -> bool {
    let is_secret = |value: &Value| value.as_str().is_some_and(is_id);
    let has_secret = is_secret(value) || value.as_array().is_some_and(|list| list.iter().any(is_secret));
    !has_secret && value.to_string().chars().count() <= VALUE_CHARS_MAX
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn parsed(rest: &str, id: &str) -> Config {
        let text = format!(r#"{{ "users": [ {{ "uuid": "{id}" }} ], {rest} }}"#);
        Config::parse(&text, Path::new("config.json")).unwrap()
    }

    #[test]
    fn keys_that_differ_are_named_and_accounts_are_not() {
        let old = parsed(r#""timeouts": { "idle": 5 }, "outbound": { "deny_ports": [25] }"#, "a");
        let new =
            parsed(r#""timeouts": { "idle": 6 }, "outbound": { "deny_ports": [], "dns": { "timeout": 9 } }"#, "b");
        let keys: Vec<_> = old.changed_keys(&new).into_iter().map(|changed| changed.key).collect();
        assert_eq!(keys, ["outbound.deny_ports", "outbound.dns.timeout", "timeouts.idle"]);
        assert_eq!(old.changed_keys(&old), Vec::new());
    }

    #[test]
    fn values_are_told_unless_they_are_secret_or_long() {
        let long = format!(r#""tls": {{ "alpn": ["{}"] }}"#, "a".repeat(100));
        for (old, new, values) in [
            (r#""log": { "level": "info" }"#, r#""log": { "level": "debug" }"#, Some((json!("info"), json!("debug")))),
            (r#""outbound": {}"#, r#""outbound": { "deny_ports": [] }"#, Some((json!([25]), json!([])))),
            (r#""server": {}"#, r#""server": { "public_ip": "a.test" }"#, Some((json!(null), json!("a.test")))),
            (r#""monitoring": { "token": "first" }"#, r#""monitoring": { "token": "second" }"#, None),
            (r#""monitoring": {}"#, r#""monitoring": { "admin_token": "second" }"#, None),
            (r#""cluster": {}"#, r#""cluster": { "url": "redis://:hidden@a.test" }"#, None),
            (r#""server": {}"#, r#""server": { "public_ip": "b831381d-6324-4d53-ad4f-8cda48b30811" }"#, None),
            (r#""fallbacks": []"#, r#""fallbacks": [ { "dest": 80 } ]"#, None),
            (r#""tls": {}"#, long.as_str(), None),
        ] {
            let changed = parsed(old, "a").changed_keys(&parsed(new, "a"));
            assert_eq!(changed.len(), 1, "{new}");
            assert_eq!(changed[0].values, values, "{new}");
        }
    }
}
