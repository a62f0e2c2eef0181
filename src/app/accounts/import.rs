//! Accounts from other panels: what their exports say, in our words.
//!
//! Reads the JSON of 3x-ui (its list of inbounds, as its API and export give it) and of Marzban (its list of users). It
//! only reads: what comes out are wishes for [`super::change::apply`], and what an account has used there.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::clock::rfc3339;

const DAY_SECONDS: u64 = 86_400;

/// An account that another panel had.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// For [`super::change::Change::Add`]; its id is a credential.
    pub values: Value,
    /// Payload bytes of both directions in the present period.
    pub used_bytes: u64,
}

/// Why a text holds no accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportError {
    NotJson(String),
    /// It is neither of the two forms.
    Unknown,
    /// It is one of them and has no VLESS account.
    Empty,
}

/// Reads the accounts in `text`.
///
/// # Errors
/// When there are none to be had.
pub fn read(text: &str) -> Result<Vec<Imported>, ImportError> {
    let json: Value = serde_json::from_str(text).map_err(|error| ImportError::NotJson(error.to_string()))?;
    let found = inbounds(&json).map(|inbounds| from_inbounds(&inbounds));
    let found = found.or_else(|| marzban_users(&json).map(|users| from_marzban(&users)));
    match found {
        None => Err(ImportError::Unknown),
        Some(accounts) if accounts.is_empty() => Err(ImportError::Empty),
        Some(accounts) => Ok(accounts),
    }
}

/// One inbound of 3x-ui. Its settings are JSON inside a text, or an object in newer exports.
#[derive(Deserialize)]
struct Inbound {
    protocol: String,
    settings: Value,
    #[serde(default, rename = "clientStats")]
    stats: Option<Vec<ClientStats>>,
}

#[derive(Deserialize)]
struct InboundSettings {
    #[serde(default)]
    clients: Vec<Client>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Client {
    id: String,
    email: String,
    #[serde(default)]
    flow: String,
    #[serde(default, rename = "limitIp")]
    addresses_max: i64,
    /// Bytes, whatever the name says.
    #[serde(default, rename = "totalGB")]
    quota_bytes: i64,
    /// Milliseconds since 1970; negative: milliseconds after first use; 0: never.
    #[serde(default)]
    expiry_time: i64,
    #[serde(default = "yes")]
    enable: bool,
    #[serde(default)]
    comment: String,
}

#[derive(Deserialize)]
struct ClientStats {
    email: String,
    #[serde(default)]
    up: u64,
    #[serde(default)]
    down: u64,
}

fn inbounds(json: &Value) -> Option<Vec<Inbound>> {
    // The API wraps the list; an export of one inbound is the inbound itself.
    let list = json.get("obj").unwrap_or(json);
    let list = if list.get("protocol").is_some() { Value::Array(vec![list.clone()]) } else { list.clone() };
    serde_json::from_value(list).ok().filter(|inbounds: &Vec<Inbound>| !inbounds.is_empty())
}

fn from_inbounds(inbounds: &[Inbound]) -> Vec<Imported> {
    let mut accounts = Vec::new();
    for inbound in inbounds.iter().filter(|inbound| inbound.protocol == "vless") {
        let settings = match &inbound.settings {
            Value::String(text) => serde_json::from_str(text),
            other => serde_json::from_value(other.clone()),
        };
        let Ok(InboundSettings { clients }) = settings else { continue };
        let stats = inbound.stats.as_deref().unwrap_or_default();
        accounts.extend(clients.iter().map(|client| Imported {
            values: client.values(),
            used_bytes: stats.iter().find(|one| one.email == client.email).map_or(0, |one| one.up + one.down),
        }));
    }
    accounts
}

impl Client {
    fn values(&self) -> Value {
        let after_ms = u64::try_from(self.expiry_time.saturating_neg()).unwrap_or(0);
        let at = u64::try_from(self.expiry_time).ok().filter(|ms| *ms > 0).map(|ms| date(ms / 1000));
        json!({
            "uuid": self.id,
            "email": self.email,
            "flow": self.flow,
            "enabled": self.enable,
            "note": self.comment,
            "limits": {
                "quota_bytes": self.quota_bytes.max(0),
                "expires_at": at,
                "expires_after_days": after_ms.div_ceil(1000 * DAY_SECONDS),
                "addresses_max": self.addresses_max.max(0),
            },
        })
    }
}

/// One user of Marzban.
#[derive(Deserialize)]
struct MarzbanUser {
    username: String,
    proxies: Value,
    #[serde(default)]
    expire: Option<u64>,
    #[serde(default)]
    data_limit: Option<u64>,
    #[serde(default)]
    data_limit_reset_strategy: Option<String>,
    #[serde(default)]
    used_traffic: u64,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    note: Option<String>,
    /// Seconds after first use.
    #[serde(default)]
    on_hold_expire_duration: Option<u64>,
}

fn marzban_users(json: &Value) -> Option<Vec<MarzbanUser>> {
    let list = json.get("users").unwrap_or(json);
    serde_json::from_value(list.clone()).ok().filter(|users: &Vec<MarzbanUser>| !users.is_empty())
}

fn from_marzban(users: &[MarzbanUser]) -> Vec<Imported> {
    let accounts = users.iter().filter_map(|user| {
        let vless = user.proxies.get("vless")?;
        let hold = user.on_hold_expire_duration.filter(|_| user.status.as_deref() == Some("on_hold"));
        let period = user.data_limit_reset_strategy.as_deref().filter(|word| matches!(*word, "day" | "week" | "month"));
        let values = json!({
            "uuid": vless.get("id")?.as_str()?,
            "email": user.username,
            "flow": vless.get("flow").and_then(Value::as_str).unwrap_or_default(),
            "enabled": user.status.as_deref() != Some("disabled"),
            "note": user.note.as_deref().unwrap_or_default(),
            "limits": {
                "quota_bytes": user.data_limit.unwrap_or(0),
                "quota_period": period.unwrap_or("none"),
                "expires_at": user.expire.filter(|at| *at > 0).map(date),
                "expires_after_days": hold.unwrap_or(0).div_ceil(DAY_SECONDS),
            },
        });
        Some(Imported { values, used_bytes: user.used_traffic })
    });
    accounts.collect()
}

fn date(seconds: u64) -> String {
    rfc3339(UNIX_EPOCH + Duration::from_secs(seconds))
}

fn yes() -> bool {
    true
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(error) => write!(f, "it is not JSON: {error}"),
            Self::Unknown => f.write_str(
                "it is neither a list of inbounds of 3x-ui (GET /panel/api/inbounds/list) nor a list of users of Marzban \
                 (GET /api/users)",
            ),
            Self::Empty => f.write_str("it has no VLESS account"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5783a3e7-e373-51cd-8642-c83782b807c5";

    #[test]
    fn inbounds_of_3x_ui_become_accounts() {
        let clients = format!(
            r#"{{"clients":[{{"id":"{ID}","email":"ann","flow":"xtls-rprx-vision","limitIp":2,"totalGB":1073741824,
            "expiryTime":1767225600000,"enable":false,"comment":"hers","tgId":"","subId":"x","reset":0}},
            {{"id":"{ID}","email":"bob","expiryTime":-2592000000}}]}}"#
        );
        let text = serde_json::json!({ "success": true, "obj": [
            { "protocol": "vmess", "settings": "{}" },
            { "protocol": "vless", "settings": clients, "port": 443,
              "clientStats": [{ "email": "ann", "up": 10, "down": 20, "total": 5 }] },
        ] });
        let accounts = read(&text.to_string()).unwrap();
        let [ann, bob] = &accounts[..] else { panic!("two accounts") };
        assert_eq!((&ann.values["email"], &ann.values["uuid"], ann.used_bytes), (&json!("ann"), &json!(ID), 30));
        assert_eq!((&ann.values["enabled"], &ann.values["note"]), (&json!(false), &json!("hers")));
        assert_eq!(ann.values["flow"], "xtls-rprx-vision");
        let limits = json!({ "quota_bytes": 1 << 30, "expires_at": "2026-01-01T00:00:00.000Z", "expires_after_days": 0,
            "addresses_max": 2 });
        assert_eq!(ann.values["limits"], limits);
        assert_eq!((&bob.values["limits"]["expires_after_days"], &bob.values["flow"]), (&json!(30), &json!("")));
    }

    #[test]
    fn one_exported_inbound_is_enough() {
        let text =
            serde_json::json!({ "protocol": "vless", "settings": { "clients": [{ "id": ID, "email": "ann" }] } });
        assert_eq!(read(&text.to_string()).unwrap().len(), 1);
    }

    #[test]
    fn users_of_marzban_become_accounts() {
        let text = serde_json::json!({ "total": 3, "users": [
            { "username": "ann", "proxies": { "vless": { "id": ID, "flow": "xtls-rprx-vision" } }, "expire": 1_767_225_600,
              "data_limit": 5, "data_limit_reset_strategy": "month", "used_traffic": 3, "status": "active", "note": "n" },
            { "username": "bob", "proxies": { "vless": { "id": ID, "flow": "" } }, "expire": null, "data_limit": null,
              "data_limit_reset_strategy": "no_reset", "status": "on_hold", "on_hold_expire_duration": 86_400 },
            { "username": "cid", "proxies": { "vmess": { "id": ID } }, "status": "disabled" },
        ] });
        let accounts = read(&text.to_string()).unwrap();
        let [ann, bob] = &accounts[..] else { panic!("two accounts") };
        let limits = json!({ "quota_bytes": 5, "quota_period": "month", "expires_at": "2026-01-01T00:00:00.000Z",
            "expires_after_days": 0 });
        assert_eq!((&ann.values["limits"], ann.used_bytes), (&limits, 3));
        assert_eq!(bob.values["limits"]["expires_after_days"], 1);
    }

    #[test]
    fn anything_else_is_told_apart() {
        assert!(matches!(read("nonsense"), Err(ImportError::NotJson(_))));
        assert_eq!(read("{}"), Err(ImportError::Unknown));
        assert_eq!(read("[1]"), Err(ImportError::Unknown));
        assert_eq!(read(r#"[{ "protocol": "vmess", "settings": "{}" }]"#), Err(ImportError::Empty));
    }
}
