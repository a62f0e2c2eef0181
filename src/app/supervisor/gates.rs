//! The limits of accounts, as the data path obeys them.

use crate::app::config::{Config, Origin};
use crate::protocol::user_id::mask;
use crate::stats::Ledgers;
use crate::stats::gate::Limits;

/// Tells every account's ledger what may be let through; sessions that are there already obey at once.
pub(super) fn adopt(config: &Config, ledgers: &Ledgers) {
    for user in &config.users {
        let limits = &user.limits;
        ledgers.of(mask(user.id)).gate().adopt(Limits {
            quota_bytes: limits.quota_bytes as u64,
            slice_bytes: config.performance.stats_batch_size as u64,
            up_bytes_per_second_max: limits.up_bytes_per_second_max as u64,
            down_bytes_per_second_max: limits.down_bytes_per_second_max as u64,
            sessions_max: lower(limits.sessions_max, config.limits.sessions_per_user_max),
            addresses_max: limits.addresses_max,
            is_shared: user.origin == Origin::Cluster && limits.quota_bytes > 0,
        });
    }
}

/// The lower of two limits, of which 0 is none.
fn lower(one: usize, other: usize) -> usize {
    match (one, other) {
        (0, other) => other,
        (one, 0) => one,
        (one, other) => one.min(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_limits_the_lower_one_counts_and_none_is_no_limit() {
        assert_eq!([lower(0, 0), lower(5, 0), lower(0, 5), lower(3, 5)], [0, 5, 5, 3]);
    }
}
