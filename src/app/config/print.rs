//! The effective configuration as text, without secrets. Owns what is masked and how.

use serde_json::Value;

use super::keys::{File, RawFile};
use super::merged::User;
use super::section::Section;
use super::users_file::user_json;

/// `file` with the parts that checks computed (`users`), secrets masked, indented.
pub(super) fn effective_json(file: &RawFile, users: &[User]) -> String {
    let mut value = serde_json::to_value(file).unwrap_or_default();
    for row in File::rows("").iter().filter(|row| row.is_secret) {
        let place = row.key.split('.').try_fold(&mut value, |value, name| value.get_mut(name));
        if let Some(secret) = place.filter(|secret| !secret.is_null()) {
            *secret = Value::from("********");
        }
    }
    value["users"] = users
        .iter()
        .map(|user| {
            let mut shown = user_json(user);
            shown["uuid"] = user.masked_id().into();
            shown["flow"] = user.flow.as_str().into();
            shown
        })
        .collect();
    format!("{value:#}")
}
