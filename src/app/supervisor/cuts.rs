//! Whose sessions end when accounts change.
//!
//! Pure: who could connect before, and the accounts as they are now.

use std::collections::HashMap;
use std::sync::Arc;

use crate::app::accounts::standing::{Standing, standing};
use crate::app::config::User;
use crate::protocol::user_id::mask;
use crate::session::Users;
use crate::session::close::CloseReason;
use crate::stats::Ledger;

/// Sessions that have to end.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    /// The id that counts for the account, see [`mask`].
    pub(super) id: [u8; 16],
    /// Whose: the ledger belongs to the id, whatever the account was called when a session began.
    pub(super) ledger: Arc<Ledger>,
    /// The name of the account, for people.
    pub(super) email: String,
    pub(super) reason: CloseReason,
}

/// The accounts of `before` that may not connect any more, as they stand at `now` (seconds since 1970).
pub(super) fn cuts(before: &Users, accounts: &[User], now: u64) -> Vec<Cut> {
    let by_id: HashMap<_, _> = accounts.iter().map(|user| (mask(user.id), user)).collect();
    let cuts = before.iter().filter_map(|user| {
        let reason = match by_id.get(&mask(user.id)) {
            None => CloseReason::UserRemoved,
            Some(account) => reason(standing(account, &user.ledger, now))?,
        };
        Some(Cut { id: mask(user.id), ledger: Arc::clone(&user.ledger), email: user.email.clone(), reason })
    });
    cuts.collect()
}

fn reason(standing: Standing) -> Option<CloseReason> {
    match standing {
        Standing::Active => None,
        Standing::Disabled => Some(CloseReason::UserDisabled),
        Standing::Expired => Some(CloseReason::Expired),
        Standing::QuotaUsed => Some(CloseReason::QuotaUsed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    use crate::app::config::UsersFile;
    use crate::app::rules::users;
    use crate::stats::Ledgers;

    fn accounts(list: &str) -> Vec<User> {
        UsersFile::parse(&format!(r#"{{ "users": [ {list} ] }}"#), Path::new("u"), None).unwrap().users
    }

    #[test]
    fn only_those_who_may_not_connect_any_more_are_cut_each_for_its_reason() {
        let ledgers = Ledgers::new(1);
        let all = r#"{ "uuid": "a", "email": "a" }, { "uuid": "b", "email": "b" }, { "uuid": "c", "email": "c" },
            { "uuid": "d", "email": "d" }, { "uuid": "e", "email": "e" }"#;
        let before = users(&accounts(all), &ledgers, 0).unwrap();
        let now = accounts(
            r#"{ "uuid": "a", "email": "renamed" }, { "uuid": "b", "email": "b", "enabled": false },
            { "uuid": "c", "email": "c", "limits": { "expires_at": "1970-01-01" } },
            { "uuid": "x", "email": "d" }, { "uuid": "e", "email": "e", "limits": { "quota_bytes": 1 } }"#,
        );
        ledgers.of(mask(now[4].id)).lane(0).uplink_bytes.add(1);
        let mut found: Vec<_> = cuts(&before, &now, 0).into_iter().map(|cut| (cut.email, cut.reason)).collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [
            ("b", CloseReason::UserDisabled),
            ("c", CloseReason::Expired),
            ("d", CloseReason::UserRemoved),
            ("e", CloseReason::QuotaUsed),
        ];
        assert_eq!(found, expected.map(|(email, reason)| (email.to_owned(), reason)));
    }
}
