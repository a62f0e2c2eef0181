//! Accounts for people: a table, and one in full.
//!
//! Takes what the server and the file say alike; what only the server knows is missing without it.

use serde_json::Value;

use crate::app::clock::rfc3339_seconds;

/// One account a line.
pub(super) fn list(users: &[Value]) -> String {
    if users.is_empty() {
        return "there are no users; `vless-rust user add NAME` adds one\n".to_owned();
    }
    let mut rows = vec![["user", "state", "used", "quota", "expires", "note"].map(str::to_owned)];
    rows.extend(users.iter().map(|user| {
        let quota = number(&user["limits"]["quota_bytes"]);
        let period = user["limits"]["quota_period"].as_str().filter(|period| *period != "none");
        [
            text(&user["email"]) + if user["locked"] == true { " (in the configuration)" } else { "" },
            state(user),
            user.get("quota_used_bytes").map_or_else(|| "-".to_owned(), |used| bytes(number(used))),
            match (quota, period) {
                (0, _) => "none".to_owned(),
                (quota, None) => bytes(quota),
                (quota, Some(period)) => format!("{} a {period}", bytes(quota)),
            },
            expires(user),
            text(&user["note"]),
        ]
    }));
    let widths: Vec<_> =
        (0..6).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// One account, a key a line; null is nobody.
pub(super) fn user(user: &Value) -> String {
    let mut lines = vec![("user", text(&user["email"])), ("state", state(user)), ("id", text(&user["uuid"]))];
    lines.push(("flow", Some(text(&user["flow"])).filter(|flow| !flow.is_empty()).unwrap_or("none".to_owned())));
    lines.push(("note", text(&user["note"])));
    lines.push(("expires", expires(user)));
    let limits = &user["limits"];
    for (name, key, is_size) in [
        ("quota", "quota_bytes", true),
        ("sessions", "sessions_max", false),
        ("addresses", "addresses_max", false),
        ("speed up", "up_bytes_per_second_max", true),
        ("speed down", "down_bytes_per_second_max", true),
    ] {
        let value = match (number(&limits[key]), is_size) {
            (0, _) => "no limit".to_owned(),
            (value, true) => bytes(value),
            (value, false) => value.to_string(),
        };
        lines.push((name, value));
    }
    if let Some(used) = user.get("quota_used_bytes") {
        lines.push(("used", bytes(number(used))));
    }
    let shown = lines.into_iter().filter(|(_, value)| !value.is_empty());
    let lines: Vec<_> = shown.map(|(name, value)| format!("{name:<12}{value}\n")).collect();
    lines.concat()
}

/// With a unit of 1024 and two decimals.
pub(super) fn bytes(bytes: u64) -> String {
    let units = ["B", "KB", "MB", "GB", "TB"];
    let power = (0..units.len() - 1).take_while(|power| bytes >> (10 * (power + 1)) > 0).count();
    let scaled = bytes as f64 / (1_u64 << (10 * power)) as f64;
    if power == 0 { format!("{bytes} B") } else { format!("{scaled:.2} {}", units[power]) }
}

fn state(user: &Value) -> String {
    match user["state"].as_str() {
        Some(state) => state.replace('_', " "),
        None if user["enabled"] == false => "disabled".to_owned(),
        None => "enabled".to_owned(),
    }
}

/// As the file has it, or as the server computed it.
fn expires(user: &Value) -> String {
    let days = number(&user["limits"]["expires_after_days"]);
    match (user.get("expires_at").and_then(Value::as_u64), user["limits"]["expires_at"].as_str()) {
        (Some(at), _) => rfc3339_seconds(at),
        (None, Some(text)) => text.to_owned(),
        (None, None) if days > 0 => format!("{days} days after the first use"),
        (None, None) => "never".to_owned(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::json;

    #[test]
    fn a_list_is_a_table_of_what_matters() {
        let users = [
            json!({ "email": "anna", "enabled": false, "locked": true, "limits": {} }),
            json!({ "email": "b", "state": "quota_used", "quota_used_bytes": 2048, "note": "n", "expires_at": 0,
                "limits": { "quota_bytes": 1024, "quota_period": "month" } }),
        ];
        assert_eq!(
            list(&users),
            "user                         state       used     quota            expires               note\n\
             anna (in the configuration)  disabled    -        none             never\n\
             b                            quota used  2.00 KB  1.00 KB a month  1970-01-01T00:00:00Z  n\n"
        );
        assert!(list(&[]).contains("user add"));
    }

    #[test]
    fn one_user_is_told_in_full() {
        let shown = user(&json!({ "email": "a", "uuid": "id", "enabled": true, "flow": "",
            "limits": { "sessions_max": 3, "expires_after_days": 9 } }));
        assert!(shown.starts_with("user        a\nstate       enabled\nid          id\nflow        none\n"), "{shown}");
        assert!(
            shown.contains("expires     9 days after the first use\nquota       no limit\nsessions    3\n"),
            "{shown}"
        );
    }

    #[test]
    fn sizes_have_two_decimals() {
        assert_eq!([0, 1023, 1536, 5 << 40].map(bytes), ["0 B", "1023 B", "1.50 KB", "5.00 TB"]);
    }
}
