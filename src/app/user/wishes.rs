//! What people write about an account, and what it means in the keys of a user: `10GB`, `30d`, `2026-12-31`, `none`.
//!
//! Pure; the clock is an argument. Whether a value makes sense is for the rules of the files to say.

use serde_json::{Map, Value, json};

use crate::app::clock::rfc3339_seconds;

/// The options of `user add` and `user set`, each with the key it sets and how its text is read.
const OPTIONS: [(&str, &str, Reading); 13] = [
    ("--note", "note", Reading::Text),
    ("--flow", "flow", Reading::Text),
    ("--id", "uuid", Reading::Text),
    ("--name", "email", Reading::Text),
    ("--quota", "limits.quota_bytes", Reading::Bytes),
    ("--quota-period", "limits.quota_period", Reading::Text),
    ("--quota-day", "limits.quota_day", Reading::Number),
    ("--expires", "limits.expires_at", Reading::Time),
    ("--expires-after-days", "limits.expires_after_days", Reading::Number),
    ("--addresses", "limits.addresses_max", Reading::Number),
    ("--sessions", "limits.sessions_max", Reading::Number),
    ("--up", "limits.up_bytes_per_second_max", Reading::Bytes),
    ("--down", "limits.down_bytes_per_second_max", Reading::Bytes),
];

/// The names of all options.
pub fn option_names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(long, ..)| *long)
}

#[derive(Clone, Copy)]
enum Reading {
    Text,
    Number,
    Bytes,
    Time,
}

/// The keys that `given`, pairs of option and text, set.
///
/// # Errors
/// What is wrong with a text, in a sentence that begins with its option.
pub fn wishes(given: &[(String, String)], now: u64) -> Result<Value, String> {
    let (mut keys, mut limits) = (Map::new(), Map::new());
    for (option, text) in given {
        let Some((_, key, reading)) = OPTIONS.iter().find(|(long, ..)| long == option) else {
            return Err(format!("{option}: not an option of an account"));
        };
        let value =
            read(*reading, text, now).map_err(|expected| format!("{option}: must be {expected}, not \"{text}\""))?;
        match key.strip_prefix("limits.") {
            Some(key) => limits.insert(key.to_owned(), value),
            None => keys.insert((*key).to_owned(), value),
        };
    }
    if !limits.is_empty() {
        keys.insert("limits".to_owned(), Value::Object(limits));
    }
    Ok(Value::Object(keys))
}

fn read(reading: Reading, text: &str, now: u64) -> Result<Value, &'static str> {
    let is_none = matches!(text, "none" | "never");
    match reading {
        Reading::Text => Ok(json!(text)),
        Reading::Number | Reading::Bytes if is_none => Ok(json!(0)),
        Reading::Number => text.parse::<u64>().map(|number| json!(number)).map_err(|_| "a whole number, or none"),
        Reading::Bytes => bytes(text).map(|bytes| json!(bytes)).ok_or("a size such as 500M, 10GB or 1.5T, or none"),
        Reading::Time if is_none => Ok(Value::Null),
        Reading::Time => {
            time(text, now).ok_or("a date such as 2026-12-31, a time as in RFC 3339, days such as 30d, or never")
        }
    }
}

/// A size with a unit of 1024: `500`, `500K`, `10GB`, `1.5TiB`.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_uppercase();
    let power = match unit.as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 1,
        "M" | "MB" | "MIB" => 2,
        "G" | "GB" | "GIB" => 3,
        "T" | "TB" | "TIB" => 4,
        _ => return None,
    };
    let scale = 1024_u64.pow(power);
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    let (whole, fraction) = digits.split_once('.')?;
    let is_short = (1..=6).contains(&fraction.len()) && fraction.bytes().all(|digit| digit.is_ascii_digit());
    let part = is_short.then(|| fraction.parse::<u64>().ok())??;
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    // At most a million times 2^40, which fits.
    whole.checked_add(part * scale / 10_u64.pow(u32::try_from(fraction.len()).ok()?))
}

/// A time that the rules of the files read, or days from now.
fn time(text: &str, now: u64) -> Option<Value> {
    match text.strip_suffix('d').map(str::parse::<u64>) {
        Some(Ok(days)) if days <= 36_500 => Some(json!(rfc3339_seconds(now + days * 86_400))),
        Some(_) => None,
        None => Some(json!(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(given: &[(&str, &str)]) -> Result<Value, String> {
        let given: Vec<_> = given.iter().map(|(option, text)| ((*option).to_owned(), (*text).to_owned())).collect();
        wishes(&given, 1_769_860_800)
    }

    #[test]
    fn options_become_keys_of_a_user() {
        let wished = of(&[
            ("--note", "a friend"),
            ("--quota", "10GB"),
            ("--quota-period", "month"),
            ("--expires", "30d"),
            ("--sessions", "5"),
            ("--down", "1.5M"),
        ]);
        let limits = json!({ "quota_bytes": 10_u64 << 30, "quota_period": "month", "expires_at": "2026-03-02T12:00:00Z",
            "sessions_max": 5, "down_bytes_per_second_max": 3 << 19 });
        assert_eq!(wished.unwrap(), json!({ "note": "a friend", "limits": limits }));
        let lifted = of(&[("--quota", "none"), ("--expires", "never"), ("--addresses", "none")]).unwrap();
        assert_eq!(lifted, json!({ "limits": { "quota_bytes": 0, "expires_at": null, "addresses_max": 0 } }));
    }

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, size) in [("0", 0), ("17", 17), ("17B", 17), ("1k", 1024), ("2MiB", 2 << 20), ("0.5g", 1 << 29)] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for text in [
            "",
            "G",
            "-1",
            "1.G",
            "1.2.3K",
            "5 GB",
            "99999999999T",
            "1E",
            "é",
            "5GBB",
            "5BB",
            "5I",
            "5KI",
            "5BI",
            "5GIIB",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_option() {
        assert_eq!(
            of(&[("--sessions", "many")]).unwrap_err(),
            "--sessions: must be a whole number, or none, not \"many\""
        );
        assert!(of(&[("--quota", "a lot")]).unwrap_err().contains("10GB"));
        assert!(of(&[("--expires", "99999999d")]).unwrap_err().contains("such as 30d"));
    }
}
