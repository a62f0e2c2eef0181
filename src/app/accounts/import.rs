//! Accounts from other panels: what their exports say, in our words.
//!
//! Reads the JSON of 3x-ui (its list of inbounds, as its API and export give it) and of Marzban (its list of users). It
//! only reads: what comes out are wishes for [`super::change::apply`], and what an account has used there.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::app::clock::rfc3339;

const DAY_SECONDS: u64 = 86_400;
/// The last second of the year 9999, after which years have five digits.
const YEAR_9999_END: u64 = 253_402_300_799;

/// An account that another panel had.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// For [`super::change::Change::Add`]; its id is a credential.
    pub values: Value,
    /// Payload bytes of both directions in the present period.
    pub used_bytes: u64,
}

/// What an export holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Export {
    pub accounts: Vec<Imported>,
    /// Entries that are accounts, or hold them, and cannot be read.
    pub broken: Vec<Broken>,
}

/// An entry that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Such as `inbound 2, client 3`, counted from 1.
    pub place: String,
    pub why: String,
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

/// Reads the accounts in `text`. One that cannot be read costs no other.
///
/// # Errors
/// When there are none to be had.
pub fn read(text: &str) -> Result<Export, ImportError> {
    let json: Value = serde_json::from_str(text).map_err(|error| ImportError::NotJson(error.to_string()))?;
    let mut export = Export::default();
    if let Some(inbounds) = inbounds(&json) {
        inbounds
            .iter()
            .enumerate()
            .for_each(|(at, inbound)| export.add_inbound(inbound, &format!("inbound {}", at + 1)));
    } else if let Some(users) = marzban_users(&json) {
        users.iter().enumerate().for_each(|(at, user)| export.add_marzban(user, &format!("user {}", at + 1)));
    } else {
        return Err(ImportError::Unknown);
    }
    if export == Export::default() { Err(ImportError::Empty) } else { Ok(export) }
}

/// The inbounds of 3x-ui, where this is such a list.
fn inbounds(json: &Value) -> Option<Vec<Value>> {
    // The API wraps the list; an export of one inbound is the inbound itself.
    let list = json.get("obj").unwrap_or(json);
    if list.get("protocol").is_some() {
        return Some(vec![list.clone()]);
    }
    list.as_array().filter(|list| list.iter().any(|one| one.get("protocol").is_some())).cloned()
}

/// The users of Marzban, where this is such a list.
fn marzban_users(json: &Value) -> Option<Vec<Value>> {
    let list = json.get("users").unwrap_or(json).as_array()?;
    list.iter().any(|one| one.get("proxies").is_some()).then(|| list.clone())
}

impl Export {
    /// The value of an entry; one that cannot be read is noted.
    fn parsed<T: DeserializeOwned>(&mut self, value: &Value, place: &str) -> Option<T> {
        T::deserialize(value).map_err(|error| self.note(place, error.to_string())).ok()
    }

    fn note(&mut self, place: &str, why: String) {
        self.broken.push(Broken { place: place.to_owned(), why });
    }

    fn add_inbound(&mut self, inbound: &Value, place: &str) {
        let Some(inbound) = self.parsed::<Inbound>(inbound, place).filter(|inbound| inbound.protocol == "vless") else {
            return;
        };
        let settings = match &inbound.settings {
            Value::String(text) => serde_json::from_str(text),
            other => InboundSettings::deserialize(other),
        };
        let settings = match settings {
            Ok(settings) => settings,
            Err(error) => return self.note(place, format!("settings: {error}")),
        };
        for (at, client) in settings.clients.iter().enumerate() {
            if let Some(client) = self.parsed::<Client>(client, &format!("{place}, client {}", at + 1)) {
                let used_bytes = inbound.used_bytes(&client.email);
                self.accounts.push(Imported { values: client.values(), used_bytes });
            }
        }
    }

    fn add_marzban(&mut self, user: &Value, place: &str) {
        let Some(user) = self.parsed::<MarzbanUser>(user, place) else { return };
        let Some(vless) = user.proxies.get("vless") else { return };
        match vless.get("id").and_then(Value::as_str) {
            Some(id) => self.accounts.push(Imported { values: user.values(id, vless), used_bytes: user.used_traffic }),
            None => self.note(place, "it has no id for VLESS".to_owned()),
        }
    }
}

/// One inbound of 3x-ui. Its settings are JSON inside a text, or an object in newer exports.
#[derive(Deserialize)]
struct Inbound {
    protocol: String,
    settings: Value,
    /// A [`ClientStats`] for each client.
    #[serde(default, rename = "clientStats")]
    stats: Option<Vec<Value>>,
}

impl Inbound {
    /// What a client has used; 0 where that is not told.
    fn used_bytes(&self, email: &str) -> u64 {
        let stats = self.stats.iter().flatten().filter_map(|stats| ClientStats::deserialize(stats).ok());
        let of_client = stats.into_iter().find(|stats| stats.email == email);
        of_client.map_or(0, |stats| stats.up.saturating_add(stats.down))
    }
}

#[derive(Deserialize)]
struct InboundSettings {
    /// Each a [`Client`].
    #[serde(default)]
    clients: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Client {
    id: String,
    email: String,
    #[serde(default)]
    flow: String,
    #[serde(default, rename = "limitIp")]
    addresses_max: Option<i64>,
    /// Bytes, whatever the name says.
    #[serde(default, rename = "totalGB")]
    quota_bytes: i64,
    /// Milliseconds since 1970; negative: milliseconds after first use; 0: never.
    #[serde(default)]
    expiry_time: i64,
    #[serde(default = "yes")]
    enable: bool,
    #[serde(default)]
    comment: Option<String>,
}

#[derive(Deserialize)]
struct ClientStats {
    email: String,
    #[serde(default)]
    up: u64,
    #[serde(default)]
    down: u64,
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
            "note": self.comment.as_deref().unwrap_or_default(),
            "limits": {
                "quota_bytes": self.quota_bytes.max(0),
                "expires_at": at,
                "expires_after_days": after_ms.div_ceil(1000 * DAY_SECONDS),
                "addresses_max": self.addresses_max.unwrap_or(0).max(0),
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

impl MarzbanUser {
    fn values(&self, id: &str, vless: &Value) -> Value {
        let hold = self.on_hold_expire_duration.filter(|_| self.status.as_deref() == Some("on_hold"));
        let period = self.data_limit_reset_strategy.as_deref().filter(|word| matches!(*word, "day" | "week" | "month"));
        json!({
            "uuid": id,
            "email": self.username,
            "flow": vless.get("flow").and_then(Value::as_str).unwrap_or_default(),
            "enabled": self.status.as_deref() != Some("disabled"),
            "note": self.note.as_deref().unwrap_or_default(),
            "limits": {
                "quota_bytes": self.data_limit.unwrap_or(0),
                "quota_period": period.unwrap_or("none"),
                "expires_at": self.expire.filter(|at| *at > 0).map(date),
                "expires_after_days": hold.unwrap_or(0).div_ceil(DAY_SECONDS),
            },
        })
    }
}

/// As our files have it. What is later than they can say is the latest that they can.
fn date(seconds: u64) -> String {
    rfc3339(UNIX_EPOCH + Duration::from_secs(seconds.min(YEAR_9999_END)))
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
        let accounts = read(&text.to_string()).unwrap().accounts;
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
        assert_eq!(read(&text.to_string()).unwrap().accounts.len(), 1);
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
        let accounts = read(&text.to_string()).unwrap().accounts;
        let [ann, bob] = &accounts[..] else { panic!("two accounts") };
        let limits = json!({ "quota_bytes": 5, "quota_period": "month", "expires_at": "2026-01-01T00:00:00.000Z",
            "expires_after_days": 0 });
        assert_eq!((&ann.values["limits"], ann.used_bytes), (&limits, 3));
        assert_eq!(bob.values["limits"]["expires_after_days"], 1);
    }

    #[test]
    fn an_entry_that_is_broken_costs_no_other_and_is_told_by_its_place() {
        let clients = json!({ "clients": [
            { "id": ID, "email": "ann" },
            { "password": "of another protocol", "email": "bob" },
            { "id": ID, "email": "cid", "totalGB": "5" },
            7,
            { "id": ID, "email": "dan", "expiryTime": i64::MAX, "limitIp": null, "comment": null },
        ] });
        let stats = json!([{ "email": "ann", "up": u64::MAX, "down": 5 }, { "email": "dan", "up": -1 }, 3]);
        let text = json!([
            { "protocol": "vless" },
            { "protocol": "vless", "settings": "{" },
            { "protocol": "vless", "settings": clients.to_string(), "clientStats": stats },
            { "settings": {} },
            { "protocol": "vless", "settings": { "clients": [{ "id": ID, "email": "eve" }] } },
        ]);
        let export = read(&text.to_string()).unwrap();
        let names: Vec<_> = export.accounts.iter().map(|account| account.values["email"].as_str().unwrap()).collect();
        assert_eq!(names, ["ann", "dan", "eve"]);
        assert_eq!(export.accounts.iter().map(|account| account.used_bytes).collect::<Vec<_>>(), [u64::MAX, 0, 0]);
        let places: Vec<_> = export.broken.iter().map(|broken| broken.place.as_str()).collect();
        let expected = [
            "inbound 1",
            "inbound 2",
            "inbound 3, client 2",
            "inbound 3, client 3",
            "inbound 3, client 4",
            "inbound 4",
        ];
        assert_eq!(places, expected);
        assert!(export.broken[2].why.contains("missing field `id`"), "{:?}", export.broken);
    }

    #[test]
    fn a_user_of_marzban_that_is_broken_costs_no_other() {
        let vless = json!({ "vless": { "id": ID } });
        let text = json!({ "users": [
            { "username": "ann", "proxies": vless, "expire": u64::MAX, "used_traffic": 1 },
            { "username": "bob", "proxies": vless, "used_traffic": -1 },
            { "username": "cid", "proxies": { "vless": {} } },
            { "proxies": vless },
            { "username": "dan", "proxies": { "trojan": {} } },
        ] });
        let export = read(&text.to_string()).unwrap();
        assert_eq!(export.accounts.len(), 1);
        let broken: Vec<_> = export.broken.iter().map(|broken| (broken.place.as_str(), broken.why.as_str())).collect();
        assert_eq!(broken.iter().map(|(place, _)| *place).collect::<Vec<_>>(), ["user 2", "user 3", "user 4"]);
        assert_eq!(broken[1].1, "it has no id for VLESS");
    }

    #[test]
    fn anything_else_is_told_apart() {
        assert!(matches!(read("nonsense"), Err(ImportError::NotJson(_))));
        assert_eq!(read("{}"), Err(ImportError::Unknown));
        assert_eq!(read("[1]"), Err(ImportError::Unknown));
        assert_eq!(read(r#"[{ "protocol": "vmess", "settings": "{}" }]"#), Err(ImportError::Empty));
    }
}
