//! What time it is for the accounts.
//!
//! A wall clock that is wrong for a second must end no account and renew no quota, so accounts go by a clock that believes
//! a jump only once it has lasted. The operator is told of a jump that was believed.

use std::time::Instant;

use crate::app::clock::{rfc3339_seconds, unix_time};
use crate::control::history::clock::SteadyClock;

/// See the module.
pub(super) struct Hours {
    clock: SteadyClock,
}

impl Hours {
    pub(super) fn new(now: Instant) -> Self {
        Self { clock: SteadyClock::new(now, unix_time()) }
    }

    /// Looks at the wall clock and logs what is worth it. Returns seconds since 1970.
    pub(super) fn look(&mut self, now: Instant) -> u64 {
        let (at, news) = self.hear(now, unix_time());
        if let Some(news) = news {
            log::warn!("{news}");
        }
        at
    }

    /// Seconds since 1970, as of the last look.
    pub(super) fn unix_time(&self) -> u64 {
        self.clock.unix_time(Instant::now())
    }

    /// Takes what the wall clock says at `now`. Returns the time, and what the operator should know.
    fn hear(&mut self, now: Instant, wall: u64) -> (u64, Option<String>) {
        let expected = self.clock.unix_time(now);
        let era = self.clock.era();
        let moment = self.clock.tick(now, wall);
        let news = (moment.era != era).then(|| {
            let direction = if moment.at > expected { "forward" } else { "back" };
            let (seconds, at) = (moment.at.abs_diff(expected), rfc3339_seconds(moment.at));
            format!("the clock was set {direction} by {seconds} s: accounts and history go on at {at}")
        });
        (moment.at, news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;
    use std::time::Duration;

    use crate::app::config::UsersFile;
    use crate::app::supervisor::roll::Roll;
    use crate::protocol::user_id::mask;
    use crate::stats::Ledgers;

    const DAY: u64 = 86_400;
    const START: u64 = 20_000 * DAY + 3600;

    #[test]
    fn one_wrong_second_ends_no_account_and_renews_no_quota() {
        let limits = r#""quota_bytes": 100, "quota_period": "day", "expires_at": "2030-01-01""#;
        let text = format!(r#"{{ "users": [ {{ "uuid": "a", "email": "a", "limits": {{ {limits} }} }} ] }}"#);
        let accounts = UsersFile::parse(&text, Path::new("u"), None).unwrap().users;
        let ledgers = Ledgers::new(1);
        let ledger = ledgers.of(mask(accounts[0].id));
        let started = Instant::now();
        let mut hours = Hours { clock: SteadyClock::new(started, START) };
        let mut roll = Roll::new(&accounts, &ledgers, START);
        let mut second = |number: u64, wrong_by: u64| {
            let (now, news) = hours.hear(started + Duration::from_secs(number), START + number + wrong_by);
            (roll.tick(&accounts, now).is_changed, news)
        };
        assert_eq!(second(1, 0), (false, None));
        ledger.lane(0).uplink_bytes.add(70);
        for wrong_by in [2 * DAY, 5000 * DAY] {
            assert_eq!(second(2, wrong_by), (false, None));
            assert_eq!(second(3, 0), (false, None));
            assert_eq!(ledger.used_bytes(), 70);
        }
        // A clock that stays ahead is believed, and that is told.
        for number in 4..64 {
            assert_eq!(second(number, DAY), (false, None));
        }
        let news = "the clock was set forward by 86400 s: accounts and history go on at 2024-10-05T01:01:04Z";
        assert_eq!(second(64, DAY), (false, Some(news.to_owned())));
        assert_eq!(ledger.used_bytes(), 0);
    }
}
