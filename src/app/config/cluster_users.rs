//! The accounts of the cluster: the same keys as in the files, and the same checks.
//!
//! A record may come from a newer version of this program; keys that are not known here are left out.

use std::path::Path;

use serde_json::{Value, json};

use super::keys::UserKeys;
use super::merged::{Origin, User};
use super::section::Section;
use super::settings::Flow;
use super::users_file::UsersFile;

/// The account that `record` means; `flow_with_tls` as in [`super::Config`].
///
/// # Errors
/// What is wrong with it, in words without the id.
pub fn cluster_user(record: &Value, flow_with_tls: Option<Flow>) -> Result<User, String> {
    if record["email"].as_str().is_none_or(str::is_empty) {
        return Err("email: a name is needed".to_owned());
    }
    let text = json!({ "version": 1, "users": [known_keys(record)] }).to_string();
    let file = UsersFile::parse(&text, Path::new("the cluster"), flow_with_tls).map_err(|errors| {
        let lines = errors.0.iter().map(|error| {
            let key = error.path.split_once("].").map_or(error.path.as_str(), |(_, key)| key);
            format!("{key}: {}", error.message)
        });
        lines.collect::<Vec<_>>().join("; ")
    })?;
    let user = file.users.into_iter().next().ok_or_else(|| "no account".to_owned())?;
    Ok(User { origin: Origin::Cluster, ..user })
}

fn known_keys(record: &Value) -> Value {
    let rows = UserKeys::rows("");
    let is_known = |key: &str| {
        let below = format!("{key}.");
        rows.iter().any(|row| row.key == key || row.key.starts_with(&below))
    };
    let Value::Object(members) = record else { return Value::Null };
    let known = members.iter().filter(|(key, _)| is_known(key)).map(|(key, value)| match value {
        Value::Object(inner) => {
            let inner = inner.iter().filter(|(name, _)| is_known(&format!("{key}.{name}")));
            (key.clone(), Value::Object(inner.map(|(name, value)| (name.clone(), value.clone())).collect()))
        }
        value => (key.clone(), value.clone()),
    });
    Value::Object(known.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::app::config::user_json;

    #[test]
    fn a_record_is_an_account_whatever_a_newer_version_has_put_into_it() {
        let record = json!({ "format": 2, "masked_id": "x", "uuid": "example", "email": "a", "colour": "blue",
            "limits": { "quota_bytes": 5, "moons": 3 } });
        let user = cluster_user(&record, Some(Flow::Vision)).unwrap();
        assert_eq!((user.origin, user.limits.quota_bytes, user.flow), (Origin::Cluster, 5, Flow::Vision));
        let again = cluster_user(&user_json(&user), Some(Flow::Vision)).unwrap();
        assert_eq!(again, user);
    }

    #[test]
    fn what_is_wrong_is_told_without_the_id() {
        let wrong = |record: Value| cluster_user(&record, None).unwrap_err();
        assert!(wrong(json!({ "uuid": "example" })).contains("email"));
        let message = wrong(json!({ "uuid": "secret text that is far too long to be an id", "email": "a" }));
        assert!(message.contains("uuid") && !message.contains("secret"), "{message}");
        assert!(
            wrong(json!({ "uuid": "e", "email": "a", "limits": { "quota_day": 31 } })).contains("limits.quota_day")
        );
    }
}
