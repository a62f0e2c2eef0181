//! Answers of a running server for people: one screen each.
//!
//! Owns the layout. A key that an answer lacks is shown as a dash, so that another version's answer is still readable.

use std::fmt::Write as _;

use serde_json::Value;

/// The overview.
pub(super) fn status(stats: &Value) -> String {
    let mut rows = vec![
        (
            "state",
            format!("{}, version {}, up {}", text(&stats["state"]), text(&stats["version"]), text(&stats["uptime"])),
        ),
        ("sessions", format!("{} of at most {}", text(&stats["active_connections"]), text(&stats["max_connections"]))),
        ("users online", text(&stats["users_online"])),
        ("speed", format!("{} up, {} down", text(&stats["upload_speed"]), text(&stats["download_speed"]))),
        (
            "since start",
            format!("{} up, {} down", bytes(&stats["total_upload_bytes"]), bytes(&stats["total_download_bytes"])),
        ),
        ("today", both(&stats["today"])),
        ("this month", both(&stats["month"])),
        ("memory", format!("{}, processor {} %", text(&stats["memory_usage"]), text(&stats["cpu_percent"]))),
        ("descriptors", format!("{} of {}", text(&stats["descriptors"]["open"]), text(&stats["descriptors"]["limit"]))),
    ];
    for certificate in list(&stats["certificates"]) {
        let names = list(&certificate["names"]).iter().map(text).collect::<Vec<_>>().join(", ");
        rows.push(("certificate", format!("{names}: {} days left", text(&certificate["days_left"]))));
    }
    for alert in list(&stats["alerts"]) {
        rows.push((
            "ALERT",
            format!("{}: {} is {}", text(&alert["name"]), text(&alert["metric"]), text(&alert["value"])),
        ));
    }
    let mut screen = String::new();
    for (name, value) in rows {
        // Writing to a String does not fail.
        let _ = writeln!(screen, "{name:<14}{value}");
    }
    let users = list(&stats["users"]);
    if !users.is_empty() {
        let heading = ["user", "state", "sessions", "up/s", "down/s", "total"].map(ToOwned::to_owned);
        let rows = users.iter().map(|user| {
            let total = text(&user["total_traffic"]);
            [
                text(&user["email"]),
                text(&user["state"]),
                text(&user["active_connections"]),
                text(&user["upload_speed"]),
                text(&user["download_speed"]),
                total,
            ]
        });
        screen.push('\n');
        screen.push_str(&table(heading, rows.collect()));
    }
    screen
}

/// One row for each session.
pub(super) fn connections(answer: &Value) -> String {
    let connections = list(&answer["connections"]);
    if connections.is_empty() {
        return "no session\n".to_owned();
    }
    let heading = ["id", "user", "client", "target", "mode", "up", "down", "age"].map(ToOwned::to_owned);
    let rows = connections.iter().map(|one| {
        [
            text(&one["id"]),
            text(&one["user"]),
            text(&one["client"]),
            text(&one["target"]),
            text(&one["mode"]),
            bytes(&one["upload_bytes"]),
            bytes(&one["download_bytes"]),
            format!("{} s", text(&one["age_seconds"])),
        ]
    });
    let mut screen = table(heading, rows.collect());
    let total = answer["total"].as_u64().unwrap_or_default();
    if !answer["next"].is_null() {
        let _ = writeln!(screen, "{} of {total} sessions; --limit shows more", connections.len());
    }
    screen
}

/// One row for each account and node.
pub(super) fn online(answer: &Value) -> String {
    let users = list(&answer["users"]);
    let heading = ["user", "node", "sessions", "addresses", "as of"].map(ToOwned::to_owned);
    let rows = users.iter().flat_map(|user| {
        list(&user["nodes"]).iter().map(|node| {
            let addresses = list(&node["addresses"]).iter().map(text).collect::<Vec<_>>().join(", ");
            let age = format!("{} s ago", text(&node["seconds_ago"]));
            [text(&user["email"]), text(&node["node"]), text(&node["sessions"]), addresses, age]
        })
    });
    let mut screen = if users.is_empty() { "nobody\n".to_owned() } else { table(heading, rows.collect()) };
    if answer["complete"] != true {
        screen.push_str("the engine of the cluster is away: this is who is online on this node alone\n");
    }
    let total = answer["total"].as_u64().unwrap_or_default();
    if total > users.len() as u64 {
        let _ = writeln!(screen, "{} of {total} users; name one to see it", users.len());
    }
    screen
}

/// The cluster, and a row for each of its nodes.
pub(super) fn cluster(answer: &Value) -> String {
    let nodes = list(&answer["nodes"]);
    let engine = if answer["connected"] == true {
        "the engine answers".to_owned()
    } else {
        format!("the engine is AWAY for {} s: {}", text(&answer["away_seconds"]), text(&answer["error"]))
    };
    let mut versions: Vec<_> = nodes.iter().map(|node| text(&node["version"])).collect();
    versions.sort_unstable();
    versions.dedup();
    let mix = if versions.len() > 1 { " (not all the same)" } else { "" };
    let mut rows = vec![
        ("cluster", format!("this is {}; {engine}", text(&answer["node"]))),
        ("accounts", format!("{}, version {}", text(&answer["accounts"]), text(&answer["accounts_version"]))),
        (
            "waiting",
            format!("traffic of {} accounts, which the engine was not told yet", text(&answer["untold_accounts"])),
        ),
        ("versions", versions.join(", ") + mix),
    ];
    if answer["lost_batches"].as_u64().is_some_and(|lost| lost > 0) {
        rows.push(("LOST", format!("{} batches of traffic, by the engine", text(&answer["lost_batches"]))));
    }
    rows.extend(list(&answer["clashes"]).iter().map(|clash| ("NOT SERVED", text(clash))));
    let mut screen = String::from("\n");
    for (name, value) in rows {
        // Writing to a String does not fail.
        let _ = writeln!(screen, "{name:<14}{value}");
    }
    let heading =
        ["node", "state", "version", "list", "sessions", "up/s", "down/s", "last error"].map(ToOwned::to_owned);
    let rows = nodes.iter().map(|node| {
        let seen = &node["seen_seconds_ago"];
        let state = if node["online"] == true { "online".to_owned() } else { format!("silent for {} s", text(seen)) };
        let (list, sessions) = (text(&node["accounts_version"]), text(&node["sessions"]));
        let speeds = [bytes(&node["upload_bps"]), bytes(&node["download_bps"])];
        let [up, down] = speeds;
        [text(&node["name"]), state, text(&node["version"]), list, sessions, up, down, text(&node["last_error"])]
    });
    screen.push('\n');
    screen.push_str(&table(heading, rows.collect()));
    screen
}

pub(super) fn forgotten(answer: &Value) -> String {
    format!("{} is not listed any more\n", text(&answer["forgotten"]))
}

pub(super) fn cut(answer: &Value) -> String {
    let here = match answer["cut"].as_u64() {
        Some(0) => "no session was open".to_owned(),
        Some(1) => "1 session was cut".to_owned(),
        Some(count) => format!("{count} sessions were cut"),
        None => "cut".to_owned(),
    };
    let others = match answer["other_nodes_told"].as_bool() {
        None => "",
        Some(true) => " on this node; the others were told to do the same",
        Some(false) => " on this node alone: the engine of the cluster was not reached, so the others were not told",
    };
    format!("{here}{others}\n")
}

pub(super) fn reload(answer: &Value) -> String {
    let words = |key: &str| list(&answer[key]).iter().map(text).collect::<Vec<_>>().join("; ");
    let changes = words("changes");
    let mut said =
        if changes.is_empty() { "nothing has changed\n".to_owned() } else { format!("reloaded: {changes}\n") };
    let restart = words("needs_restart");
    if !restart.is_empty() {
        let _ = writeln!(said, "needs a restart: {restart}");
    }
    said
}

pub(super) fn upgrade(answer: &Value) -> String {
    let (pid, sessions) = (text(&answer["pid"]), text(&answer["sessions_left"]));
    format!("process {pid} has taken over; the one before it lets its {sessions} sessions end\n")
}

fn both(part: &Value) -> String {
    format!("{} up, {} down", bytes(&part["upload_bytes"]), bytes(&part["download_bytes"]))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Control characters of a name never reach the terminal.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().map(|char| if char.is_control() { '?' } else { char }).collect(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// 1024-based, two decimals.
fn bytes(value: &Value) -> String {
    let Some(count) = value.as_u64() else { return "-".to_owned() };
    let (mut amount, mut unit) = (count as f64, "B");
    for larger in ["KB", "MB", "GB", "TB"] {
        if amount < 1024.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, larger);
    }
    format!("{amount:.2} {unit}")
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(heading: [String; N], rows: Vec<[String; N]>) -> String {
    let all: Vec<_> = std::iter::once(heading).chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row.get(column).map_or(0, |cell| cell.chars().count())).max();
    let widths: Vec<_> = (0..N).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::json;

    #[test]
    fn the_overview_fits_a_screen_and_says_what_is_wrong() {
        let stats = json!({
            "state": "serving", "version": "0.1.0", "uptime": "1h", "active_connections": 3, "max_connections": 100,
            "total_upload_bytes": 1536, "certificates": [ { "names": ["a.example"], "days_left": 5 } ],
            "alerts": [ { "name": "certificate", "metric": "certificate_days", "value": 5 } ],
            "users": [ { "email": "a\u{1b}[2Jb", "state": "active", "active_connections": 3 } ]
        });
        let screen = status(&stats);
        assert!(screen.contains("serving, version 0.1.0, up 1h") && screen.contains("3 of at most 100"), "{screen}");
        assert!(screen.contains("1.50 KB up, - down") && screen.contains("a.example: 5 days left"), "{screen}");
        assert!(screen.contains("ALERT         certificate: certificate_days is 5"), "{screen}");
        assert!(screen.contains("a?[2Jb") && !screen.contains('\u{1b}'), "no control characters");
    }

    #[test]
    fn a_cluster_says_what_is_not_as_it_should_be() {
        let answer = json!({
            "node": "n1", "connected": false, "away_seconds": 7, "error": "refused", "accounts": 3, "accounts_version": 9,
            "untold_accounts": 2, "lost_batches": 1, "clashes": ["anna of the cluster has the same email"], "nodes": [
                { "name": "n1", "online": true, "version": "0.1.0", "accounts_version": 9, "sessions": 5 },
                { "name": "n2", "online": false, "seen_seconds_ago": 60, "version": "0.2.0", "last_error": "disk full" }
            ]
        });
        let screen = cluster(&answer);
        for words in [
            "this is n1; the engine is AWAY for 7 s: refused",
            "3, version 9",
            "traffic of 2 accounts",
            "0.1.0, 0.2.0 (not all the same)",
            "LOST          1 batches",
            "NOT SERVED    anna",
            "silent for 60 s",
            "disk full",
        ] {
            assert!(screen.contains(words), "{words}: {screen}");
        }
        let whole =
            cluster(&json!({ "node": "n1", "connected": true, "nodes": [ { "name": "n1", "version": "0.1.0" } ] }));
        assert!(
            whole.contains("the engine answers") && !whole.contains("LOST") && !whole.contains("not all"),
            "{whole}"
        );
    }

    #[test]
    fn who_is_online_is_a_row_for_each_node() {
        let nodes = json!([
            { "node": "n1", "sessions": 2, "addresses": ["192.0.2.1", "192.0.2.2"], "seconds_ago": 0 },
            { "node": "n2", "sessions": 1, "addresses": [], "seconds_ago": 4 }
        ]);
        let answer =
            json!({ "complete": true, "total": 1, "users": [ { "email": "anna", "sessions": 3, "nodes": nodes } ] });
        let screen = online(&answer);
        assert!(
            screen.lines().count() == 3 && screen.contains("192.0.2.1, 192.0.2.2") && screen.contains("4 s ago"),
            "{screen}"
        );
        let alone = online(&json!({ "complete": false, "total": 0, "users": [] }));
        assert!(alone.starts_with("nobody\n") && alone.contains("engine of the cluster is away"), "{alone}");
    }

    #[test]
    fn sessions_are_a_table_with_aligned_columns() {
        let answer = json!({ "total": 9, "next": "x", "connections": [
            { "id": "1-2-3", "user": "a", "client": "203.0.113.7:1", "target": "b:443", "upload_bytes": 0, "age_seconds": 7 }
        ] });
        let lines: Vec<_> = connections(&answer).lines().map(ToOwned::to_owned).collect();
        assert_eq!(lines[0].find("client"), lines[1].find("203.0.113.7:1"));
        assert_eq!(lines[2], "1 of 9 sessions; --limit shows more");
        assert_eq!(connections(&json!({ "connections": [] })), "no session\n");
    }
}
