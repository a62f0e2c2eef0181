//! The effective configuration as text, without secrets. Owns what is masked and how.

use serde_json::{Value, json};

use super::schema::File;
use super::settings::User;

/// `file` with the parts that checks computed (`users`), secrets masked, indented.
pub(super) fn effective_json(file: &File, users: &[User]) -> String {
    let mut file = file.clone();
    for token in [&mut file.monitoring.token, &mut file.monitoring.admin_token] {
        *token = token.take().map(|_| "********".to_owned());
    }
    let mut value = serde_json::to_value(&file).unwrap_or_default();
    value["users"] = users
        .iter()
        .map(|user| json!({ "uuid": user.masked_id(), "email": user.email, "flow": user.flow.as_str() }))
        .collect::<Value>();
    format!("{value:#}")
}
