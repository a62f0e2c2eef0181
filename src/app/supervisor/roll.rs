//! The accounts by the clock: who may connect now, since when, and what a period has left.
//!
//! Knows the ledgers and the time it is told; changes nothing but what a ledger notes about time.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::accounts::standing::{Standing, expires_at, period_end, period_start, standing};
use crate::app::clock::rfc3339_seconds;
use crate::app::config::User;
use crate::protocol::user_id::mask;
use crate::stats::{Ledger, Ledgers, UserTotals, Warned};

/// Of a quota, when the first warning is due.
const QUOTA_LOW_PERCENT: u128 = 80;
/// Before the end of an account, in seconds.
const END_NEAR: u64 = 3 * 86_400;

/// One entry per account, in the order of the configuration.
pub(super) struct Roll {
    ledgers: Vec<Arc<Ledger>>,
    standings: Vec<Standing>,
    /// Sessions of all time at the last look: what grew was used since.
    sessions_total: Vec<u64>,
}

/// What a look at the clock has found.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// Somebody's standing has changed.
    pub(super) is_changed: bool,
    pub(super) warnings: Vec<Warning>,
}

/// Something that the operator should hear of an account, once.
#[derive(Debug, PartialEq)]
pub(super) struct Warning {
    pub(super) code: &'static str,
    pub(super) text: String,
    pub(super) data: Value,
}

impl Roll {
    pub(super) fn new(accounts: &[User], ledgers: &Ledgers, now: u64) -> Self {
        let ledgers: Vec<_> = accounts.iter().map(|user| ledgers.of(mask(user.id))).collect();
        let standings = accounts.iter().zip(&ledgers).map(|(user, ledger)| standing(user, ledger, now)).collect();
        let sessions_total = ledgers.iter().map(|ledger| ledger.totals().sessions_total).collect();
        Self { ledgers, standings, sessions_total }
    }

    /// Takes note of the time. `accounts` are those of [`Roll::new`].
    pub(super) fn tick(&mut self, accounts: &[User], now: u64) -> Found {
        let mut found = Found::default();
        for (place, (user, ledger)) in accounts.iter().zip(&self.ledgers).enumerate() {
            let totals = ledger.totals();
            if totals.sessions_active > 0 || totals.sessions_total > self.sessions_total[place] {
                self.sessions_total[place] = totals.sessions_total;
                ledger.note_seen(now);
            }
            if let Some(start) = period_start(&user.limits, now)
                && ledger.begin_period(start, now)
            {
                log::info!("user {}: a new period of the quota begins", user.email);
            }
            let stands = standing(user, ledger, now);
            found.is_changed |= std::mem::replace(&mut self.standings[place], stands) != stands;
            found.warnings.extend(quota_low(user, ledger, stands, now));
            found.warnings.extend(end_near(user, ledger, stands, now));
        }
        found
    }

    pub(super) fn totals(&self) -> impl Iterator<Item = UserTotals> {
        self.ledgers.iter().map(|ledger| ledger.totals())
    }
}

/// Told once in a period of the quota; when it is used up, somebody else tells.
fn quota_low(user: &User, ledger: &Ledger, stands: Standing, now: u64) -> Option<Warning> {
    let (used, quota) = (ledger.used_bytes(), user.limits.quota_bytes as u64);
    let percent = if quota > 0 { u128::from(used) * 100 / u128::from(quota) } else { 0 };
    let is_new = ledger.warn(Warned::QuotaLow, percent >= QUOTA_LOW_PERCENT);
    (is_new && stands == Standing::Active).then(|| {
        let resets_at = period_end(&user.limits, now);
        let until = resets_at.map(|at| format!(", a new period begins at {}", rfc3339_seconds(at))).unwrap_or_default();
        Warning {
            code: "quota_low",
            text: format!("user {}: {percent} % of the quota is used{until}", user.email),
            data: json!({
                "user": user.email, "quota_used_bytes": used, "quota_bytes": quota,
                "quota_resets_at": resets_at,
            }),
        }
    })
}

/// Told once, unless the end is put off.
fn end_near(user: &User, ledger: &Ledger, stands: Standing, now: u64) -> Option<Warning> {
    let ends_at = expires_at(&user.limits, ledger.first_seen());
    let is_near = ends_at.is_some_and(|at| at.saturating_sub(now) <= END_NEAR);
    let is_new = ledger.warn(Warned::EndNear, is_near);
    let at = ends_at.filter(|_| is_new && stands != Standing::Disabled && stands != Standing::Expired)?;
    Some(Warning {
        code: "account_ends_soon",
        text: format!("user {}: the account ends at {}", user.email, rfc3339_seconds(at)),
        data: json!({ "user": user.email, "expires_at": at }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    use crate::app::config::UsersFile;

    const DAY: u64 = 86_400;

    fn accounts(limits: &str) -> Vec<User> {
        let text = format!(r#"{{ "users": [ {{ "uuid": "a", "email": "a", "limits": {{ {limits} }} }} ] }}"#);
        UsersFile::parse(&text, Path::new("u"), None).unwrap().users
    }

    #[test]
    fn an_account_ends_so_many_days_after_its_first_session() {
        let (accounts, ledgers) = (accounts(r#""expires_after_days": 1"#), Ledgers::new(1));
        let mut roll = Roll::new(&accounts, &ledgers, 1000);
        assert!(!roll.tick(&accounts, 100 * DAY).is_changed, "it was never used");
        // A session that begins and ends between two looks is a use, too.
        drop(ledgers.of(mask(accounts[0].id)).open_session(0, 0).unwrap());
        assert!(!roll.tick(&accounts, 100 * DAY).is_changed);
        assert!(!roll.tick(&accounts, 101 * DAY - 1).is_changed);
        assert!(roll.tick(&accounts, 101 * DAY).is_changed);
        assert!(!roll.tick(&accounts, 102 * DAY).is_changed, "told once");
    }

    #[test]
    fn a_used_quota_comes_back_with_the_next_period() {
        let (accounts, ledgers) = (accounts(r#""quota_bytes": 10, "quota_period": "day""#), Ledgers::new(1));
        let mut roll = Roll::new(&accounts, &ledgers, DAY);
        assert!(!roll.tick(&accounts, DAY).is_changed);
        ledgers.of(mask(accounts[0].id)).lane(0).downlink_bytes.add(10);
        assert!(roll.tick(&accounts, 2 * DAY - 1).is_changed);
        assert!(roll.tick(&accounts, 2 * DAY).is_changed);
        assert!(!roll.tick(&accounts, 2 * DAY + 1).is_changed);
    }

    #[test]
    fn a_clock_that_jumps_neither_renews_a_quota_nor_keeps_it_from_ever_being_renewed() {
        let (accounts, ledgers) = (accounts(r#""quota_bytes": 10, "quota_period": "day""#), Ledgers::new(1));
        let mut roll = Roll::new(&accounts, &ledgers, 100 * DAY);
        let ledger = ledgers.of(mask(accounts[0].id));
        drop(ledger.open_session(0, 0).unwrap());
        roll.tick(&accounts, 100 * DAY);
        ledger.lane(0).downlink_bytes.add(10);
        assert!(roll.tick(&accounts, 100 * DAY + 1).is_changed, "it is used up");
        assert!(!roll.tick(&accounts, 99 * DAY).is_changed, "a clock that is set back renews nothing");
        assert!(!roll.tick(&accounts, 100 * DAY + 2).is_changed, "and being right again neither");
        // For a moment the clock is ahead by years, which renews, as that clock says.
        drop(ledger.open_session(0, 0).unwrap());
        assert!(roll.tick(&accounts, 30_000 * DAY).is_changed);
        ledger.lane(0).downlink_bytes.add(10);
        assert!(roll.tick(&accounts, 100 * DAY + 3).is_changed, "it is used up again");
        assert!(!roll.tick(&accounts, 100 * DAY + 4).is_changed);
        assert!(roll.tick(&accounts, 101 * DAY).is_changed, "the next day renews it");
        drop(ledger.open_session(0, 0).unwrap());
        roll.tick(&accounts, 101 * DAY);
        assert_eq!((ledger.first_seen(), ledger.last_seen()), (Some(100 * DAY), Some(101 * DAY)));
    }

    fn texts(found: &Found) -> Vec<&str> {
        found.warnings.iter().map(|warning| warning.text.as_str()).collect()
    }

    #[test]
    fn four_fifths_of_a_quota_are_told_once_a_period_also_after_a_restart() {
        let (accounts, mut ledgers) = (accounts(r#""quota_bytes": 1000, "quota_period": "day""#), Ledgers::new(1));
        let id = mask(accounts[0].id);
        let mut roll = Roll::new(&accounts, &ledgers, DAY);
        ledgers.of(id).lane(0).downlink_bytes.add(799);
        assert!(texts(&roll.tick(&accounts, DAY)).is_empty());
        ledgers.of(id).lane(0).downlink_bytes.add(1);
        let found = roll.tick(&accounts, DAY + 1);
        assert_eq!(texts(&found), ["user a: 80 % of the quota is used, a new period begins at 1970-01-03T00:00:00Z"]);
        assert_eq!((&found.warnings[0].code, &found.warnings[0].data["quota_bytes"]), (&"quota_low", &json!(1000)));
        assert!(texts(&roll.tick(&accounts, DAY + 2)).is_empty());
        let notes = ledgers.of(id).notes();
        ledgers = Ledgers::new(1);
        ledgers.of(id).take_over(&notes);
        roll = Roll::new(&accounts, &ledgers, DAY + 3);
        assert!(texts(&roll.tick(&accounts, DAY + 3)).is_empty());
        assert!(texts(&roll.tick(&accounts, 2 * DAY)).is_empty(), "a new period");
        ledgers.of(id).lane(0).downlink_bytes.add(2000);
        let found = roll.tick(&accounts, 2 * DAY + 1);
        assert!(found.is_changed && texts(&found).is_empty(), "the end of the quota is told by whoever cuts");
        ledgers.of(id).set_used_bytes(900);
        assert!(texts(&roll.tick(&accounts, 2 * DAY + 2)).is_empty(), "one message a period");
        ledgers.of(id).set_used_bytes(0);
        roll.tick(&accounts, 2 * DAY + 3);
        ledgers.of(id).set_used_bytes(900);
        assert_eq!(texts(&roll.tick(&accounts, 2 * DAY + 4)).len(), 1, "a reset begins anew");
    }

    #[test]
    fn the_end_of_an_account_is_told_three_days_before_and_again_when_it_was_put_off() {
        let ledgers = Ledgers::new(1);
        let ends = |day: u64| accounts(&format!(r#""expires_at": "1970-01-{day:02}""#));
        let look = |day: u64, at: u64| {
            let accounts = ends(day);
            let found = Roll::new(&accounts, &ledgers, at).tick(&accounts, at);
            found.warnings.into_iter().map(|warning| warning.text).collect::<Vec<_>>()
        };
        assert!(look(11, 7 * DAY - 1).is_empty());
        assert_eq!(look(11, 7 * DAY), ["user a: the account ends at 1970-01-11T00:00:00Z"]);
        assert!(look(11, 8 * DAY).is_empty());
        assert!(look(31, 8 * DAY).is_empty());
        assert_eq!(look(31, 28 * DAY).len(), 1);
        assert!(look(12, 20 * DAY).is_empty(), "it has ended");
    }
}
