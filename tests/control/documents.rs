//! What is written about metrics and alerts is what there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use vless_rust::control::alerts;
use vless_rust::control::history::clock::Moment;
use vless_rust::control::metrics::{Kind, documentation, rows};
use vless_rust::control::state::Saved;
use vless_rust::control::view::{Clock, View};

use super::harness::{sample, settings};

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name)
}

/// `text` with the rows behind `head` (two lines of a table) replaced.
fn with_rows(text: &str, head: &str, rows: &str) -> String {
    let columns = head.matches('|').count() - 1;
    let head = format!("{head}\n|{}\n", "---|".repeat(columns));
    let start = text.find(&head).unwrap_or_else(|| panic!("no table {head:?}")) + head.len();
    let end = start + text[start..].find("\n\n").map_or(text.len() - start, |at| at + 1);
    let end = if text[start..].starts_with('\n') { start } else { end };
    format!("{}{rows}{}", &text[..start], &text[end..])
}

/// `VLESS_RUST_WRITE_REFERENCE=1 cargo test --test control documents` writes it.
#[test]
fn the_page_about_monitoring_lists_what_there_is() {
    let now = Instant::now();
    let clock = Clock { started: now, now, started_at: 0, unix_time: 0 };
    let mut view = View::new(settings(), Saved::default(), clock);
    view.adopt(vless_rust::control::settings::Settings::default());
    view.sample = sample();
    view.sample.users[0].limits.quota_bytes = 1;
    view.sample.users[0].expires_at = Some(1);
    // Some series are there only for a user who was.
    view.sample.users[0].totals.sessions_active = 1;
    let moment = Moment { at: 1, era: 0, is_settled: true };
    view.book.update(&view.sample.users, moment, Duration::from_secs(1));
    let (rules, figures) = alerts::documentation();
    let path = conf("monitoring.md");
    let text = fs::read_to_string(&path).unwrap();
    let metrics = documentation(&view);
    let of_users: Vec<_> = metrics.lines().filter(|row| row.starts_with("| `vless_user_")).collect();
    assert!(of_users.len() >= 8 && of_users.iter().all(|row| row.contains("| `user`")), "{of_users:#?}");
    let wanted = with_rows(&text, "| name | kind | labels | meaning |", &metrics);
    let wanted = with_rows(&wanted, "| name | when | for |", &rules);
    let wanted = with_rows(&wanted, "| figure | what it is |", &figures);
    if std::env::var_os("VLESS_RUST_WRITE_REFERENCE").is_some() {
        fs::write(&path, wanted).unwrap();
        return;
    }
    assert!(text == wanted, "conf/monitoring.md is out of date; VLESS_RUST_WRITE_REFERENCE=1 writes it anew");
}

/// Every name that a query may use.
fn known_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for row in rows() {
        if row.kind == Kind::Histogram {
            names.extend(["bucket", "sum", "count"].map(|part| format!("{}_{part}", row.name)));
        } else {
            names.insert(row.name.to_owned());
        }
    }
    names
}

/// The words in `text` that look like metrics of ours.
fn used_names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("vless_") || word.starts_with("process_")).map(str::to_owned).collect()
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(text) if key == "expr" || key == "query" => found.push(text.clone()),
                    _ => expressions(member, found),
                }
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| expressions(element, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_for_grafana_uses_names_that_exist() {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(conf("grafana.json")).unwrap()).unwrap();
    let mut found = Vec::new();
    expressions(&dashboard["panels"], &mut found);
    assert!(found.len() >= 15, "{found:?}");
    let used = used_names(&found.join("\n"));
    assert!(used.len() >= 15, "{used:?}");
    let unknown: Vec<_> = used.difference(&known_names()).cloned().collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_rules_for_prometheus_use_names_that_exist() {
    let text = fs::read_to_string(conf("alerts.rules.yml")).unwrap();
    let used = used_names(&text);
    assert!(used.len() >= 10, "{used:?}");
    let unknown: Vec<_> = used.difference(&known_names()).cloned().collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_names_that_are_promised_exist() {
    let promised = "vless_build_info vless_sessions vless_sessions_limit vless_sessions_opened_total
        vless_sessions_closed_total vless_rejected_total vless_payload_bytes_total vless_vision_padding_bytes_total
        vless_handshake_duration_seconds_bucket vless_dial_duration_seconds_bucket vless_first_byte_seconds_bucket
        vless_worker_turn_seconds_bucket vless_dials_total vless_pool_dials_total vless_buffer_bytes
        vless_dns_queries_total vless_certificate_not_after_timestamp_seconds vless_config_last_reload_successful
        vless_config_last_reload_success_timestamp_seconds vless_state_write_errors_total vless_alerts_firing
        vless_feed_clients vless_auth_failures_total vless_users vless_users_online vless_user_payload_bytes_total
        vless_user_lifetime_bytes vless_user_sessions vless_user_addresses vless_user_quota_bytes
        vless_user_quota_used_bytes vless_user_expiry_timestamp_seconds vless_user_last_seen_timestamp_seconds
        process_cpu_seconds_total process_resident_memory_bytes process_open_fds process_max_fds
        process_start_time_seconds process_virtual_memory_bytes";
    let known = known_names();
    let missing: Vec<_> = promised.split_whitespace().filter(|name| !known.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_counter_of_the_data_path_is_a_metric() {
    let source = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/control").join(name));
    let text = source("metrics/table.rs").unwrap() + &source("metrics/labelled.rs").unwrap();
    let words: BTreeSet<_> = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
    let totals = serde_json::to_value(vless_rust::stats::Totals::default()).unwrap();
    let timings = serde_json::to_value(vless_rust::stats::TimingTotals::default()).unwrap();
    let counters = totals.as_object().unwrap().keys().chain(timings.as_object().unwrap().keys());
    let forgotten: Vec<_> = counters.filter(|name| !words.contains(name.as_str())).collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}
