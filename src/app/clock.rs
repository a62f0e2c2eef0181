//! Points in time as people and files write them.
//!
//! Owns RFC 3339 both ways. Every time is an argument, but for [`unix_time`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::protocol::calendar::{civil_date, days_since_1970};

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// `time` in UTC as RFC 3339 has it, with milliseconds: `2026-01-31T23:59:59.007Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// Seconds since 1970 as RFC 3339 has them, in whole seconds: `2026-01-31T23:59:59Z`.
pub fn rfc3339_seconds(seconds: u64) -> String {
    let text = rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
    text.replace(".000Z", "Z")
}

/// Seconds since 1970 of a time such as `2026-01-31T23:59:59Z` or `2026-01-31T23:59:59+02:00`; a date alone means its
/// first second, UTC. `None` for anything else, and for times before 1970.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let (date, rest) = text.split_at_checked(10)?;
    let days = parse_date(date)?;
    if rest.is_empty() {
        return u64::try_from(days * 86_400).ok();
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let [hour, minute, second] = numbers::<3>(time, ':')?;
    // A leap second counts as the one before it.
    let in_range = hour <= 23 && minute <= 59 && second <= 60;
    let fraction = rest.strip_prefix('.').map_or(0, |rest| 1 + rest.bytes().take_while(u8::is_ascii_digit).count());
    let offset = parse_offset(rest.get(fraction..)?)?;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second.min(59) - offset;
    in_range.then_some(seconds).and_then(|seconds| u64::try_from(seconds).ok())
}

fn parse_date(text: &str) -> Option<i64> {
    let [year, month, day] = numbers::<3>(text, '-')?;
    let days = days_since_1970(year, month, day);
    let is_real = (1..=12).contains(&month) && day >= 1 && days < days_since_1970(year + month / 12, month % 12 + 1, 1);
    is_real.then_some(days)
}

/// Seconds that a place is ahead of UTC.
fn parse_offset(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let [hours, minutes] = numbers::<2>(text.strip_prefix(['+', '-'])?, ':')?;
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let is_number = |part: &&str| part.len() >= 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = text.split(separator).map(|part| Some(part).filter(is_number)?.parse().ok());
    parts.collect::<Option<Vec<_>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_leap_years_and_milliseconds() {
        let at = |seconds: u64, millis: u64| rfc3339(UNIX_EPOCH + Duration::from_millis(seconds * 1000 + millis));
        assert_eq!(at(0, 7), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_709_251_199, 999), "2024-02-29T23:59:59.999Z");
        assert_eq!(at(1_709_251_200, 0), "2024-03-01T00:00:00.000Z");
        assert_eq!(at(4_102_444_800, 0), "2100-01-01T00:00:00.000Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_time_that_was_written_is_read_again() {
        for seconds in [0, 951_782_400, 1_709_251_199, 4_107_542_400] {
            assert_eq!(parse_rfc3339(&rfc3339(UNIX_EPOCH + Duration::from_secs(seconds))), Some(seconds));
        }
    }

    #[test]
    fn times_may_have_an_offset_a_fraction_or_be_a_date() {
        let noon = Some(1_769_860_800);
        for text in ["2026-01-31T12:00:00Z", "2026-01-31t12:00:00.999z", "2026-01-31 14:00:00+02:00"] {
            assert_eq!(parse_rfc3339(text), noon, "{text}");
        }
        assert_eq!(parse_rfc3339("2026-01-31"), Some(1_769_817_600));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "tomorrow",
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00Z",
            "1969-12-31",
            "2026-01-31T12:00:00+2:00",
            "2026-1-31",
            "20266-01-31",
            "2026-01-3é",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
        assert!(parse_rfc3339("2028-02-29").is_some());
    }
}
