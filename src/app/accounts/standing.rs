//! How an account stands at a point in time: whether it may connect, and if not, why.
//!
//! Pure: clock and ledger are arguments. Also owns when a period of a quota begins, in UTC.

use crate::app::config::{QuotaPeriod, User, UserLimits};
use crate::protocol::calendar::{civil_date, days_since_1970};
use crate::stats::Ledger;

const DAY: u64 = 86_400;

/// Whether an account may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Active,
    /// Somebody switched it off.
    Disabled,
    /// Its time is over.
    Expired,
    /// It has used what it may use in this period.
    QuotaUsed,
}

impl Standing {
    /// As the API says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::QuotaUsed => "quota_used",
        }
    }
}

/// How `user` stands at `now`, in seconds since 1970.
pub fn standing(user: &User, ledger: &Ledger, now: u64) -> Standing {
    if !user.enabled {
        Standing::Disabled
    } else if expires_at(&user.limits, ledger.first_seen()).is_some_and(|at| at <= now) {
        Standing::Expired
    } else if user.limits.quota_bytes > 0
        && (ledger.used_bytes() >= user.limits.quota_bytes as u64 || ledger.gate().quota.is_spent())
    {
        Standing::QuotaUsed
    } else {
        Standing::Active
    }
}

/// When the account ends; the days since the first use count from `first_seen`, if it was used.
pub fn expires_at(limits: &UserLimits, first_seen: Option<u64>) -> Option<u64> {
    let after_days = Some(limits.expires_after_days as u64).filter(|&days| days > 0);
    let after_use = after_days.zip(first_seen).map(|(days, first)| first + days * DAY);
    match (limits.expires_at, after_use) {
        (Some(fixed), Some(after)) => Some(fixed.min(after)),
        (fixed, after) => fixed.or(after),
    }
}

/// When the period that `now` is in began; `None`: the quota is never renewed.
pub fn period_start(limits: &UserLimits, now: u64) -> Option<u64> {
    let today = now / DAY;
    let first_day = match limits.quota_period {
        QuotaPeriod::None => return None,
        QuotaPeriod::Day => today,
        // 1970-01-01 was a Thursday, three days after a Monday.
        QuotaPeriod::Week => today.saturating_sub((today + 3) % 7),
        QuotaPeriod::Month => {
            let (year, month, day) = civil_date(today);
            let (year, month) = match (day >= limits.quota_day as u64, month) {
                (true, _) => (year, month),
                (false, 1) => (year - 1, 12),
                (false, _) => (year, month - 1),
            };
            let signed = |number: u64| i64::try_from(number).unwrap_or(0);
            let first = days_since_1970(signed(year), signed(month), signed(limits.quota_day as u64));
            u64::try_from(first).unwrap_or(0)
        }
    };
    Some(first_day * DAY)
}

/// When the period after the one that `now` is in begins.
pub fn period_end(limits: &UserLimits, now: u64) -> Option<u64> {
    let start = period_start(limits, now)?;
    // No period is longer than 31 days, and none that begins within the next 32 is missed.
    (1..=32).map(|days| start + days * DAY).find(|&day| period_start(limits, day).is_some_and(|next| next > start))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    use crate::app::clock::{parse_rfc3339, rfc3339_seconds};
    use crate::app::config::UsersFile;

    fn user(rest: &str) -> User {
        let text = format!(r#"{{ "users": [ {{ "uuid": "example", {rest} }} ] }}"#);
        UsersFile::parse(&text, Path::new("u"), None).unwrap().users.remove(0)
    }

    fn at(text: &str) -> u64 {
        parse_rfc3339(text).unwrap()
    }

    #[test]
    fn switched_off_comes_before_all_other_reasons() {
        let now = at("2026-06-01T12:00:00Z");
        let ledger = Ledger::new(1);
        let stands = |rest: &str| standing(&user(rest), &ledger, now);
        assert_eq!(stands(r#""note": """#), Standing::Active);
        assert_eq!(stands(r#""enabled": false, "limits": { "expires_at": "2020-01-01" }"#), Standing::Disabled);
        assert_eq!(stands(r#""limits": { "expires_at": "2026-06-01T12:00:00Z" }"#), Standing::Expired);
        assert_eq!(stands(r#""limits": { "expires_at": "2026-06-01T12:00:01Z" }"#), Standing::Active);
        ledger.lane(0).uplink_bytes.add(10);
        assert_eq!(stands(r#""limits": { "quota_bytes": 11 }"#), Standing::Active);
        assert_eq!(stands(r#""limits": { "quota_bytes": 10 }"#), Standing::QuotaUsed);
    }

    #[test]
    fn days_count_from_the_first_use() {
        let limits = user(r#""limits": { "expires_after_days": 2 }"#).limits;
        assert_eq!(expires_at(&limits, None), None);
        assert_eq!(expires_at(&limits, Some(1000)), Some(1000 + 2 * DAY));
        let both = user(r#""limits": { "expires_after_days": 2, "expires_at": "1970-01-02" }"#).limits;
        assert_eq!(expires_at(&both, Some(1000)), Some(DAY));
    }

    #[test]
    fn periods_begin_at_midnight_on_mondays_and_on_a_day_of_the_month() {
        let period = |rest: &str, now: &str| {
            let limits = user(&format!(r#""limits": {{ {rest} }}"#)).limits;
            let (start, end) = (period_start(&limits, at(now)), period_end(&limits, at(now)));
            start
                .zip(end)
                .map(|(start, end)| (rfc3339_seconds(start)[..10].to_owned(), rfc3339_seconds(end)[..10].to_owned()))
        };
        let days = |start: &str, end: &str| Some((start.to_owned(), end.to_owned()));
        assert_eq!(period(r#""quota_period": "none""#, "2026-06-01"), None);
        assert_eq!(period(r#""quota_period": "day""#, "2026-02-28T23:59:59Z"), days("2026-02-28", "2026-03-01"));
        // 2026-06-01 is a Monday.
        assert_eq!(period(r#""quota_period": "week""#, "2026-06-07T23:59:59Z"), days("2026-06-01", "2026-06-08"));
        assert_eq!(period(r#""quota_period": "week""#, "2026-06-08"), days("2026-06-08", "2026-06-15"));
        let month = r#""quota_period": "month", "quota_day": 15"#;
        assert_eq!(period(month, "2026-01-14T23:59:59Z"), days("2025-12-15", "2026-01-15"));
        assert_eq!(period(month, "2026-03-15"), days("2026-03-15", "2026-04-15"));
        assert_eq!(period(r#""quota_period": "month""#, "2024-02-29"), days("2024-02-01", "2024-03-01"));
    }
}
