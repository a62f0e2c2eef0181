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
    mask_webhooks(&mut value);
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

/// Whoever knows the address of a webhook may use it: its host is shown alone.
fn mask_webhooks(value: &mut Value) {
    let alerts = value["monitoring"]["alerts"].as_array_mut().into_iter().flatten();
    let receivers = alerts.filter_map(|alert| alert["to"].as_array_mut()).flatten();
    for webhook in receivers.filter_map(|receiver| receiver.get_mut("webhook")) {
        let shown = webhook.as_str().map(masked_url);
        *webhook = shown.unwrap_or_else(|| "********".to_owned()).into();
    }
}

fn masked_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "********".to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let secret = if path.trim_matches('/').is_empty() { path } else { "/********" };
    format!("{scheme}://{host}{secret}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_webhook_only_the_host_is_shown() {
        for (url, shown) in [
            ("https://hooks.example.com/services/T0/B1/secret?x=1", "https://hooks.example.com/********"),
            ("https://user:secret@hooks.example.com:8443/", "https://hooks.example.com:8443/"),
            ("http://127.0.0.1:9?token=secret", "http://127.0.0.1:9/********"),
            ("secret", "********"),
        ] {
            assert_eq!(masked_url(url), shown);
        }
    }
}
